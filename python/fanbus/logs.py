"""The logger `fanbus`, with a handler of its own for programs that configure no logging."""

from __future__ import annotations

import logging
import sys

__all__ = ["configure", "log_error", "logger"]

logger = logging.getLogger("fanbus")


def configure() -> None:
    """Shows what Fanbus logs on stderr, from INFO on.

    Does nothing if the program has given `fanbus` or the root logger a handler: then its own
    configuration decides.
    """
    if logger.handlers or logging.getLogger().handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter(
            "%(asctime)s [%(process)d] %(levelname)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
        )
    )
    logger.addHandler(handler)
    logger.propagate = False
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def log_error(where: str, error: BaseException) -> None:
    """What a handler raised, and nobody caught.

    `where` has a path in it that a client chose: it is kept on its line.
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in where)
    logger.error("%s", line, exc_info=(type(error), error, error.__traceback__))

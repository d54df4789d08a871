"""The loggers `fanbus` and `fanbus.access`, for programs that configure no logging of their own.

Every line has the role of its process (supervisor or worker) and its process ID.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from fanbus import hints
from fanbus.exceptions import StartError
from fanbus.options import files
from fanbus.runtime import stdio

if TYPE_CHECKING:
    from fanbus.config import Settings

    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler  # before Python 3.11 it takes no type

__all__ = [
    "access",
    "configure",
    "log_error",
    "logger",
    "on_one_line",
    "process_name",
    "reopen",
    "set_role",
    "to_stderr",
]

logger = logging.getLogger("fanbus")
access = logging.getLogger("fanbus.access")

_COLORS = {"WARNING": "33", "ERROR": "31", "CRITICAL": "1;31", "DEBUG": "2"}
_TIME = "%Y-%m-%d %H:%M:%S"

# The role of this process in log lines.
_role = "main"


def configure(settings: Settings) -> None:
    """Configures the loggers of Fanbus from the settings.

    With `log_config`, that file configures everything. Otherwise the configuration of the program
    stays: a handler of `fanbus`, or of the root logger, gets the lines instead of stderr.
    StartError if a file cannot be used.
    """
    if settings.log_config is not None:
        _configure_from(Path(settings.log_config))
        return
    if logger.level == logging.NOTSET or settings.log_level != "info":
        logger.setLevel(settings.log_level.upper())
    form = _formatter(settings.log_format, sys.stderr)
    if not (_own_handlers(logger) or logging.getLogger().handlers):
        _replace(logger, _Stderr(sys.stderr), form)
    if settings.access_log:
        access.setLevel(logging.INFO)
    if settings.access_log_file is not None:
        path = Path(settings.access_log_file).absolute()
        try:
            handler = _File(path, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise StartError(
                f"access_log_file={path} cannot be written: {error.strerror}."
            ) from None
        kind = settings.log_format if settings.log_format == "json" else "plain"
        _replace(access, handler, _formatter(kind, None))


def to_stderr(settings: Settings) -> None:
    """Writes the log lines of Fanbus to stderr, regardless of the program's configuration."""
    logger.setLevel(settings.log_level.upper())
    _replace(logger, _Stderr(sys.stderr), _formatter(settings.log_format, sys.stderr))


def set_role(role: str) -> None:
    """Sets the role of this process in log lines, as in `worker 2`, and the name of the process for
    `ps` and `fanbus bus show`.
    """
    global _role
    _role = role
    with contextlib.suppress(OSError):  # nothing depends on the name
        Path("/proc/self/comm").write_text(process_name(role))


def process_name(role: str) -> str:
    """The name of a process, as in fanbus-worker12. The kernel stores 15 bytes."""
    return f"fanbus-{role.replace(' ', '')}"[:15]


def reopen() -> None:
    """Reopens the files of all loggers, for a program that moves logs (logrotate)."""
    loggers: list[Any] = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    for one in loggers:
        for handler in getattr(one, "handlers", ()):
            if isinstance(handler, logging.FileHandler):
                handler.acquire()
                try:
                    _reopen(handler)
                except OSError as error:  # for example, its directory was removed
                    logger.error("%s stays as it is: %s.", handler.baseFilename, error.strerror)
                finally:
                    handler.release()


def _reopen(handler: logging.FileHandler) -> None:
    if handler.stream is None:  # it opens with its first line
        return
    old, handler.stream = handler.stream, handler._open()
    with contextlib.suppress(OSError):  # the disk is full
        old.close()


def log_error(where: str, error: BaseException) -> None:
    """Logs an uncaught exception of a handler.

    `where` has a path from a client: it is escaped, so that it stays on one line.
    """
    hint = hints.about(error)
    text = on_one_line(where if hint is None else f"{where}: {hint}")
    logger.error("%s", text, exc_info=(type(error), error, error.__traceback__))


def on_one_line(text: str) -> str:
    """The text, with escapes for characters that move the cursor or begin a line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _Stderr(_StreamHandler):
    """The handler of stderr. It ignores a closed stream and a full disk: no other place could
    report them."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if not (self.stream.closed or isinstance(sys.exc_info()[1], OSError)):
            super().handleError(record)


class _File(logging.FileHandler):
    """The handler of a file. If the disk is full, this is logged at intervals, with the number of
    lost lines."""

    _lost = 0
    _reported_at: float | None = None

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._lost += 1
        now = time.monotonic()
        if self._reported_at is None or now - self._reported_at >= _SILENCE_S:
            self._reported_at = now
            reason = error.strerror or error
            logger.error("%s cannot be written: %s. Its lines are lost.", self.baseFilename, reason)

    def flush(self) -> None:
        """Runs after each line. Raises OSError as long as the disk is full."""
        super().flush()
        if self._lost:
            lost, self._lost, self._reported_at = self._lost, 0, None
            logger.warning(
                "%s can be written again; about %d lines are missing.", self.baseFilename, lost
            )


# The seconds between two reports that a file cannot be written.
_SILENCE_S = 10.0


class _Plain(logging.Formatter):
    """The format with time, process, level and message."""

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s [%(role)s %(process)d] %(levelname)s %(message)s", datefmt=_TIME
        )

    def format(self, record: logging.LogRecord) -> str:
        record.role = _role
        return super().format(record)


class _Color(_Plain):
    """The plain format with coloured levels."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        code = _COLORS.get(record.levelname)
        text = super().formatMessage(record)
        level = f" {record.levelname} "
        return text.replace(level, f" \x1b[{code}m{record.levelname}\x1b[0m ", 1) if code else text


class _Json(logging.Formatter):
    """The format with one JSON object per line. An access line has its parts as well."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, tz=timezone.utc)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "role": _role,
            "pid": record.process,
            "message": record.getMessage(),
        }
        line |= getattr(record, "access", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True, default=str)


def _formatter(kind: str, stream: TextIO | None) -> logging.Formatter:
    if kind == "json":
        return _Json()
    if kind == "auto":
        is_terminal = stdio.is_terminal(stream)
        kind = "color" if is_terminal and not os.environ.get("NO_COLOR") else "plain"
    return _Color() if kind == "color" else _Plain()


def _own_handlers(one: logging.Logger) -> list[logging.Handler]:
    """The handlers that the program has added, without those of an earlier `configure`."""
    return [handler for handler in one.handlers if not hasattr(handler, "_of_fanbus")]


def _replace(one: logging.Logger, handler: logging.Handler, form: logging.Formatter) -> None:
    for old in [old for old in one.handlers if hasattr(old, "_of_fanbus")]:
        one.removeHandler(old)
        old.close()
    handler.setFormatter(form)
    handler._of_fanbus = True  # type: ignore[attr-defined]
    one.addHandler(handler)
    one.propagate = False


def _configure_from(path: Path) -> None:
    """Configures logging from a file, as uvicorn does: .json, .toml and .yaml are for dictConfig,
    other files for fileConfig."""
    import logging.config  # here, since a server without such a file does not need it

    try:
        table = _table(path)
        if table is None:
            if not path.is_file():
                raise FileNotFoundError(2, os.strerror(2))
            logging.config.fileConfig(path, disable_existing_loggers=False)
        else:
            logging.config.dictConfig({"disable_existing_loggers": False, **table})
    except StartError:
        raise
    except Exception as error:  # noqa: BLE001 - logging.config may raise any exception
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        raise StartError(
            f"log_config={path} cannot be used: {on_one_line(reason)}{on_one_line(cause)}.",
            status=2,
        ) from None


def _table(path: Path) -> dict[str, Any] | None:
    """The table of the file. None: it is an ini file."""
    suffix = path.suffix.lower()
    if suffix == ".toml":
        found: Any = files.load(path)
        if found is None:
            raise FileNotFoundError(2, os.strerror(2))
    elif suffix == ".json":
        found = json.loads(path.read_text(encoding="utf-8"))
    elif suffix in (".yaml", ".yml"):
        try:
            yaml: Any = importlib.import_module("yaml")
        except ImportError:
            raise StartError(
                f"log_config={path} needs PyYAML: pip install pyyaml, or write TOML.", status=2
            ) from None
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    else:
        return None
    if not isinstance(found, dict):
        raise TypeError("it must be a table, as logging.config.dictConfig expects it")
    return found

"""The certificate and the key of a server, read and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanbus import _core
from fanbus.exceptions import StartError
from fanbus.runtime import logs

if TYPE_CHECKING:
    from fanbus.config import Settings

__all__ = ["check_tls", "open_tls"]


def open_tls(settings: Settings) -> _core.Tls | None:
    """The current content of the TLS files, checked. None: the server uses plain HTTP."""
    if settings.ssl_certfile is None:
        return None
    try:
        return _core.Tls(
            settings.ssl_certfile,
            ssl_keyfile=settings.ssl_keyfile,
            ssl_keyfile_password=settings.ssl_keyfile_password,
            ssl_ca_certs=settings.ssl_ca_certs,
        )
    except ValueError as error:  # its message names the option
        raise StartError(str(error)) from None


def check_tls(settings: Settings) -> None:
    """Checks the files before the server starts: StartError for unusable files, a log line for
    doubtful ones."""
    tls = open_tls(settings)
    for warning in tls.warnings if tls else ():
        logs.logger.warning("%s", warning)

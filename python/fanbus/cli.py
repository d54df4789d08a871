"""The command `fanbus`."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from fanbus import _core, server
from fanbus import commands as bus_commands
from fanbus.app import Fanbus
from fanbus.config import MAX_WORKERS
from fanbus.exceptions import StartError
from fanbus.worker import STARTING_FAILED

__all__ = ["load", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except StartError as error:
        sys.stderr.write(f"fanbus: {error}\n")
        return error.status


def _run(options: argparse.Namespace) -> int:
    app = load(options.app, options.app_dir)
    app.run(
        host=options.host,
        port=options.port,
        workers=options.workers,
        debug=options.debug,
        bus_size=options.bus_size,
        history_size=options.history_size,
        ssl_certfile=options.ssl_certfile,
        ssl_keyfile=options.ssl_keyfile,
        ssl_keyfile_password=options.ssl_keyfile_password,
        ssl_ca_certs=options.ssl_ca_certs,
    )
    return 0


def load(target: str, directory: str = ".") -> Fanbus:
    """The application that `module:app` names; `app` may be left out.

    StartError, status 2, if there is no such thing; status 3, with the traceback, if the module
    raises while it is imported.
    """
    module_name, _, attribute = target.partition(":")
    attribute = attribute or "app"
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise StartError(
            f'"{target}" does not name an application. Write module:app, as in '
            "`fanbus run chat:app` for the object app in chat.py.",
            status=2,
        )
    sys.path.insert(0, str(Path(directory).resolve()))
    try:
        with server.importing():
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name != missing and not module_name.startswith(f"{missing}."):
            raise StartError(_boot_failure(target), status=STARTING_FAILED) from None
        raise StartError(
            f'There is no module "{missing}" in {Path(directory).resolve()} or among the '
            "installed packages. Name the directory with --app-dir.",
            status=2,
        ) from None
    except Exception:  # noqa: BLE001 - whatever the user's module raises
        raise StartError(_boot_failure(target), status=STARTING_FAILED) from None
    found: object = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Fanbus):
        candidates = [name for name, value in vars(module).items() if isinstance(value, Fanbus)]
        hint = f" Did you mean {module_name}:{candidates[0]}?" if candidates else ""
        what = "not there" if found is None else f"a {type(found).__name__}, not a Fanbus"
        raise StartError(f'"{attribute}" in module {module_name} is {what}.{hint}', status=2)
    return found


def _boot_failure(target: str) -> str:
    return f"{target} cannot be imported.\n{traceback.format_exc().strip()}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fanbus", description="Real-time web applications in Python, on all cores."
    )
    parser.add_argument("--version", action="version", version=f"fanbus {_core.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="serve an application", description="Serve APP.")
    run.add_argument("app", metavar="APP", help="module:app, as in chat:app for app in chat.py")
    run.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is every interface"
    )
    run.add_argument("--port", type=int, default=5000, help="port; 0 picks a free one")
    run.add_argument(
        "-w",
        "--workers",
        type=int,
        help=f"processes, 1 to {MAX_WORKERS} (default: one per core, or WEB_CONCURRENCY)",
    )
    run.add_argument(
        "--bus-size",
        metavar="SIZE",
        help="memory for a worker's newest messages, as in 16M (default: FANBUS_BUS_SIZE, or 8M)",
    )
    run.add_argument(
        "--history-size",
        metavar="SIZE",
        help="memory for what app.topic keeps (default: FANBUS_HISTORY_SIZE, or 8M)",
    )
    run.add_argument(
        "--ssl-certfile",
        metavar="FILE",
        help="serve https and wss with this certificate (PEM; default: FANBUS_SSL_CERTFILE)",
    )
    run.add_argument(
        "--ssl-keyfile",
        metavar="FILE",
        help="its private key (PEM; default: FANBUS_SSL_KEYFILE, or in the certificate's file)",
    )
    run.add_argument(
        "--ssl-keyfile-password",
        metavar="PASSWORD",
        help="of an encrypted key; others can see it here: better FANBUS_SSL_KEYFILE_PASSWORD",
    )
    run.add_argument(
        "--ssl-ca-certs",
        metavar="FILE",
        help="clients must have a certificate of one of these (PEM; default: FANBUS_SSL_CA_CERTS)",
    )
    run.add_argument("--debug", action="store_true", help="one worker, tracebacks in responses")
    run.add_argument("--app-dir", default=".", metavar="DIR", help="where the module is looked for")
    run.set_defaults(run=_run)
    bus_commands.add_to(commands)
    return parser

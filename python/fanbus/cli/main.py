"""The command `fanbus` that runs and configures servers, and uses buses from outside."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fanbus import _core
from fanbus.app import Fanbus
from fanbus.cli import bus as bus_commands
from fanbus.config import OPTIONS
from fanbus.exceptions import STARTING_FAILED, FanbusError, StartError
from fanbus.options import arguments, report
from fanbus.runtime import signals, stdio
from fanbus.server import process_setup, serve

__all__ = ["load", "main"]


# The commands of the package fanbus-bench, and their lines in the list of commands.
_BENCH = {
    "bench": "measure a server: HTTP, echo, fan-out, handshakes, idle connections",
    "tune": "find the best number of workers and threads for an application",
}


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    stdio.open_missing()
    words = sys.argv[1:] if words is None else words
    options = _parser(words[0] if words else "").parse_args(words)
    try:
        status = int(options.run(options))
        if not sys.stdout.closed:  # an application may have closed it
            sys.stdout.flush()
        return status
    except StartError as error:
        stdio.say(f"fanbus: {error}\n")
        return error.status
    except BrokenPipeError:
        # The reader of the pipe has ended, as `head` does. Without this, Python reports it again
        # at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(options: argparse.Namespace) -> int:
    settings, values = serve.settle(arguments.given(options, OPTIONS), origin="command line")
    process_setup.change_directory_and_load_env(settings)
    signals.quieten()
    app = load(options.app, settings.app_dir, factory=settings.factory)
    serve.serve(app._application, settings, values)
    return 0


def _config(options: argparse.Namespace) -> int:
    settings, values = serve.settle(arguments.given(options, OPTIONS), origin="command line")
    if options.markdown:
        sys.stdout.write(report.as_markdown(OPTIONS))
        return 0
    shown = report.as_json if options.json else report.as_text
    sys.stdout.write(shown(OPTIONS, settings, values))
    return 0


def load(target: str, directory: str = ".", *, factory: bool = False) -> Fanbus:
    """The application that `module:app` names; `app` may be left out. `file.py:app` names one in a
    file.

    With `factory` it names a function without parameters that returns the application.

    Raises StartError: with status 2 if the string is not such a name; with status 3 if there is no
    such module or application, or if the import raises, with its traceback.
    """
    module_name, _, attribute = target.partition(":")
    attribute = attribute or "app"
    if module_name.endswith(".py"):
        file = Path(directory, module_name)
        if not file.is_file():
            raise StartError(f"File not found: {file.absolute()}.", status=STARTING_FAILED)
        directory, module_name = str(file.parent), file.stem
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise StartError(
            f'"{target}" does not name an application. Write module:app, as in '
            "`fanbus run chat:app` for the object app in chat.py.",
            status=2,
        )
    sys.path.insert(0, str(Path(directory).resolve()))
    try:
        with serve.importing():
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name != missing and not module_name.startswith(f"{missing}."):
            raise StartError(_boot_failure(target), status=STARTING_FAILED) from None
        raise StartError(
            f'There is no module "{missing}" in {Path(directory).resolve()} or among the '
            "installed packages. Name the directory with --app-dir.",
            status=STARTING_FAILED,
        ) from None
    except Exception:  # noqa: BLE001 - the user's module may raise any exception
        raise StartError(_boot_failure(target), status=STARTING_FAILED) from None
    found: object = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if factory and callable(found) and not isinstance(found, Fanbus):
        found = _made(target, found)
    if not isinstance(found, Fanbus):
        candidates = [name for name, value in vars(module).items() if isinstance(value, Fanbus)]
        hint = f" Did you mean {module_name}:{candidates[0]}?" if candidates else ""
        what = "not there" if found is None else f"a {type(found).__name__}, not a Fanbus"
        sentence = f'"{attribute}" in module {module_name} is {what}.{hint}'
        raise StartError(sentence, status=STARTING_FAILED)
    return found


def _made(target: str, factory: Callable[[], object]) -> Fanbus:
    try:
        with serve.importing():
            made = factory()
    except Exception:  # noqa: BLE001 - the user's function may raise any exception
        raise StartError(_boot_failure(target), status=STARTING_FAILED) from None
    if not isinstance(made, Fanbus):
        raise StartError(
            f"{target} returned a {type(made).__name__}, not a Fanbus: --factory names a function "
            "that returns the application.",
            status=STARTING_FAILED,
        )
    return made


def _boot_failure(target: str) -> str:
    return f"{target} cannot be imported.\n{traceback.format_exc().strip()}"


def _openapi(options: argparse.Namespace) -> int:
    app = load(options.app, options.app_dir, factory=options.factory)
    try:
        document = json.dumps(app.openapi(), indent=2, ensure_ascii=False).encode() + b"\n"
    except FanbusError as error:
        raise StartError(str(error)) from None
    if options.output is None:
        sys.stdout.buffer.write(document)  # always UTF-8
        return 0
    try:
        Path(options.output).write_bytes(document)
    except OSError as error:
        raise StartError(f"{options.output} cannot be written: {error.strerror}.") from None
    return 0


def _add_bench(commands: Any, command: str) -> None:
    """Adds the commands of fanbus-bench. The package is imported only if `command` is one of
    them."""
    for name, short in _BENCH.items():
        if name != command:
            commands.add_parser(name, help=short)
        elif importlib.util.find_spec("fanbus_bench") is not None:
            importlib.import_module("fanbus_bench.command").add_to(commands, name, short)
        else:
            # Without a character for options, the error below comes for any arguments.
            missing = commands.add_parser(name, help=short, add_help=False, prefix_chars="\0")
            missing.add_argument("arguments", nargs="*")
            missing.set_defaults(run=_without_bench(name))


def _without_bench(name: str) -> Callable[[argparse.Namespace], int]:
    def run(_: argparse.Namespace) -> int:
        raise StartError(
            f"fanbus {name} needs the load driver: pip install 'fanbus[bench]'.", status=2
        )

    return run


def _parser(command: str) -> argparse.ArgumentParser:
    parser = arguments.Parser(
        prog="fanbus", description="Real-time web applications in Python, on all cores."
    )
    parser.add_argument("--version", action="version", version=f"fanbus {_core.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="serve an application",
        description="Serve APP.",
        epilog="Each option may also stand in the environment (--log-level as FANBUS_LOG_LEVEL) "
        "and in fanbus.toml, or in [tool.fanbus] of pyproject.toml (as log_level). The command "
        "line counts before the environment, and that before the file.",
    )
    run.add_argument(
        "app", metavar="APP", help="module:app, as in chat:app for app in chat.py; or chat.py"
    )
    arguments.add_to(run, OPTIONS)
    run.set_defaults(run=_run)
    config = commands.add_parser(
        "config",
        help="show the options that are in force",
        description="Show each option of `fanbus run`, its value, and where that came from.",
    )
    form = config.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as one JSON object")
    form.add_argument(
        "--markdown", action="store_true", help="all options, as the documentation has them"
    )
    arguments.add_to(config, OPTIONS)
    config.set_defaults(run=_config)
    openapi = commands.add_parser(
        "openapi",
        help="print the OpenAPI document of an application",
        description="Print the OpenAPI 3.1 document of APP, whether it is served or not.",
    )
    openapi.add_argument("app", metavar="APP", help="module:app, as in chat:app for app in chat.py")
    openapi.add_argument("-o", "--output", metavar="FILE", help="write it into a file")
    openapi.add_argument(
        "--app-dir", default=".", metavar="DIRECTORY", help="where the module is (default: here)"
    )
    openapi.add_argument(
        "--factory", action="store_true", help="APP names a function that returns the application"
    )
    openapi.set_defaults(run=_openapi)
    bus_commands.add_to(commands)
    _add_bench(commands, command)
    return parser

"""The argument parser that reads the options of the command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from fanbus.options.kinds import Flag, Names
from fanbus.options.option import Option
from fanbus.options.sources import nearest

__all__ = ["Parser", "add_to", "given"]


class Parser(argparse.ArgumentParser):
    """An argument parser without abbreviations, whose errors suggest the nearest option."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments:.*?(--[\w-]+)", message)
        meant = nearest(unknown[1], _flags(self)) if unknown else None
        if meant is not None:
            message = f"{message}. Did you mean {meant}?"
        super().error(message)


def add_to(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """Adds each option, in its group. A missing option is None; strings are checked later."""
    groups: dict[str, Any] = {}
    for option in options:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        names = [option.short, option.flag] if option.short else [option.flag]
        extra: dict[str, Any] = {"metavar": option.kind.metavar}
        if isinstance(option.kind, Flag):
            extra = {"action": argparse.BooleanOptionalAction}
        elif isinstance(option.kind, Names):
            extra["action"] = "append"
        groups[option.group].add_argument(
            *names, dest=option.name, default=None, help=_help(option), **extra
        )


def given(parsed: argparse.Namespace, options: Iterable[Option]) -> dict[str, Any]:
    """The value of each option on the command line, or None."""
    return {option.name: getattr(parsed, option.name) for option in options}


def _help(option: Option) -> str:
    default = option.unset or option.written(option.default)
    if isinstance(option.kind, Flag):
        default = "on" if option.default else ""
    text = option.help.replace("%", "%%")
    default = default.replace("%", "%%")
    return f"{text} (default: {default})" if default else text


def _flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    """All long options of a parser and its subcommands."""
    for action in parser._actions:
        yield from (name for name in action.option_strings if name.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _flags(child)

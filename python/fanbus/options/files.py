"""The file that sets options: `fanbus.toml`, else the table `[tool.fanbus]` of `pyproject.toml`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fanbus.exceptions import StartError

__all__ = ["load", "read"]


def read(directory: Path) -> tuple[str, dict[str, Any]]:
    """The name of the directory's file in messages, and its options. Empty if there is no file.

    If there is a `fanbus.toml`, only that is read. StartError if the file cannot be read.
    """
    own = directory / "fanbus.toml"
    table = load(own)
    if table is not None:
        return own.name, table
    project = load(directory / "pyproject.toml")
    name = "[tool.fanbus] of pyproject.toml"
    tools = (project or {}).get("tool", {})
    section = tools.get("fanbus", {}) if isinstance(tools, dict) else {}
    if not isinstance(section, dict):
        raise StartError(f"{name} must be a table of options, got {section!r}.", status=2)
    return name, section


def load(path: Path) -> dict[str, Any] | None:
    """The table of the file; None if there is no file. StartError if it is not TOML."""
    try:
        text = path.read_text(encoding="utf-8")
        # Here, since a server without a file does not need it.
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
        return tomllib.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StartError(f"{path.name} cannot be read: {error.strerror}.", status=2) from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise StartError(f"{path.name} is not TOML: {error}.", status=2) from None

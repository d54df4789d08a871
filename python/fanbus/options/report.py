"""The reports that list options: `fanbus config`, and the table of docs/howto/configuration.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from fanbus.options.option import Option
from fanbus.options.sources import Value

__all__ = ["as_json", "as_markdown", "as_text"]


def as_text(options: Iterable[Option], settings: Any, values: Mapping[str, Value]) -> str:
    """A line for each option: name, value and source."""
    rows = [
        (option.name, _shown(option, settings), _source(option, settings, values[option.name]))
        for option in options
    ]
    widths = [min(max(len(row[column]) for row in rows), 40) for column in range(2)]
    return "".join(
        f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}\n" for name, value, source in rows
    )


def as_json(options: Iterable[Option], settings: Any, values: Mapping[str, Value]) -> str:
    """A JSON object of `{"value": ..., "source": ...}` by name."""
    report = {}
    for option in options:
        value = getattr(settings, option.name)
        if option.secret and value is not None:
            value = option.written(value)
        source = _source(option, settings, values[option.name])
        report[option.name] = {"value": value, "source": source}
    return json.dumps(report, indent=2) + "\n"


def as_markdown(options: Iterable[Option]) -> str:
    """The options in tables, one for each group."""
    lines: list[str] = []
    group = None
    for option in options:
        if option.group != group:
            group = option.group
            lines += ["", f"### {group}", "", "| option | meaning | default | values |"]
            lines += ["|---|---|---|---|"]
        default = option.unset or f"`{option.written(option.default)}`"
        names = [f"`{option.flag}`", *([f"`{option.short}`"] if option.short else [])]
        names += [f"`{variable}`" for variable in option.also]
        cells = (", ".join(names), option.help, default.replace("``", ""), option.kind.limits)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines).strip() + "\n"


def _shown(option: Option, settings: Any) -> str:
    return option.written(getattr(settings, option.name)) or "-"


def _source(option: Option, settings: Any, value: Value) -> str:
    """The source of a value. The value in force may differ from the given one: debug means one
    worker."""
    if option.name == "workers" and value.value and value.value != settings.workers:
        why = "debug" if settings.debug else "reload" if settings.reload else "single process"
        return f"{why} ({value.source} sets {value.value})"
    return value.source

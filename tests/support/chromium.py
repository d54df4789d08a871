"""Stories that are played in Chromium: what people do on a page is in `tests/browser/NAME.mjs`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from support.paths import ROOT

__all__ = ["ROOT", "command", "needed", "node", "play"]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def needed(found: str | bool | None, what: str) -> str:
    """Skips without it; `conftest.py` makes that a failure in CI."""
    if not found:
        pytest.skip(f"{what} is missing: `make test` installs it")
    return str(found)


def node() -> str:
    """Skips where there is no Node.js."""
    return needed(shutil.which("node"), "Node.js")


def command(story: str, *arguments: str | Path) -> list[str]:
    """What plays a story, from `ROOT`. Skips where something that it needs is missing."""
    chromium = needed(next(filter(None, map(shutil.which, _BROWSERS)), None), "Chromium")
    needed((ROOT / "node_modules" / "playwright-core").exists(), "playwright-core (npm)")
    return [node(), f"tests/browser/{story}.mjs", chromium, *map(str, arguments)]


def play(
    story: str,
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    at_most_s: float | None = None,
) -> str:
    """Plays it to its end, which is to be a good one; returns what it told."""
    told = subprocess.run(
        command(story, *arguments),
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=at_most_s,
    )
    assert told.returncode == 0, told.stdout
    return told.stdout

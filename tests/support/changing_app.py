"""An application that changes while a server runs it."""

from __future__ import annotations

from pathlib import Path

from support.paths import APPS
from support.servers import Server, wait_for


class Changing:
    """A copy of tests/apps/changing.py that is rewritten while a server runs it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "changing.py"
        self._source = (APPS / "changing.py").read_text()
        self.write("1")

    def write(self, version: str, *, extra: str = "") -> None:
        """As editors do: the file is whole at each moment."""
        text = self._source.replace('VERSION = "1"', f'VERSION = "{version}"\n{extra}')
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.rename(self.path)


def versions(one: Server) -> set[str]:
    """Of 20 answers, on as many connections."""
    with one.http() as http:
        return {http.get("/").json()["version"] for _ in range(20)}


def wait_for_version(one: Server, version: str) -> None:
    """Until nothing else answers."""
    wait_for(lambda: versions(one) == {version}, f"version {version} everywhere")


def times_reloaded(one: Server) -> int:
    return one.log().count("Reloaded: ")

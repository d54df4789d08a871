"""`python -m benches.compare`: the comparison runs, where no peer is installed as well."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benching import QUICK
from running import DEADLINE_S, wait_for

ROOT = Path(__file__).parent.parent
ONCE = ("--rounds", "1", *QUICK)


def compare(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command where none of the peers is installed."""
    return subprocess.run(
        [sys.executable, "-m", "benches.compare", "--out", str(out), *arguments],
        cwd=ROOT,
        env={**os.environ, "COMPARE": str(out / "nothing")},
        capture_output=True,
        text=True,
        timeout=4 * DEADLINE_S,
        check=False,
    )


def results(out: Path) -> Any:
    return json.loads((out / "figures.json").read_text())["results"]


def test_fanbus_and_the_floor_are_measured_in_turn(tmp_path: Path) -> None:
    done = compare(tmp_path, "--systems", "fanbus,floor", "--rows", "2 workers", *ONCE)
    assert done.returncode == 0, done.stderr
    row = "broadcast, 200 subscribers, 4 publishers, 64 in flight, 2 workers"
    found = results(tmp_path)[row]
    assert set(found) == {"Fanbus, relay", "Fanbus, Python room", "floor"}
    for name, (run,) in found.items():
        assert run["complete"], (name, run["faults"])
        assert run["delivered"] == 204 * run["sent"] > 0
    assert done.stdout.strip() == (tmp_path / "figures.md").read_text().strip()
    assert f"**{row}**" in done.stdout
    assert re.search(rf"^\| {row}, relay \| [\d.]+ \| .* \| [\d.]+ \|$", done.stdout, re.MULTILINE)
    picture = ElementTree.parse(tmp_path / "broadcast.svg").getroot()
    assert picture.tag.endswith("svg")


def test_what_is_delivered_is_a_share(tmp_path: Path) -> None:
    done = compare(tmp_path, "--systems", "fanbus", "--rows", "without a broker", *ONCE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| Fanbus, Python room | 1 | 1 to 1 |") == 2


def test_a_peer_that_is_not_installed_is_named_with_the_reason(tmp_path: Path) -> None:
    told = tmp_path / "nothing/missing/granian"
    told.parent.mkdir(parents=True)
    told.write_text("ERROR: No matching distribution | found\n")
    done = compare(tmp_path, "--systems", "granian,robyn", "--rows", "HTTP", *ONCE)
    assert done.returncode == 0, done.stderr
    assert "granian: ERROR: No matching distribution / found" in done.stdout
    assert "| Robyn | robyn is not installed: run benches/compare/install |" in done.stdout


def test_a_comparison_that_is_ended_leaves_no_server_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benches.compare", "--out", str(tmp_path)]
    command += ["--systems", "floor", "--rows", "16 in flight", "--rounds", "1", "--seconds", "600"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            # The server, and the load client.
            wait_for(lambda: len(children(process.pid)) == 2, "a run")
            begun = children(process.pid)
        finally:
            process.terminate()
        assert process.wait(DEADLINE_S) == 128 + signal.SIGTERM
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in begun), "their end")


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_name_that_nothing_has_is_refused(tmp_path: Path) -> None:
    for arguments, said in (
        (("--systems", "fanbus,nobody"), "no system is called 'nobody': there are Fanbus,"),
        (("--rows", "nowhere"), "no row has 'nowhere' in its name"),
        (("--rounds", "0"), "invalid number above 0"),
    ):
        done = compare(tmp_path, *arguments)
        assert done.returncode == 2
        assert said in done.stderr
    assert not (tmp_path / "figures.json").exists()


@pytest.mark.parametrize(
    "system",
    sorted(path.name for path in (ROOT / "benches/compare/peers").iterdir() if path.is_dir()),
)
def test_each_peer_can_be_started_by_a_file_of_its_own(system: str) -> None:
    serve = ROOT / "benches/compare/peers" / system / "serve"
    assert os.access(serve, os.X_OK)
    checked = subprocess.run(["bash", "-n", str(serve)], check=False, capture_output=True)
    assert checked.returncode == 0, checked.stderr

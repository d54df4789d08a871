"""`python -m benches.compare`: the comparison runs, where no peer is installed as well."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from benches.compare import __main__ as comparing
from benches.compare import serving
from benches.compare.comparison import Comparison
from benches.compare.downloads import downloads
from benches.compare.measuring import Times
from benches.compare.rows import FANBUS, FLOOR, Bar, Entry, Row
from benches.compare.serving import ServerError
from benches.compare.systems import BY_NAME, System
from benches.compare.tables import against_the_bars, table, times

from support.bench_programs import QUICK, assert_takes_all_along
from support.paths import ROOT
from support.servers import DEADLINE_S, children

ONCE = ("--rounds", "1", *QUICK)


SLOW_BYTES = 16 << 20
SLOW_SERVER = """
import asyncio, sys
async def answer(reader, writer):
    asked = await reader.readuntil(b"\\r\\n\\r\\n")
    if b"/gone" in asked:
        writer.write(b"HTTP/1.1 404 Not Found\\r\\nContent-Length: 0\\r\\n\\r\\n")
        return
    body = b"x" * (16 << 20)
    if IN_CHUNKS:
        body = b"1000000\\r\\n" + body + b"\\r\\n0\\r\\n\\r\\n"
    writer.write(b"HTTP/1.1 200 OK\\r\\nHEAD\\r\\n\\r\\n" + body)
    await writer.drain()
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"""


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
    return json.loads((out / "figures.json").read_text())["runs"]


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
    assert re.search(rf"^\| {row}, relay \| [\d.]+ \| .* to .* \| ", done.stdout, re.MULTILINE)
    assert re.search(r"^10 runs, which take about \d+ minutes\.$", done.stderr, re.MULTILINE)
    assert re.search(rf"^\| {row}, relay \| CPU, µs \| 0.15 \| ", done.stdout, re.MULTILINE)
    picture = ElementTree.parse(tmp_path / "compare-broadcast.svg").getroot()
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


def test_memory_of_a_worker_and_the_time_to_the_first_answer(tmp_path: Path) -> None:
    done = compare(tmp_path, "--systems", "fanbus", "--rows", "worker", *ONCE)
    assert done.returncode == 0, done.stderr
    found = results(tmp_path)
    (further,) = found["memory of one more worker"]["Fanbus"]
    assert further["worker_mb"] > 1
    (start,) = found["from the command to the first answer, 1 worker"]["Fanbus"]
    assert start["start_ms"] > 1


def test_no_round_is_begun_that_would_end_too_late(tmp_path: Path) -> None:
    once = ("--systems", "fanbus", "--rows", "first answer", "--minutes", "0.0001")
    done = compare(tmp_path, *once, "--rounds", "5")
    assert done.returncode == 0, done.stderr
    assert "1 of 5 rounds: another one would not end within 0.0001 min." in done.stderr
    found = Comparison.read(tmp_path / "figures.json")
    assert found.system["rounds"] == 1
    assert "Medians of 1 rounds" in done.stdout


def peer(monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> Entry:
    """A peer that is a few lines of Python."""
    monkeypatch.setitem(BY_NAME, name, System(name, (sys.executable, "-c", code)))
    return Entry(name, "/")


def test_failed_peer_is_reported_and_the_others_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending = peer(monkeypatch, "ending", "raise SystemExit('no, thanks')")
    row = Row("requests", "http", (ending, Entry(FLOOR, "/")))
    results, rounds = comparing.rounds([row], 2, Times(0.2, 0.1), minutes=20)
    assert rounds == 2
    assert [run["failed"] for run in results["requests"]["ending"]] == [
        "it ended with status 1: no, thanks"
    ] * 2
    assert all(run["complete"] for run in results["requests"][FLOOR])
    found = Comparison({}, [row], results)
    found.write(tmp_path / "kept.json")
    kept = Comparison.read(tmp_path / "kept.json")
    assert kept == found
    assert "| ending | it ended with status 1: no, thanks | " in table(kept, row)


def test_what_hangs_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "START_S", 1.0)
    silent = peer(monkeypatch, "silent", "print('wait'); import time; time.sleep(600)")
    row = Row("requests", "http", (silent,))
    results, _ = comparing.rounds([row], 3, Times(0.2, 0.1), minutes=20)
    first, *others = results["requests"]["silent"]
    assert first["failed"].startswith("it was not ready within 1 s")
    assert all(run is first for run in others)


def test_how_much_more_the_driver_could_do_stands_in_every_row(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    once = ("--systems", "fanbus,floor", "--rows", "HTTP JSON, 8", "--record", str(record), *ONCE)
    done = compare(tmp_path, *once)
    assert done.returncode == 0, done.stderr
    row = Comparison.read(record).rows[0]
    for entry in row.entries:
        (run,) = Comparison.read(record).runs(row, entry)
        share = run["driver"]["ceiling_per_second"] / run["per_second"]
        assert share >= 1
        assert f"| {times(share)} |" in done.stdout


@pytest.mark.parametrize("in_chunks", [False, True])
def test_slow_downloads_count_what_a_server_holds_for_each(in_chunks: bool) -> None:
    head = "Transfer-Encoding: chunked" if in_chunks else f"Content-Length: {SLOW_BYTES}"
    code = SLOW_SERVER.replace("HEAD", head).replace("IN_CHUNKS", str(in_chunks))
    system = System("holder", (sys.executable, "-c", code, "@PORT@"))
    with serving.serving(system, 1) as (pid, port):
        found = downloads("/", pid, port, 5, 0.3)
        with pytest.raises(ServerError, match=r"/gone: HTTP/1\.1 404"):
            downloads("/gone", pid, port, 1, 0.1)
    assert (found["delivered"], found["missing"]) == (5, 0)
    # Its body, and a copy of what the kernel has not taken.
    assert 0.5 < found["idle"]["pss_per_connection_kib"] * 1024 / SLOW_BYTES < 3


def test_comparison_passes_or_fails_its_bars() -> None:
    ours, floor = Entry(FANBUS, "/a", "relay"), Entry(FLOOR, "/a")
    bars = {ours.name: Bar(1.1, FLOOR)}
    row = Row("work", "echo", (ours, floor), bars=bars)

    def against(mine: float) -> str:
        cost = {ours.name: mine, floor.name: 2.0}
        runs = {name: [{"server": {"cpu_us_per_unit": cpu}}] for name, cpu in cost.items()}
        return against_the_bars(Comparison({}, [row], {"work": runs})).splitlines()[-1]

    assert against(2.2).endswith("| 1.1 | 1.1 | yes |")
    assert against(2.4).endswith("| 1.1 | 1.2 | no |")


def test_a_comparison_that_is_ended_leaves_no_server_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benches.compare", "--out", str(tmp_path)]
    command += ["--systems", "floor", "--rows", "16 in flight", "--rounds", "1", "--seconds", "600"]

    def has_begun(pid: int) -> list[int] | None:
        """The server, and the load client."""
        found = children(pid)
        return found if len(found) == 2 else None

    assert_takes_all_along(command, has_begun)


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

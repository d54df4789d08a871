"""`python -m benches.compare --rows application`: what its rows need, and how they are measured."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from benches.compare import measuring
from benches.compare.applications import APPLICATIONS, LITESTAR, PROGRAM, order
from benches.compare.bursts import bursts
from benches.compare.comparison import Comparison
from benches.compare.measuring import why_missing
from benches.compare.rows import BURSTS, FANBUS, Entry, Row
from benches.compare.serving import ServerError, serving
from benches.compare.surroundings import STARTED, surroundings
from benches.compare.systems import BY_NAME, NEEDED, PROGRAMS, find_program
from benches.compare.tables import table

from support.paths import ROOT
from support.servers import DEADLINE_S

PEERS = ROOT / "benches/compare/peers"


def test_each_application_is_of_systems_that_have_the_program_and_needs_what_is_known() -> None:
    names = {system.name for system in PROGRAMS[PROGRAM]}
    for row in APPLICATIONS:
        assert {entry.system for entry in row.entries} in (names, names - {LITESTAR})
        assert set(row.needs) <= set(NEEDED)
        assert set(row.needs) & set(STARTED) or not row.needs, "a client has something to call"
    assert len({row.name for row in APPLICATIONS}) == len(APPLICATIONS)


def test_every_application_has_the_path_of_each_of_its_rows() -> None:
    names = {LITESTAR: "on_litestar.py", FANBUS: "on_fanbus.py"}
    for row in APPLICATIONS:
        for entry in row.entries:
            name = names.get(entry.system, "on_fastapi.py")
            program = (PEERS / "applications" / name).read_text()
            assert f'"/{entry.path.strip("/")}"' in program, (name, entry.path)


@pytest.mark.parametrize("kilobytes", [1, 50])
def test_an_order_is_json_of_about_the_size_that_its_row_names(kilobytes: int) -> None:
    text = order(kilobytes)
    assert 0.9 < len(text) / (kilobytes * 1000) < 1.1
    found = json.loads(text)
    assert found["customer"] == "ada"
    assert [item["id"] for item in found["items"]] == list(range(len(found["items"])))
    assert measuring.filled(f"@BODY{kilobytes}@", {}) == text


def test_a_row_needs_its_packages_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benches.compare.systems.HOME", tmp_path)
    row = next(row for row in APPLICATIONS if "httpx" in row.needs)
    reason = why_missing(row, row.entries[0])
    assert reason is not None
    assert "httpx is not installed: run benches/compare/install" in reason


def test_the_slow_service_answers_until_its_measurement_ends() -> None:
    with surroundings(("service", "httpx")) as told:
        assert told["NEEDS"] == "service httpx"
        for _ in range(2):
            with urllib.request.urlopen(told["SERVICE"], timeout=DEADLINE_S) as answer:
                assert json.load(answer) == {"answer": "x" * 100}
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(told["SERVICE"], timeout=DEADLINE_S)


@pytest.mark.skipif(find_program("postgres") is None, reason="PostgreSQL is not installed here")
def test_the_database_has_its_rows_until_its_measurement_ends() -> None:
    with surroundings(("database",)) as told:
        psql = find_program("psql")
        assert psql is not None
        command = [psql, "--tuples-only", "--no-align", "--command", "SELECT count(*) FROM article"]
        asked = subprocess.run(
            [*command, told["DATABASE"]], capture_output=True, text=True, check=False
        )
        assert asked.stdout.strip() == "100", asked.stderr
        port = int(told["DATABASE"].rpartition(":")[2].partition("/")[0])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), DEADLINE_S)


def test_without_postgresql_a_row_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benches.compare.surroundings.find_program", lambda _: None)
    with (
        pytest.raises(ServerError, match="PostgreSQL is not installed: run "),
        surroundings(("database",)),
    ):
        pass


def test_a_burst_counts_what_each_of_its_requests_waited() -> None:
    with serving(BY_NAME[FANBUS], 1) as (pid, port):
        found = bursts("/async", pid, port, 5, 0.2, 0.1)
        with pytest.raises(ServerError, match=r"/nowhere: HTTP/1\.1 404"):
            bursts("/nowhere", pid, port, 2, 0.2, 0.1)
    assert found["delivered"] >= 5
    assert found["delivered"] % 5 == 0
    waits = found["latency_us"]
    assert 0 < waits["p50"] <= waits["p99"]
    assert waits["mean"] > 0
    assert found["server"]["memory_mib"] > 1


def test_the_table_of_an_application_has_memory_and_what_people_wait() -> None:
    ours, other = Entry(FANBUS, "/a"), Entry("FastAPI on uvicorn", "/a")
    row = Row("application: work", BURSTS, (ours, other), figure="mean", program=PROGRAM)
    run = {
        "latency_us": {"mean": 2000.0, "p50": 1500.0, "p99": 9000.0},
        "server": {"cpu_us_per_unit": 12.0, "memory_mib": 55.5},
        "per_second": 1234.0,
        "delivered": 10,
        "missing": 0,
    }
    slow = {**run, "latency_us": {"mean": 4000.0, "p50": 3000.0, "p99": 9500.0}}
    found = Comparison({}, [row], {row.name: {ours.name: [run], other.name: [slow]}})
    lines = table(found, row).splitlines()
    assert lines[-2] == "| Fanbus | 2 | 2 to 2 | 1 | 12 | 2 / 1.5 / 9 | 55.5 | 1,234 | 0 |"
    assert lines[-1].startswith("| FastAPI on uvicorn | 4 | 4 to 4 | 2 | 12 | 4 / 3 / 9.5 |")
    assert len({line.count("|") for line in lines[2:]}) == 1

"""How the report of the Autobahn suite is judged, and what a machine without Python 2 is told."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from suites.autobahn import AGENTS, passed, read, table, wrong
from support.paths import TESTS

FIND = TESTS / "find-python2"


def report(tmp_path: Path, **judged: tuple[str, str]) -> Path:
    """An index.json in which both echoes have the same cases."""
    cases = {
        number.removeprefix("case_").replace("_", "."): {"behavior": how, "behaviorClose": close}
        for number, (how, close) in judged.items()
    }
    index = tmp_path / "index.json"
    index.write_text(json.dumps(dict.fromkeys(AGENTS, cases)))
    return index


@pytest.mark.parametrize(
    ("number", "behavior", "close", "good"),
    [
        ("1_1_1", "OK", "OK", True),
        ("7_1_6", "INFORMATIONAL", "INFORMATIONAL", True),
        ("7_13_2", "INFORMATIONAL", "OK", True),
        ("7_1_5", "INFORMATIONAL", "OK", False),
        ("3_2", "NON-STRICT", "OK", False),
        ("3_2", "FAILED", "OK", False),
        ("3_2", "OK", "WRONG CODE", False),
        ("3_2", "OK", "UNCLEAN", False),
        ("3_2", "UNIMPLEMENTED", "OK", False),
    ],
)
def test_only_what_is_strictly_right_passes(
    tmp_path: Path, number: str, behavior: str, close: str, good: bool
) -> None:
    cases = {"case_2_1": ("OK", "OK"), f"case_{number}": (behavior, close)}
    found = read(report(tmp_path, **cases))
    assert passed(found) == good
    assert (wrong(found) == "") == good


def test_an_echo_that_was_not_tested_is_no_pass(tmp_path: Path) -> None:
    found = read(report(tmp_path, case_1_1_1=("OK", "OK")))
    assert passed(found)
    assert not passed({agent: [] for agent in AGENTS})
    assert not passed({agent: found[agent] for agent in list(AGENTS)[:1]})
    assert not passed({**found, next(iter(AGENTS)): []})


def test_the_table_counts_by_section_and_in_all(tmp_path: Path) -> None:
    judged = {"case_10_1_1": ("OK", "OK"), "case_9_1_1": ("NON-STRICT", "OK")}
    lines = table(read(report(tmp_path, **judged))).splitlines()
    assert lines[2:5] == [
        "| Python handler | 9 | 1 | 0 | 0 | 1 | 0 |",
        "| Python handler | 10 | 1 | 1 | 0 | 0 | 0 |",
        "| Python handler | all | 2 | 1 | 0 | 1 | 0 |",
    ]


def test_without_python_2_it_says_that_it_skips_and_why() -> None:
    done = subprocess.run([FIND, "/no/python"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("skipped: the Autobahn suite needs Python 2.7")

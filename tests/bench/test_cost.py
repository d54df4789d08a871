"""`make cost` says which paths cost more than they did, or less."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from benches.cost import count
from benches.cost.python_paths import CLIENTS, ENVIRONMENT, PUBLISH, sleepers

from support.bus_programs import Service
from support.paths import ROOT
from support.servers import DEADLINE_S, wait_for

APP = str(ROOT / "benches/cost/app.py")


def test_what_is_written_down_is_read_again() -> None:
    figures = {"turn: echo": count.Figure(2936.0, 0.0123), "publish, 64 B": count.Figure(1e6, 0.0)}
    made, again = count.read(count.written("rustc 1.95.0; valgrind-3.19.0; x86_64, a CPU", figures))
    assert made == "rustc 1.95.0; valgrind-3.19.0; x86_64, a CPU"
    assert again == figures


def test_the_committed_figures_are_of_every_path() -> None:
    made, figures = count.read((ROOT / "benches/cost/figures.md").read_text())
    assert made.startswith("rustc ")
    turns = (ROOT / "benches/cost/src/turns.rs").read_text()
    names = re.findall(r'"(turn: [^"]+)"', turns)
    assert len(names) >= 5
    assert set(names) == {name for name in figures if name.startswith("turn: ")}
    assert {*CLIENTS, PUBLISH} == {name for name in figures if name.startswith("Python: ")}
    assert all(figure.instructions > 0 for figure in figures.values())


@pytest.mark.parametrize(
    ("now", "status", "said"),
    [
        (1004.0, 0, "+0.40%"),
        (1030.0, 1, "more"),
        (970.0, 1, "less"),
    ],
)
def test_change_beyond_the_tolerance_is_reported(
    capsys: pytest.CaptureFixture[str], now: float, status: int, said: str
) -> None:
    before = {"path": count.Figure(1000.0, 0.001)}
    after = {"path": count.Figure(now, 0.0)}
    assert count.show(before, after, is_whole=True, counts=True) == status
    assert said in capsys.readouterr().out


def test_a_noisy_path_may_change_by_more() -> None:
    before = {"path": count.Figure(1000.0, 0.02)}
    after = {"path": count.Figure(1030.0, 0.0)}
    assert count.show(before, after, is_whole=True, counts=True) == 0


def test_new_and_removed_paths_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    old, new = {"old": count.Figure(1.0, 0.0)}, {"new": count.Figure(1.0, 0.0)}
    assert count.show(old, new, is_whole=True, counts=True) == 1
    said = capsys.readouterr().out
    assert "gone" in said
    assert "new" in said
    assert count.show(old, {}, is_whole=False, counts=True) == 0, "the others were not asked for"


def test_dumps_of_callgrind_are_distinguished(tmp_path: Path) -> None:
    for name, part, thread, total in [("1-01", 1, 1, 5), ("2-01", 2, 1, 7), ("2-02", 2, 2, 9)]:
        text = f"part: {part}\nthread: {thread}\nfn=(1)\n1 2\ntotals: {total}\n"
        (tmp_path / f"out.{name}").write_text(text)
    (tmp_path / "out").write_text("")
    assert count.totals(tmp_path) == {(1, 1): 5, (2, 1): 7, (2, 2): 9}


class Application(Service):
    """The one whose paths are counted; here without callgrind."""

    def __init__(self) -> None:
        super().__init__(APP, environment=ENVIRONMENT)
        self.port = 0

    def wait_until_ready(self) -> None:
        self.wait_to_say(" serves ", stream=2)
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.said(2))
        assert found is not None
        self.port = int(found[1])


def test_the_paths_through_python_are_walked() -> None:
    with Application() as app:
        for client in CLIENTS.values():
            with client(app.port) as step:
                step()
                step()


def test_publisher_publishes_the_given_number_of_times_and_removes_its_bus() -> None:
    with subprocess.Popen(
        [sys.executable, APP, "publish"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        said, complained = process.communicate("3\n2\n", timeout=DEADLINE_S)
    assert (process.returncode, said) == (0, "ready\ndone\ndone\n"), complained
    assert not Path(f"/dev/shm/fanbus.cost-{process.pid}").exists()


def test_a_process_rests_when_all_its_threads_sleep() -> None:
    with Application() as app:
        pid = app.process.pid
        wait_for(lambda: sleepers(pid) is not None, "it to be at rest")
        with CLIENTS["Python: echo of 128 B"](app.port) as step:
            wait_for(lambda: sleepers(pid) is not None, "it to be at rest again")
            before = sleepers(pid)
            step()
            wait_for(lambda: sleepers(pid) not in (None, before), "somebody to have run")


def test_a_process_that_runs_does_not_rest() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            assert sleepers(process.pid) is None
        finally:
            process.kill()

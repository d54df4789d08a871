"""`fanbus tune`: the arithmetic of its verdict, and a real application with a real load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fanbus_bench.tune import mixed
from fanbus_bench.verdict import Setting, judge
from support.bus_programs import Program
from support.paths import APPS
from support.servers import DEADLINE_S, children, wait_for

APP = """
from fanbus import Fanbus

app = Fanbus()

@app.get("/")
def index():
    return {"message": "hello"}

@app.get("/fails")
def fails():
    return {"missing": 1 / 0}

@app.websocket("/echo")
async def echo(ws):
    if [await ws.receive(), await ws.receive()] != ["let", "me in"]:
        await ws.close(1008)
    async for message in ws:
        await ws.send(message)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tuned.py").write_text(APP)
    return tmp_path


def tune(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command, which is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "fanbus", "tune", *arguments],
        capture_output=True,
        text=True,
        timeout=3 * DEADLINE_S,
        check=False,
    )


def test_best_setting_is_the_smallest_that_no_round_distinguishes() -> None:
    rounds = {
        Setting(1, 1): [50.0, 55.0, 52.0],
        Setting(2, 1): [90.0, 101.0, 95.0],
        Setting(2, 2): [96.0, 99.0, 97.0],
        Setting(3, 1): [98.0, 105.0, 100.0],
    }
    verdict = judge(rounds)
    assert verdict.best == Setting(2, 1)
    assert verdict.sentences == (
        "Best: 2 workers x 1 thread, 95 per second.",
        "3 workers x 1 thread had 100, which is within the noise of it: fewer processes and "
        "threads take less memory.",
        "The number of threads makes no difference here: leave it as it is, unless synchronous "
        "handlers that were not measured wait for something.",
    )


def test_it_says_when_more_workers_make_it_worse() -> None:
    rounds = {
        Setting(1, 2): [50.0, 52.0],
        Setting(2, 2): [90.0, 95.0],
        Setting(3, 2): [89.0, 91.0],
        Setting(4, 2): [60.0, 70.0],
    }
    verdict = judge(rounds)
    assert verdict.best == Setting(2, 2)
    assert verdict.sentences[1:] == ("More than 2 workers make it worse: 65 per second with 4.",)


def test_threads_that_make_a_difference_are_named() -> None:
    rounds = {Setting(1, 1): [10.0, 11.0], Setting(1, 8): [80.0, 82.0]}
    assert judge(rounds).sentences == ("Best: 1 worker x 8 threads, 81 per second.",)


def test_an_application_is_measured_with_each_setting_in_each_round(folder: Path) -> None:
    picture = folder / "tuning.svg"
    done = tune(
        *("tuned:app", "--app-dir", str(folder), "--workers", "1,2", "--threads", "1,3"),
        *("--rounds", "2", "--seconds", "0.2", "--warmup", "0.1", "-c", "4"),
        *("--json", "--plot", str(picture)),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [(cell["workers"], cell["threads"]) for cell in found["settings"]] == [
        *((1, 1), (1, 3), (2, 1), (2, 3))
    ]
    for cell in found["settings"]:
        assert len(cell["per_second"]) == 2
        assert min(cell["per_second"]) > 0
    assert found["best"]["workers"] in (1, 2)
    assert found["verdict"][0].startswith("Best: ")
    assert found["faults"] == {}
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")


def test_several_requests_are_sent_equally_often(folder: Path) -> None:
    """100 and 300 per second: a pair takes 10 and 3.3 ms, so there are 150 requests per second."""
    one = {"complete": True, "per_second": 100.0, "faults": []}
    other = {**one, "per_second": 300.0}
    assert mixed([one, other])["per_second"] == pytest.approx(150.0)
    wrong = {"complete": False, "per_second": 0.0, "faults": ["It failed."]}
    assert mixed([one, wrong]) == wrong
    grid = ("--workers", "1", "--threads", "2", "--rounds", "1", "--seconds", "0.2", "-c", "2")
    paths = ("--path", "/", "--path", "/fails")
    done = tune("tuned:app", "--app-dir", str(folder), *paths, *grid)
    assert done.returncode == 1
    assert "NOT COMPLETE" in done.stdout


def test_what_fails_does_not_count(folder: Path) -> None:
    grid = ("--workers", "1", "--threads", "2", "--rounds", "1", "--seconds", "0.2")
    done = tune("tuned:app", "--app-dir", str(folder), "--path", "/fails", "-c", "2", *grid)
    assert done.returncode == 1
    assert "NOT COMPLETE with 1 worker x 2 threads: The server answered" in done.stdout
    assert "Best" not in done.stdout


def test_websockets_that_need_a_first_message(folder: Path) -> None:
    grid = ("--workers", "1", "--threads", "2", "--rounds", "1", "--seconds", "0.2")
    echo = ("--mode", "echo", "--path", "/echo", "--hello", "let", "--hello", "me in", "-c", "2")
    done = tune("tuned:app", "--app-dir", str(folder), *echo, *grid)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Best: 1 worker x 2 threads, " in done.stdout


def test_an_application_that_does_not_start_is_quoted(folder: Path) -> None:
    done = tune("tuned:missing", "--app-dir", str(folder))
    assert done.returncode == 2
    assert '"missing" in module tuned is not there. Did you mean tuned:app?' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--workers", "0"), "'0' is not between 1 and 56"),
        (("--workers", "1-57"), "'1-57' is not between 1 and 56"),
        (("--threads", "two"), "'two' is not a list of numbers: write 1,2,4 or 1-5"),
        (("--rounds", "0"), "'0' is not a number of at least 1"),
    ],
)
def test_an_option_that_is_none(arguments: tuple[str, ...], said: str) -> None:
    done = tune("rooms:app", "--app-dir", str(APPS), *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_ctrl_c_leaves_no_server_behind(folder: Path) -> None:
    command = ("-m", "fanbus", "tune", "tuned:app", "--app-dir", str(folder), "--seconds", "3600")
    with Program(*command) as program:
        servers = wait_for(lambda: children(program.process.pid), "a server")
        wait_for(lambda: children(servers[0]), "its workers")
        os.kill(program.process.pid, signal.SIGINT)
        assert program.wait() == 130, program.said(2)
        assert not Path(f"/proc/{servers[0]}").exists()


@pytest.mark.parametrize("threads", ["0", "1001", "many"])
def test_a_number_of_threads_that_is_none(threads: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fanbus", "run", "rooms:app", "--app-dir", str(APPS)],
        env={**os.environ, "FANBUS_THREADS": threads},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 2
    assert "FANBUS_THREADS must be " in done.stderr

"""What a server writes to: closed streams, full disks, logs for programs. And all signals."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fanbus.exceptions import StartError
from fanbus.server.process_setup import pid_file
from support.command_servers import Run, refused
from support.servers import DEADLINE_S, children, wait_for

# As a shell does before it starts a program.
_CLOSED = (
    "import os, sys; [os.close(int(n)) for n in sys.argv[1].split()]; "
    "os.execv(sys.argv[2], sys.argv[2:])"
)
_OPENED = (
    "import os, sys; null = os.open('/dev/full', os.O_WRONLY); "
    "[os.dup2(null, int(n)) for n in sys.argv[1].split()]; os.execv(sys.argv[2], sys.argv[2:])"
)


def is_served(path: Path) -> bool:
    """Whether a server answers at the socket."""
    command = ["curl", "--silent", "--max-time", "5", "--unix-socket", str(path), "http://x/place"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("program", [_CLOSED, _OPENED], ids=["closed", "full"])
@pytest.mark.parametrize("numbers", ["2", "1", "0 1 2"])
def test_a_server_starts_reloads_and_ends_without_standard_streams(
    run: Run, tmp_path: Path, numbers: str, program: str
) -> None:
    path = tmp_path / "x.sock"
    prefix = (sys.executable, "-c", program, numbers)
    one = run("--uds", str(path), prefix=prefix, wait=False)
    wait_for(lambda: is_served(path), "the server")
    (before,) = children(one.process.pid)
    one.process.send_signal(signal.SIGHUP)
    wait_for(lambda: (now := children(one.process.pid)) and before not in now, "a new worker")
    wait_for(lambda: is_served(path), "the new worker")
    (worker,) = children(one.process.pid)
    for pid in (one.process.pid, worker):
        for number in numbers.split():
            target = str(Path(f"/proc/{pid}/fd/{number}").readlink())
            assert target in ("/dev/null", "/dev/full"), "no socket gets the number"
    assert one.end() == 0


def test_a_server_starts_although_the_application_has_closed_its_streams(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "closing.py").write_text(
        "import sys\n"
        "from fanbus import Fanbus\n"
        "app = Fanbus('closing')\n"
        "app.get('/place')(lambda: 'here')\n"
        "sys.stdout.close()\n"
        "sys.stderr.close()\n"
    )
    path = tmp_path / "x.sock"
    one = run("--uds", str(path), target=("closing:app",), wait=False)
    wait_for(lambda: is_served(path), "the server")
    assert one.end() == 0


def test_full_disk_at_the_pid_file_is_reported_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pid"

    def full(_descriptor: int, _bytes: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StartError) as caught, pid_file(str(path)):
        pass
    assert str(caught.value) == f"pid_file={path} cannot be written: No space left on device."
    assert not path.exists()


def test_a_device_is_no_pid_file(run: Run) -> None:
    refused(run("--pid-file", "/dev/null", wait=False), "pid_file=/dev/null is not a regular file")


def test_access_log_on_a_full_disk_is_reported_once_and_requests_continue(run: Run) -> None:
    one = run("--access-log", "--access-log-file", "/dev/full")
    for _ in range(20):
        assert one.get("/any/x").status_code == 200
    one.wait_for_log("/dev/full cannot be written: No space left on device. Its lines are lost.")
    one.end()
    assert one.log().count("cannot be written") == 1
    assert "Traceback" not in one.log()


def test_an_access_log_that_has_room_again_says_how_much_is_missing(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "access"
    path.symlink_to("/dev/full")
    one = run("--access-log", "--access-log-file", str(path))
    one.get("/any/x")
    one.wait_for_log("cannot be written")
    path.unlink()
    one.process.send_signal(signal.SIGUSR1)
    one.wait_for_log("Reopened the log files")

    def written() -> bool:
        one.get("/any/later")
        return "/any/later" in path.read_text()

    wait_for(written, "the file to be written again")
    # The line is in the file a moment before the worker says that the file can be written.
    one.wait_for_log("can be written again; about ")
    assert re.search(r"can be written again; about [1-9]\d* lines are missing", one.log())


def test_a_log_file_that_cannot_be_opened_again_stays(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    one = run("--access-log", "--access-log-file", str(folder / "access"))
    folder.rename(tmp_path / "moved")
    one.process.send_signal(signal.SIGUSR1)
    one.wait_for_log("access stays as it is: No such file or directory.")
    one.get("/any/later")
    moved = tmp_path / "moved" / "access"
    wait_for(lambda: "/any/later" in moved.read_text(), "a line in the old file")
    assert "Traceback" not in one.log()


# The banner


def test_a_log_file_gets_one_line_instead_of_the_banner(run: Run) -> None:
    one = run()
    (line,) = one.log().splitlines()
    assert re.search(r"INFO Fanbus \S+ serves http://127\.0\.0\.1:\d+ with 1 process, ", line)


def test_each_line_of_a_json_log_is_json(run: Run) -> None:
    one = run("--log-format", "json")
    one.process.send_signal(signal.SIGHUP)
    one.wait_for_log("Reloaded")
    assert one.end() == 0
    lines = [json.loads(line) for line in one.log().splitlines()]
    assert "serves http://127.0.0.1:" in lines[0]["message"]


def test_a_terminal_gets_the_banner() -> None:
    ours, theirs = pty.openpty()
    program = (
        "from fanbus.server import banner; from fanbus.config import Settings;"
        "from fanbus.runtime.application import HandlerCounts;"
        "banner.show(Settings(), 5000, HandlerCounts(1, 2, 3), 4711)"
    )
    subprocess.run([sys.executable, "-c", program], stderr=theirs, check=True)
    os.close(theirs)
    with open(ours, "rb", buffering=0) as reading:  # noqa: PTH123 - a descriptor
        said = reading.read(8192).decode()
    for part in (
        "Fanbus v",
        "http://127.0.0.1:5000",
        "PID 4711",
        "Connections ",
        "Ctrl+C ends it.",
    ):
        assert part in said


# Signals


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_a_server_that_inherited_it_ignored(run: Run, workers: str) -> None:
    """A background job of a shell script."""
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM});"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    one = run("-w", workers, prefix=(sys.executable, "-c", ignoring))
    one.process.send_signal(signal.SIGINT)
    assert one.process.wait(DEADLINE_S) == 0


@pytest.mark.parametrize("later", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM])
def test_a_signal_after_term_changes_nothing_at_the_end(run: Run, later: signal.Signals) -> None:
    """As often as it can be sent until the process is gone."""
    one = run()
    one.process.send_signal(signal.SIGTERM)
    while one.process.poll() is None:
        one.process.send_signal(later)
    assert one.process.returncode == 0, one.log()


@pytest.mark.parametrize("early", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM])
def test_a_signal_during_the_start_does_not_end_a_server(
    run: Run, tmp_path: Path, early: signal.Signals
) -> None:
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        "from fanbus import Fanbus\n"
        "app = Fanbus('slow')\n"
        "pathlib.Path('begun').touch()\n"
        "while not pathlib.Path('go').exists(): time.sleep(0.01)\n"
    )
    one = run(target=("slow:app",), wait=False)
    wait_for((tmp_path / "begun").exists, "the import")
    one.process.send_signal(early)
    (tmp_path / "go").touch()
    one.ready()


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGALRM])
def test_signals_without_a_meaning_leave_a_server_alone(run: Run, number: signal.Signals) -> None:
    one = run()
    (worker,) = children(one.process.pid)
    one.process.send_signal(number)
    if number == signal.SIGUSR2:
        one.wait_for_log("SIGUSR2 has no meaning for this server")
        os.kill(worker, number)
    assert one.get().status_code == 200
    assert children(one.process.pid) == [worker]


@pytest.mark.parametrize("environment", [{}, {"FANBUS_SINGLE_PROCESS": "1"}])
def test_quit_ends_a_server_in_order(run: Run, environment: dict[str, str]) -> None:
    one = run(environment=environment)
    one.process.send_signal(signal.SIGQUIT)
    assert one.process.wait(DEADLINE_S) == 0

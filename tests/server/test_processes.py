"""Workers that get stuck, crash or have done enough; more and fewer of them; who watches from
outside. With real processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest

from conftest import StartServer
from fanbus.config import Settings
from fanbus.runtime.worker_process import LEAVE, max_requests
from fanbus.server import reuseport
from fanbus.server.health import reason_to_replace
from fanbus.server.slot import Process
from support import segments
from support.paths import TESTS
from support.raw_websocket import RawSocket
from support.servers import DEADLINE_S, Server, is_alive, stop, wait_for


def pids_that_answer(one: Server, path: str = "/") -> set[int]:
    """Of the processes that answer 40 requests."""
    with one.http() as http:
        return {http.get(path).json()["pid"] for _ in range(40)}


def request_in_the_background(one: Server, path: str) -> None:
    """Without waiting for the answer, which may never come."""
    raw = RawSocket(one.port)
    raw.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def wait() -> None:
        with raw:
            raw.ended()

    threading.Thread(target=wait, daemon=True).start()


# Stuck and crashed


def test_worker_with_a_stuck_loop_is_logged_with_its_stack_and_replaced(
    server: StartServer,
) -> None:
    one = server("changing", workers=1, environment={"FANBUS_TIMEOUT_WORKER": "1"})
    (before,) = one.worker_pids()
    request_in_the_background(one, "/block/60")
    one.wait_for_log(f"(PID {before}) has not answered: its event loop is stuck for 1 s")
    one.wait_for_log("in block_the_event_loop")
    one.wait_for_log("was killed by SIGABRT; replaced at once")
    wait_for(lambda: (now := one.worker_pids()) and before not in now, "a new worker")
    assert before not in pids_that_answer(one)


def test_a_worker_that_is_stopped_is_killed_and_replaced(server: StartServer) -> None:
    """It cannot even write its stack."""
    one = server("changing", workers=1, environment={"FANBUS_TIMEOUT_WORKER": "1"})
    (before,) = one.worker_pids()
    os.kill(before, signal.SIGSTOP)
    one.wait_for_log(f"(PID {before}) was killed by SIG")
    wait_for(lambda: (now := one.worker_pids()) and before not in now, "a new worker")
    assert before not in pids_that_answer(one)


def test_a_stopped_io_thread_is_noticed_although_python_goes_on(
    server: StartServer, tmp_path: Path
) -> None:
    app = tmp_path / "still.py"
    app.write_text(
        """
import os
import fanbus.runtime.worker
from fanbus import Fanbus

app = Fanbus("still")
really = fanbus.runtime.worker._core.Worker

class Still:
    # A core whose I/O thread comes round no more.
    def __init__(self, *args, **kwargs): self._core = really(*args, **kwargs)
    def __getattr__(self, name): return getattr(self._core, name)
    def pulse(self): return 7, 0

class Core:
    Worker = Still
    def __getattr__(self, name): return getattr(really_core, name)

really_core = fanbus.runtime.worker._core
fanbus.runtime.worker._core = Core()
app.run(port=int(os.environ["PORT"]), workers=1)
"""
    )
    one = server(app, environment={"FANBUS_TIMEOUT_WORKER": "2"})
    one.wait_for_log("has not answered: its I/O thread is stuck for 2 s")


def test_a_busy_worker_that_answers_in_time_is_left_alone(server: StartServer) -> None:
    one = server("changing", workers=1, environment={"FANBUS_TIMEOUT_WORKER": "4"})
    before = one.worker_pids()
    with one.http() as http:
        assert http.get("/block/2").text == "done"
    assert one.worker_pids() == before
    assert "has not answered" not in one.log()


def test_a_worker_that_crashes_tells_its_stack(server: StartServer) -> None:
    one = server("changing", workers=1)
    request_in_the_background(one, "/crash")
    one.wait_for_log("was killed by SIGSEGV; replaced at once. Its threads were:")
    one.wait_for_log("in crash")


def test_a_worker_that_does_not_come_up_is_ended(server: StartServer, tmp_path: Path) -> None:
    app = tmp_path / "late.py"
    app.write_text(
        """
import os, pathlib, time
import fanbus.runtime.worker
from fanbus import Fanbus

app = Fanbus("late")
loop = fanbus.runtime.worker.new_event_loop

def late(kind):
    first = pathlib.Path(__file__).with_name("first")
    if not first.exists():
        first.touch()
        time.sleep(60)
    return loop(kind)

fanbus.runtime.worker.new_event_loop = late
app.run(port=int(os.environ["PORT"]), workers=1)
"""
    )
    one = server(app, environment={"FANBUS_TIMEOUT_WORKER_BOOT": "1"})
    assert "is not ready for 1 s; ending it" in one.log()
    assert "in late" in one.log()


# Enough


def test_a_worker_that_has_served_its_requests_is_replaced_without_a_failure(
    server: StartServer,
) -> None:
    one = server("changing", workers=2, environment={"FANBUS_LIMIT_MAX_REQUESTS": "20"})
    before = set(one.worker_pids())
    with one.http() as http:

        def all_are_new() -> bool:
            assert http.get("/").status_code == 200
            return len(one.worker_pids()) == 2 and not before & set(one.worker_pids())

        wait_for(all_are_new, "two new workers")
    assert "has served its number of requests; replacing it" in one.log()
    assert "ERROR" not in one.log()


def test_a_worker_that_is_old_enough_is_replaced(server: StartServer) -> None:
    one = server("changing", workers=1, environment={"FANBUS_WORKERS_LIFETIME": "2s"})
    before = set(one.worker_pids())
    with one.http() as http:

        def is_new() -> bool:
            return http.get("/").json()["pid"] not in before

        wait_for(is_new, "a younger worker")
    one.wait_for_log("has run for")


def test_a_worker_that_takes_too_much_memory_is_replaced(server: StartServer) -> None:
    one = server("changing", workers=1, environment={"FANBUS_WORKERS_MAX_RSS": "200M"})
    (before,) = one.worker_pids()
    with one.http() as http:
        assert http.get("/eat/200").text == "eaten"
        one.wait_for_log("MiB of memory; replacing it")
        wait_for(lambda: not is_alive(before), "the end of the fat one")
        assert http.get("/").json()["pid"] != before


def test_workers_of_one_age_are_not_replaced_at_one_time() -> None:
    settings = Settings(workers_lifetime=100, workers_lifetime_jitter=100)

    def replaced_at(pid: int) -> int:
        process = Process(pid, 0, None, -1, 0.0, 0.0)
        return next(age for age in range(300) if reason_to_replace(process, settings, age))

    ages = [replaced_at(pid) for pid in range(1000, 1100)]
    assert min(ages) >= 100
    assert max(ages) <= 201
    assert len(set(ages)) > 30


def test_the_jitter_of_the_number_of_requests_spreads_workers_evenly() -> None:
    """Neighbouring process IDs, as workers have them; each quarter of the range gets its share."""
    settings = Settings(limit_max_requests=1000, limit_max_requests_jitter=99)
    limits = [max_requests(settings, pid) or 0 for pid in range(5000, 5400)]
    assert min(limits) >= 1000
    assert max(limits) <= 1099
    quarters = Counter((limit - 1000) // 25 for limit in limits)
    assert sorted(quarters) == [0, 1, 2, 3]
    assert all(60 <= count <= 140 for count in quarters.values())
    assert limits == [max_requests(settings, pid) for pid in range(5000, 5400)]


def test_a_worker_has_the_number_of_requests_that_its_process_id_gives_it(
    server: StartServer,
) -> None:
    settings = Settings(limit_max_requests=20, limit_max_requests_jitter=100)
    environment = {
        "FANBUS_LIMIT_MAX_REQUESTS": str(settings.limit_max_requests),
        "FANBUS_LIMIT_MAX_REQUESTS_JITTER": str(settings.limit_max_requests_jitter),
    }
    one = server("changing", workers=1, environment=environment)
    (pid,) = one.worker_pids()
    most = max_requests(settings, pid)
    assert most is not None
    with one.http() as http:
        for _ in range(most - 1):
            assert http.get("/").json()["pid"] == pid
        assert "has served its number of requests" not in one.log()
        assert http.get("/").json()["pid"] == pid
    one.wait_for_log(f"Worker 1 (PID {pid}) has served its number of requests; replacing it.")


# More and fewer


def test_ttin_and_ttou_mean_a_worker_more_and_less(server: StartServer) -> None:
    one = server("changing", workers=1)
    one.send_signal(signal.SIGTTIN)
    one.wait_for_log("Added one worker: 2 workers")
    wait_for(lambda: len(one.worker_pids()) == 2, "two workers")
    both = set(one.worker_pids())
    wait_for(lambda: pids_that_answer(one) == both, "answers of both")
    one.send_signal(signal.SIGTTOU)
    wait_for(lambda: len(one.worker_pids()) == 1, "one worker")
    assert pids_that_answer(one) == set(one.worker_pids())
    one.send_signal(signal.SIGTTOU)
    one.wait_for_log("No worker removed: one must stay")
    assert len(one.worker_pids()) == 1


def test_no_connection_is_lost_when_workers_come_and_go(server: StartServer) -> None:
    one = server("changing", workers=2)
    failures: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                with RawSocket(one.port) as raw:
                    raw.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    assert raw.answer().status == 200
            except (OSError, EOFError) as error:
                failures.append(repr(error))

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(2):
            one.send_signal(signal.SIGTTIN)
            wait_for(lambda: len(one.worker_pids()) == 3, "three workers")
            wait_for(lambda: pids_that_answer(one) == set(one.worker_pids()), "all answer")
            one.send_signal(signal.SIGTTOU)
            wait_for(lambda: len(one.worker_pids()) == 2, "two workers")
    finally:
        stop.set()
        for asker in askers:
            asker.join()
    assert failures == []


def has_pending(pid: int, number: signal.Signals) -> bool:
    """Whether the process has been sent a signal that it has not taken yet."""
    status = Path(f"/proc/{pid}/status").read_text()
    pending = re.search(r"^ShdPnd:\t([0-9a-f]+)$", status, re.MULTILINE)
    assert pending is not None
    return bool(int(pending[1], 16) >> (number - 1) & 1)


def test_a_worker_that_goes_gets_no_new_connection_however_long_it_takes(
    server: StartServer,
) -> None:
    """Between the word to end and the end of its listener, which a busy machine may draw apart."""
    one = server("changing", workers=2)
    before = set(one.worker_pids())
    one.send_signal(signal.SIGTTIN)
    (third,) = wait_for(lambda: set(one.worker_pids()) - before, "a third worker")
    wait_for(lambda: third in pids_that_answer(one), "its answer")
    stop(third)
    one.send_signal(signal.SIGTTOU)
    wait_for(lambda: has_pending(third, LEAVE), "the word to end")
    assert pids_that_answer(one) == before
    os.kill(third, signal.SIGCONT)
    wait_for(lambda: set(one.worker_pids()) == before, "its end")


def test_client_that_waits_for_a_worker_killed_at_shutdown_gets_a_response(
    server: StartServer,
) -> None:
    one = server("changing", workers=1)
    (first,) = one.worker_pids()
    one.send_signal(signal.SIGTTIN)
    (second,) = wait_for(lambda: set(one.worker_pids()) - {first}, "a second worker")
    wait_for(lambda: second in pids_that_answer(one), "its answer")
    stop(second)
    waiting = [RawSocket(one.port) for _ in range(40)]
    for raw in waiting:
        raw.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    one.send_signal(signal.SIGTTOU)
    one.wait_for_log("Removed one worker")
    os.kill(second, signal.SIGKILL)
    for raw in waiting:
        with raw:
            assert raw.answer().status == 200
    wait_for(lambda: one.worker_pids() == [first], "the end of who has answered them")
    assert pids_that_answer(one) == {first}


def test_connections_can_be_steered_to_the_first_listeners() -> None:
    with socket.socket() as first:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.setblocking(False)
        first.bind(("127.0.0.1", 0))
        first.listen(64)
        with socket.socket(fileno=reuseport.clone_listener(first.fileno(), 64)) as second:
            assert reuseport.limit_to_first(first.fileno(), 1)
            clients = [socket.create_connection(first.getsockname()) for _ in range(30)]
            accepted = [first.accept()[0] for _ in clients]
            with pytest.raises(BlockingIOError):
                second.accept()
            reuseport.use_all(first.fileno())
            for one in clients + accepted:
                one.close()


# Who watches from outside


class Manager:
    """The socket of a service manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(DEADLINE_S)

    def hear(self, wanted: str) -> str:
        """The next message with this line in it."""
        while True:
            text = self._socket.recv(4096).decode()
            if wanted in text.splitlines():
                return text

    def close(self) -> None:
        self._socket.close()


def test_systemd_is_notified_of_each_state(server: StartServer, tmp_path: Path) -> None:
    manager = Manager(tmp_path / "notify")
    try:
        one = server(
            "changing",
            workers=2,
            environment={"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "500000"},
        )
        assert f"STATUS=2 workers on port {one.port}" in manager.hear("READY=1")
        manager.hear("WATCHDOG=1")
        one.send_signal(signal.SIGHUP)
        assert re.search(r"^MONOTONIC_USEC=\d+$", manager.hear("RELOADING=1"), re.MULTILINE)
        manager.hear("READY=1")
        manager.hear("WATCHDOG=1")
        one.send_signal(signal.SIGTERM)
        manager.hear("STOPPING=1")
        assert one.wait() == 0
    finally:
        manager.close()


def test_as_pid_1_it_buries_orphans_and_ends_in_order(tmp_path: Path) -> None:
    """As in a container without an init."""
    app = TESTS / "apps" / "changing.py"
    with (tmp_path / "stderr").open("wb") as log:
        outer = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, app],
            env={**os.environ, "PORT": "0", "WORKERS": "1", "PYTHONUNBUFFERED": "1"},
            stderr=log,
            start_new_session=True,
        )
    try:

        def port() -> re.Match[str] | None:
            text = (tmp_path / "stderr").read_text()
            assert outer.poll() is None, text
            return re.search(r"http://127\.0\.0\.1:(\d+)", text)

        number = wait_for(port, "the banner")[1]
        base = f"http://127.0.0.1:{number}"
        (inner,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        of_inner = Path(f"/proc/{inner}/task/{inner}/children")
        before = of_inner.read_text().split()
        assert len(before) == 1
        httpx.get(f"{base}/orphan", trust_env=False).raise_for_status()
        wait_for(lambda: len(of_inner.read_text().split()) == 2, "the orphan to be inherited")
        wait_for(lambda: of_inner.read_text().split() == before, "the orphan to be buried")
        os.kill(int(inner), signal.SIGTERM)
        assert outer.wait(DEADLINE_S) == 0
    finally:
        if outer.poll() is None:
            outer.kill()
            outer.wait()
        said = re.search(r"http://127\.0\.0\.1:(\d+)", (tmp_path / "stderr").read_text())
        if said is not None:
            segments.remove_of_port(int(said[1]))  # it keeps its history for the next start


def test_logs_are_reopened_in_all_processes(server: StartServer, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    app = tmp_path / "logging_app.py"
    app.write_text(
        f"""
import logging, os
from fanbus import Fanbus
mine = logging.getLogger("mine")
mine.addHandler(logging.FileHandler({str(log)!r}))
app = Fanbus("logging")

@app.get("/")
def index():
    mine.warning("asked")
    return "hello"

app.run(port=int(os.environ["PORT"]), workers=1)
"""
    )
    one = server(app)
    with one.http() as http:
        http.get("/")
        assert log.read_text() == "asked\n"
        log.rename(tmp_path / "app.log.1")
        one.send_signal(signal.SIGUSR1)

        def is_in_the_new_file() -> bool:
            http.get("/")
            return log.exists() and "asked" in log.read_text()

        wait_for(is_in_the_new_file, "a line in the new file")
    assert len(one.worker_pids()) == 1


# Before the fork


def test_the_supervisor_has_one_thread(server: StartServer) -> None:
    one = server("changing", workers=2)
    status = Path(f"/proc/{one.pid}/status").read_text()
    assert "\nThreads:\t1\n" in status


def test_a_traceback_is_shown_in_debug_only(server: StartServer, tmp_path: Path) -> None:
    one = server("changing", workers=1)
    with one.http() as http:
        assert "secret" not in http.get("/bug").text
    two = server("web", environment={"DEBUG": "1"})
    with two.http() as http:
        assert "a secret of the handler" in http.get("/bug").text

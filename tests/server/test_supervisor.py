"""The supervisor with real processes: replacing, ending, and refusing to start."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import StartServer
from support.raw_websocket import RawSocket
from support.servers import DEADLINE_S, Server, children, is_alive, stop, wait_for


def run_app(
    source: str, tmp_path: Path, *, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs an application that is expected to end by itself."""
    path = tmp_path / "app.py"
    path.write_text(source)
    environment = {name: value for name, value in os.environ.items() if name != "WEB_CONCURRENCY"}
    return subprocess.run(
        [*prefix, sys.executable, str(path)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=environment,
        check=False,
    )


def app_source(run: str, before: str = "") -> str:
    """An application of one route."""
    return f"""
from fanbus import Fanbus
{before}
app = Fanbus("small")

@app.get("/")
def index():
    return "hello"

{run}
"""


def one_sentence(text: str) -> str:
    """The only line on stderr; AssertionError if there is more."""
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert "Traceback" not in text
    assert lines[0].startswith("fanbus: ")
    assert lines[0].endswith((".", "?"))
    return lines[0]


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


# Start


def test_the_banner_says_what_runs(server: StartServer) -> None:
    one = server("rooms", workers=2)
    assert one.segment.exists(), "the bus is named after the application and its port"
    (line,) = one.log().splitlines()
    expected = rf"serves http://127\.0\.0\.1:{one.port} with 2 processes, .* PID {one.pid}\."
    assert re.search(expected, line), line
    assert len(one.worker_pids()) == 2
    with one.http() as http:
        assert http.get("/pid").status_code == 200


def test_all_workers_answer_on_one_port(server: StartServer) -> None:
    one = server("rooms", workers=4)
    with one.http() as http:
        seen: set[int] = set()

        def all_seen() -> bool:
            seen.add(http.get("/pid").json()["pid"])
            return seen == set(one.worker_pids())

        wait_for(all_seen, "an answer of each worker")
    assert len(seen) == 4


def test_without_a_number_there_is_a_worker_per_core(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text(app_source("app.run(port=0)"))
    one = Server(path, workers=0, environment={}, stderr=tmp_path / "stderr")
    try:
        one.wait_until_ready()
        assert len(one.worker_pids()) == len(os.sched_getaffinity(0))
    finally:
        one.destroy()


def test_port_in_use_is_reported_in_one_sentence(tmp_path: Path, busy_port: int) -> None:
    done = run_app(app_source(f"app.run(port={busy_port}, workers=2)"), tmp_path)
    assert done.returncode == 1
    assert f"Port {busy_port} on 127.0.0.1 is in use" in one_sentence(done.stderr)


def test_a_second_server_on_the_same_port_is_refused(server: StartServer, tmp_path: Path) -> None:
    one = server("rooms", workers=2)
    done = run_app(app_source(f"app.run(port={one.port}, workers=2)"), tmp_path)
    assert done.returncode == 1
    assert f"Port {one.port} on 127.0.0.1 is in use" in one_sentence(done.stderr)
    with one.http() as http:
        assert http.get("/pid").status_code == 200


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("no.such.host.invalid", 'Cannot listen on "no.such.host.invalid"'),
        ("192.0.2.200", "No interface of this machine has the address 192.0.2.200"),
        ("not a host", 'Cannot listen on "not a host"'),
    ],
)
def test_bad_host_is_reported_in_one_sentence(tmp_path: Path, host: str, said: str) -> None:
    done = run_app(app_source(f"app.run(host={host!r}, port=0)"), tmp_path)
    assert done.returncode == 1
    assert said in one_sentence(done.stderr)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("app.run(port=99999)", "port must be a whole number from 0 to 65535, got 99999"),
        ("app.run(workers=0)", "workers must be a whole number from 1 to 56, got 0"),
        ("app.run(host=7)", "host must be"),
    ],
)
def test_an_impossible_value_ends_with_status_2(tmp_path: Path, run: str, said: str) -> None:
    done = run_app(app_source(run), tmp_path)
    assert done.returncode == 2
    assert said in one_sentence(done.stderr)


def test_port_that_this_user_may_not_bind_is_reported_in_one_sentence(tmp_path: Path) -> None:
    start = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    assert start > 0, "on this machine every user may have every port"
    port = start - 1
    # Root may have every port, unless this capability is taken away from it.
    without = ("setpriv", "--bounding-set=-net_bind_service") if os.geteuid() == 0 else ()
    done = run_app(app_source(f"app.run(port={port}, workers=1)"), tmp_path, prefix=without)
    assert done.returncode == 1
    assert f"may not listen on port {port}" in one_sentence(done.stderr)


def test_application_that_cannot_start_is_reported_once_with_status_3(tmp_path: Path) -> None:
    broken = """
import fanbus.runtime.worker

def broken(kind):
    raise RuntimeError("the loop is broken")

fanbus.runtime.worker.new_event_loop = broken
"""
    done = run_app(app_source("app.run(port=0, workers=4)", broken), tmp_path)
    assert done.returncode == 3
    assert done.stderr.count("Traceback") == 1, done.stderr
    assert done.stderr.count("RuntimeError: the loop is broken") == 1, done.stderr
    assert "The application cannot start." in done.stderr
    assert "http://" not in done.stderr, "no banner of a server that does not listen"


def test_a_start_outside_the_main_thread_is_refused(tmp_path: Path) -> None:
    run = "import threading; t = threading.Thread(target=app.run); t.start(); t.join()"
    done = run_app(app_source(run), tmp_path)
    assert "main thread" in one_sentence(done.stderr)


def test_threads_that_exist_before_the_fork_are_named(server: StartServer, tmp_path: Path) -> None:
    before = """
import threading
threading.Thread(target=threading.Event().wait, name="my-metrics", daemon=True).start()
"""
    path = tmp_path / "app.py"
    path.write_text(app_source("app.run(port=0, workers=1)", before))
    one = server(path)
    assert "WARNING" in one.log()
    assert "my-metrics" in one.log()
    assert "DeprecationWarning" not in one.log()


def test_bus_that_cannot_be_opened_is_reported_in_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    strange = Path(f"/dev/shm/fanbus.small-{port}")
    strange.write_bytes(b"not a bus" * 1000)
    strange.chmod(0o644)
    try:
        done = run_app(app_source(f"app.run(port={port}, workers=1)"), tmp_path)
    finally:
        strange.unlink(missing_ok=True)
    assert done.returncode == 1
    assert str(strange) in one_sentence(done.stderr)


# Replacing


def test_a_worker_that_is_killed_is_replaced(server: StartServer) -> None:
    one = server("rooms", workers=2)
    before = set(one.worker_pids())
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(now := set(one.worker_pids())) == 2 and victim not in now, "a new worker")
    assert before - {victim} < set(one.worker_pids()), "the other one lives on"
    one.wait_for_log(f"(PID {victim}) was killed by SIGKILL; replaced at once")

    with one.http() as http:
        seen: set[int] = set()

        def all_seen() -> bool:
            seen.add(http.get("/pid").json()["pid"])
            return seen >= set(one.worker_pids())

        wait_for(all_seen, "an answer of the new worker")


def test_connections_that_wait_for_a_killed_worker_are_served_by_its_replacement(
    server: StartServer,
) -> None:
    one = server("rooms", workers=1)
    (victim,) = one.worker_pids()
    stop(victim)  # it accepts nothing any more
    waiting = [RawSocket(one.port) for _ in range(20)]
    for client in waiting:
        client.write(b"GET /pid HTTP/1.1\r\nHost: x\r\n\r\n")
    os.kill(victim, signal.SIGKILL)
    for client in waiting:
        answer = client.answer()
        assert answer.status == 200
        assert str(victim).encode() not in answer.body
        client.socket.close()


def test_every_worker_may_die_at_once(server: StartServer) -> None:
    one = server("rooms", workers=4)
    before = set(one.worker_pids())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for(
        lambda: len(now := set(one.worker_pids())) == 4 and not now & before, "four new workers"
    )
    with one.http() as http:
        assert http.get("/pid").status_code == 200


def test_a_crash_loop_backs_off_and_ends_when_a_worker_lives(server: StartServer) -> None:
    one = server("rooms", workers=1)
    for deaths in range(1, 5):
        (pid,) = wait_for(one.worker_pids, "a worker")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda n=deaths: one.log().count("was killed by SIGKILL") == n, "its burial")  # type: ignore[misc]
    assert one.log().count("replaced at once") == 3
    assert one.log().count("next start in 0.25 s") == 1
    with one.http() as http:
        assert http.get("/pid").status_code == 200


def test_a_supervisor_without_descriptors_tries_again(server: StartServer) -> None:
    one = server("rooms", workers=2)
    before = one.worker_pids()
    limits = resource.prlimit(one.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    os.kill(before[0], signal.SIGKILL)
    one.wait_for_log("Cannot fork worker 1: Too many open files. Next try in")
    assert one.worker_pids() == before[1:], "the other one lives on"
    resource.prlimit(one.pid, resource.RLIMIT_NOFILE, limits)
    wait_for(lambda: len(one.worker_pids()) == 2, "a new worker")
    assert "Traceback" not in one.log()


def test_worker_that_gets_a_termination_signal_is_replaced_too(server: StartServer) -> None:
    one = server("rooms", workers=1)
    (before,) = one.worker_pids()
    os.kill(before, signal.SIGTERM)
    wait_for(lambda: (now := one.worker_pids()) and before not in now, "a new worker")
    one.wait_for_log(f"(PID {before}) ended with status 0")


def test_signal_before_the_loop_runs_is_not_lost(server: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    early = """
import os, pathlib, signal
import fanbus.runtime.worker

make = fanbus.runtime.worker.new_event_loop

def early(kind):
    class Early(type(make(kind))):
        def run_forever(self):
            if not (first := pathlib.Path(__file__).with_name("first")).exists():
                first.touch()
                os.kill(os.getpid(), signal.SIGTERM)
            super().run_forever()
    return Early()

fanbus.runtime.worker.new_event_loop = early
"""
    path.write_text(
        app_source("import os; app.run(port=int(os.environ['PORT']), workers=1)", early)
    )
    one = server(path)
    one.wait_for_log("was killed by SIGTERM; replaced at once")
    (before,) = one.worker_pids()
    with one.http() as http:
        assert http.get("/").text == "hello"
    assert one.worker_pids() == [before]


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 4])
def test_a_signal_ends_everything_with_status_0(
    server: StartServer, number: signal.Signals, workers: int
) -> None:
    one = server("rooms", workers=workers)
    pids = one.worker_pids()
    one.send_signal(number)
    assert one.wait() == 0
    assert not any(is_alive(pid) for pid in pids)
    assert "Traceback" not in one.log()
    assert not one.segment.exists()
    with pytest.raises(ConnectionRefusedError):
        RawSocket(one.port)


def test_ctrl_c_in_a_terminal_reaches_all_processes_and_ends_them_in_order(
    server: StartServer,
) -> None:
    one = server("rooms", workers=2)
    os.killpg(one.pid, signal.SIGINT)
    assert one.wait() == 0
    assert "Traceback" not in one.log()
    assert "KeyboardInterrupt" not in one.log()


def test_a_request_in_flight_is_answered_before_the_end(server: StartServer) -> None:
    one = server("web", workers=1)
    with RawSocket(one.port) as raw:
        raw.write(b"GET /slow/1.0 HTTP/1.1\r\nHost: x\r\n\r\n")
        with one.http() as http:  # the slow one has been read when this one is answered
            assert http.get("/text").status_code == 200
        one.send_signal(signal.SIGTERM)
        answer = raw.answer()
    assert (answer.status, answer.body) == (200, b"done")
    assert one.wait() == 0


def test_a_second_signal_ends_it_at_once(server: StartServer) -> None:
    one = server("web", workers=1)
    with RawSocket(one.port) as raw:
        raw.write(b"GET /slow/60 HTTP/1.1\r\nHost: x\r\n\r\n")
        with one.http() as http:
            assert http.get("/text").status_code == 200
        one.send_signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                RawSocket(one.port).socket.close()
            except ConnectionRefusedError:
                return True
            except ConnectionResetError:  # it was just being closed
                return False
            return False

        wait_for(refused, "the end of listening", deadline_s=5)
        one.send_signal(signal.SIGTERM)
        assert one.process.wait(5) == 0, "well before the grace time of 10 s is over"


def test_code_round_run_runs_once(tmp_path: Path) -> None:
    """In the supervisor and in no worker, even if its output was still in a buffer."""
    path = tmp_path / "app.py"
    path.write_text(
        app_source("print('before run')\napp.run(port=0, workers=2)\nprint('after run')")
    )
    environment = {"PYTHONUNBUFFERED": ""}
    one = Server(path, workers=2, environment=environment, stderr=tmp_path / "stderr")
    try:
        one.wait_until_ready()
        one.send_signal(signal.SIGTERM)
        assert one.wait() == 0
        assert one.log().count("before run") == 1
        assert one.log().count("after run") == 1
    finally:
        one.destroy()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_when_the_supervisor_is_killed_the_workers_go_within_a_second(
    server: StartServer, number: signal.Signals
) -> None:
    one = server("rooms", workers=4)
    pids = one.worker_pids()
    assert len(pids) == 4
    one.send_signal(number)
    one.wait()
    wait_for(lambda: not any(is_alive(pid) for pid in pids), "no worker", deadline_s=1)


def test_after_a_kill_the_next_server_starts_on_the_same_port(server: StartServer) -> None:
    one = server("rooms", workers=2)
    one.send_signal(signal.SIGKILL)
    one.wait()
    two = server("rooms", workers=2, environment={"PORT": str(one.port)})
    assert two.port == one.port
    with two.http() as http:
        assert http.post("/sync/hall", content="hello").status_code == 200


# One process


def test_single_process_serves_at_the_given_address(server: StartServer) -> None:
    one = server("rooms", workers=4, environment={"FANBUS_SINGLE_PROCESS": "1"})
    assert children(one.pid) == []
    assert "Serving in a single process (FANBUS_SINGLE_PROCESS=1)." in one.log()
    with one.http() as http, RawSocket(one.port) as raw:
        assert http.get("/pid").json() == {"pid": one.pid}
        raw.open("/rooms/hall")
        raw.message()
        http.post("/sync/hall", content="hello")
        assert raw.message() == "hello"


def test_one_process_says_that_it_does_not_reload(server: StartServer) -> None:
    one = server("rooms", environment={"FANBUS_SINGLE_PROCESS": "1"})
    one.send_signal(signal.SIGHUP)
    one.wait_for_log("A single process does not reload")
    with one.http() as http:
        assert http.get("/pid").json() == {"pid": one.pid}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_process_ends_in_order(server: StartServer, number: signal.Signals) -> None:
    one = server("rooms", environment={"FANBUS_SINGLE_PROCESS": "1"})
    with RawSocket(one.port) as raw:
        raw.open("/rooms/hall")
        raw.message()
        one.send_signal(number)
        assert raw.closed()[0] == 1012
    assert one.wait() == 0
    assert "Traceback" not in one.log()

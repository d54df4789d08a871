"""SIGHUP: new code in new workers, and nobody who notices. With real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import StartServer
from support.changing_app import Changing, times_reloaded, versions, wait_for_version
from support.raw_websocket import RawSocket
from support.servers import Server, children, is_alive, wait_for


def begins_to_answer(raw: RawSocket) -> bool:
    """Whether something comes for a GET; False if the connection ends instead."""
    try:
        raw.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return bool(raw.socket.recv(1, socket.MSG_PEEK))
    except ConnectionError:
        return False


class Load:
    """Requests without a pause, each on a connection of its own or on one that is kept.

    As clients do, it sends a GET once more if a connection that was kept ends before a byte of the
    answer has come (RFC 9110, 9.2.2; RFC 9112, 9.3.1). Nothing else is tried again.
    """

    def __init__(self, one: Server, threads: int = 2) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._ask, args=(one.port, number % 2 == 1))
            for number in range(threads)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, port: int, keeps: bool) -> None:
        raw: RawSocket | None = None
        while not self._stop.is_set():
            try:
                if raw is not None and not begins_to_answer(raw):
                    raw.socket.close()
                    raw = None
                if raw is None:
                    raw = RawSocket(port)
                    assert begins_to_answer(raw), "a new connection ended without an answer"
                answer = raw.answer()
                assert answer.status == 200, answer
                is_last = answer.headers.get("connection", "").lower() == "close"
                with self._lock:
                    self.answers += 1
            except (OSError, EOFError, AssertionError) as error:
                is_last = True
                with self._lock:
                    self.failures.append(repr(error))
            if (is_last or not keeps) and raw is not None:
                raw.socket.close()
                raw = None
        if raw is not None:
            raw.socket.close()


class Listener:
    """A WebSocket client that comes back, and asks for what it has missed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.received: list[str] = []
        self.returns = 0
        self.incomplete = 0
        self.codes: Counter[int | None] = Counter()
        self.connected = asyncio.Event()

    async def run(self) -> None:
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed, InvalidHandshake

        place: tuple[str, int] | None = None
        while True:
            before, is_told = 0, False
            asked = "" if place is None else f"?epoch={place[0]}&since={place[1]}"
            try:
                async with connect(
                    f"ws://127.0.0.1:{self.port}/news{asked}",
                    open_timeout=60,
                    ping_interval=None,
                    compression=None,
                    proxy=None,
                ) as ws:
                    while True:
                        text = str(await ws.recv())
                        if text.startswith("* "):
                            _, epoch, end, replayed, complete = text.split()
                            self.incomplete += place is not None and complete != "True"
                            # Nothing but news is on this bus: who counts knows the offset.
                            place = epoch, int(end) - 1 + before - int(replayed)
                            is_told = True
                            self.connected.set()
                            continue
                        self.received.append(text)
                        if is_told and place is not None:
                            place = place[0], place[1] + 1
                        else:
                            before += 1
            except ConnectionClosed as closed:
                self.codes[closed.rcvd.code if closed.rcvd else None] += 1
                self.returns += 1
                if place is not None and not is_told:  # it was closed within the replay
                    place = place[0], place[1] + before
            except (InvalidHandshake, OSError, EOFError, TimeoutError):
                await asyncio.sleep(0.01)


# One reload


def test_new_workers_run_the_new_code(server: StartServer, changing: Changing) -> None:
    one = server(changing.path, workers=2)
    before = one.worker_pids()
    assert versions(one) == {"1"}
    changing.write("2")
    one.send_signal(signal.SIGHUP)
    wait_for_version(one, "2")
    wait_for(lambda: times_reloaded(one) == 1, "the end of the reload")
    wait_for(lambda: len(one.worker_pids()) == 2, "the end of the old workers")
    assert not set(before) & set(one.worker_pids())
    one.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    assert "Traceback" not in one.log()


def test_fanbus_run_reloads_too(server: StartServer, changing: Changing) -> None:
    starter = changing.path.with_name("starter.py")
    starter.write_text(
        "import os, sys\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'fanbus', 'run', 'changing:app',"
        f" '--app-dir', {str(changing.path.parent)!r}, '--port', '0', '--workers', '2'])\n"
    )
    one = server(starter)
    assert versions(one) == {"1"}
    changing.write("22")
    one.send_signal(signal.SIGHUP)
    wait_for_version(one, "22")


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("raise RuntimeError('not today')", "RuntimeError: not today"),
        ("def broken(:", "SyntaxError"),
        ("import sys; sys.exit(0)", "before it came to app.run()"),
    ],
)
def test_code_that_does_not_start_changes_nothing(
    server: StartServer, changing: Changing, extra: str, said: str
) -> None:
    one = server(changing.path, workers=2)
    before = one.worker_pids()
    changing.write("2", extra=extra)
    one.send_signal(signal.SIGHUP)
    one.wait_for_log("The new code does not start; the workers go on with the old code.")
    assert said in one.log()
    assert one.worker_pids() == before
    assert versions(one) == {"1"}
    # The old code also lives on in what replaces a worker that dies meanwhile.
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: len(now := one.worker_pids()) == 2 and before[0] not in now, "a new worker")
    assert versions(one) == {"1"}
    changing.write("3")
    one.send_signal(signal.SIGHUP)
    wait_for_version(one, "3")


ONLY_IN_THE_PROBE = """
import fanbus.server.reload.start_command
if fanbus.server.reload.start_command.PROBE is None:
    {what}
"""


def only_in_the_probe(what: str) -> str:
    """Code that the probe finds well, and that breaks when it is read once more."""
    return ONLY_IN_THE_PROBE.format(what=what)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("raise RuntimeError('broken in between')", "RuntimeError: broken in between"),
        ("raise SystemExit(7)", "It ended before the server was there"),
        ("os.environ['FANBUS_WORKERS'] = 'many'; app.run()", "FANBUS_WORKERS"),
        ("import fanbus.server.supervisor; fanbus.server.supervisor.Reaper = None", "TypeError"),
    ],
)
def test_code_that_breaks_after_the_probe_leaves_the_old_workers(
    server: StartServer, changing: Changing, what: str, said: str
) -> None:
    one = server(changing.path, workers=2)
    before = one.worker_pids()
    changing.write("2", extra=only_in_the_probe(what))
    with Load(one) as load:
        one.send_signal(signal.SIGHUP)
        one.wait_for_log("The new code broke after it had been tried; the old workers stay.")
        wait_for(lambda: load.answers > 20, "answers")
        assert said in one.log()
        assert one.worker_pids() == before
        assert versions(one) == {"1"}
        one.send_signal(signal.SIGTTIN)
        one.wait_for_log("No worker can be added until the new code starts")
        # Again, as broken as before: nothing is lost by it.
        one.send_signal(signal.SIGHUP)
        wait_for(lambda: one.log().count("after it had been tried") == 2, "the second try")
        changing.write("3")
        one.send_signal(signal.SIGHUP)
        wait_for_version(one, "3")
    assert load.failures == []
    wait_for(lambda: len(one.worker_pids()) == 2, "the end of the old workers")
    one.send_signal(signal.SIGTTIN)
    wait_for(lambda: len(one.worker_pids()) == 3, "a worker more, as ever")
    one.send_signal(signal.SIGTERM)
    assert one.wait() == 0


def test_without_code_the_old_workers_are_ended_in_order_and_nothing_is_left(
    server: StartServer, changing: Changing, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    one = server(changing.path, workers=2, environment={"FANBUS_PID_FILE": str(pid_file)})
    changing.write("2", extra=only_in_the_probe("raise RuntimeError('broken in between')"))
    one.send_signal(signal.SIGHUP)
    one.wait_for_log("The new code broke after it had been tried")
    assert pid_file.read_text() == f"{one.pid}\n"
    with RawSocket(one.port) as raw:
        raw.write(b"GET /slow/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert versions(one) == {"1"}
        one.send_signal(signal.SIGTERM)
        assert raw.answer().status == 200
    assert one.wait() == 0
    assert not pid_file.exists()
    assert one.segment.exists(), "the application keeps its history"


def test_without_code_a_dead_worker_has_the_new_code_tried_again(
    server: StartServer, changing: Changing
) -> None:
    one = server(changing.path, workers=2)
    before = one.worker_pids()
    broken = "if not os.path.exists(__file__ + '.well'): raise RuntimeError('broken in between')"
    changing.write("2", extra=only_in_the_probe(broken))
    one.send_signal(signal.SIGHUP)
    one.wait_for_log("The new code broke after it had been tried")
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: one.log().count("after it had been tried") >= 3, "two more tries")
    assert is_alive(before[1]), "nobody ends the other one for it"
    Path(f"{changing.path}.well").touch()
    wait_for_version(one, "2")
    wait_for(lambda: len(now := one.worker_pids()) == 2 and before[1] not in now, "new workers")


def test_without_code_a_changed_file_is_tried(server: StartServer, changing: Changing) -> None:
    one = server(changing.path, workers=1, environment={"FANBUS_RELOAD": "true"})
    changing.write("2", extra=only_in_the_probe("raise RuntimeError('broken in between')"))
    one.wait_for_log("A worker with the new code does not start; the old workers stay.")
    one.send_signal(signal.SIGHUP)
    one.wait_for_log("The new code broke after it had been tried")
    assert versions(one) == {"1"}
    changing.write("3")
    wait_for_version(one, "3")


def test_new_code_that_hangs_after_the_probe_gives_way_to_the_old(
    server: StartServer, changing: Changing
) -> None:
    # The code that is well has to come there in that time, too, also on a busy machine.
    one = server(changing.path, workers=1, environment={"FANBUS_TIMEOUT_WORKER_BOOT": "8"})
    changing.write("2", extra=only_in_the_probe("import threading; threading.Event().wait()"))
    one.send_signal(signal.SIGHUP)
    one.wait_for_log("It did not reach app.run() within 8 s.")
    assert versions(one) == {"1"}
    changing.write("3")
    one.send_signal(signal.SIGHUP)
    wait_for_version(one, "3")


def test_a_worker_that_cannot_start_leaves_the_old_ones(
    server: StartServer, changing: Changing
) -> None:
    """The new code is imported well, but fails in the worker."""
    one = server(changing.path, workers=2)
    before = one.worker_pids()
    extra = "import fanbus.runtime.worker; fanbus.runtime.worker.new_event_loop = None"
    changing.write("2", extra=extra)
    one.send_signal(signal.SIGHUP)
    one.wait_for_log("A worker with the new code does not start; the old workers stay.")
    assert one.worker_pids() == before
    assert versions(one) == {"1"}
    changing.write("3")
    one.send_signal(signal.SIGHUP)
    wait_for_version(one, "3")


def test_a_request_in_flight_ends_in_the_old_worker(
    server: StartServer, changing: Changing
) -> None:
    one = server(changing.path, workers=1)
    with RawSocket(one.port) as raw:
        raw.write(b"GET /slow/3 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert versions(one) == {"1"}
        changing.write("2")
        one.send_signal(signal.SIGHUP)
        wait_for_version(one, "2")
        answer = raw.answer()
    assert (answer.status, answer.body) == (200, b'{"version":"1"}')
    assert answer.headers["connection"] == "close"


def test_a_connection_that_was_idle_is_answered_by_the_old_worker_and_then_closed(
    server: StartServer, changing: Changing
) -> None:
    """A client that has kept it may send what it may not send twice."""
    environment = {"FANBUS_TIMEOUT_GRACEFUL_SHUTDOWN": "60"}
    one = server(changing.path, workers=1, environment=environment)
    before = one.worker_pids()
    with RawSocket(one.port) as kept:
        kept.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.answer().headers.get("connection") != "close"
        changing.write("2")
        one.send_signal(signal.SIGHUP)
        wait_for_version(one, "2")
        kept.write(b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        answer = kept.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert kept.ended()
    wait_for(lambda: not set(before) & set(one.worker_pids()), "the end of the old worker")


def test_websockets_are_closed_with_1012_and_the_bus_goes_on(
    server: StartServer, changing: Changing
) -> None:
    one = server(changing.path, workers=1)
    with RawSocket(one.port) as raw, one.http() as http:
        raw.open("/news")
        _, epoch, end, _, _ = str(raw.message()).split()
        http.post("/publish", content="before")
        assert raw.message() == "before"
        one.send_signal(signal.SIGHUP)
        assert raw.closed()[0] == 1012
        http.post("/publish", content="after")
        with RawSocket(one.port) as again:
            again.open(f"/news?epoch={epoch}&since={int(end) - 1}")
            heard = {str(again.message()) for _ in range(3)}
        assert {"before", "after"} < heard
        (told,) = heard - {"before", "after"}
        assert told.split()[1] == epoch
        assert told.endswith("True")


# At the wrong moment


def test_two_hups_at_once_end_with_the_last_code(server: StartServer, changing: Changing) -> None:
    one = server(changing.path, workers=2)
    changing.write("2")
    one.send_signal(signal.SIGHUP)
    changing.write("3")
    one.send_signal(signal.SIGHUP)
    wait_for_version(one, "3")
    wait_for(lambda: len(one.worker_pids()) == 2, "two workers")


# Places in a reload; each is come to once, and stays behind from then on.
PLACES: dict[str, Callable[[Server, list[int]], bool]] = {
    "at once": lambda _one, _old: True,
    "a probe runs": lambda one, _old: "Reloading." in one.log(),
    "the code is read": lambda one, _old: "read anew" in one.log(),
    "a new worker boots": lambda one, old: (
        "read anew" in one.log() and bool(set(one.worker_pids()) - set(old))
    ),
    "an old worker has gone": lambda one, old: bool(set(old) - set(one.worker_pids())),
    "all is done": lambda one, _old: "Reloaded: " in one.log(),
}
# What a probe says goes to the supervisor, and is no line of the log if it is well.
READ_ANEW = "import sys; sys.stderr.write('read anew\\n')"


def hang_up_until(one: Server, changing: Changing, place: str) -> None:
    """A reload, as far as that place."""
    old = one.worker_pids()
    changing.write("2", extra=READ_ANEW)
    one.send_signal(signal.SIGHUP)
    wait_for(lambda: PLACES[place](one, old), place)


@pytest.mark.parametrize("place", PLACES)
def test_term_during_a_hup_ends_everything_with_status_0(
    server: StartServer, changing: Changing, place: str
) -> None:
    one = server(changing.path, workers=2)
    hang_up_until(one, changing, place)
    one.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    assert children(one.pid) == []
    assert "Traceback" not in one.log()


def test_hup_during_term_does_not_keep_it_alive(server: StartServer, changing: Changing) -> None:
    one = server(changing.path, workers=1)
    with RawSocket(one.port) as raw:
        raw.write(b"GET /slow/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert versions(one) == {"1"}
        one.send_signal(signal.SIGTERM)
        one.send_signal(signal.SIGHUP)
        assert raw.answer().status == 200
    assert one.wait() == 0


@pytest.mark.parametrize("place", PLACES)
def test_when_the_supervisor_is_killed_in_a_hup_all_workers_go(
    server: StartServer, changing: Changing, place: str
) -> None:
    one = server(changing.path, workers=2)
    hang_up_until(one, changing, place)
    pids = children(one.pid)
    one.send_signal(signal.SIGKILL)
    one.wait()
    wait_for(lambda: not any(is_alive(pid) for pid in pids), "no process of it", deadline_s=2)
    two = server(changing.path, workers=2, environment={"PORT": str(one.port)})
    assert versions(two) == {"2"}


GATE = """
while not os.path.exists(__file__ + ".open"):
    time.sleep(0.01)
"""


def test_workers_that_die_while_new_code_is_tried_are_replaced(
    server: StartServer, changing: Changing
) -> None:
    one = server(changing.path, workers=2)
    old = one.worker_pids()
    changing.write("2", extra=GATE)
    one.send_signal(signal.SIGHUP)
    one.wait_for_log("Reloading.")
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: one.log().count("replaced at once") == 2, "the end of the old workers")
    assert versions(one) == {"1"}, "the probe still waits, and the old code goes on"
    Path(f"{changing.path}.open").touch()
    wait_for_version(one, "2")
    wait_for(lambda: len(one.worker_pids()) == 2, "two workers")


def test_workers_that_die_while_new_code_is_read_are_replaced(
    server: StartServer, changing: Changing
) -> None:
    one = server(changing.path, workers=2)
    old = one.worker_pids()
    gate = f"exec({READ_ANEW + GATE!r})"
    changing.write("2", extra=only_in_the_probe(gate))
    one.send_signal(signal.SIGHUP)
    one.wait_for_log("read anew")
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    with RawSocket(one.port) as raw:  # nobody serves now, and nobody is refused
        raw.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        Path(f"{changing.path}.open").touch()
        assert raw.answer().status == 200
    wait_for_version(one, "2")
    wait_for(lambda: len(now := one.worker_pids()) == 2 and not set(now) & set(old), "two workers")


def test_a_changed_number_of_workers_counts_and_a_changed_port_waits(
    server: StartServer, changing: Changing
) -> None:
    source = changing.path.read_text()
    one = server(changing.path, workers=1)
    changing.path.write_text(
        source.replace('port=int(os.environ["PORT"])', "port=1").replace(
            'workers=int(os.environ["WORKERS"])', "workers=3"
        )
    )
    one.send_signal(signal.SIGHUP)
    one.wait_for_log("host and port stay as they are until the server is restarted")
    wait_for(lambda: times_reloaded(one) == 1, "the end of the reload")
    wait_for(lambda: len(one.worker_pids()) == 3, "three workers")
    with one.http() as http:
        assert http.get("/").status_code == 200


# Under load


def test_twenty_reloads_under_load_disturb_no_client(
    server: StartServer, changing: Changing
) -> None:
    """No request fails, and no client misses a message that it could have had."""
    # Old workers close their clients over half of this time.
    environment = {"FANBUS_TIMEOUT_GRACEFUL_SHUTDOWN": "4"}
    one = server(changing.path, workers=2, environment=environment)
    clients = 500
    published: list[str] = []
    listeners = [Listener(one.port) for _ in range(clients)]

    def publish(stop: threading.Event) -> None:
        number = 0
        with one.http() as http:
            while not stop.wait(0.05):
                text = f"{number} news"
                http.post("/publish", content=text).raise_for_status()
                published.append(text)
                number += 1

    async def everything() -> None:
        loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(listener.run()) for listener in listeners]
        for listener in listeners:
            await asyncio.wait_for(listener.connected.wait(), 60)
        stop = threading.Event()
        publishing = asyncio.create_task(asyncio.to_thread(publish, stop))
        for count in range(1, 21):
            changing.write(str(count + 1))
            one.send_signal(signal.SIGHUP)
            end = loop.time() + 60
            while times_reloaded(one) < count:
                assert loop.time() < end, f"reload {count}"
                assert not publishing.done(), publishing.exception()
                await asyncio.sleep(0.02)
        stop.set()
        await publishing
        end = loop.time() + 60
        while any(len(listener.received) < len(published) for listener in listeners):
            if loop.time() > end:
                break
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    with Load(one) as load:
        asyncio.run(everything())
    assert load.failures == []
    assert load.answers > 100
    assert len(published) > 20
    for listener in listeners:
        assert listener.received == published
        assert listener.incomplete == 0
        assert listener.returns > 0
        assert set(listener.codes) == {1012}
    assert versions(one) == {"21"}


def test_workers_that_are_killed_in_a_loop_refuse_no_client(
    server: StartServer, changing: Changing
) -> None:
    """Only what was in flight in the killed process fails."""
    one = server(changing.path, workers=2)
    refused: list[str] = []
    broken: list[str] = []
    answers = 0
    stop = threading.Event()
    lock = threading.Lock()

    def ask() -> None:
        nonlocal answers
        while not stop.is_set():
            try:
                raw = RawSocket(one.port)
            except OSError as error:
                with lock:
                    refused.append(repr(error))
                continue
            with raw:
                try:
                    raw.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert raw.answer().status == 200
                    with lock:
                        answers += 1
                except (OSError, EOFError) as error:
                    with lock:
                        broken.append(repr(error))

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    kills = 0
    try:
        for _ in range(15):
            victim = one.worker_pids()[0]
            os.kill(victim, signal.SIGKILL)
            kills += 1
            wait_for(
                lambda victim=victim: len(now := one.worker_pids()) == 2 and victim not in now,  # type: ignore[misc]
                "a new worker",
            )
            before = answers
            wait_for(lambda before=before: answers > before + 20, "answers")  # type: ignore[misc]
    finally:
        stop.set()
        for asker in askers:
            asker.join()
    assert refused == []
    assert len(broken) <= kills * len(askers), "each asker has one request in flight"

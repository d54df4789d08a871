"""A reload refuses no handshake: a connection that the old worker has accepted is served."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from types import TracebackType

import pytest

from conftest import StartServer
from support.raw_websocket import RawSocket
from support.servers import Server, wait_for

pytestmark = pytest.mark.supervised("a single process does not reload")

RELOADS = 5


class Handshakes:
    """Handshakes without a pause, at a route in Python and at one in Rust."""

    def __init__(self, one: Server) -> None:
        self.answers: Counter[str] = Counter()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._ask, args=(one.port, path))
            for path in ("/rooms/hall", "/relay/hall") * 2
        ]

    def __enter__(self) -> Handshakes:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, port: int, path: str) -> None:
        while not self._stop.is_set():
            try:
                with RawSocket(port) as raw:
                    status = str(raw.upgrade(path).status)
            except (OSError, EOFError) as error:
                status = repr(error)
            with self._lock:
                self.answers[status] += 1


def test_no_handshake_is_refused_while_workers_are_replaced(server: StartServer) -> None:
    one = server("rooms", workers=2)
    with Handshakes(one) as handshakes:
        for number in range(1, RELOADS + 1):
            one.send_signal(signal.SIGHUP)
            wait_for(lambda n=number: one.log().count("Reloaded: ") == n, "the reload")  # type: ignore[misc]
    assert set(handshakes.answers) == {"101"}, handshakes.answers


@pytest.mark.parametrize("path", ["/rooms/hall", "/relay/hall"])
def test_handshake_that_the_old_worker_reads_is_accepted_and_then_closed_for_a_reconnect(
    server: StartServer, path: str
) -> None:
    one = server("rooms", workers=1)
    (before,) = one.worker_pids()
    with RawSocket(one.port) as late:
        with one.http() as http:  # the one worker has accepted the first connection by then
            http.get("/pid")
        one.send_signal(signal.SIGHUP)
        one.wait_for_log("Reloaded: ")
        assert before in one.worker_pids(), "it lingers"
        late.open(path)
        assert late.closed()[0] == 1012

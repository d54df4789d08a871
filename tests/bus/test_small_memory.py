"""Servers whose /dev/shm is small, as in a container: it fits, or the server says what it needs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from conftest import StartServer
from support.command_servers import Run, refused
from support.servers import Server, wait_for
from support.websocket_clients import hear, join

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a /dev/shm for a test"),
    pytest.mark.supervised("a single process has one ring"),
]

MANY = 8
KEEPS = """\
import os
from fanbus import Fanbus

app = Fanbus("keeping")
app.topic("room:{room}", history=100)
app.run(port=int(os.environ["PORT"]), workers=2)
"""


def with_shm(size: str, *steps: str) -> tuple[str, ...]:
    """The beginning of a command, which then has a /dev/shm of its own."""
    script = " && ".join([f"mount -t tmpfs -o size={size} tmpfs /dev/shm", *steps, 'exec "$@"'])
    return ("unshare", "--mount", "sh", "-c", script, "sh")


def shm(one: Server) -> Path:
    """As the server has it."""
    return Path(f"/proc/{one.pid}/root/dev/shm")


def fill(one: Server) -> None:
    """Nothing is free afterwards."""
    with (shm(one) / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            pass
    found = os.statvfs(shm(one))
    assert found.f_bavail == 0


def shown(one: Server) -> str:
    """What `fanbus bus show` says, in the server's surroundings."""
    enter = ["nsenter", f"--target={one.pid}", "--mount"]
    command = [*enter, sys.executable, "-m", "fanbus", "bus", "show", f"rooms-{one.port}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def all_hear_each_other(one: Server, room: str, workers: int = 2) -> None:
    """Clients of every worker get what is published in any, once old workers have ended."""
    wait_for(lambda: len(one.worker_pids()) == workers, f"{workers} workers")
    with ExitStack() as stack:
        clients = []

        def have_met_all() -> bool:
            client = stack.enter_context(join(one, f"/rooms/{room}"))
            clients.append((client, hear(client)))
            return {pid for _, pid in clients} == {f"in {pid}" for pid in one.worker_pids()}

        wait_for(have_met_all, "a client of each worker")
        with one.http() as http:
            assert http.post(f"/sync/{room}", content="all").status_code == 200
        assert {hear(client) for client, _ in clients} == {"all"}


@pytest.mark.parametrize(("size", "ring"), [("64m", "4 MiB"), ("16m", "1 MiB")])
def test_eight_workers_fit_and_are_replaced(server: StartServer, size: str, ring: str) -> None:
    one = server("rooms", workers=MANY, inside=with_shm(size))
    said = f"little room in /dev/shm, so the bus has {ring} for the newest messages of each worker"
    assert one.log().count(said) == 1
    assert f"the newest {ring} of each process" in shown(one)
    assert f"{MANY + 1} of 64; {MANY + 6} places are reserved for the server" in shown(one)
    all_hear_each_other(one, "first", MANY)
    os.kill(one.worker_pids()[0], signal.SIGKILL)
    one.wait_for_log("replaced at once")
    one.send_signal(signal.SIGHUP)
    wait_for(lambda: one.log().count("Reloaded: ") == 1, "the end of the reload")
    all_hear_each_other(one, "second", MANY)
    assert one.log().count(said) == 1


def test_a_bus_that_is_lost_is_made_once_more_beside_what_is_left_of_it(
    server: StartServer,
) -> None:
    one = server("rooms", workers=MANY, inside=with_shm("64m"))
    (shm(one) / one.segment.name).unlink()  # its memory is free when the old workers have ended
    wait_for(lambda: one.log().count("Reloaded: ") == 1, "the end of the reload")
    all_hear_each_other(one, "again", MANY)
    assert one.log().count("little room in /dev/shm, so the bus has 4 MiB") == 1
    assert one.log().count("little room in /dev/shm, so the bus has 2 MiB") == 1
    assert "could not start" not in one.log()


def test_with_room_for_it_the_bus_has_its_usual_size(server: StartServer) -> None:
    one = server("rooms", workers=2, inside=with_shm("64m"))
    assert "little room" not in one.log()
    assert "the newest 8 MiB of each process" in shown(one)


def test_the_history_is_smaller_too(server: StartServer, tmp_path: Path) -> None:
    app = tmp_path / "keeping.py"
    app.write_text(KEEPS)
    one = server(app, workers=2, inside=with_shm("16m"))
    assert "a quarter of that for one message, and 1 MiB of history (history_size)." in one.log()


def test_explicit_size_that_does_not_fit_is_refused_with_figures(run: Run) -> None:
    words = ("-w", "8", "--bus-size", "8M", "--bus-name", "asked")
    one = run(*words, wait=False, prefix=with_shm("64m"))
    refused(
        one,
        'fanbus: The bus "asked" does not fit into /dev/shm. It needs 72.8 MiB (9 rings of 8 MiB: '
        "one for each of 8 workers, and one for a worker that replaces another; the log), and "
        "64 MiB are free. Enlarge /dev/shm (Docker: --shm-size=128m), or use fewer --workers or "
        "a --bus-size of at most 4M.",
    )
    run("-w", "8", "--bus-size", "4M", prefix=with_shm("64m"))


@pytest.mark.parametrize("steps", [(), ("head -c 32m /dev/zero >/dev/shm/filler",)])
def test_a_dev_shm_that_is_too_small_or_full_refuses_the_start(
    run: Run, steps: tuple[str, ...]
) -> None:
    size = "32m" if steps else "4m"
    tolerant = [f"({step} 2>/dev/null; true)" for step in steps]
    one = run("-w", "8", wait=False, prefix=with_shm(size, *tolerant))
    refused(one, "does not fit into /dev/shm. It needs 9.8 MiB (9 rings of 1 MiB")
    assert len(one.log().strip().splitlines()) == 1


def test_workers_are_replaced_although_dev_shm_has_filled_up(server: StartServer) -> None:
    one = server("rooms", workers=2, inside=with_shm("64m"))
    fill(one)
    for round_ in range(3):
        victim = one.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: one.log().count("replaced at once") == round_ + 1, "a new worker")  # noqa: B023
        all_hear_each_other(one, f"death-{round_}")
    one.send_signal(signal.SIGHUP)
    wait_for(lambda: one.log().count("Reloaded: ") == 1, "the end of the reload")
    all_hear_each_other(one, "reloaded")
    assert "could not start" not in one.log()


def test_one_worker_more_than_fits_is_refused_and_the_server_goes_on(server: StartServer) -> None:
    one = server("rooms", workers=2, inside=with_shm("64m"))
    fill(one)
    one.send_signal(signal.SIGTTIN)
    one.wait_for_log("Added one worker")  # the place for a replacement was there
    one.send_signal(signal.SIGTTIN)
    one.wait_for_log("No worker can be added. Cannot reserve 2.1 MiB for the bus")
    wait_for(lambda: len(one.worker_pids()) == 3, "three workers")
    # A reload has no place for a new worker beside the old ones: these stay.
    before = one.worker_pids()
    one.send_signal(signal.SIGHUP)
    one.wait_for_log("the old workers stay. Cannot reserve 2.1 MiB for the bus")
    assert one.worker_pids() == before
    all_hear_each_other(one, "after", 3)
    (shm(one) / "filler").unlink()
    one.send_signal(signal.SIGHUP)
    wait_for(lambda: one.log().count("Reloaded: ") == 1, "the end of the reload")
    all_hear_each_other(one, "roomy", 3)


def test_programs_cannot_take_the_places_of_a_servers_workers(server: StartServer) -> None:
    from fanbus import Bus, BusError

    one = server("rooms", workers=2)
    name = f"rooms-{one.port}"
    with ExitStack() as stack:

        def join_all() -> None:
            for _ in range(64):
                stack.enter_context(Bus.open(name))

        with pytest.raises(BusError, match=r"6 of 64 places are reserved for its server"):
            join_all()
        os.kill(one.worker_pids()[0], signal.SIGKILL)
        one.wait_for_log("replaced at once")
        all_hear_each_other(one, "crowded")
        one.send_signal(signal.SIGHUP)
        wait_for(lambda: one.log().count("Reloaded: ") == 1, "the end of the reload")
        all_hear_each_other(one, "reloaded")
        assert "could not start" not in one.log()

"""SIGHUP where a server listens elsewhere than on a port, as somebody else, or over TLS."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import StartServer
from support.certificates import Certificates
from support.command_servers import Run, Running, over
from support.servers import DEADLINE_S, children, wait_for


def hang_up(one: Running, ask: Callable[[], dict[str, Any]], times: int = 2) -> None:
    """Reloads while somebody asks all the time; nobody is refused."""
    stop = threading.Event()
    failures: list[str] = []
    answered: set[int] = set()

    def keep_asking() -> None:
        while not stop.is_set():
            try:
                answered.add(ask()["pid"])
            except (httpx.HTTPError, KeyError) as error:
                failures.append(repr(error))

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        for count in range(1, times + 1):
            before = set(children(one.process.pid))
            one.process.send_signal(signal.SIGHUP)
            wait_for(lambda n=count: one.log().count("Reloaded: ") == n, "the end of the reload")  # type: ignore[misc]
            wait_for(lambda old=before: not old & set(children(one.process.pid)), "new workers")  # type: ignore[misc]
            wait_for(lambda: answered & set(children(one.process.pid)), "an answer of them")
    finally:
        stop.set()
        asking.join()
    assert failures == []
    assert "ERROR" not in one.log()


def test_a_unix_socket_stays_and_goes_at_the_end(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    one = run("--uds", "a.sock", "-w", "2")
    inode = path.stat().st_ino
    hang_up(one, lambda: over(path))
    assert path.stat().st_ino == inode
    one.process.send_signal(signal.SIGTTIN)
    wait_for(lambda: len({over(path)["pid"] for _ in range(30)}) == 3, "three workers answer")
    assert one.end() == 0
    assert not path.exists()
    assert not list(Path("/dev/shm").glob("fanbus.options-uds-*"))


def test_an_inherited_socket_stays(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        one = run("--fd", str(number), "-w", "2", pass_fds=[number])
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/place"
        hang_up(one, lambda: ask(url))
        assert one.end() == 0


def test_socket_of_systemd_stays_open_and_is_not_announced_again(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1024)
        program = (
            f"import os, sys; os.dup2({listener.fileno()}, 3);"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        one = run(prefix=[sys.executable, "-c", program], pass_fds=[listener.fileno()])
        hang_up(one, lambda: over(path))
        assert over(path)["listen"] is None


def ask(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(url, timeout=DEADLINE_S, trust_env=False).json()
    return found


def test_directory_variables_and_pid_file_are_the_same_afterwards(run: Run, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "vars").write_text("OF_THE_FILE=first\n")
    one = run("--chdir", "there", "--env-file", "vars", "--pid-file", "pid")
    before = one.get().json()
    assert (before["directory"], before["variable"]) == (str(tmp_path / "there"), "first")
    pid_file = tmp_path / "there" / "pid"
    (tmp_path / "there" / "vars").write_text("OF_THE_FILE=second\n")
    hang_up(one, lambda: one.get().json())
    after = one.get().json()
    assert (after["directory"], after["variable"]) == (str(tmp_path / "there"), "second")
    assert pid_file.read_text() == f"{one.process.pid}\n"
    # It is still locked: who would have it is told.
    two = run("--pid-file", str(pid_file), wait=False)
    assert two.process.wait(DEADLINE_S) == 1
    assert f"PID {one.process.pid}" in two.log()
    assert one.end() == 0
    assert not pid_file.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_after_it_has_become_another_user(run: Run, tmp_path: Path) -> None:
    # The interpreter may be in a home directory that others may not enter.
    shown = tmp_path / "shown"
    base = Path(sys.base_prefix)
    home = Path.home()
    steps = 'exec "$@"'
    if home in base.parents:
        top = base.relative_to(home).parts[0]
        (shown / top).mkdir(parents=True)
        steps = (
            f"mount --bind {home / top} {shown / top} && mount --rbind {shown} {home} && {steps}"
        )
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.getuid() and directory.name.startswith(("pytest", "test")):
            directory.chmod(0o755)
    pid_file = tmp_path / "pid"
    one = run(
        *("--user", "nobody", "-w", "2", "--pid-file", str(pid_file)),
        *("--bus-name", f"r{os.getpid()}"),
        prefix=["unshare", "--mount", "sh", "-c", steps, "sh"],
    )
    assert one.get().json()["user"] == "nobody"
    hang_up(one, lambda: one.get().json())
    assert one.get().json()["user"] == "nobody"
    assert pid_file.read_text() == f"{one.process.pid}\n"
    assert one.end() == 0


def test_renewed_certificate_is_served_and_no_client_is_refused(
    server: StartServer, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    one = server("tls", workers=2, environment=certificates.environment())
    context = certificates.trusted()
    failures: list[str] = []
    seen: list[bytes | None] = []
    stop = threading.Event()

    def served() -> bytes | None:
        with (
            socket.create_connection(("127.0.0.1", one.port), DEADLINE_S) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as connection,
        ):
            connection.sendall(b"GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert connection.recv(64).startswith(b"HTTP/1.1 200 ")
            return connection.getpeercert(binary_form=True)

    def keep_asking() -> None:
        while not stop.is_set():
            try:
                seen.append(served())
            except (OSError, AssertionError) as error:
                failures.append(repr(error))

    before = served()
    asking = [threading.Thread(target=keep_asking) for _ in range(2)]
    for thread in asking:
        thread.start()
    try:
        wait_for(lambda: before in seen, "a connection with the first certificate")
        for count in (1, 2):
            certificates.renew()
            renewed = ssl.PEM_cert_to_DER_cert(first_of(certificates.certfile))
            one.send_signal(signal.SIGHUP)
            wait_for(lambda n=count: one.log().count("Reloaded: ") == n, "the end of the reload")  # type: ignore[misc]
            wait_for(
                lambda new=renewed: all(served() == new for _ in range(10)),  # type: ignore[misc]
                "the new certificate on both workers",
            )
            # The threads have their own pace; this one may have seen it before them.
            wait_for(lambda new=renewed: new in seen, "a connection with it")  # type: ignore[misc]
    finally:
        stop.set()
        for thread in asking:
            thread.join()
    assert failures == []
    assert len(set(seen)) == 3


def first_of(path: Path) -> str:
    """The first certificate of a chain in PEM."""
    end = "-----END CERTIFICATE-----\n"
    return path.read_text().partition(end)[0] + end


def test_a_certificate_that_cannot_be_used_leaves_the_old_one(
    server: StartServer, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    one = server("tls", workers=1, environment=certificates.environment())
    before = one.worker_pids()
    certificates.certfile.write_text("half a certif")
    one.send_signal(signal.SIGHUP)
    one.wait_for_log("The new code does not start; the workers go on with the old code.")
    assert "ssl_certfile" in one.log()
    assert one.worker_pids() == before
    with httpx.Client(verify=certificates.trusted(), trust_env=False) as client:
        assert client.get(f"https://localhost:{one.port}/who").status_code == 200

"""The options in force: real servers by `fanbus run`, and what clients see of each option."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect, unix_connect

from support.command_servers import Run, over, refused
from support.servers import DEADLINE_S, children, wait_for

# Where it listens.


def test_a_unix_socket_is_shared_by_all_workers_and_removed_at_the_end(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "a.sock"
    one = run("--uds", str(path), "-w", "2")
    assert path.stat().st_mode & 0o777 == 0o666
    wait_for(lambda: len({over(path)["pid"] for _ in range(20)}) == 2, "both workers answer")
    assert over(path)["client"] == ["", 0]  # it unpacks, as elsewhere
    with unix_connect(str(path), "ws://server/ws") as ws:
        assert ws.recv(DEADLINE_S) == "ws "
        ws.send("x" * 100_000)
        assert ws.recv(DEADLINE_S) == "x" * 100_000
    assert one.end() == 0
    assert not path.exists()
    assert not list(Path("/dev/shm").glob("fanbus.options-uds-*"))


def test_a_client_of_ipv4_has_its_own_address_on_a_listener_for_both(run: Run) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    one = run("--host", "::", "--access-log")
    assert "http://[::1]:" in one.log()
    assert one.get().json()["client"][0] == "127.0.0.1"
    line = one.wait_for_log('"GET /place')
    assert " 127.0.0.1 " in line


def test_the_unix_socket_of_a_dead_server_is_replaced_and_that_of_a_living_one_is_not(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "a.sock"
    one = run("--uds", str(path))
    refused(run("--uds", str(path), wait=False), "is in use by another program")
    assert over(path)["pid"] in children(one.process.pid)
    one.process.kill()
    one.process.wait(DEADLINE_S)
    wait_for(lambda: not answers(path), "its workers have gone, too")
    assert path.exists()
    run("--uds", str(path))
    assert over(path)["pid"]


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def test_a_file_that_is_no_socket_is_left_alone(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    refused(run("--uds", str(path), wait=False), "is not a socket")
    assert path.read_text() == "data"
    refused(run("--uds", str(tmp_path / "no" / "x.sock"), wait=False), "Cannot listen on")


def test_it_listens_on_a_descriptor_that_it_inherits(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        run("--fd", str(number), "-w", "2", pass_fds=[number])
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/place"
        assert httpx.get(url, timeout=DEADLINE_S, trust_env=False).status_code == 200


def test_it_takes_the_socket_that_systemd_hands_over(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        # As systemd does: descriptor 3, and the process ID after the fork.
        program = (
            f"import os, sys; os.dup2({listener.fileno()}, 3);"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        run(prefix=[sys.executable, "-c", program], pass_fds=[listener.fileno()])
        assert over(path)["listen"] is None
    assert path.exists(), "it belongs to systemd"


@pytest.mark.parametrize(("number", "said"), [("999", "is not open"), ("0", "is not a socket")])
def test_invalid_descriptor_is_reported(run: Run, number: str, said: str) -> None:
    refused(run("--fd", number, wait=False), f"fd={number} {said}")


def test_a_second_server_on_a_port_is_refused_unless_both_share_it(run: Run) -> None:
    one = run()
    refused(run("--port", str(one.port), wait=False), "is in use by another program")
    refused(run("--port", str(one.port), "--reuse-port", "--no-reuse-port", wait=False), "in use")
    two = run("--port", str(one.port), "--reuse-port")
    assert two.port == one.port
    pids = {*children(one.process.pid), *children(two.process.pid)}
    wait_for(lambda: {one.get().json()["pid"] for _ in range(20)} == pids, "both answer")
    assert two.end() == 0
    assert one.get().status_code == 200
    with connect(f"ws://127.0.0.1:{one.port}/ws") as ws:
        assert ws.recv(DEADLINE_S) == "ws "


# Behind a proxy.


def test_a_proxy_is_believed_only_if_it_is_trusted(run: Run) -> None:
    headers = {"X_Forwarded_For": "6.6.6.6, 198.51.100.7", "X_Forwarded_Proto": "https"}
    plain, trusting = run(), run("--proxy-headers", "--root-path", "/chat")
    distrusting = run("--proxy-headers", "--forwarded-allow-ips", "192.0.2.0/24")
    for one in (plain, distrusting):
        found = one.get(**headers).json()
        assert (found["client"][0], found["scheme"]) == ("127.0.0.1", "http")
    found = trusting.get(**headers).json()
    assert (found["client"], found["scheme"]) == (["198.51.100.7", 0], "https")
    assert found["root_path"] == "/chat"
    for one, root in ((plain, ""), (trusting, "/chat")):
        moved = httpx.get(f"http://127.0.0.1:{one.port}/below?a=b", trust_env=False)
        assert (moved.status_code, moved.headers["location"]) == (307, f"{root}/below/?a=b")
        below = httpx.get(f"http://127.0.0.1:{one.port}/below/", trust_env=False)
        assert below.text == f"{root}/any/a/b?page=2"
    address = f"ws://127.0.0.1:{trusting.port}/ws"
    with connect(address, additional_headers={"X-Forwarded-Proto": "https"}) as ws:
        assert ws.recv(DEADLINE_S) == "wss /chat"


def test_a_proxy_on_a_unix_socket_is_trusted(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    run("--uds", str(path), "--proxy-headers")
    assert over(path, X_Forwarded_For="198.51.100.7")["client"] == ["198.51.100.7", 0]


# Limits and times.


def test_more_requests_than_the_limit_get_503_and_then_all_is_well(run: Run) -> None:
    one = run("--limit-concurrency", "1")
    held: list[int] = []

    def hold() -> None:
        while (status := one.get("/hold").status_code) == 503:  # a probe came first
            pass
        held.append(status)

    thread = threading.Thread(target=hold)
    with connect(f"ws://127.0.0.1:{one.port}/ws") as ws:  # a WebSocket is no request
        thread.start()

        def refusal() -> httpx.Response | None:
            answer = one.get()
            return answer if answer.status_code == 503 else None

        refused_one = wait_for(refusal, "the one request is in flight")
        assert refused_one.headers["retry-after"] == "1"
        ws.send("release")
        thread.join(DEADLINE_S)
    assert held == [200]
    assert one.get().status_code == 200


def test_an_idle_connection_is_closed_after_the_keep_alive(run: Run) -> None:
    one = run("--timeout-keep-alive", "200ms")
    with socket.create_connection(("127.0.0.1", one.port)) as client:
        client.settimeout(DEADLINE_S)
        client.sendall(b"GET /any/x HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while part := client.recv(4096):  # ends when the server closes, long before 30 s
            received += part
    assert received.startswith(b"HTTP/1.1 200")


def test_what_is_in_flight_at_the_end_has_the_grace_time_and_no_more(run: Run) -> None:
    one = run("--timeout-graceful-shutdown", "0.1")
    failed: list[bool] = []

    def ask() -> None:
        try:
            one.get("/hold")
        except httpx.HTTPError:
            failed.append(True)

    thread = threading.Thread(target=ask)
    thread.start()
    (worker,) = children(one.process.pid)
    wait_for(lambda: b":" in sockets_of(worker), "it is connected")
    assert one.end() == 0
    thread.join(DEADLINE_S)
    assert failed == [True]


def sockets_of(pid: int) -> bytes:
    """Its established connections, as the kernel lists them."""
    lines = Path(f"/proc/{pid}/net/tcp").read_bytes().splitlines()[1:]
    return b"\n".join(line for line in lines if line.split()[3] == b"01")


# The process and its surroundings.


def test_directory_factory_variables_and_bus(run: Run, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "vars").write_text("OF_THE_FILE='a b'\nHOME=/nowhere\n")
    words = ("--factory", "--chdir", "there", "--env-file", "vars", "--bus-name", f"t{os.getpid()}")
    found = run(*words).get().json()
    assert found["directory"] == str(tmp_path / "there")
    assert found["variable"] == "a b"
    assert Path(f"/dev/shm/fanbus.t{os.getpid()}").exists()


def test_missing_directory_or_file_is_reported(run: Run) -> None:
    refused(run("--chdir", "nowhere", wait=False), "chdir=nowhere", status=2)
    refused(run("--env-file", "nowhere", wait=False), "env_file=nowhere", status=2)


def test_pid_file_of_a_running_server_stays_and_a_stale_one_is_replaced(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "server.pid"
    path.write_text("1\n")  # somebody lives who has this number: it is still stale
    one = run("--pid-file", str(path))
    assert path.read_text() == f"{one.process.pid}\n"
    refused(run("--pid-file", str(path), wait=False), f"PID {one.process.pid}")
    assert path.read_text() == f"{one.process.pid}\n"
    one.process.kill()
    one.process.wait(DEADLINE_S)
    two = run("--pid-file", str(path))
    assert path.read_text() == f"{two.process.pid}\n"
    assert two.end() == 0
    assert not path.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_it_becomes_the_user_before_the_bus_is_there_and_workers_still_wake_each_other(
    run: Run, tmp_path: Path
) -> None:
    nobody = pwd.getpwnam("nobody")
    one = run("--user", "nobody", "-w", "2", "--bus-name", f"u{os.getpid()}")
    assert one.get().json()["user"] == "nobody"
    assert Path(f"/dev/shm/fanbus.u{os.getpid()}").stat().st_uid == nobody.pw_uid
    for pid in (one.process.pid, *children(one.process.pid)):
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(rf"^Uid:\t{nobody.pw_uid}\t{nobody.pw_uid}\t", status, re.MULTILINE)
    address = f"ws://127.0.0.1:{one.port}/ws"
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(address)) for _ in range(8)]
        for client in clients:
            client.recv(DEADLINE_S)
        clients[0].send("hello")
        assert {client.recv(DEADLINE_S) for client in clients} == {"hello"}


def test_unknown_user_is_reported(run: Run) -> None:
    refused(run("--user", "no-such-user", wait=False), "no such user", status=2)


# Logs.


def test_access_log_is_off_by_default(run: Run) -> None:
    one = run()
    one.get("/any/secret-path")
    one.end()
    assert "secret-path" not in one.log()


def test_requests_and_websockets_have_their_lines_with_worker_and_pid(run: Run) -> None:
    one = run("--access-log")
    one.get("/any/x?y=1")
    one.get("/nowhere")
    with connect(f"ws://127.0.0.1:{one.port}/ws") as ws:
        ws.recv(DEADLINE_S)
        ws.close(4321)
    with connect(f"ws://127.0.0.1:{one.port}/ws") as ws:
        ws.recv(DEADLINE_S)
        ws.socket.shutdown(socket.SHUT_RDWR)
    line = one.wait_for_log('"GET /any/x?y=1 HTTP/1.1" 200 1 ')
    (worker,) = children(one.process.pid)
    assert f"[worker 1 {worker}] INFO 127.0.0.1 " in line
    one.wait_for_log('"GET /nowhere HTTP/1.1" 404')
    one.wait_for_log('"WebSocket /ws opened" 101')
    one.wait_for_log('"WebSocket /ws closed" 4321 - ')
    one.wait_for_log('"WebSocket /ws closed" 1006 - ')


def test_request_right_before_the_end_is_in_the_log(run: Run) -> None:
    one = run("--access-log")
    for number in range(50):
        one.get(f"/any/n{number}")
    one.end()
    assert one.log().count("GET /any/n") == 50


def test_the_format_of_the_access_log_and_its_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "access"
    form = '%(h)s %(m)s %(U)s?%(q)s %(H)s %(s)s %(b)s "%(f)s" "%(a)s" 100%%'
    one = run("--access-log", "--access-log-format", form, "--access-log-file", str(path))
    one.get("/any/x?q=1", user_agent='me "\\', referer="there")
    one.end()
    expected = '127.0.0.1 GET /any/x?q=1 HTTP/1.1 200 1 "there" "me \\"\\\\" 100%'
    assert path.read_text().rstrip().endswith(f"INFO {expected}")
    assert "GET" not in one.log()


@pytest.mark.parametrize("form", ["%(z)s", "%(h)", "%({x}i)s"])
def test_unknown_atom_is_reported(run: Run, form: str) -> None:
    refused(run("--access-log-format", form, wait=False), "access_log_format", status=2)


def test_unread_log_delays_no_request_and_counts_its_lost_lines(run: Run) -> None:
    """The pipe is full soon, and then the queue; the answers come all the same."""
    count = 12_000
    reading, writing = os.pipe()
    one = run("--access-log", prefix=_with_stderr(writing), wait=False, pass_fds=[writing])
    os.close(writing)
    said = b""
    while b" serves " not in said or not said.endswith(b"\n"):
        said += os.read(reading, 65536)
    found = re.search(rb"http://127\.0\.0\.1:(\d+)", said)
    assert found is not None
    with socket.create_connection(("127.0.0.1", int(found[1])), timeout=DEADLINE_S) as client:
        request = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
        for _ in range(count // 100):
            client.sendall(request * 100)
            answered = 0
            while answered < 100:
                answered += client.recv(65536).count(b"HTTP/1.1 404")
    one.process.send_signal(signal.SIGTERM)
    with open(reading, "rb") as rest:  # noqa: PTH123 - a descriptor
        said += rest.read()  # to its end: nobody holds the pipe any more
    assert one.process.wait(DEADLINE_S) == 0
    lost = sum(int(n) for n in re.findall(rb"could not keep up: (\d+) lines", said))
    assert lost > 0
    assert said.count(b"GET /nothing") + lost == count


def _with_stderr(descriptor: int) -> list[str]:
    program = f"import os, sys; os.dup2({descriptor}, 2); os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", program]


def test_json_lines_have_their_parts(run: Run) -> None:
    one = run("--access-log", "--log-format", "json")
    one.get("/any/x", user_agent="me")
    line = json.loads(one.wait_for_log("/any/x"))
    (worker,) = children(one.process.pid)
    parts = ("logger", "role", "pid", "level", "event", "method", "target", "status", "user_agent")
    expected = ["fanbus.access", "worker 1", worker, "info", "request", "GET", "/any/x", 200, "me"]
    assert [line[part] for part in parts] == expected
    assert line["time"].endswith("Z")
    with connect(f"ws://127.0.0.1:{one.port}/ws") as ws:
        ws.recv(DEADLINE_S)
    closed = json.loads(one.wait_for_log('"closed"'))
    assert (closed["close_code"], closed["status"]) == (1000, None)


@pytest.mark.parametrize("form", ["plain", "json", "color"])
def test_a_client_cannot_forge_a_line(run: Run, form: str) -> None:
    one = run(
        "--access-log", "--log-format", form, "--access-log-format", '"%(r)s" "%(a)s" "%(f)s"'
    )
    with socket.create_connection(("127.0.0.1", one.port)) as client:
        client.sendall(
            b"GET /any/a%0AFORGED\xc2\x85FORGED HTTP/1.1\r\nHost: x\r\n"
            b"User-Agent: \xff\x1b[2J\xe2\x80\xa8FORGED\r\nReferer: \x85FORGED\r\n"
            b"Connection: close\r\n\r\n"
        )
        client.settimeout(DEADLINE_S)
        while client.recv(4096):
            pass
    one.end()
    raw = one.stderr.read_bytes().decode()
    assert not any(line.startswith("FORGED") for line in raw.splitlines())
    assert "\x1b[2J" not in raw


def test_the_level_hides_what_is_below_it(run: Run) -> None:
    one = run("--log-level", "critical", wait=False)
    (worker,) = wait_for(lambda: children(one.process.pid), "the worker")
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: children(one.process.pid) not in ([], [worker]), "a replacement")
    one.end()
    assert "was killed" not in one.log()


_CONFIG: dict[str, Any] = {
    "version": 1,
    "formatters": {"mine": {"format": "MINE %(name)s %(message)s"}},
    "handlers": {"err": {"class": "logging.StreamHandler", "formatter": "mine"}},
    "loggers": {"fanbus": {"handlers": ["err"], "level": "INFO"}},
}
_INI = """[loggers]
keys=root
[handlers]
keys=err
[formatters]
keys=mine
[logger_root]
level=INFO
handlers=err
[handler_err]
class=StreamHandler
formatter=mine
args=()
[formatter_mine]
format=MINE %(name)s %(message)s
"""
_TOML = """version = 1
[formatters.mine]
format = "MINE %(name)s %(message)s"
[handlers.err]
class = "logging.StreamHandler"
formatter = "mine"
[loggers.fanbus]
handlers = ["err"]
level = "INFO"
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [("log.json", json.dumps(_CONFIG)), ("log.ini", _INI), ("log.toml", _TOML)],
)
def test_a_configuration_of_logging_decides(run: Run, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    one = run("--log-config", name, "--access-log")
    one.get("/any/x")
    one.wait_for_log("MINE fanbus.access ")


@pytest.mark.parametrize(
    "name", ["none.json", "none.ini", "none.toml", "none.yaml", "bad.json", "bad.ini"]
)
def test_invalid_configuration_is_reported(run: Run, tmp_path: Path, name: str) -> None:
    if name.startswith("bad"):
        (tmp_path / name).write_text('{"version": 7}')
    refused(run("--log-config", name, wait=False), f"log_config={name}", status=2)

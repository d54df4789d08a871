"""`fanbus bench` against servers that are in order, and what it shows of it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

import pytest
import trustme

from conftest import StartServer
from fanbus_bench import _core
from support.bench_programs import QUICK, Unreliable, bench, figures, refused
from support.bus_programs import Program
from support.paths import TESTS
from support.servers import DEADLINE_S, Server, wait_for


@pytest.fixture
def fanbus(server: StartServer) -> Server:
    return server("rooms", workers=2)


@pytest.mark.parametrize("path", ["/rooms/a", "/relay/a"])
def test_fanbus_delivers_everything_to_all_once_and_in_one_order(fanbus: Server, path: str) -> None:
    url = f"ws://127.0.0.1:{fanbus.port}{path}"
    found = figures("fanout", url, "-c", "20", "--pid", str(fanbus.pid), *QUICK)
    assert found["orders"] == 1
    assert found["sent"] * 24 == found["delivered"]
    assert found["units"] > 0
    counts = ("missing", "gaps", "late", "duplicates", "wrong", "unsent", "stalls")
    assert [found[name] for name in counts] == [0] * 7
    assert found["server"]["processes"] == 3, "the supervisor, and two workers"
    assert found["server"]["memory_mib"] > 1


def test_the_floor_with_several_workers_delivers_everything_to_all_in_one_order() -> None:
    with Program("-m", "fanbus", "bench", "server", "--workers", "3") as program:
        program.wait_to_say("\n")
        url = program.said().strip().replace("http", "ws", 1)
        pid = str(program.process.pid)
        found = figures("fanout", f"{url}/relay", "-c", "20", "--pid", pid, *QUICK)
    assert found["sent"] * 24 == found["delivered"]
    assert [found[name] for name in ("missing", "duplicates", "wrong", "stalls")] == [0] * 4
    assert found["orders"] == 1
    assert found["server"]["processes"] == 1, "its workers are threads"


def test_publishers_may_be_elsewhere(fanbus: Server) -> None:
    url = f"ws://127.0.0.1:{fanbus.port}"
    found = figures(
        *("fanout", f"{url}/relay/a", "--publish-url", f"{url}/rooms/a"),
        *("-c", "5", "--publishers", "3", "--rate", "100", *QUICK),
    )
    assert found["sent"] == 50
    assert found["delivered"] == 250


def test_an_echo_of_the_websockets_library(unreliable: Unreliable) -> None:
    url = unreliable.url("/echo")
    for load in (("--in-flight", "4"), ("--rate", "300"), ("--compressed",), ("--bytes", "70000")):
        found = figures("echo", url, "-c", "4", *load, *QUICK)
        assert found["sent"] == found["delivered"] > 0, load


def test_a_protocol_in_json_has_its_greeting_and_its_envelope(unreliable: Unreliable) -> None:
    load = ("--hello", "40", "--envelope", '42["say","{}"]', "-c", "4", "--in-flight", "3")
    found = figures("echo", unreliable.url("/events/4"), *load, "--greeting", "40", *QUICK)
    assert found["sent"] == found["delivered"] > 0
    assert found["foreign"] == 0, "what comes without the envelope is the protocol's own"
    # There nobody is greeted, and nobody may speak.
    found = figures("echo", unreliable.url("/events/5"), *load, *QUICK, status=1)
    assert found["closed"] == {"1002": 4}
    refused = bench("echo", unreliable.url("/echo"), "--envelope", "42[]")
    assert refused.returncode == 2
    assert "'42[]' must have {} in the place of the message" in refused.stderr


def test_http_idle_and_handshakes(fanbus: Server) -> None:
    port, pid = fanbus.port, str(fanbus.pid)
    found = figures("handshake", f"ws://127.0.0.1:{port}/relay/a", "-c", "4", *QUICK)
    assert found["sent"] == found["delivered"] > 0
    found = figures("idle", f"ws://127.0.0.1:{port}/relay/a", "-c", "50", "--pid", pid, *QUICK)
    assert found["delivered"] == 51
    assert found["idle"]["pss_after_mib"] > 1
    found = figures("http", f"http://127.0.0.1:{port}/missing", "-c", "2", *QUICK, status=1)
    assert list(found["statuses"]) == ["404"]
    assert found["wrong"] == found["delivered"] > 0


def test_driver_holds_a_rate_over_http(floor: str) -> None:
    found = figures("http", f"{floor}/", "-c", "4", "--rate", "200", *QUICK)
    assert found["sent"] == found["delivered"] == 100
    assert found["statuses"] == {"200": 100}
    assert found["latency_us"]["p50"] <= found["latency_us"]["p99"] <= found["latency_us"]["max"]


def test_requests_are_pipelined(fanbus: Server, floor: str) -> None:
    for base in (floor, f"http://127.0.0.1:{fanbus.port}"):
        path = "/" if base == floor else "/missing"
        status = 0 if base == floor else 1
        found = figures("http", base + path, "-c", "3", "--in-flight", "16", *QUICK, status=status)
        assert found["load"]["in_flight"] == 48
        assert found["sent"] == found["delivered"] >= 48
        assert found["missing"] == 0


class OneByOne:
    """An HTTP server that answers each request on a connection of its own, and keeps them."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                request = b""
                while not request.endswith((b"\r\n\r\n", b"body")):
                    part = connection.recv(4096)
                    if not part:
                        break
                    request += part
                if request:
                    self.requests.append(request)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")


def test_a_server_that_closes_after_each_response_is_connected_to_again() -> None:
    server = OneByOne()
    with server.listener:
        arguments = ("--method", "POST", "--body", "a body", "-H", "X-Token: 7", "-c", "1")
        url = f"http://127.0.0.1:{server.port}/orders?all"
        found = figures("http", url, *arguments, "--rate", "50", *QUICK)
        assert found["sent"] == found["delivered"] == 25
        first = server.requests[0]
    assert first.startswith(b"POST /orders?all HTTP/1.1\r\n")
    assert b"\r\nContent-Length: 6\r\n" in first
    assert b"\r\nX-Token: 7\r\n" in first
    assert first.endswith(b"\r\n\r\na body")


def test_pipelined_requests_that_a_close_leaves_behind_are_missing() -> None:
    server = OneByOne()
    with server.listener:
        url = f"http://127.0.0.1:{server.port}/"
        found = figures("http", url, "-c", "1", "--in-flight", "3", *QUICK, status=1)
    assert found["delivered"] > 0
    assert found["missing"] >= 2 * (found["delivered"] - 1)
    assert found["sent"] == found["delivered"] + found["missing"]


def test_a_websocket_says_hello_asks_for_a_subprotocol_and_sends_headers(
    unreliable: Unreliable,
) -> None:
    figures(
        *("echo", unreliable.url("/hello"), "-c", "2", "--hello", "let me in"),
        *("--subprotocol", "chat.v2", "-H", "X-Token: 7", *QUICK),
    )
    unreliable.wait_to_say("let me in, chat.v2, 7\n")


def test_ctrl_c_ends_it_at_once_with_130(unreliable: Unreliable) -> None:
    opened = unreliable.said().count("opened")
    command = ("echo", unreliable.url("/echo"), "-c", "2", "--seconds", "3600")
    with Program("-m", "fanbus", "bench", *command) as program:
        wait_for(lambda: unreliable.said().count("opened") == opened + 2, "two connections")
        os.kill(program.process.pid, signal.SIGINT)
        assert program.wait() == 130
        assert program.said(2) == "fanbus: interrupted; nothing was measured.\n"


MODES = {
    "http": ("http", ""),
    "echo": ("ws", "/echo"),
    "fanout": ("ws", "/relay"),
    "handshake": ("ws", "/echo"),
    "idle": ("ws", "/echo"),
}


def test_a_terminal_sees_how_far_it_is(floor: str) -> None:
    terminal, end = os.openpty()
    command = [sys.executable, "-m", "fanbus", "bench", "http", f"{floor}/", "-c", "2", *QUICK]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=end) as process:
        os.close(end)
        seen = b""
        with suppress(OSError):  # EIO: the other end is closed
            while part := os.read(terminal, 4096):
                seen += part
        os.close(terminal)
        assert process.wait(DEADLINE_S) == 0
    assert b"warming up  [" in seen
    assert b"measuring   [" in seen
    assert seen.endswith(b"\r\x1b[K"), "nothing of it stays"


def test_a_name_with_several_addresses_is_tried_until_one_answers(floor: str) -> None:
    """localhost may be ::1 first, where nobody listens."""
    figures("http", floor.replace("127.0.0.1", "localhost") + "/", "-c", "2", *QUICK)


@pytest.mark.parametrize("mode", [*MODES, "script", "self-test", "server"])
def test_each_mode_explains_itself(mode: str) -> None:
    done = bench(mode, "--help")
    assert done.returncode == 0
    if mode not in ("self-test", "server"):
        assert f"  fanbus bench {mode} " in done.stdout, "with an example"
        assert "exit status:" in done.stdout


@pytest.mark.parametrize("mode", MODES)
def test_the_names_of_the_figures_are_those_of_the_documentation(mode: str, floor: str) -> None:
    """And the same in every mode; the table below the counts says all of them in words."""
    scheme, path = MODES[mode]
    url = floor.replace("http", scheme, 1) + path
    found = figures(mode, url, "-c", "3", "--pid", str(os.getpid()), *QUICK)
    page = (TESTS.parent / "docs/howto/bench.md").read_text()
    table = page.split("| name | meaning |")[1].split("\n\n")[0]
    named = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.splitlines()[2:]]
    assert sorted(found) == sorted(name for names in named for name in names)
    assert found["schema"] == 1
    assert list(found["load"]) == ["connections", "publishers", "in_flight", "rate", "bytes"]
    for name in ("server", "driver", *(["idle"] if mode == "idle" else [])):
        assert found[name] is not None
        for key in found[name]:
            known = key in table or key.partition("_")[0] in ("pss", "rss")
            assert known, f"{name}.{key} is not documented"


def test_the_table_says_what_the_json_does(floor: str) -> None:
    url = floor.replace("http", "ws") + "/relay"
    done = bench("fanout", url, "-c", "3", "--rate", "100", *QUICK, "--pid", str(os.getpid()))
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no progress bar where there is no terminal"
    rows = {line[:24].strip(): line[24:].split() for line in done.stdout.splitlines()}
    assert rows["sent"] == ["50"]
    assert rows["delivered"] == ["350"]
    assert rows["rate"][0] == "100"
    assert rows["different orders"] == ["1"]
    assert {"p50", "p99.99", "server CPU each", "driver awake", "driver CPU each"} <= set(rows)
    ceiling = " ".join(rows["driver's ceiling"])
    assert re.fullmatch(r"[\d,]+ per second; the driver was at \d+ % of it", ceiling)


def test_the_latencies_are_drawn(floor: str, tmp_path: Path) -> None:
    picture = tmp_path / "latency.svg"
    done = bench("http", f"{floor}/?a=1&b=<2>", "-c", "2", *QUICK, "--plot", str(picture))
    assert done.returncode == 0, done.stderr
    root = ElementTree.parse(picture).getroot()
    assert root.tag.endswith("svg")
    said = " ".join(
        "".join(text.itertext()).strip() for text in root.iter() if text.tag.endswith("text")
    )
    assert "latency, us" in said
    assert "90 %" in said
    done = bench("http", f"{floor}/", "-c", "2", *QUICK, "--plot", str(tmp_path / "no" / "x.svg"))
    assert done.returncode == 2
    assert "No such file or directory." in done.stderr


def test_the_driver_tests_itself_and_leaves_no_server_behind() -> None:
    done = bench("self-test", "--seconds", "0.2", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [found["mode"] for found in rows.values()] == [
        *("http", "echo", "echo", "fanout", "handshake")
    ]
    for found in rows.values():
        assert found["units"] > 0
        driver = found["driver"]
        assert driver["ceiling_per_second"] >= found["per_second"]
        share = found["per_second"] / driver["ceiling_per_second"]
        assert share * 100 == pytest.approx(driver["cpu_percent"])
        assert found["server"]["cpu_us_per_unit"] is not None
        address = found["url"].split("/")[2]
        host, _, port = address.partition(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)))


def test_tls_is_checked_and_used(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    with Unreliable(str(tmp_path / "server.pem")) as server:
        url = server.url("/echo", "wss")
        refused("echo", url, "-c", "1", said="the TLS handshake failed: invalid peer certificate")
        for trust in (("--ca-file", str(tmp_path / "authority.pem")), ("--insecure",)):
            for load in (("--rate", "100"), ("--bytes", "200000", "--in-flight", "3")):
                found = figures("echo", url, "-c", "3", *trust, *load, *QUICK)
                assert found["sent"] == found["delivered"] > 0
        https = server.url("/", "https")
        refused("http", https, "-c", "1", said="the TLS handshake failed: invalid peer certificate")
        found = figures("http", https, "-c", "1", "--insecure", *QUICK, status=1)
        assert list(found["statuses"]) == ["404"]
        found = figures("handshake", url, "-c", "2", "--insecure", *QUICK)
        assert found["delivered"] > 0
        room_url = server.url("/room/none", "wss")
        found = figures("fanout", room_url, "-c", "4", "--insecure", "--rate", "50", *QUICK)
        assert found["orders"] == 1


def test_invalid_setting_is_reported() -> None:
    def silent(*_: object) -> None: ...

    with pytest.raises(ValueError, match=r"There is no setting \"conections\"\."):
        _core.bench({"mode": "http", "url": "http://127.0.0.1/", "conections": 1}, silent)  # type: ignore[typeddict-unknown-key]
    with pytest.raises(ValueError, match="There is no mode"):
        _core.bench({"mode": "ftp", "url": "http://127.0.0.1/"}, silent)


def test_what_the_watcher_raises_ends_the_measurement(floor: str) -> None:
    def stop(phase: str, done: float, units: int) -> None:
        assert phase in ("connecting", "warming up", "measuring")
        assert 0 <= done <= 1
        if phase == "measuring":
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        _core.bench({"mode": "http", "url": f"{floor}/", "seconds": 3600.0, "warmup": 0.0}, stop)

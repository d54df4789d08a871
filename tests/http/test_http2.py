"""HTTP/2: requests as everybody sends them, and clients that mean harm."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import httpx
import pytest
from hyperframe.frame import DataFrame, GoAwayFrame

from conftest import StartServer
from support.certificates import Certificates
from support.http2_client import Connection
from support.servers import DEADLINE_S, Server, wait_for

MOST_STREAMS = 100
MOST_BODY = 16 * 1024 * 1024


@pytest.fixture
def secure(server: StartServer, certificates: Certificates) -> Iterator[Server]:
    """One worker of tests/apps/tls.py, and nothing on its stderr behind the banner."""
    one = server("tls", environment=certificates.environment())
    pids, before = one.worker_pids(), one.log()
    yield one
    assert one.log() == before, "clients cannot fill the log"
    assert one.worker_pids() == pids


def is_served(server: Server, certificates: Certificates) -> None:
    with Connection(server, certificates) as client:
        stream = client.request("/who")
        client.flush()
        assert client.answer(stream)[0] == 200


def test_requests_of_every_kind(secure: Server, certificates: Certificates) -> None:
    context = certificates.trusted()
    with httpx.Client(
        http2=True,
        verify=context,
        trust_env=False,
        timeout=DEADLINE_S,
        base_url=f"https://localhost:{secure.port}",
    ) as client:
        answer = client.get("/who")
        assert answer.http_version == "HTTP/2"
        assert answer.json() == {"scheme": "https", "version": "2"}
        assert "date" in answer.headers
        assert client.head("/who").content == b""
        assert len(client.get("/large").content) == 1_000_000
        host = f"localhost:{secure.port}"
        for length in (0, 1, 100_000, MOST_BODY):
            sent = client.post("/length", content=b"x" * length)
            assert sent.json() == {"length": length, "host": host}
            # Without an announcement of its length.
            sent = client.post("/length", content=iter([b"x" * length]))
            assert sent.json() == {"length": length, "host": host}
        assert client.get("/nothing").status_code == 404
        assert client.get("/length").status_code == 405
        assert client.get("/turbo").status_code == 426, "WebSockets are for HTTP/1.1"


@pytest.mark.parametrize("goes", ["stream", "connection"])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_generator_is_closed_when_the_client_of_its_stream_goes(
    server: StartServer,
    certificates: Certificates,
    tmp_path: Path,
    how: str,
    encoding: str,
    goes: str,
) -> None:
    (tmp_path / "public").mkdir()
    environment = {"FOLDER": str(tmp_path), "COMPRESSION": "1"}
    sending = server("streams_and_files", environment={**environment, **certificates.environment()})
    with Connection(sending, certificates) as client, sending.http() as others:
        stream = client.request(f"/endless/{how}", headers={"accept-encoding": encoding})
        client.flush()
        client.until(h2.events.DataReceived, stream)
        assert others.get("/made").json() == []
        if goes == "stream":
            client.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
            client.flush()
        else:
            client.socket.close()
        wait_for(lambda: others.get("/made").json(), "the generator to be closed")


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_too_large_is_413(
    secure: Server, certificates: Certificates, tmp_path: Path, announced: bool
) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x" * (MOST_BODY + 1))
    command = ["curl", "--silent", "--http2", "--cacert", str(certificates.authorities)]
    command += ["--output", "-", "--write-out", " %{http_code}", "--request", "POST"]
    # Of what comes through a pipe, curl does not know the length.
    command += ["--upload-file", str(body) if announced else "-"]
    with body.open("rb") as pipe:
        cat = subprocess.Popen(["cat"], stdin=pipe, stdout=subprocess.PIPE)
        answer = subprocess.run(
            [*command, f"https://localhost:{secure.port}/length"],
            stdin=cat.stdout,
            capture_output=True,
            timeout=DEADLINE_S,
        )
        assert cat.stdout is not None
        cat.stdout.close()
        cat.wait(DEADLINE_S)
    assert answer.stdout.endswith(b" 413"), answer
    # A client that looks at the response only when it has sent all.
    with httpx.Client(http2=True, verify=certificates.trusted(), trust_env=False) as client:
        # Little, because the server waits for it for a limited time, and that client is slow.
        url, rest = f"https://localhost:{secure.port}/little", b"x" * 200_000
        content = iter([rest]) if announced else rest
        assert client.post(url, content=content, timeout=DEADLINE_S).status_code == 413
        assert client.post(url, content=b"x").status_code == 200


def test_many_requests_at_a_time_on_one_connection(
    secure: Server, certificates: Certificates
) -> None:
    with Connection(secure, certificates) as client:
        client.until(h2.events.RemoteSettingsChanged)
        most = client.h2.remote_settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS]
        assert most == MOST_STREAMS
        streams = {client.request("/who") for _ in range(MOST_STREAMS)}
        client.flush()
        while streams:
            for event in client.events():
                if isinstance(event, h2.events.StreamEnded):
                    streams.discard(event.stream_id)
            client.flush()
            assert not client.ended


def test_streams_that_are_reset_at_once_end_the_connection(
    secure: Server, certificates: Certificates
) -> None:
    """CVE-2023-44487."""
    with Connection(secure, certificates) as client:
        client.until(h2.events.RemoteSettingsChanged)
        try:
            # None of them can be answered: its body never comes.
            for _ in range(5000):
                stream = client.request("/length", method="POST", end=False)
                client.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
                client.flush()
            while not client.ended:
                client.events()
        except (ConnectionError, ssl.SSLError):
            pass
        except h2.exceptions.ProtocolError:
            pass  # it has been told to go away
    is_served(secure, certificates)


def test_client_that_opens_no_window_delays_no_other(
    secure: Server, certificates: Certificates
) -> None:
    with Connection(secure, certificates) as stingy:
        streams = [stingy.request("/large") for _ in range(50)]
        stingy.flush()
        # All are answered, and wait for the window that was used up by the first.
        stingy.until(h2.events.ResponseReceived, streams[-1])
        is_served(secure, certificates)


def test_a_head_too_large_is_refused(secure: Server, certificates: Certificates) -> None:
    with Connection(secure, certificates) as client:
        client.until(h2.events.RemoteSettingsChanged)
        stream = client.h2.get_next_available_stream_id()
        head = [(":method", "GET"), (":path", "/who"), (":scheme", "https"), (":authority", "a")]
        head += [(f"x-{number}", "y" * 4000) for number in range(20)]
        client.h2.send_headers(stream, head, end_stream=True)
        client.flush()
        assert client.answer(stream)[0] == 431
    is_served(secure, certificates)


def test_at_shutdown_requests_in_flight_are_answered_and_the_connection_ends(
    server: StartServer, certificates: Certificates
) -> None:
    one = server("tls", environment=certificates.environment())
    with Connection(one, certificates) as client, Connection(one, certificates) as idle:
        for each in (client, idle):
            each.until(h2.events.RemoteSettingsChanged)
        stream = client.request("/length", method="POST", end=False)
        client.h2.send_data(stream, b"half")
        client.flush()
        one.process.terminate()
        goodbyes = [
            next(frame for frame in each.frames() if isinstance(frame, GoAwayFrame))
            for each in (client, idle)
        ]
        assert all(goodbyes)
        # What is in flight may go on.
        client.h2.send_data(stream, b"half", end_stream=True)
        client.flush()
        data = b"".join(frame.data for frame in client.frames() if isinstance(frame, DataFrame))
        assert data.replace(b" ", b"").startswith(b'{"length":8,')
        assert not any(isinstance(frame, DataFrame) for frame in idle.frames())
    assert one.wait() == 0


def test_a_stream_of_nonsense_ends_the_connection(
    secure: Server, certificates: Certificates
) -> None:
    context = certificates.trusted(protocols=("h2",))
    for nonsense in (b"GET / HTTP/1.1\r\n\r\n" * 10, b"\xff" * 10_000):
        raw = socket.create_connection(("127.0.0.1", secure.port), DEADLINE_S)
        with context.wrap_socket(raw, server_hostname="localhost") as client:
            client.sendall(nonsense)

            def is_over(client: ssl.SSLSocket = client) -> bool:
                try:
                    return not client.recv(65536)
                except (ConnectionResetError, ssl.SSLError):
                    return True

            wait_for(is_over, "the end")
    is_served(secure, certificates)

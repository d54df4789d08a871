"""What `fanbus bench` says when there is nothing to measure."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.bench_programs import QUICK, Unreliable, bench, refused


@contextmanager
def saying(answer: bytes) -> Iterator[int]:
    """A server that says this to everybody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_driver_reports_an_address_without_a_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for mode, scheme in (("http", "http"), ("echo", "ws"), ("handshake", "ws"), ("idle", "ws")):
        said = f"The connection to 127.0.0.1:{port} was refused."
        refused(mode, f"{scheme}://127.0.0.1:{port}/", said=said)


def test_a_path_that_is_no_websocket(unreliable: Unreliable, floor: str) -> None:
    refused("echo", unreliable.url("/nowhere"), said="404 Not Found, so there is no WebSocket at")
    with saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as port:
        refused("fanout", f"ws://127.0.0.1:{port}/", said="200 OK, and not 101: this path is no")
    with saying(b"HTTP/1.1 101 Switching Protocols\r\n\r\n") as port:
        refused("idle", f"ws://127.0.0.1:{port}/", said="Sec-WebSocket-Accept is wrong")
    with saying(b"SSH-2.0-OpenSSH_9.9\r\n") as port:
        refused("handshake", f"ws://127.0.0.1:{port}/", said="the response is not HTTP")
    with saying(b"") as port:
        refused("echo", f"ws://127.0.0.1:{port}/", said="closed the connection without an answer.")


def test_what_the_server_does_not_agree_on(unreliable: Unreliable, floor: str) -> None:
    url = unreliable.url("/echo")
    refused(
        "echo", url, "--subprotocol", "chat.v1", said="did not agree on the subprotocol chat.v1."
    )
    refused("echo", floor.replace("http", "ws"), "--compressed", said="permessage-deflate")


def test_a_server_that_is_too_busy_is_quoted(unreliable: Unreliable) -> None:
    done = bench("echo", unreliable.url("/busy"), "-c", "3", *QUICK, "--patience", "0.1")
    assert done.returncode == 1
    assert "The server closed 3 connections with 1013: it has too much to do" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("echo", "http://127.0.0.1/"), "it begins with http, not ws or wss"),
        (("http", "ws://127.0.0.1/"), "it begins with ws, not http or https"),
        (("http", "127.0.0.1"), "relative URL without a base"),
        (("http", "http://no-such-host.invalid/"), "There is no host no-such-host.invalid"),
        (("echo", "ws://127.0.0.1/", "--bytes", "21"), "22 to 16777216 bytes, and not 21"),
        (("echo", "ws://127.0.0.1/", "--rate", "0"), "The rate is more than 0"),
        (("echo", "ws://127.0.0.1/", "-c", "0"), "The number of connections is 1 to"),
        (("http", "http://127.0.0.1/", "-H", "a b: c"), "is not a header"),
        (("http", "http://127.0.0.1/", "--method", "GET /"), "is not an HTTP method"),
        (("http", "http://127.0.0.1/", "--body", "@/no/such/file"), "No such file"),
        (("http", "http://127.0.0.1/", "--pid", "4194305"), "There is no process 4194305"),
        (("echo", "wss://127.0.0.1/", "--ca-file", "/no/such/file"), "It must be PEM"),
    ],
)
def test_an_option_that_is_none(arguments: tuple[str, ...], said: str) -> None:
    refused(*arguments, said=said)


def test_open_files_that_are_too_few(floor: str) -> None:
    url = floor.replace("http", "ws")
    said = "1000 connections need 1064 open files, and this process may have 100. Raise the limit"
    refused("echo", url, "-c", "1000", shell="ulimit -n 100", said=said)


def test_the_soft_limit_of_open_files_is_raised(floor: str) -> None:
    command = ("echo", floor.replace("http", "ws") + "/echo", "-c", "300", *QUICK)
    done = bench(*command, shell="ulimit -S -n 100")
    assert done.returncode == 0, done.stderr

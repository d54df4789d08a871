"""TLS: what real clients get over it, and what a server says of files that it cannot use."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from conftest import StartServer
from fanbus import _core
from support.certificates import Certificates
from support.paths import APPS
from support.raw_websocket import CLOSE, TEXT, RawSocket, SecurePort, closing
from support.servers import DEADLINE_S, Server, wait_for


@pytest.fixture
def secure(server: StartServer, certificates: Certificates) -> Iterator[Server]:
    """One worker of tests/apps/tls.py, and nothing on its stderr behind the banner."""
    one = server("tls", environment=certificates.environment())
    assert one.scheme == "https"
    before = one.log()
    yield one
    assert one.log() == before, "clients cannot fill the log"


def shaken(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    """A connection after its handshake."""
    connection = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
    return context.wrap_socket(connection, server_hostname="localhost")


def test_a_request_and_its_scheme_over_tls(secure: Server, certificates: Certificates) -> None:
    url = f"https://localhost:{secure.port}/who"
    with httpx.Client(verify=certificates.trusted(), trust_env=False) as client:
        assert client.get(url).json() == {"scheme": "https", "version": "1.1"}


def test_curl_speaks_http2_and_http1(secure: Server, certificates: Certificates) -> None:
    for option, version in (("--http2", "2"), ("--http1.1", "1.1")):
        command = ["curl", "--silent", "--show-error", option, "--cacert"]
        url = f"https://localhost:{secure.port}/who"
        answer = subprocess.run(
            [*command, str(certificates.authorities), "--write-out", " %{http_version}", url],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        assert answer.returncode == 0, answer.stderr
        assert f'"version":"{version}"' in answer.stdout.replace(": ", ":")
        assert answer.stdout.endswith(f" {version}")


def of_two_threads(certificates: Certificates) -> ssl.SSLContext:
    """For the client of `websockets`, which reads on one thread and sends on another.

    Python's ssl is not made for that: with the session tickets of TLS 1.3, which come right behind
    the handshake, one of some thousand connections never sees the response.
    """
    context = certificates.trusted()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@pytest.mark.parametrize("kind", ["echo", "turbo", "relay"])
def test_websockets_over_tls(secure: Server, certificates: Certificates, kind: str) -> None:
    with connect(
        f"wss://localhost:{secure.port}/{kind}", ssl=of_two_threads(certificates), proxy=None
    ) as ws:
        for message in ("hi", "x" * 100_000, b"\x00" * 500_000):
            ws.send(message)
            assert ws.recv(timeout=DEADLINE_S) == message


def test_a_websocket_knows_its_scheme(secure: Server, certificates: Certificates) -> None:
    url = f"wss://localhost:{secure.port}/scheme"
    with connect(url, ssl=of_two_threads(certificates), proxy=None) as ws:
        assert ws.recv(timeout=DEADLINE_S) == "wss"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls_end_with_its_farewell(
    secure: Server, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    context = certificates.trusted()
    context.minimum_version = context.maximum_version = version
    # The end without a farewell would be an SSLEOFError.
    connection = socket.create_connection(("127.0.0.1", secure.port), DEADLINE_S)
    wrapped = context.wrap_socket(
        connection, server_hostname="localhost", suppress_ragged_eofs=False
    )
    with RawSocket.on(wrapped) as client:
        client.open("/turbo")
        client.send(TEXT, b"hi")
        assert client.message() == "hi"
        client.send(CLOSE, closing(1000))
        assert client.closed()[0] == 1000
        assert wrapped.recv(1) == b""


def test_an_old_version_of_tls_is_refused(secure: Server, certificates: Certificates) -> None:
    context = certificates.trusted()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        shaken(secure.port, context)


def test_plain_http_on_a_tls_port_gets_an_explanation_and_is_not_logged(secure: Server) -> None:
    with RawSocket(secure.port) as client:
        client.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = client.answer()
        assert answer.status == 400
        assert b"https://" in answer.body
        assert client.ended()


def test_what_is_no_tls_is_closed_and_nothing_is_logged(secure: Server) -> None:
    for nonsense in (b"\x00" * 100, b"\x16\x03\x01\xff\xff" + b"\xff" * 100, os.urandom(1000)):
        for _ in range(20):
            with RawSocket(secure.port) as client:
                client.write(nonsense if nonsense[:1] < b"A" else b"\x15" + nonsense)
                client.socket.shutdown(socket.SHUT_WR)
                assert client.ended()


def test_a_client_without_a_certificate_is_refused_where_one_is_wanted(
    server: StartServer, certificates: Certificates, tmp_path: Path
) -> None:
    wanted = {"FANBUS_SSL_CA_CERTS": str(certificates.authorities)}
    one = server("tls", environment={**certificates.environment(), **wanted})
    url = f"https://localhost:{one.port}/who"

    def get(context: ssl.SSLContext) -> int:
        with httpx.Client(verify=context, trust_env=False) as client:
            return client.get(url).status_code

    known = certificates.trusted()
    known.load_cert_chain(certificates.client())
    assert get(known) == 200
    (tmp_path / "others").mkdir()
    stranger = certificates.trusted()
    stranger.load_cert_chain(Certificates(tmp_path / "others").client())
    for refused in (stranger, certificates.trusted()):
        with pytest.raises(httpx.TransportError):
            get(refused)
    assert get(known) == 200


def serial_number(port: int, certificates: Certificates) -> str:
    with shaken(port, certificates.trusted()) as connection:
        certificate = connection.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


@pytest.mark.supervised("it kills a worker, and waits for another in its place")
def test_new_worker_reads_the_certificate_files_again(
    server: StartServer, certificates: Certificates
) -> None:
    one = server("tls", environment=certificates.environment())
    old = serial_number(one.port, certificates)
    certificates.renew()
    assert serial_number(one.port, certificates) == old
    os.kill(one.worker_pids()[0], signal.SIGKILL)
    # The replacement inherits the listener: connections wait for it.
    wait_for(lambda: serial_number(one.port, certificates) != old, "the new certificate")


def test_an_encrypted_key_and_one_process(server: StartServer, certificates: Certificates) -> None:
    certificates.encrypt_key("correct horse")
    environment = {
        **certificates.environment(),
        "FANBUS_SSL_KEYFILE_PASSWORD": "correct horse",
        "FANBUS_SINGLE_PROCESS": "1",
    }
    one = server("tls", environment=environment)
    assert serial_number(one.port, certificates)
    assert "correct horse" not in one.log()


# What is wrong with the files.


def refusal(certificates: Certificates, **options: str | None) -> str:
    chosen: dict[str, str | None] = {"ssl_keyfile": str(certificates.keyfile), **options}
    certfile = chosen.pop("ssl_certfile", None) or str(certificates.certfile)
    try:
        _core.Tls(certfile, **chosen)
    except ValueError as error:
        return str(error)
    raise AssertionError("These files are taken.")


def test_a_missing_or_unreadable_file_is_named(certificates: Certificates) -> None:
    missing = str(certificates.folder / "no.pem")
    for option in ("ssl_certfile", "ssl_keyfile", "ssl_ca_certs"):
        text = refusal(certificates, **{option: missing})
        assert text == f"{option}: there is no file {missing}."
        text = refusal(certificates, **{option: str(certificates.folder)})
        assert text.startswith(f"{option}: {certificates.folder} cannot be read: ")


def test_a_file_without_what_is_wanted_is_named(certificates: Certificates) -> None:
    der = certificates.folder / "server.der"
    der.write_bytes(ssl.PEM_cert_to_DER_cert(certificates.certfile.read_text()))
    for option, wanted, tool in (
        ("ssl_certfile", "certificate", "x509"),
        ("ssl_keyfile", "private key", "pkey"),
        ("ssl_ca_certs", "certificate", "x509"),
    ):
        text = refusal(certificates, **{option: str(der)})
        assert text.startswith(f"{option}: {der} has no {wanted} in PEM form"), text
        assert f"`openssl {tool} -inform der" in text
    # The key may be in the certificate's file, and is not.
    text = refusal(certificates, ssl_keyfile=None)
    assert text.startswith(f"ssl_certfile: {certificates.certfile} has no private key")


def test_a_damaged_file_is_named(certificates: Certificates) -> None:
    for option, path in (
        ("ssl_certfile", certificates.certfile),
        ("ssl_keyfile", certificates.keyfile),
    ):
        whole = path.read_text()
        for damaged in (whole[:200], whole[:100] + "!!" + whole[102:]):
            path.write_text(damaged)
            assert refusal(certificates).startswith(f"{option}: {path} is damaged: "), damaged
        path.write_text(whole)


def test_a_key_of_another_certificate_is_refused(certificates: Certificates) -> None:
    key = certificates.keyfile.read_bytes()
    certificates.renew()
    certificates.keyfile.write_bytes(key)
    assert "is not that of the first certificate" in refusal(certificates)


def test_key_and_certificate_may_be_in_one_file(certificates: Certificates) -> None:
    both = certificates.folder / "both.pem"
    both.write_bytes(certificates.keyfile.read_bytes() + certificates.certfile.read_bytes())
    assert _core.Tls(str(both)).warnings == []


def test_an_encrypted_key_needs_its_password(certificates: Certificates) -> None:
    certificates.encrypt_key("right")
    assert refusal(certificates).endswith("Give its password with ssl_keyfile_password.")
    text = refusal(certificates, ssl_keyfile_password="wrong")
    assert text == f"ssl_keyfile_password is not the password of the key in {certificates.keyfile}."
    chosen = {"ssl_keyfile": str(certificates.keyfile), "ssl_keyfile_password": "right"}
    assert _core.Tls(str(certificates.certfile), **chosen).warnings == []


def test_an_expired_certificate_is_a_warning(
    server: StartServer, certificates: Certificates
) -> None:
    certificates.renew(until=datetime(2020, 2, 3, tzinfo=timezone.utc))
    one = server("tls", workers=2, environment=certificates.environment())
    assert one.log().count("has expired: it was valid until 2020-02-03") == 1


def test_a_server_that_cannot_use_its_files_says_so_before_it_listens(
    certificates: Certificates,
) -> None:
    command = [sys.executable, "-m", "fanbus", "run", "tls:app"]
    for arguments, status, sentence in (
        (["--ssl-certfile", "/no.pem"], 1, "ssl_certfile: there is no file /no.pem."),
        (["--ssl-keyfile", "/no.pem"], 2, "ssl_keyfile is for TLS, which needs a certificate"),
    ):
        started = subprocess.run(
            [*command, "--app-dir", str(APPS), "--port", "0", *arguments],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        assert started.returncode == status
        assert started.stderr.startswith(f"fanbus: {sentence}"), started.stderr


# Clients that stop.


def record(
    certificates: Certificates, port: int
) -> tuple[socket.socket, ssl.SSLObject, ssl.MemoryBIO]:
    """A WebSocket whose records are in the test's hands."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = certificates.trusted().wrap_bio(incoming, outgoing, server_hostname="localhost")
    raw = socket.create_connection(("127.0.0.1", port), DEADLINE_S)

    def until(done: bytes) -> None:
        seen = b""
        while True:
            try:
                if done:
                    seen += tls.read()
                    if done in seen:
                        return
                else:
                    tls.do_handshake()
                    return
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                incoming.write(raw.recv(65536))

    until(b"")
    tls.write(
        b"GET /turbo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    raw.sendall(outgoing.read())
    until(b"\r\n\r\n")
    return raw, tls, outgoing


def test_client_that_stops_in_the_middle_of_a_record_delays_no_other_and_may_continue(
    secure: Server, certificates: Certificates
) -> None:
    raw, tls, outgoing = record(certificates, secure.port)
    with raw:
        tls.write(b"\x81\x82\x00\x00\x00\x00hi")
        whole = outgoing.read()
        raw.sendall(whole[:7])
        with RawSocket(SecurePort(secure.port)) as other:
            other.open("/turbo")
            other.send(TEXT, b"in between")
            assert other.message() == "in between"
        raw.sendall(whole[7:])
        # Its answer: a record with the frame of "hi".
        assert raw.recv(65536)

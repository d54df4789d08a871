"""The files of examples/deploy: those that can be run here are run, the others are read, and
compared with what Fanbus does."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from conftest import StartServer
from fanbus.cli import main
from support import nginx
from support.command_servers import Run
from support.paths import ROOT
from support.raw_websocket import RawSocket
from support.servers import DEADLINE_S, Server, children, client_of, wait_for

DEPLOY = ROOT / "examples" / "deploy"


@pytest.fixture
def deployed(server: StartServer, tmp_path: Path) -> Server:
    """The application, on a free port."""
    starter = tmp_path / "deployed.py"
    starter.write_text(
        "import os, sys\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'fanbus', 'run', 'lobby:app',"
        f" '--app-dir', {str(DEPLOY)!r}, '--port', '0', '--workers', '2'])\n"
    )
    return server(starter)


def connected(port: int, process: subprocess.Popen[bytes] | None) -> RawSocket | None:
    """A connection; None if it is refused. AssertionError if the process has ended."""
    assert process is None or process.poll() is None
    try:
        return RawSocket(port)
    except ConnectionRefusedError:
        return None


def remove_bus(name: str, port: int) -> None:
    """Of an application that keeps its history for the next start."""
    Path(f"/dev/shm/fanbus.{name}-{port}").unlink(missing_ok=True)


@contextlib.contextmanager
def nginx_in_front(directory: Path, upstream: int) -> Iterator[int]:
    """nginx with our file, of which only the ports and the place differ."""
    port = nginx.free_port()
    ours = (DEPLOY / "nginx.conf").read_text()
    assert "listen 80;" in ours
    assert "server 127.0.0.1:5000;" in ours
    ours = ours.replace("listen 80;", f"listen 127.0.0.1:{port};")
    ours = ours.replace("server 127.0.0.1:5000;", f"server 127.0.0.1:{upstream};")
    with nginx.nginx(directory, port, f"access_log off;\n{ours}"):
        yield port


def test_requests_and_websockets_go_through_nginx_also_over_a_reload(
    deployed: Server, tmp_path: Path
) -> None:
    with nginx_in_front(tmp_path, deployed.port) as port, client_of(port) as http:
        assert http.get("/healthz").json() == {"status": "ok"}
        with RawSocket(port) as one, RawSocket(port) as two:
            for client in (one, two):
                client.open("/rooms/lobby")
            one.send(0x1, b"hello")
            assert one.message() == "hello"
            assert two.message() == "hello"
            deployed.send_signal(signal.SIGHUP)
            assert one.closed()[0] == 1012
        deployed.wait_for_log("Reloaded: 2 workers")
        for _ in range(20):
            assert http.get("/readyz").status_code == 200
        with RawSocket(port) as again:
            again.open("/rooms/lobby")
            assert again.message() == "hello", "the history is still there"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def options_of(command: list[str]) -> Any:
    """What our own command line makes of it."""
    assert command[0].endswith("fanbus")
    return main._parser(command[1]).parse_args(command[1:])


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    text = (DEPLOY / "chat.service").read_text()
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line[1:])
    options = options_of(fields["ExecStart"].split())
    assert options.app == "lobby:app"
    assert float(fields["TimeoutStopSec"]) > 10
    analyze = nginx.program("systemd-analyze", "systemd")
    # The program and the user of the example are not on this machine.
    here = text.replace("/srv/chat/venv/bin/fanbus", "/bin/true").replace("User=chat", "User=root")
    unit = tmp_path / "chat.service"
    unit.write_text(here.replace("WorkingDirectory=/srv/chat", f"WorkingDirectory={tmp_path}"))
    port = tmp_path / "chat.socket"
    shutil.copy(DEPLOY / port.name, port)
    checked = subprocess.run(
        [analyze, "verify", "--man=no", unit, port], capture_output=True, text=True, check=False
    )
    said = [line for line in checked.stderr.splitlines() if "chat.s" in line]
    # systemd before 253 has no notify-reload.
    assert [line for line in said if "notify-reload" not in line] == [], checked.stderr


def test_systemd_hands_its_socket_over(tmp_path: Path) -> None:
    activate = nginx.program("systemd-socket-activate", "systemd")
    port = nginx.free_port()
    words = ["-m", "fanbus", "run", "lobby:app", "--app-dir", str(DEPLOY), "--fd", "3", "-w", "2"]
    with (tmp_path / "stderr").open("wb") as log:
        process = subprocess.Popen(
            [activate, f"--listen=127.0.0.1:{port}", "--", sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        # The first connection starts the server, and is served by it.
        with wait_for(lambda: connected(port, process), "systemd-socket-activate") as first:
            first.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert first.answer().status == 200
        with client_of(port) as http:
            assert http.get("/readyz").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0, (tmp_path / "stderr").read_text()
        assert connected(port, None) is None
    finally:
        process.kill()
        process.wait()
        remove_bus("deployed", port)


def test_client_that_connects_during_a_restart_of_the_service_waits(
    tmp_path: Path, run: Run
) -> None:
    """As chat.socket has it: somebody else keeps the port."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        kept.listen()
        port = kept.getsockname()[1]
        target = ("lobby:app", "--app-dir", str(DEPLOY))
        one = run("--fd", str(kept.fileno()), target=target, pass_fds=(kept.fileno(),))
        assert one.end() == 0
        with RawSocket(port) as waits:
            waits.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            two = run("--fd", str(kept.fileno()), target=target, pass_fds=(kept.fileno(),))
            assert waits.answer().status == 200
        assert two.end() == 0
    remove_bus("deployed", port)


class Contained:
    """A command as a container runs it: PID 1, with a /dev/shm of its own. The network and files
    are those of the machine."""

    def __init__(self, command: list[str], directory: Path, shm: str) -> None:
        self._log = directory / "stderr"
        prepared = f'mount -t tmpfs -o size={shm} tmpfs /dev/shm && exec "$@"'
        apart = ["unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child"]
        with self._log.open("wb") as log:
            self._outer = subprocess.Popen(
                [*apart, "sh", "-c", prepared, "sh", *command],
                cwd=DEPLOY,
                env=environment_with_our_commands(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Contained:
        return self

    def __exit__(self, *_: object) -> None:
        self._outer.kill()
        self._outer.wait()

    @property
    def pid(self) -> int:
        """Its PID 1, as it is known outside."""
        (inner,) = children(self._outer.pid)
        return inner

    def execute(self, command: list[str]) -> int:
        """As `docker exec` and the probes of Kubernetes do; the exit status."""
        if self._outer.poll() is not None or not children(self._outer.pid):
            return 1
        entered = ["nsenter", f"--target={self.pid}", "--pid", "--mount", f"--wdns={DEPLOY}"]
        return subprocess.run(
            [*entered, *command], env=environment_with_our_commands(), check=False
        ).returncode

    def end(self, number: signal.Signals, within_s: float) -> int:
        os.kill(self.pid, number)
        return self.wait(within_s)

    def wait(self, within_s: float) -> int:
        """Its exit status. TimeoutExpired if it does not end so soon."""
        return self._outer.wait(within_s)

    def log(self) -> str:
        return self._log.read_text()


def environment_with_our_commands() -> dict[str, str]:
    """`fanbus` and `python` are those of the tests."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("FANBUS_")}
    return {**others, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def test_the_image_and_compose_run_as_they_say(tmp_path: Path) -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    (command,) = (line.removeprefix("CMD ") for line in lines if line.startswith("CMD "))
    (number,) = (line.removeprefix("STOPSIGNAL ") for line in lines if "STOPSIGNAL" in line)
    words = yaml.safe_load(command)
    options = options_of(words)
    assert (options.app, options.host) == ("lobby:app", "0.0.0.0")
    (compose,) = documents("compose.yaml")
    service = compose["services"]["chat"]
    kind, *health = service["healthcheck"]["test"]
    assert kind == "CMD"
    grace = int(service["stop_grace_period"].removesuffix("s"))
    assert grace > 10
    port = str(nginx.free_port())
    here = [word.replace(str(options.port), port) for word in words]
    health = [word.replace(str(options.port), port) for word in health]
    with Contained(here, tmp_path, service["shm_size"]) as contained:
        wait_for(lambda: contained.execute(health) == 0, "the health check")
        bus = Path(f"dev/shm/fanbus.deployed-{port}")
        assert Path(f"/proc/{contained.pid}/root", bus).exists()
        assert not Path("/", bus).exists()
        with RawSocket(int(port)) as client:
            client.open("/rooms/lobby")
            client.send(0x1, b"hello")
            assert client.message() == "hello"
            os.kill(children(contained.pid)[0], signal.SIGKILL)
            wait_for(lambda: "replaced at once" in contained.log(), "a new worker")
        assert contained.execute(health) == 0
        assert contained.end(signal.Signals[number], grace) == 0, contained.log()


def test_a_container_with_too_little_shared_memory_says_so(tmp_path: Path) -> None:
    words = ["fanbus", "run", "lobby:app", "--port", "0", "--workers", "2"]
    with Contained(words, tmp_path, "2m") as contained:
        wait_for(lambda: "/dev/shm" in contained.log(), "the sentence")
        (line,) = contained.log().strip().splitlines()
        assert line.startswith("fanbus: ")
        assert "It needs 4.8 MiB" in line
        assert "2 MiB are free" in line


def test_kubernetes_asks_paths_that_the_application_serves(deployed: Server) -> None:
    deployment, service, scaler = documents("kubernetes.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    options = options_of(container["command"])
    (port,) = container["ports"]
    assert int(options.port) == port["containerPort"]
    with deployed.http() as http:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["port"] == port["name"]
            assert http.get(asked["path"]).status_code == 200
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/dev/shm"}
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


def test_kubernetes_knows_every_field() -> None:
    version = kubernetes_validate.latest_version()
    for document in documents("kubernetes.yaml"):
        kubernetes_validate.validate(document, version, strict=True)
    wrong = documents("kubernetes.yaml")[0]
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 30
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_a_pod_ends_as_kubernetes_ends_it(tmp_path: Path) -> None:
    """preStop while the service still sends clients, then SIGTERM, all within the grace period."""
    deployment = documents("kubernetes.yaml")[0]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (volume,) = pod["volumes"]
    port = nginx.free_port()
    old = str(container["ports"][0]["containerPort"])
    command = [word.replace(old, str(port)) for word in container["command"]]
    size = volume["emptyDir"]["sizeLimit"].removesuffix("i").lower()
    with Contained(command, tmp_path, size) as contained, client_of(port) as http:
        wait_for(lambda: answers(http, container["startupProbe"]["httpGet"]["path"]), "the start")
        with RawSocket(port) as client:
            client.open("/rooms/lobby")
            begun = time.monotonic()
            stop = threading.Thread(
                target=contained.execute,
                args=[container["lifecycle"]["preStop"]["exec"]["command"]],
            )
            stop.start()
            while stop.is_alive():
                assert http.get(container["readinessProbe"]["httpGet"]["path"]).status_code == 200
                stop.join(0.1)
            client.send(0x1, b"still here")
            assert client.message() == "still here"
            left = pod["terminationGracePeriodSeconds"] - (time.monotonic() - begun)
            os.kill(contained.pid, signal.SIGTERM)
            assert client.closed()[0] == 1012
        assert contained.wait(left) == 0, contained.log()


def answers(http: httpx.Client, path: str) -> bool:
    try:
        return http.get(path).status_code == 200
    except httpx.TransportError:
        return False


def test_application_behind_nginx_knows_the_client(run: Run, tmp_path: Path) -> None:
    one = run("--proxy-headers")
    claim = b"GET /place HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n"
    with nginx_in_front(tmp_path, one.port) as port:
        with RawSocket(port, source="127.0.0.2") as client:
            client.write(claim)
            place = json.loads(client.answer().body)
        # What a client claims stands before what nginx has seen, and is not believed.
        assert place["client"][0] == "127.0.0.2"
        assert place["scheme"] == "http"
        with RawSocket(port) as client:
            client.open("/ws", {"X-Forwarded-Proto": "https"})
            assert client.message() == "ws "

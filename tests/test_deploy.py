"""The files of examples/deploy: those that can be run here are run, the others are read, and
compared with what Fanbus does."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import StartServer
from fanbus import cli
from rawsocket import RawSocket
from running import DEADLINE_S, Server, client_of, wait_for

DEPLOY = Path(__file__).parent.parent / "examples" / "deploy"


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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def nginx(directory: Path, upstream: int) -> Iterator[int]:
    """nginx with our file, of which only the ports and the place differ."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        pytest.skip("nginx is not installed: make .venv/ok-nginx")
    port = free_port()
    ours = (DEPLOY / "nginx.conf").read_text()
    assert "listen 80;" in ours
    assert "server 127.0.0.1:5000;" in ours
    ours = ours.replace("listen 80;", f"listen 127.0.0.1:{port};")
    ours = ours.replace("server 127.0.0.1:5000;", f"server 127.0.0.1:{upstream};")
    temporary = "".join(
        f"    {kind}_temp_path {directory}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = directory / "nginx.conf"
    whole.write_text(
        f"daemon off;\npid {directory}/nginx.pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\n    access_log off;\n{temporary}{ours}\n}}\n"
    )
    command = [program, "-p", str(directory), "-c", str(whole), "-e", "stderr"]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    assert "warn" not in tested.stderr
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        assert process.poll() is None, "nginx has ended"
        with contextlib.suppress(ConnectionRefusedError):
            RawSocket(port).socket.close()
            return True
        return False

    try:
        wait_for(answers, "nginx")
        yield port
    finally:
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait(DEADLINE_S)


def test_requests_and_websockets_go_through_nginx_also_over_a_reload(
    deployed: Server, tmp_path: Path
) -> None:
    with nginx(tmp_path, deployed.port) as port, client_of(port) as http:
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
    return cli._parser().parse_args(command[1:])


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    text = (DEPLOY / "chat.service").read_text()
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line[1:])
    options = options_of(fields["ExecStart"].split())
    assert options.app == "lobby:app"
    assert float(fields["TimeoutStopSec"]) > 10
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return
    # The program and the user of the example are not on this machine.
    here = text.replace("/srv/chat/venv/bin/fanbus", "/bin/true").replace("User=chat", "User=root")
    unit = tmp_path / "chat.service"
    unit.write_text(here.replace("WorkingDirectory=/srv/chat", f"WorkingDirectory={tmp_path}"))
    checked = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    said = [line for line in checked.stderr.splitlines() if "chat.service" in line]
    # systemd before 253 has no notify-reload.
    assert [line for line in said if "notify-reload" not in line] == [], checked.stderr


def test_the_image_starts_the_supervisor_as_pid_1() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    (command,) = (line.removeprefix("CMD ") for line in lines if line.startswith("CMD "))
    options = options_of(yaml.safe_load(command))
    assert options.app == "lobby:app"
    assert options.host == "0.0.0.0"
    assert "STOPSIGNAL SIGTERM" in lines


def test_compose_gives_the_bus_room_and_the_end_time() -> None:
    (compose,) = documents("compose.yaml")
    service = compose["services"]["chat"]
    assert int(service["shm_size"].removesuffix("m")) > 64
    assert int(service["stop_grace_period"].removesuffix("s")) > 10
    assert "/healthz" in service["healthcheck"]["test"][-1]


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
    waits = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > waits + 10
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/dev/shm"}
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]

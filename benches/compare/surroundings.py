"""The services that rows of applications need beside the server: PostgreSQL, and a slow service.

Each is started for one run, and its process is ended after it. Its CPU time and memory do not count
as the server's. Handlers find them by DATABASE and SERVICE in the environment.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .serving import ServerError, free_port
from .systems import find_program

START_S, END_S, POLL_S = 30.0, 10.0, 0.02
ARTICLES = 100
# Connections of 4 workers with a pool of 10 each, and some.
SETTINGS = ("max_connections=100", "fsync=off", "shared_buffers=32MB", "listen_addresses=127.0.0.1")
TABLE = f"""
CREATE TABLE article (id int PRIMARY KEY, name text NOT NULL, price float8 NOT NULL,
    made timestamp NOT NULL);
INSERT INTO article SELECT n, 'article ' || n, n * 1.25, timestamp '2030-12-31' + n * interval '1 s'
    FROM generate_series(1, {ARTICLES}) AS n;
"""

Surrounding = Callable[[], contextlib.AbstractContextManager[dict[str, str]]]


@contextlib.contextmanager
def surroundings(needs: Sequence[str]) -> Iterator[dict[str, str]]:
    """Starts these services. Gives the environment variables by which handlers find them."""
    with contextlib.ExitStack() as stack:
        variables = {"NEEDS": " ".join(needs)}
        for need in needs:
            if need in STARTED:
                variables |= stack.enter_context(STARTED[need]())
        yield variables


@contextlib.contextmanager
def database() -> Iterator[dict[str, str]]:
    """A cluster of its own in a folder of its own, which is removed with it."""
    initdb, postgres = find_program("initdb"), find_program("postgres")
    if initdb is None or postgres is None:
        raise ServerError("PostgreSQL is not installed: run benches/compare/install")
    with tempfile.TemporaryDirectory(prefix="fanbus-database-") as folder:
        home, port = Path(folder), free_port()
        data, log = home / "data", home / "said"
        owner = ordinary_user()
        if owner is not None:
            os.chown(home, owner.pw_uid, owner.pw_gid)
        name = owner.pw_name if owner is not None else None
        made = subprocess.run(
            [initdb, "-D", data, "-U", "fanbus", "--auth=trust", "--no-sync", "--encoding=UTF8"],
            cwd=home,
            user=name,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        if made.returncode != 0:
            lines = made.stderr.strip().splitlines() or ["it said nothing"]
            raise ServerError(f"initdb: {lines[-1]}")
        settings = [word for setting in SETTINGS for word in ("-c", setting)]
        command = [postgres, "-D", str(data), "-k", str(home), "-p", str(port), *settings]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=home,
                user=name,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        with ended(process, signal.SIGINT):  # a fast shutdown: connections are not waited for
            fill(process, home, port, log)
            yield {"DATABASE": f"postgresql://fanbus@127.0.0.1:{port}/postgres"}


def ordinary_user() -> pwd.struct_passwd | None:
    """The user that PostgreSQL runs as, since root may not run it. None: the current user."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


def fill(process: subprocess.Popen[bytes], home: Path, port: int, log: Path) -> None:
    """Makes the table, as soon as the cluster is there."""
    psql = find_program("psql")
    if psql is None:
        raise ServerError("psql is not installed: run benches/compare/install")
    command = [psql, "-h", str(home), "-p", str(port), "-U", "fanbus", "-d", "postgres"]
    command += ["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--command", TABLE]
    deadline = time.monotonic() + START_S
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(errors="replace").splitlines() + done.stderr.splitlines()
            raise ServerError(f"PostgreSQL: {lines[-1] if lines else 'it log nothing'}")
        time.sleep(POLL_S)


@contextlib.contextmanager
def service() -> Iterator[dict[str, str]]:
    """Answers each request after a while."""
    command = [sys.executable, str(Path(__file__).with_name("slow_service.py"))]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    )
    with ended(process, signal.SIGTERM):
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port.isdigit():
            raise ServerError("the slow service did not start")
        yield {"SERVICE": f"http://127.0.0.1:{int(port)}"}


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes], number: signal.Signals) -> Iterator[None]:
    """A process that ends with this, by its own id."""
    with process:
        try:
            yield
        finally:
            process.send_signal(number)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


STARTED: dict[str, Surrounding] = {"database": database, "service": service}

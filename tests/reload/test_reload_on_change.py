"""`--reload`: a file changes, and the new code answers. With real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import StartServer
from fanbus.server.reload.start_command import Invocation
from support.changing_app import Changing, times_reloaded, versions, wait_for_version
from support.command_servers import Run
from support.raw_websocket import RawSocket
from support.servers import Server, children, is_alive, wait_for

RELOAD = {"FANBUS_RELOAD": "true"}

# Who reads the code says so. A probe's words go to the supervisor, and are no line of the log.
READ = "import sys; sys.stderr.write(f'read by {os.getpid()}\\n')"


def readers(one: Server) -> list[int]:
    """The processes that have read the code, and said so."""
    return [int(pid) for pid in re.findall(r"^read by (\d+)$", one.log(), re.MULTILINE)]


def who_answers(one: Server) -> int:
    with one.http() as http:
        pid: int = http.get("/").json()["pid"]
        return pid


def test_a_changed_file_reloads(server: StartServer, changing: Changing) -> None:
    one = server(changing.path, workers=1, environment=RELOAD)
    assert versions(one) == {"1"}
    changing.write("2")
    wait_for_version(one, "2")
    changing.write("3", extra="def broken(:")
    one.wait_for_log("SyntaxError")
    assert versions(one) == {"2"}
    changing.write("4")
    wait_for_version(one, "4")
    with one.http() as http:
        assert len({http.get("/").json()["pid"] for _ in range(20)}) == 1


def test_a_websocket_client_comes_back_after_a_change(
    server: StartServer, changing: Changing
) -> None:
    one = server(changing.path, workers=1, environment=RELOAD)
    with RawSocket(one.port) as raw:
        raw.open("/news")
        raw.message()
        changing.write("2")
        assert raw.closed()[0] == 1012
    with RawSocket(one.port) as again:
        again.open("/news")
        assert str(again.message()).startswith("* ")


def test_other_files_do_not_reload(server: StartServer, changing: Changing) -> None:
    one = server(changing.path, workers=1, environment=RELOAD)
    changing.path.with_name("data.txt").write_text("not source")
    hidden = changing.path.with_name(".hidden")
    hidden.mkdir()
    (hidden / "module.py").write_text("")
    # A change that counts comes after them: if they did, there would be a reload more.
    changing.write("2")
    wait_for_version(one, "2")
    wait_for(lambda: times_reloaded(one) >= 1, "the end of the reload")
    assert one.log().count(" has changed.") == one.log().count("changing.py has changed.")


def test_directories_and_patterns_say_what_counts(
    server: StartServer,
    changing: Changing,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    pages = tmp_path_factory.mktemp("pages")
    environment = {
        **RELOAD,
        "FANBUS_RELOAD_DIR": str(pages),
        "FANBUS_RELOAD_INCLUDE": "*.html",
        "FANBUS_RELOAD_EXCLUDE": "*_test.py,drafts",
    }
    (pages / "drafts").mkdir()
    one = server(changing.path, environment=environment)
    told = 0

    def changes() -> list[str]:
        return re.findall(r"INFO (\S+) has changed\.$", one.log(), re.MULTILINE)

    def is_reloaded_for(path: Path) -> bool:
        return str(path) in changes()[told:] and times_reloaded(one) >= len(changes())

    def counts(path: Path) -> None:
        """A reload for this file; none for those that were written before."""
        nonlocal told
        path.write_text("changed")
        wait_for(lambda: is_reloaded_for(path), f"a reload for {path.name}")
        assert set(changes()[told:]) == {str(path)}
        told = len(changes())

    counts(pages / "index.html")
    for ignored in ("index.css", "index_test.py", "drafts/index.html"):
        (pages / ignored).write_text("changed")
    module = pages / "module.py"
    counts(module)
    below = pages / "below"
    below.mkdir()
    # Perhaps twice: found in a directory that is new, and closed after that.
    counts(below / "index.html")
    module.unlink()
    wait_for(lambda: is_reloaded_for(module), "a reload for a file that has gone")


def test_the_new_code_is_read_once_by_the_process_that_serves(
    server: StartServer, changing: Changing
) -> None:
    one = server(changing.path, environment=RELOAD)
    changing.write("2", extra=READ)
    wait_for_version(one, "2")
    assert readers(one) == [who_answers(one)]
    wait_for(lambda: times_reloaded(one) == 1, "the end of the reload")


def test_many_changes_in_a_row_end_with_the_last_code(
    server: StartServer, changing: Changing
) -> None:
    one = server(changing.path, environment=RELOAD)
    for version in range(2, 12):
        changing.write(str(version))
    wait_for_version(one, "11")
    wait_for(lambda: len(children(one.pid)) == 2, "one worker, and one that waits")
    assert "ERROR" not in one.log()
    assert "WARNING" not in one.log()


def test_a_module_that_changes_twice_in_a_second_is_read_twice(
    server: StartServer, changing: Changing
) -> None:
    """Python takes bytecode for that of a source of the same time, in seconds, and size."""
    module = changing.path.with_name("part.py")

    def write(part: str) -> None:
        new = module.with_suffix(".new")
        new.write_text(f"PART = {part!r}\n")
        os.utime(new, (1_700_000_000, 1_700_000_000))
        new.rename(module)

    write("0")
    changing.write("1", extra="import part; VERSION = part.PART")
    one = server(changing.path, environment=RELOAD)
    assert versions(one) == {"0"}
    os.utime(changing.path)  # what follows is read from bytecode, if there is any
    for part in "123":
        write(part)
        wait_for_version(one, part)


def test_modules_that_new_code_has_imported_are_watched_too(
    server: StartServer, changing: Changing, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "far_away.py").write_text("VERSION = 'far'\n")
    one = server(changing.path, environment=RELOAD)
    changing.write(
        "2",
        extra=f"import sys; sys.path.append({str(elsewhere)!r}); from far_away import VERSION",
    )
    wait_for_version(one, "far")
    (elsewhere / "far_away.py").write_text("VERSION = 'farther'\n")
    wait_for_version(one, "farther")


@pytest.mark.parametrize(
    "change",
    [
        ('port=int(os.environ["PORT"])', 'port=int(os.environ["PORT"]), threads=7'),
        ("history=10_000", "history=20_000"),
    ],
)
def test_code_with_other_supervisor_settings_restarts_the_supervisor(
    server: StartServer, changing: Changing, change: tuple[str, str]
) -> None:
    one = server(changing.path, environment=RELOAD)
    before, after = change
    source = changing.path.read_text()
    assert before in source
    changed = source.replace(before, after).replace('VERSION = "1"', f'VERSION = "2"; {READ}')
    new = changing.path.with_suffix(".new")
    new.write_text(changed)
    new.rename(changing.path)
    wait_for_version(one, "2")
    assert one.pid in readers(one)
    changing_again = new.with_suffix(".again")
    changing_again.write_text(changed.replace('"2"', '"3"'))
    changing_again.rename(changing.path)
    wait_for_version(one, "3")
    assert readers(one)[-1] == who_answers(one)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("raise RuntimeError('broken')", "RuntimeError: broken"),
        ("import no_such_module", "ModuleNotFoundError"),
        ("import sys; sys.exit(7)", "It ended with status 7 before it came to app.run()."),
        ("__name__ = 'other'", "It ended before it came to app.run()."),
        ("os._exit(7)", "ended with status 7"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("app.on_startup(lambda: 1 / 0)", "ZeroDivisionError"),
    ],
)
def test_code_that_does_not_start_leaves_the_old_worker(
    server: StartServer, changing: Changing, broken: str, said: str
) -> None:
    one = server(changing.path, environment=RELOAD)
    before = who_answers(one)
    if broken.startswith("app."):
        source = changing.path.read_text()
        new = changing.path.with_suffix(".new")
        new.write_text(source.replace("\n\nif __name__", f"\n\n{broken}\n\nif __name__"))
        new.rename(changing.path)
    else:
        changing.write("2", extra=broken)
    one.wait_for_log(said)
    assert who_answers(one) == before
    changing.write("3")
    wait_for_version(one, "3")


def test_code_that_never_comes_to_its_end_leaves_the_old_worker(
    server: StartServer, changing: Changing
) -> None:
    # The code that is well has to be ready in that time, too, also on a busy machine.
    one = server(changing.path, environment={**RELOAD, "FANBUS_TIMEOUT_WORKER_BOOT": "8"})
    before = who_answers(one)
    changing.write("2", extra="threading.Event().wait()")
    one.wait_for_log("is not ready for 8 s; ending it")
    assert who_answers(one) == before
    changing.write("3")
    wait_for_version(one, "3")


def test_the_trace_of_broken_code_begins_with_it(server: StartServer, changing: Changing) -> None:
    one = server(changing.path, environment=RELOAD)
    changing.write("2", extra="raise RuntimeError('broken')")
    one.wait_for_log("RuntimeError: broken")
    trace = one.log().partition("Traceback")[2].splitlines()
    assert str(changing.path) in trace[1]


def test_a_worker_that_dies_is_replaced_by_the_code_that_is_there(
    server: StartServer, changing: Changing
) -> None:
    one = server(changing.path, environment=RELOAD)
    changing.write("2")
    wait_for_version(one, "2")
    for _ in range(2):
        before = who_answers(one)
        os.kill(before, signal.SIGKILL)
        with RawSocket(one.port) as raw:  # nobody is refused meanwhile
            raw.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert raw.answer().status == 200
        assert versions(one) == {"2"}
        assert who_answers(one) != before


def test_the_process_that_waits_may_die(server: StartServer, changing: Changing) -> None:
    one = server(changing.path, environment=RELOAD)
    (spare,) = wait_for(
        lambda: [pid for pid in children(one.pid) if pid != who_answers(one)], "one that waits"
    )
    os.kill(spare, signal.SIGKILL)
    wait_for(lambda: spare not in children(one.pid), "its end")
    for version in "23":
        changing.write(version)
        wait_for_version(one, version)
    assert "ERROR" not in one.log()


def test_keepalive_connection_does_not_reach_the_old_code(
    server: StartServer, changing: Changing
) -> None:
    one = server(changing.path, environment=RELOAD)
    with RawSocket(one.port) as kept:
        kept.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.answer().status == 200
        changing.write("2")
        assert kept.ended()
    assert versions(one) == {"2"}


PLACES: dict[str, Callable[[Server], bool]] = {
    "at once": lambda _one: True,
    "the code is read": lambda one: "read by" in one.log(),
    "all is done": lambda one: times_reloaded(one) == 1,
    "one waits again": lambda one: times_reloaded(one) == 1 and len(children(one.pid)) == 2,
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("place", PLACES)
def test_the_end_leaves_no_process(
    server: StartServer, changing: Changing, place: str, number: signal.Signals
) -> None:
    one = server(changing.path, environment=RELOAD)
    wait_for(lambda: len(children(one.pid)) == 2, "one that waits")
    changing.write("2", extra=READ)
    wait_for(lambda: PLACES[place](one), place)
    pids = children(one.pid)
    one.send_signal(number)
    assert one.wait() == (0 if number is signal.SIGTERM else -signal.SIGKILL)
    wait_for(lambda: not any(is_alive(pid) for pid in pids), "no process of it")
    assert "Traceback" not in one.log()


def test_more_workers_are_reloaded_too(server: StartServer, changing: Changing) -> None:
    one = server(changing.path, environment=RELOAD)
    wait_for(lambda: len(children(one.pid)) == 2, "one that waits")
    one.send_signal(signal.SIGTTIN)
    one.wait_for_log("Added one worker: 2 workers")
    for count, version in enumerate("23", 1):
        changing.write(version)
        wait_for(lambda n=count: times_reloaded(one) == n, "the end of the reload")  # type: ignore[misc]
        # Whoever is to go may accept one more before it hears of it.
        wait_for_version(one, version)
    with one.http() as http:
        assert len({http.get("/").json()["pid"] for _ in range(40)}) == 2


def test_hup_works_as_without_reload(server: StartServer, changing: Changing) -> None:
    one = server(changing.path, environment=RELOAD)
    changing.write("2")
    wait_for_version(one, "2")
    one.send_signal(signal.SIGHUP)
    wait_for(lambda: times_reloaded(one) == 2, "the end of the second reload")
    changing.write("3")
    wait_for_version(one, "3")
    wait_for(lambda: len(children(one.pid)) == 2, "one worker, and one that waits")


def test_fanbus_run_reloads_a_package(run: Run, tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("from shop.app import app\n")
    source = (
        "import sys\nfrom fanbus import Fanbus\napp = Fanbus('shop')\n"
        "@app.get('/place')\ndef place():\n"
        "    return ['1', sys.argv[1:2], __name__, sys.orig_argv[1:4]]\n"
    )
    (package / "app.py").write_text(source)
    one = run("--reload", target=("shop:app", "--app-dir", str(tmp_path)))
    first = one.get().json()
    (package / "app.py").write_text(source.replace("'1'", "'2'"))
    wait_for(lambda: one.get().json()[0] == "2", "the new code")
    assert one.get().json()[1:] == first[1:] == [["run"], "shop.app", ["-m", "fanbus", "run"]]


def test_code_on_the_command_line_is_reloaded_the_long_way(
    run: Run, changing: Changing, tmp_path: Path
) -> None:
    """Python cannot be asked for it again in another process but by its whole command."""
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import os; os.environ['PORT'] = '0';"
        "from changing import app; app.run(port=0, reload=True)"
    )
    one = run(program=("-c", code))
    changing.write("2")
    wait_for(lambda: one.get("/").json()["version"] == "2", "the new code")


@pytest.mark.parametrize(
    ("words", "arguments", "found"),
    [
        (["python", "APP"], 0, (("python",), "APP", False, ())),
        (["python", "APP", "-v", "x"], 2, (("python",), "APP", False, ("-v", "x"))),
        (
            ["python", "-u", "-X", "dev", "APP"],
            0,
            (("python", "-u", "-X", "dev"), "APP", False, ()),
        ),
        (["python", "-m", "shop"], 0, (("python",), "shop", True, ())),
        (["python", "-O", "-m", "fanbus", "run"], 1, (("python", "-O"), "fanbus", True, ("run",))),
        (["python", "-c", "import x"], 0, None),
        (["python", "-mshop"], 0, None),
        (["python", "-"], 0, None),
        (["python"], 0, None),
        (["python", "-m", "pdb", "APP"], 0, None),
        (["python", "/usr/bin/coverage", "run", "APP"], 0, None),
        (["python", "no such file.py"], 0, None),
    ],
)
def test_commands_are_understood_or_left_alone(
    tmp_path: Path, words: list[str], arguments: int, found: tuple[object, ...] | None
) -> None:
    script = tmp_path / "app.py"
    script.touch()
    placed = [str(script) if word == "APP" else word for word in words]
    expected = None
    if found is not None:
        interpreter, target, is_module, rest = found
        target = str(script) if target == "APP" else target
        expected = Invocation(interpreter, target, is_module, rest)  # type: ignore[arg-type]
    assert Invocation.parse(placed, arguments) == expected


def test_a_command_runs_as_python_runs_it(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("")
    script = tmp_path / "app.py"
    script.write_text(
        "import sys, beside\n"
        "print(__name__, __file__, __spec__, __package__, sys.argv, sys.orig_argv[1:],"
        " sys.path[0], sys.modules['__main__'].__dict__ is globals())\n"
    )
    words = [sys.executable, "-u", "app.py", "one", "two"]
    usual = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    code = (
        "from fanbus.server.reload.start_command import Invocation\n"
        f"Invocation.parse({words!r}, 2).run()\n"
    )
    ours = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ours.stdout == usual.stdout

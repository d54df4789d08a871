"""The command `fanbus`."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fanbus
from fanbus.cli import main
from support.paths import APPS
from support.servers import DEADLINE_S, children, wait_for


def fanbus_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command, which is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "fanbus", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_it_tells_its_version() -> None:
    done = fanbus_command("--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"fanbus {fanbus.__version__}")


def test_the_command_is_installed() -> None:
    script = Path(sys.executable).parent / "fanbus"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert fanbus.__version__ in done.stdout


@pytest.mark.parametrize(
    ("target", "said", "status"),
    [
        ("missing:app", 'no module "missing"', 3),
        ("rooms:nothing", '"nothing" in module rooms is not there. Did you mean rooms:app?', 3),
        ("rooms:room", "a function, not a Fanbus", 3),
        ("path/to/rooms.py", f"File not found: {APPS / 'path/to/rooms.py'}.", 3),
        ("path/to/rooms", "does not name an application. Write module:app", 2),
    ],
)
def test_invalid_target_is_reported_in_one_sentence(target: str, said: str, status: int) -> None:
    done = fanbus_command("run", target, "--app-dir", str(APPS), "--port", "0")
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "line", ["raise RuntimeError('broken at import')", "import no_such_module_broken_at_import"]
)
def test_module_that_raises_is_reported_with_its_traceback_and_status_3(
    tmp_path: Path, line: str
) -> None:
    (tmp_path / "broken.py").write_text(line)
    done = fanbus_command("run", "broken:app", "--app-dir", str(tmp_path))
    assert done.returncode == 3
    assert "broken:app cannot be imported." in done.stderr
    assert done.stderr.count("Traceback") == 1
    assert "broken_at_import" in done.stderr.replace(" ", "_")


@pytest.mark.parametrize("arguments", [["run"], ["run", "a:b", "--unknown"], ["fly"], []])
def test_a_command_line_that_is_none_ends_with_status_2(arguments: list[str]) -> None:
    done = fanbus_command(*arguments)
    assert done.returncode == 2
    assert "usage: fanbus" in done.stderr


@pytest.mark.parametrize(
    "words", [["bench"], ["bench", "http", "http://x/", "--rate", "5"], ["tune", "--help"]]
)
def test_bench_without_its_package_says_how_to_install_it(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main.main(words) == 2
    needed = f"fanbus: fanbus {words[0]} needs the load driver: pip install 'fanbus[bench]'.\n"
    assert capsys.readouterr().err == needed


def test_it_runs_an_application_with_the_options_of_the_command_line(tmp_path: Path) -> None:
    """Even if the module calls `app.run()` by itself when it is imported."""
    (tmp_path / "mine.py").write_text(
        "from fanbus import Fanbus\n"
        "application = Fanbus()\n"
        "@application.get('/')\n"
        "def index(): return 'hello'\n"
        "application.run(port=1)\n"
    )
    stderr = tmp_path / "stderr"
    with stderr.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "fanbus", "run", "mine:application", "--port", "0", "-w", "2"],
            cwd=tmp_path,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_for(lambda: "http://127.0.0.1:" in stderr.read_text(), "the banner")
        assert "with 2 processes" in stderr.read_text()
        assert len(children(process.pid)) == 2
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0

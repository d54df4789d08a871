"""The table of options: every way to give one, which of them counts, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from fanbus.config import OPTIONS, Settings
from fanbus.exceptions import StartError
from fanbus.options.keywords import Keywords
from fanbus.options.kinds import Choice, Flag, Names, Networks, Seconds, Size, Whole
from fanbus.options.option import Option
from fanbus.options.report import as_markdown
from support.paths import ROOT
from support.servers import DEADLINE_S

# A value of each option that is not its default, as text.
_SAMPLES = {
    "host": "localhost",
    "log_level": "debug",
    "log_format": "json",
    "loop": "asyncio",
    "root_path": "/chat",
    "ssl_keyfile": "key.pem",
}


def sample(option: Option) -> tuple[str, Any]:
    """Text that is no default, and the value it means."""
    if isinstance(option.kind, Networks):
        return "10.0.0.0/8,*", ("10.0.0.0/8", "*")
    if option.name in _SAMPLES:
        return _SAMPLES[option.name], _SAMPLES[option.name]
    kind = option.kind
    if isinstance(kind, Whole):
        return "7", 7
    if isinstance(kind, Seconds):
        return "2m", 120.0
    if isinstance(kind, Size):
        return "1M", 2**20
    if isinstance(kind, Flag):
        return "true", True
    if isinstance(kind, Names):
        return "a,b", ("a", "b")
    assert not isinstance(kind, Choice)
    return "some", "some"


def shown(
    directory: Path, *arguments: str, environment: dict[str, str] | None = None
) -> dict[str, dict[str, Any]]:
    """What `fanbus config --json` prints."""
    done = config(directory, "--json", *arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def config(
    directory: Path, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FANBUS_") and name not in ("WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")
    }
    return subprocess.run(
        [sys.executable, "-m", "fanbus", "config", *arguments],
        cwd=directory,
        env={**inherited, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


# These two cannot be given alone, or not together with others.
_TOGETHER = [option for option in OPTIONS if option.name not in ("fd", "debug", "reload")]


def in_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def expected(option: Option, value: Any) -> Any:
    return "(secret)" if option.secret else in_json(value)


def test_every_option_counts_on_the_command_line(tmp_path: Path) -> None:
    words: list[str] = []
    for option in _TOGETHER:
        text, _ = sample(option)
        words += [option.flag] if isinstance(option.kind, Flag) else [option.flag, text]
    found = shown(tmp_path, *words)
    for option in _TOGETHER:
        value = expected(option, sample(option)[1])
        assert found[option.name] == {"value": value, "source": "command line"}


def test_every_option_counts_in_the_environment(tmp_path: Path) -> None:
    found = shown(
        tmp_path, environment={option.variable: sample(option)[0] for option in _TOGETHER}
    )
    for option in _TOGETHER:
        value = expected(option, sample(option)[1])
        assert found[option.name] == {"value": value, "source": option.variable}


@pytest.mark.parametrize(
    ("file", "head", "source"),
    [
        ("fanbus.toml", "", "fanbus.toml"),
        ("pyproject.toml", "[tool.fanbus]\n", "[tool.fanbus] of pyproject.toml"),
    ],
)
def test_every_option_counts_in_a_file(tmp_path: Path, file: str, head: str, source: str) -> None:
    lines = [f"{option.name} = {json.dumps(in_json(sample(option)[1]))}" for option in _TOGETHER]
    (tmp_path / file).write_text(head + "\n".join(lines))
    found = shown(tmp_path)
    for option in _TOGETHER:
        value = expected(option, sample(option)[1])
        assert found[option.name] == {"value": value, "source": source}


def test_the_command_line_counts_before_the_environment_and_that_before_the_file(
    tmp_path: Path,
) -> None:
    (tmp_path / "fanbus.toml").write_text("port = 1\nthreads = 1\nbacklog = 1\n")
    (tmp_path / "pyproject.toml").write_text("[tool.fanbus]\nworkers = 5\n")
    environment = {"FANBUS_PORT": "2", "FANBUS_THREADS": "2", "WEB_CONCURRENCY": "6"}
    found = shown(tmp_path, "--port", "3", environment=environment)
    assert found["port"] == {"value": 3, "source": "command line"}
    assert found["threads"] == {"value": 2, "source": "FANBUS_THREADS"}
    assert found["backlog"] == {"value": 1, "source": "fanbus.toml"}
    assert found["workers"] == {"value": 6, "source": "WEB_CONCURRENCY"}


def test_a_variable_that_is_empty_is_not_set(tmp_path: Path) -> None:
    found = shown(tmp_path, environment={"FANBUS_PORT": "", "FANBUS_DEBUG": ""})
    assert found["port"] == {"value": 5000, "source": "default"}


def test_it_is_printed_for_people_too(tmp_path: Path) -> None:
    done = config(
        tmp_path, "--port", "8000", "--ssl-certfile", "c", "--ssl-keyfile-password", "xyz"
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("port ")]
    assert line.split() == ["port", "8000", "command", "line"]
    assert "xyz" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "file", "said"),
    [
        (["--port", "70000"], {}, "", "--port must be a whole number from 0 to 65535, got 70000"),
        (["--log-level", "inof"], {}, "", "Did you mean info?"),
        (["--timeout-keep-alive", "5 parsecs"], {}, "", "--timeout-keep-alive must be a time from"),
        ([], {"FANBUS_WORKERS": "many"}, "", "FANBUS_WORKERS must be a whole number"),
        ([], {"FANBUS_WORKRES": "2"}, "", "Did you mean FANBUS_WORKERS?"),
        ([], {"FANBUS_PORT": "tcp://10.0.0.1:80"}, "", "enableServiceLinks: false"),
        ([], {}, 'port = "80"', "fanbus.toml: port must be a whole number"),
        ([], {}, "prot = 80", "prot in fanbus.toml is not an option. Did you mean port?"),
        ([], {}, "log-level = 'info'", "Did you mean log_level?"),
        ([], {}, "port = ", "fanbus.toml is not TOML"),
        (["--ssl-keyfile", "x"], {}, "", "which needs a certificate"),
    ],
)
def test_what_cannot_be_is_a_sentence_with_status_2(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], file: str, said: str
) -> None:
    if file:
        (tmp_path / "fanbus.toml").write_text(file)
    done = config(tmp_path, *arguments, environment=environment)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_nearest_option_is_named_and_none_is_taken_for_another(tmp_path: Path) -> None:
    done = config(tmp_path, "--wrokers", "2")
    assert (done.returncode, "Did you mean --workers?" in done.stderr) == (2, True)
    assert config(tmp_path, "--work", "2").returncode == 2


def test_password_is_not_printed_even_if_it_is_refused(tmp_path: Path) -> None:
    done = config(tmp_path, "--ssl-keyfile-password", "geheim\n")
    assert done.returncode == 2
    assert "geheim" not in done.stderr


def test_the_keywords_of_run_are_those_of_the_table() -> None:
    own = {"host", "port"}  # in the signature
    command_only = {"app_dir", "factory"}
    assert set(get_type_hints(Keywords)) == {one.name for one in OPTIONS} - own - command_only


def test_every_default_is_a_value_that_its_kind_takes() -> None:
    for option in OPTIONS:
        if option.default is not None and option.name != "workers":
            assert option.kind.take(option.default) == option.default, option.name
        assert option.unset or option.default is not None or option.help


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, "1e3", "1 year", True, None])
def test_a_time_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is the caller's
        Seconds(0, 1000).take(value)


def test_two_places_to_listen_are_refused() -> None:
    with pytest.raises(StartError, match="uds and fd"):
        Settings(uds="a", fd=3)


def test_the_documentation_has_the_table() -> None:
    page = (ROOT / "docs/howto/configuration.md").read_text()
    tables = page[page.index("### ") :]
    assert tables == as_markdown(OPTIONS), "put in what `fanbus config --markdown` prints"


def test_settings_outlive_a_reload_as_json() -> None:
    values = {option.name: sample(option)[1] for option in OPTIONS if option.name != "fd"}
    for settings in (Settings(), Settings(**values), Settings(fd=7)):
        assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings

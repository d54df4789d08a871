"""The two configuration objects: what they refuse, and with which words."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from benches import configuration

from fanbus import Bus, WebSocketConfig, _core
from fanbus.config import MAX_WORKERS, OPTIONS, Settings, usable_cores
from fanbus.exceptions import StartError
from fanbus.options.files import read
from fanbus.options.sources import resolve
from fanbus.runtime.application import HandlerCounts
from fanbus.server.banner import render, url
from fanbus.server.slot import Slot


def test_the_defaults_are_those_of_the_documentation() -> None:
    config = WebSocketConfig()
    assert config.max_message_size == 1024 * 1024
    assert config.rate_limit is None
    assert config.heartbeat_interval == 25
    assert config.timeout == 60
    assert config.max_queue_bytes == 1024 * 1024
    assert config.overflow == "close"
    assert config.compression is False
    assert config.subprotocols == ()
    assert config.origins is None
    assert config.max_connections is None
    assert config.max_topics == 1000


def test_options_of_the_benchmark_are_the_same_from_every_source(tmp_path: Path) -> None:
    (tmp_path / "fanbus.toml").write_text(configuration.in_toml())
    variables = configuration.in_environment()
    told = configuration.settings(given=configuration.SAID)
    assert told.port == 8000
    assert told == configuration.settings(environment=variables)
    assert told == configuration.settings(file=read(tmp_path))


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        WebSocketConfig().timeout = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_message_size": "64K"}, TypeError),
        ({"max_message_size": 1.5}, TypeError),
        ({"max_message_size": True}, TypeError),
        ({"max_message_size": None}, TypeError),
        ({"max_message_size": 0}, ValueError),
        ({"max_message_size": 2**31}, ValueError),
        ({"max_queue_bytes": -1}, ValueError),
        ({"rate_limit": 0}, ValueError),
        ({"rate_limit": 0.5}, TypeError),
        ({"heartbeat_interval": "10"}, TypeError),
        ({"heartbeat_interval": 0}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": float("inf")}, ValueError),
        ({"overflow": "explode"}, ValueError),
        ({"compression": 1}, TypeError),
        ({"subprotocols": "chat"}, TypeError),
        ({"subprotocols": ("two words",)}, ValueError),
        ({"origins": "https://example.org"}, TypeError),
        ({"origins": ("example.org",)}, ValueError),
        ({"origins": ("https://example.org/path",)}, ValueError),
        ({"max_connections": 0}, ValueError),
        ({"max_topics": 0}, ValueError),
        ({"max_topics": None}, TypeError),
    ],
)
def test_a_field_that_cannot_work_is_refused_by_name(
    options: dict[str, Any], error: type[Exception]
) -> None:
    (field,) = options
    with pytest.raises(error, match=rf"WebSocketConfig: {field} must be"):
        WebSocketConfig(**options)


def test_a_heartbeat_that_comes_after_the_timeout_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be shorter than the timeout \(10 s\)"):
        WebSocketConfig(heartbeat_interval=10.5, timeout=10)


def test_a_short_timeout_brings_the_default_heartbeat_with_it() -> None:
    assert WebSocketConfig(timeout=10).heartbeat_interval == 5


def test_lists_are_taken_for_tuples() -> None:
    config = WebSocketConfig(
        subprotocols=["b", "a"],  # type: ignore[arg-type]
        origins=["https://example.org:8443"],  # type: ignore[arg-type]
    )
    assert config.subprotocols == ("b", "a")
    assert config.origins == ("https://example.org:8443",)


def settings(environment: dict[str, str] | None = None, **given: Any) -> Settings:
    """Settings as `app.run(**given)` makes them in an empty directory."""
    environment = environment or {}
    values = resolve(
        OPTIONS, given=given, origin="app.run", environment=environment, file=("fanbus.toml", {})
    )
    return Settings.of(
        {name: found.value for name, found in values.items()},
        single_process="FANBUS_SINGLE_PROCESS" in environment,
    )


@pytest.mark.parametrize(
    ("given", "bytes_"),
    [(None, None), ("16M", 16 << 20), ("512K", 512 << 10), (65536, 65536), ("1 MiB", 1 << 20)],
)
def test_the_size_of_the_bus_is_written_as_people_write_it(
    given: int | str | None, bytes_: int | None
) -> None:
    assert settings(bus_size=given).bus_size == bytes_


@pytest.mark.parametrize("given", ["huge", "3M", "64M", "1K", "-1", 0.5, True, 0])
def test_invalid_size_of_the_bus_is_reported(given: Any) -> None:
    with pytest.raises(StartError, match=r"^bus_size must be") as raised:
        settings(bus_size=given)
    assert raised.value.status == 2


def test_the_size_of_the_history_is_an_option_and_a_variable() -> None:
    assert settings().history_size is None
    assert settings(history_size="1G").history_size == 1 << 30
    environment = {"FANBUS_HISTORY_SIZE": "256K"}
    assert settings(environment).history_size == 256 << 10
    assert settings(environment, history_size=1 << 20).history_size == 1 << 20
    for impossible in ("64K", "9G", "much", -1):
        with pytest.raises(StartError, match=r"^history_size must be") as raised:
            settings(history_size=impossible)
        assert raised.value.status == 2


def test_without_a_number_there_is_one_worker_per_usable_core() -> None:
    assert settings().workers == min(usable_cores(), MAX_WORKERS)


def test_web_concurrency_counts_unless_workers_are_given() -> None:
    environment = {"WEB_CONCURRENCY": "3"}
    assert settings(environment).workers == 3
    assert settings(environment, workers=2).workers == 2
    assert settings({**environment, "FANBUS_WORKERS": "4"}).workers == 4


def test_debug_and_reload_mean_one_worker() -> None:
    assert settings(debug=True, workers=4).workers == 1
    assert settings(reload=True, workers=4).workers == 1


def test_one_process_has_one_worker() -> None:
    forced = settings({"FANBUS_SINGLE_PROCESS": "1"}, workers=4)
    assert (forced.single_process, forced.workers) == (True, 1)


def test_a_name_for_the_bus_may_be_as_long_as_a_bus_takes() -> None:
    name = f"test-{os.getpid()}-".ljust(64, "x")
    assert settings(bus_name=name).bus_name == name
    with Bus.open(name, create=True, size=64 * 1024) as bus:
        _core.remove_bus(bus.name, although_used=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"port": 65536}, r"^port must be .*, got 65536"),
        ({"port": -1}, r"^port must be .*, got \-1"),
        ({"port": "5000"}, r"^port must be .*, got '5000'"),
        ({"workers": 0}, r"^workers must be .*, got 0"),
        ({"workers": 1000}, r"^workers must be .*, got 1000"),
        ({"workers": 0, "debug": True}, r"^workers must be .*, got 0"),
        ({"workers": "2"}, r"^workers must be .*, got '2'"),
        ({"host": ""}, r"^host must be .*, got ''"),
        ({"host": 1}, r"^host must be .*, got 1"),
        ({"bus_name": "a" * 65}, r"^bus_name must be .*, got 'aaa"),
        (
            {"environment": {"FANBUS_BUS_NAME": ".hidden"}},
            r"^FANBUS_BUS_NAME must be .*, got \.hidden",
        ),
        ({"debug": "yes"}, r"^debug must be .*, got 'yes'"),
        ({"prot": 1}, r"prot= is not an option. Did you mean port\?"),
        ({"uds": "a.sock", "fd": 3}, "uds and fd are both given"),
        ({"environment": {"WEB_CONCURRENCY": "many"}}, r"^WEB_CONCURRENCY must be .*, got many"),
        ({"environment": {"WEB_CONCURRENCY": "0"}}, r"^WEB_CONCURRENCY must be .*, got 0"),
        ({"environment": {"FANBUS_LOOP": "trio"}}, r"^FANBUS_LOOP must be .*, got trio"),
        ({"ssl_keyfile": "a.key"}, "ssl_keyfile is for TLS, which needs a certificate"),
        ({"ssl_ca_certs": "ca.pem"}, "ssl_ca_certs is for TLS"),
        ({"environment": {"FANBUS_SSL_KEYFILE_PASSWORD": "x"}}, "ssl_keyfile_password is for TLS"),
    ],
)
def test_settings_that_cannot_work_raise_with_exit_status_2(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(StartError) as caught:
        settings(**options)
    assert re.search(said, str(caught.value))
    assert caught.value.status == 2


def test_the_first_deaths_are_replaced_at_once_and_a_crash_loop_ever_more_slowly() -> None:
    slot = Slot(1, listener=0)
    pauses = [slot.note_exit(slot.started_at + 1) for _ in range(12)]
    assert pauses[:3] == [0, 0, 0]
    assert pauses[3:6] == [0.25, 0.5, 1]
    assert pauses[-1] == 10


def test_a_worker_that_was_well_ends_a_crash_loop() -> None:
    slot = Slot(1, listener=0)
    for _ in range(9):
        slot.note_exit(slot.started_at + 1)
    assert slot.note_exit(slot.started_at + 3600) == 0


def test_the_banner_says_where_and_what() -> None:
    text = render(settings(workers=4), 5000, HandlerCounts(http=3, websocket=2, turbo=1), 4711)
    for part in (
        "Fanbus v",
        "http://127.0.0.1:5000 ",
        "HTTP handlers 3",
        "WebSocket handlers 2",
        "Turbo handlers 1",
        "Processes 4",
        "Debug off",
        "PID 4711",
    ):
        assert part in text
    widths = {len(line) for line in text.splitlines() if line.startswith("│")}
    assert len(widths) == 1, "the frame is straight"


def test_the_banner_shows_an_address_that_can_be_opened() -> None:
    text = render(settings(host="0.0.0.0"), 5000, HandlerCounts(1, 0, 0), 1, network="192.0.2.7")
    assert "http://127.0.0.1:5000 " in text
    assert "http://192.0.2.7:5000 " in text
    assert "0.0.0.0 port 5000" in text


@pytest.mark.parametrize("host", ["::", "[::]"])
def test_the_banner_names_both_families_of_every_interface(host: str) -> None:
    text = render(settings(host=host), 5000, HandlerCounts(1, 0, 0), 1)
    assert "http://127.0.0.1:5000 " in text
    assert "http://[::1]:5000 " in text
    assert "every interface, :: port 5000" in text


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_the_banner_has_one_pair_of_brackets(host: str) -> None:
    assert " http://[::1]:5000 " in render(settings(host=host), 5000, HandlerCounts(1, 0, 0), 1)


def test_the_banner_says_that_there_is_tls() -> None:
    secure = settings(host="0.0.0.0", ssl_certfile="a.pem")
    text = render(secure, 5000, HandlerCounts(1, 0, 0), 1, network="192.0.2.7")
    assert "https://127.0.0.1:5000 " in text
    assert "https://192.0.2.7:5000 " in text
    assert "https and wss" in text
    assert url("localhost", 443, secure=True) == "https://localhost"
    assert url("localhost", 80, secure=True) == "https://localhost:80"


def test_the_files_of_tls_may_be_in_the_environment_and_the_password_is_not_shown() -> None:
    environment = {
        "FANBUS_SSL_CERTFILE": "a.pem",
        "FANBUS_SSL_KEYFILE": "/keys/a.key",
        "FANBUS_SSL_KEYFILE_PASSWORD": "correct horse",
    }
    found = settings(environment=environment, ssl_certfile=Path("b.pem"))
    # Workers look for them later, wherever the process is then.
    found = found.anchored()
    assert found.ssl_certfile == str(Path.cwd() / "b.pem")
    assert found.ssl_keyfile == "/keys/a.key"
    assert found.ssl_keyfile_password == "correct horse"
    assert "correct horse" not in repr(found)
    assert settings(environment={"FANBUS_SSL_CERTFILE": ""}).ssl_certfile is None


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("127.0.0.1", 5000, "http://127.0.0.1:5000"),
        ("::1", 5000, "http://[::1]:5000"),
        ("localhost", 80, "http://localhost"),
    ],
)
def test_a_url_is_written_as_browsers_want_it(host: str, port: int, expected: str) -> None:
    assert url(host, port) == expected

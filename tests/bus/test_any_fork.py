"""The bus under servers that fork, gunicorn and Celery: the examples of examples/any_process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import httpx
import pytest

from fanbus import Bus, Subscription
from support.bus_programs import Celery, Gunicorn, members, new_name
from support.servers import wait_for

ORDER = "celery --workdir examples/any_process --app celery_tasks call celery_tasks.order --args"
FORKED = "This bus was opened before a fork; the child process must open it itself."
TOO_EARLY = """
import os
from fanbus import Bus
bus = Bus.open(os.environ["FANBUS_BUS"], create=True)
"""


@pytest.fixture
def name() -> Iterator[str]:
    with new_name() as name:
        yield name


class Stream:
    """Server-Sent Events, as a browser reads them."""

    def __init__(self, stack: ExitStack, gunicorn: Gunicorn) -> None:
        http = stack.enter_context(gunicorn.http())
        self._lines = stack.enter_context(http.stream("GET", "/news")).iter_lines()
        self.worker = int(self._next(": process "))

    def _next(self, start: str) -> str:
        return next(line[len(start) :] for line in self._lines if line.startswith(start))

    def hear(self) -> str:
        """The next message."""
        return self._next("data: ")


def on_both_workers(stack: ExitStack, gunicorn: Gunicorn) -> dict[int, list[Stream]]:
    """Streams, at least one from each worker."""
    streams: dict[int, list[Stream]] = {}
    for _ in range(100):
        stream = Stream(stack, gunicorn)
        streams.setdefault(stream.worker, []).append(stream)
        if len(streams) == 2:
            return streams
    raise AssertionError("all connections went to one worker")


def post(gunicorn: Gunicorn, text: str) -> str:
    with gunicorn.http() as http:
        answer = http.post("/news", content=text)
    assert answer.status_code == 200, answer.text
    return answer.text


PRELOAD = pytest.mark.parametrize("options", [(), ("--preload",)], ids=["plain", "preload"])


@PRELOAD
def test_gunicorn_streams_in_all_workers_get_what_a_request_at_one_publishes(
    name: str, options: tuple[str, ...]
) -> None:
    with Gunicorn(name, Gunicorn.LINE, *options) as gunicorn, ExitStack() as stack:
        streams = on_both_workers(stack, gunicorn)
        assert members(name) == 2
        said = [post(gunicorn, f"news {number}") for number in range(20)]
        assert [line.split()[3] for line in said] == [str(number) for number in range(20)]
        for stream in chain(*streams.values()):
            assert [stream.hear() for _ in range(20)] == [f"news {number}" for number in range(20)]


@PRELOAD
def test_a_gunicorn_worker_that_is_killed_costs_only_its_own_streams(
    name: str, options: tuple[str, ...]
) -> None:
    with Gunicorn(name, Gunicorn.LINE, *options) as gunicorn, ExitStack() as stack:
        streams = on_both_workers(stack, gunicorn)
        killed, kept = streams
        os.kill(killed, signal.SIGKILL)
        for stream in streams[killed]:
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                stream.hear()
        post(gunicorn, "one is gone")
        wait_for(lambda: set(gunicorn.workers()) - set(streams), "a new worker")
        wait_for(lambda: len(gunicorn.workers()) == 2, "two workers")
        later = on_both_workers(stack, gunicorn)
        assert members(name) == 2
        assert killed not in later
        post(gunicorn, "it is replaced")
        for stream in streams[kept]:
            assert [stream.hear(), stream.hear()] == ["one is gone", "it is replaced"]
        for stream in chain(*later.values()):
            assert stream.hear() == "it is replaced"


@PRELOAD
def test_a_sync_gunicorn_worker_waits_for_what_another_publishes(
    name: str, options: tuple[str, ...]
) -> None:
    line = Gunicorn.LINE.replace("--threads 100", "--worker-class sync")
    with Gunicorn(name, line, *options) as gunicorn, gunicorn.http() as http:
        with http.stream("GET", "/next") as waiting:
            said = waiting.iter_text()
            heard = next(said)
            worker = int(heard.removeprefix("process ").split(":")[0])
            answer = post(gunicorn, "from the other")
            assert int(answer.split()[-1]) in set(gunicorn.workers()) - {worker}
            assert heard + "".join(said) == f"process {worker}: from the other\n"
        assert members(name) == 2


@PRELOAD
def test_a_bus_that_gunicorn_preloads_says_what_to_do(
    name: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "too_early.py").write_text(
        TOO_EARLY
        + "def app(environ, start_response):\n"
        + "    offset = bus.publish('news', 'a request')\n"
        + "    start_response('200 OK', [])\n"
        + "    return [str(offset).encode()]\n"
    )
    line = f"gunicorn --workers 2 --chdir {tmp_path} too_early:app"
    with Gunicorn(name, line, *options) as gunicorn, gunicorn.http() as http:
        if not options:
            assert http.get("/").text == "0"
            return
        with pytest.raises(httpx.RemoteProtocolError):  # gunicorn answers no OSError
            http.get("/")
        gunicorn.wait_to_say(f"BusError: {FORKED}", stream=2)
        assert members(name) == 1


def questions(news: Subscription, count: int) -> dict[str, int]:
    """What the tasks ask for, and the process that asks."""
    asked = [str(next(news).message).split("? asks process ") for _ in range(count)]
    return {what: int(process) for what, process in asked}


def test_celery_tasks_publish_and_get_answers_in_every_process_of_the_pool(
    name: str, tmp_path: Path
) -> None:
    with Celery(name, tmp_path) as celery, Bus.open(name, create=True) as bus:
        news = bus.subscribe("news")
        celery.call(f"""{ORDER} '["tea"]'""")
        celery.call(f"""{ORDER} '["coffee"]'""")
        asked = questions(news, 2)
        assert sorted(asked) == ["coffee", "tea"]
        assert sorted(asked.values()) == celery.workers()
        assert members(name) == 3
        for what in ("coffee", "tea"):
            bus.publish(f"answers:{what}", "with milk")
            assert next(news).message == f"{what}: with milk"


def test_a_celery_process_that_is_killed_is_replaced_on_the_bus_too(
    name: str, tmp_path: Path
) -> None:
    with Celery(name, tmp_path) as celery, Bus.open(name, create=True) as bus:
        news = bus.subscribe("news")
        celery.call(f"""{ORDER} '["tea"]'""")
        celery.call(f"""{ORDER} '["coffee"]'""")
        asked = questions(news, 2)
        os.kill(asked["tea"], signal.SIGKILL)
        bus.publish("answers:coffee", "black")
        assert next(news).message == "coffee: black"
        wait_for(lambda: asked["tea"] not in (now := celery.workers()) and len(now) == 2, "two")
        celery.call(f"""{ORDER} '["cake"]'""")
        celery.call(f"""{ORDER} '["bread"]'""")
        again = questions(news, 2)
        assert asked["tea"] not in again.values()
        assert sorted(again.values()) == celery.workers()
        assert members(name) == 3
        for what in again:
            bus.publish(f"answers:{what}", "yes")
        assert {str(next(news).message) for _ in again} == {"cake: yes", "bread: yes"}


def test_a_bus_that_celery_opens_before_its_fork_says_what_to_do(name: str, tmp_path: Path) -> None:
    (tmp_path / "too_early.py").write_text(
        TOO_EARLY
        + "from celery_tasks import app\n"
        + "@app.task\n"
        + "def early():\n"
        + "    bus.publish('news', 'a task')\n"
    )
    line = Celery.LINE.replace("--app celery_tasks", "--app too_early")
    early = Celery(name, tmp_path, line, PYTHONPATH=str(tmp_path))
    with early as celery, Bus.open(name, create=True) as bus:
        news = bus.subscribe("news")
        celery.call(ORDER.split(" --app")[0] + " --app too_early call too_early.early")
        celery.wait_to_say(FORKED, stream=2)
        celery.call(f"""{ORDER} '["tea"]'""")
        assert [*questions(news, 1)] == ["tea"]  # and nothing of the other one
        bus.publish("answers:tea", "yes")
        assert next(news).message == "tea: yes"

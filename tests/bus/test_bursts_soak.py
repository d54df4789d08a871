"""Bursts while everything happens to the processes that can: for SOAK_SECONDS, a few by default.

Workers and publishers are killed, stopped for short and for long, made to limp, reloaded, and fork.
No client ever sees a gap: what each publisher says to its topic comes complete, until the client is
closed. And no publisher raises, or is held up for longer than a publish may take.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path

from conftest import StartServer
from support.crowd import Client
from support.raw_websocket import CLOSE, PING, PONG, encode
from support.servers import DEADLINE_S, Server, wait_for

SECONDS = float(os.environ.get("SOAK_SECONDS", "6"))
TOPICS = 40
# The longest wait, and what a busy machine adds.
LONGEST_PUBLISH_S = 5 + 25

PUBLISHER = """
import os, sys, threading, time
from fanbus import Bus

name, topics, me, forks = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == "forks"
is_over = threading.Event()


def fork():
    while not is_over.wait(0.03):
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)


slowest = 0.0
with Bus.open(name) as bus:
    if forks:
        threading.Thread(target=fork).start()
    threading.Thread(target=lambda: (sys.stdin.readline(), is_over.set())).start()
    print("ready", flush=True)
    number = 0
    while not is_over.is_set():
        for _ in range(200):
            for topic in range(topics):
                began = time.monotonic()
                bus.publish(f"soak-{topic}", f"{me}:{number}:" + "x" * 1000)
                slowest = max(slowest, time.monotonic() - began)
            number += 1
        is_over.wait(0.2)
print(slowest, flush=True)
"""

# What a client may be closed with: a reload; and a worker that stood still or limped for too long.
ALLOWED = {
    "1006",
    "1012 the server restarts",
    "1013 this worker stood still",
    "1013 this worker fell behind",
}


class Follower(Client):
    """Checks that of each publisher nothing is missing."""

    faults: list[str]
    last: dict[str, int]

    async def _read(self) -> None:
        self.faults, self.last, code = [], {}, 1006
        try:
            while True:
                opcode, payload = await self._frame()
                if opcode == PING:
                    self._writer.write(encode(PONG, payload))
                elif opcode == CLOSE:
                    code = int.from_bytes(payload[:2], "big")
                    self.close_reason = payload[2:].decode()
                    return
                else:
                    self._check(payload)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.close_code = code

    def _check(self, payload: bytes) -> None:
        who, number, _ = payload.decode().split(":")
        before = self.last.get(who)
        if before is not None and int(number) != before + 1:
            self.faults.append(f"{who}: {number} behind {before}")
        self.last[who] = int(number)


class Soak:
    """Clients that come back when they are closed, publishers that are replaced when killed."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.dice = random.Random()
        self.closes: Counter[str] = Counter()
        self.received = 0
        self.faults: list[str] = []
        self.slowest = 0.0
        self.publishers: list[asyncio.subprocess.Process] = []
        self._started = 0

    async def follow(self, topic: int) -> None:
        """One client after the other."""
        while True:
            try:
                follower = await Follower.open(
                    self.server.port, f"/listen/soak-{topic}", greeted=True
                )
            except (OSError, AssertionError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.05)  # its worker was just killed, or ends
                continue
            assert isinstance(follower, Follower)
            try:
                code = await follower.ended()
                self.closes[f"{code} {follower.close_reason.partition(':')[0]}".strip()] += 1
            finally:
                self.faults += follower.faults
                self.received += sum(follower.last.values())
                await follower.close()

    async def publisher(self) -> None:
        self._started += 1
        name = self.server.segment.name.removeprefix("fanbus.")
        arguments = [name, str(TOPICS), f"p{self._started}", self.dice.choice(["forks", "not"])]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PUBLISHER, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        self.publishers.append(process)

    async def end_publisher(self, process: asyncio.subprocess.Process) -> None:
        said, _ = await process.communicate(b"\n")
        assert process.returncode == 0, "a publisher has failed"
        self.slowest = max(self.slowest, float(said))

    async def stop_for(self, pid: int, seconds: float) -> None:
        try:
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(seconds)
        except ProcessLookupError:
            return
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    async def one_thing(self) -> str:
        """Something happens."""
        workers = self.server.worker_pids()
        what = self.dice.choice(
            ["kill", "stop", "stop long", "limp", "reload", "kill publisher", "stop publisher"]
        )
        if what == "reload":
            self.server.send_signal(signal.SIGHUP)
        elif what == "kill publisher":
            process = self.publishers.pop(self.dice.randrange(len(self.publishers)))
            process.kill()
            await process.communicate()
            await self.publisher()
        elif what == "stop publisher":
            await self.stop_for(self.dice.choice(self.publishers).pid, self.dice.uniform(0, 0.3))
        elif workers:
            worker = self.dice.choice(workers)
            if what == "kill":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
            elif what == "limp":
                for _ in range(5):
                    await self.stop_for(worker, 0.08)
                    await asyncio.sleep(0.0003)
            else:
                await self.stop_for(worker, 0.3 if what.endswith("long") else 0.03)
        return what


def test_clients_see_no_gap_whatever_happens_to_the_processes(server: StartServer) -> None:
    one = server("bursts", workers=3)

    async def scenario() -> None:
        soak = Soak(one)
        happened: Counter[str] = Counter()
        followers = [asyncio.create_task(soak.follow(topic)) for topic in range(TOPICS)]
        for _ in range(3):
            await soak.publisher()
        end = asyncio.get_running_loop().time() + SECONDS
        while asyncio.get_running_loop().time() < end:
            happened[await soak.one_thing()] += 1
            await asyncio.sleep(soak.dice.uniform(0, 0.4))
        for process in soak.publishers:
            await soak.end_publisher(process)
        for follower in followers:
            assert not follower.done() or follower.exception() is None
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        told = f"{soak.received} received; closed: {dict(soak.closes)}; {dict(happened)}"
        assert soak.faults == [], told
        assert set(soak.closes) <= ALLOWED, told
        assert happened["kill"] or not soak.closes["1006"], told
        assert soak.received > 0, told
        assert soak.slowest < LONGEST_PUBLISH_S

    asyncio.run(asyncio.wait_for(scenario(), SECONDS + 120))
    # And it is as well as before.
    wait_for(lambda: len(one.worker_pids()) >= 3, "three workers", DEADLINE_S)
    with one.http() as http:
        assert http.get("/alive").status_code == 200
    assert "Traceback" not in one.log()
    name = one.segment.name.removeprefix("fanbus.")
    assert Path(one.segment).exists(), name

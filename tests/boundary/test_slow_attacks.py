"""slowhttptest against the daemon: attackers are cut, nobody else notices, and nothing of them stays.

In the soak each kind of attack runs by itself for longer and the p99 of a healthy client is printed beside its own
without an attack; a time is asserted nowhere.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Final

import pytest

from proxy.demo.children import Child, free_port
from proxy.demo.instance import Instance
from tests.harness.packages import program
from tests.http.backend import Backend, BackendConnection, Seen, reply
from tests.http.wire import Wire

CONNECTIONS: Final = 100
LONG: Final = 12
"""Seconds that each kind of attack takes by itself in the soak."""
ATTACKS: Final = {
    "slow heads": ["-H", "-i", "1"],
    "slow bodies": ["-B", "-i", "1", "-s", "8192"],
    "slow reading": ["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "400"],
}
PACE: Final = 0.005
"""Seconds from one healthy request of a connection to its next."""
LARGE: Final = reply(200, b"x" * 6_000_000)
"""More than the kernel takes for a connection: with less, an answer is all sent and its connection closed in time, and
the attacker goes on reading what only the kernel still has."""


def config(backend: Backend) -> dict[str, object]:
    """One worker with short times."""
    side = {"url": f"http://127.0.0.1:{backend.port}", "connections": 512}
    return {
        "version": 1,
        "listen": [f"127.0.0.1:{free_port()}"],
        "workers": 1,
        "state_dir": "state",
        "salt": "a salt for these tests",
        "backends": {"old": side, "new": side},
        "routes": [{"name": "events", "match": {"path": "/events", "methods": ["POST"]}}],
        "default": "old",
        "limits": {"head_timeout": "1s", "body_timeout": "1s", "keepalive_timeout": "1s"},
        "admin": {"tcp": "off"},
        "log": {"format": "text"},
    }


@asynccontextmanager
async def stand() -> AsyncIterator[tuple[Instance, Path]]:
    """The daemon before a backend that answers with a little, or with much at /large."""

    def behave(seen: Seen, connection: BackendConnection) -> None:
        connection.write(LARGE if b"/large" in seen.head[:40] else reply(200))

    backend = Backend(behave)
    await backend.start()
    with tempfile.TemporaryDirectory(prefix="cf-") as name:
        instance = Instance(Path(name), config(backend))
        try:
            await instance.start()
            yield instance, Path(name)
        finally:
            await instance.stop()
            backend.stop()


async def healthy(port: int, seconds: float) -> list[float]:
    """Four clients at a steady pace, all served; how long each answer took, from when it should have been asked."""
    taken: list[float] = []

    async def one() -> None:
        wire = await Wire.open(port)
        start = monotonic()
        for number in range(int(seconds / PACE)):
            due = start + number * PACE
            await asyncio.sleep(max(0.0, due - monotonic()))
            assert (await wire.ask(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "GET")).status == 200
            taken.append(monotonic() - due)
        wire.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(one())
    return taken


def p99(taken: list[float]) -> float:
    """In milliseconds."""
    return sorted(taken)[len(taken) * 99 // 100] * 1000


async def attack(kind: str, port: int, directory: Path, rate: int, count: int) -> str:
    """Run slowhttptest with so many connections, `rate` new ones a second, until none of them is open; what it said."""
    log = directory / f"{kind}.log"
    where = f"http://127.0.0.1:{port}/{'large' if kind == 'slow reading' else 'x'}"
    size = ["-c", str(count), "-r", str(rate), "-l", str(count // rate + 3), "-p", "3", "-u", where]
    child = Child(kind, [program("slowhttptest", "slowhttptest"), *ATTACKS[kind], *size], log)
    await child.ended(40)
    return re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace"))


def held(instance: Instance) -> tuple[int, int]:
    """Descriptors and resident bytes of the worker."""
    (pid,) = instance.pids("worker")
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), pages * 4096


async def counted(instance: Instance) -> tuple[int, int]:
    """Clients cut for a slow head or body, and for slow reading."""
    counters = (await instance.admin.ask("GET", "/api/v1/status"))["counters"]
    return counters.get("refused_408", 0), counters.get("clients_not_reading", 0)


def check_ended(kind: str, said: str) -> None:
    """All attackers were cut before it wanted to end, and its own probe was always served.

    Slow readers do not notice: they read on in what the kernel had taken. What the proxy counted tells of them.
    """
    assert kind == "slow reading" or "Exit status: No open connections left" in said, said[-2000:]
    assert set(re.findall(r"service available: +(\w+)", said)) == {"YES"}, said[-2000:]


async def check_nothing_is_left(instance: Instance, before: tuple[int, int]) -> None:
    deadline = monotonic() + 15
    while held(instance)[0] > before[0] + 4:
        assert monotonic() < deadline, (held(instance), before)
        await asyncio.sleep(0.1)
    assert held(instance)[1] < before[1] + 64 * 2**20


@pytest.mark.asyncio
@pytest.mark.timeout(300)
async def test_attackers_are_cut_and_nobody_else_notices(soak: bool, capsys: pytest.CaptureFixture[str]) -> None:
    async with stand() as (instance, directory):
        port = instance.address.port
        await healthy(port, 0.5)
        before = held(instance)
        attacks = [asyncio.create_task(attack(kind, port, directory, CONNECTIONS, CONNECTIONS)) for kind in ATTACKS]
        while not all(each.done() for each in attacks):
            await healthy(port, 0.5)  # asserts that every one is served
        for kind, each in zip(ATTACKS, attacks, strict=True):
            check_ended(kind, each.result())
        await check_nothing_is_left(instance, before)
        deadline = monotonic() + 5  # the figures come every 250 ms
        while (counters := await counted(instance)) < (2 * CONNECTIONS, CONNECTIONS) or counters[1] < CONNECTIONS:
            assert monotonic() < deadline, counters
            await asyncio.sleep(0.05)
        if soak:
            for kind in ATTACKS:
                said = await measured(kind, instance, directory)
                with capsys.disabled():
                    print(said)


async def measured(kind: str, instance: Instance, directory: Path) -> str:
    """What one kind of attack, kept up for longer, does to the p99 of others."""
    port, before = instance.address.port, held(instance)
    rate = CONNECTIONS // 5  # more slow readers a second are a load of so many times 6 MB, whatever their pace
    alone = p99(await healthy(port, LONG))
    running = asyncio.create_task(attack(kind, port, directory, rate, rate * LONG))
    during = p99(await healthy(port, LONG))
    check_ended(kind, await running)
    await check_nothing_is_left(instance, before)
    return f"\n{kind}: p99 {alone:.2f} ms alone, {during:.2f} ms under attack, ratio {during / alone:.2f}"

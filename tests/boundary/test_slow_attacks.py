"""slowhttptest against the daemon: attackers are cut, nobody else is refused, and nothing of them stays.

How long others wait meanwhile is measured in a benchmark: see `benchmarks/attacked.py`.
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

from proxy.demo.instance import Instance
from tests.boundary.slow import ATTACKS, attack, configuration, healthy
from tests.http.backend import Backend, BackendConnection, Seen, reply

CONNECTIONS: Final = 100
LARGE: Final = reply(200, b"x" * 6_000_000)
"""More than the kernel takes for a connection: with less, an answer is all sent and its connection closed in time, and
the attacker goes on reading what only the kernel still has."""


@asynccontextmanager
async def stand() -> AsyncIterator[tuple[Instance, Path]]:
    """The daemon before a backend that answers with a little, or with much at /large."""

    def behave(seen: Seen, connection: BackendConnection) -> None:
        connection.write(LARGE if b"/large" in seen.head[:40] else reply(200))

    backend = Backend(behave)
    await backend.start()
    with tempfile.TemporaryDirectory(prefix="cf-") as name:
        instance = Instance(Path(name), configuration(backend.port))
        try:
            await instance.start()
            yield instance, Path(name)
        finally:
            await instance.stop()
            backend.stop()


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
async def test_attackers_are_cut_and_everybody_else_is_served() -> None:
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
        deadline = monotonic() + 15  # the figures come every 250 ms
        # On a busy machine some slow readers end by themselves before it is their turn: they have no answer left.
        while (counters := await counted(instance))[0] < 2 * CONNECTIONS or counters[1] < 0.9 * CONNECTIONS:
            assert monotonic() < deadline, counters
            await asyncio.sleep(0.05)

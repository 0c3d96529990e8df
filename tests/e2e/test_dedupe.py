"""The dedupe window over two workers, and over the deaths of whoever holds a claim or keeps the window.

The stores have no unique constraint: a second delivery is a second row. What the ledger delivers says so (role
`replay`); what a worker sent must be there once, however often the event was offered.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from proxy.demo.toy import ToyBackend
from tests.e2e.test_kill import is_staffed, is_whole
from tests.harness.scene import NEVER_REVERT, Scene, scene
from tests.http.wire import Answer, Wire, until

IS_SOAK = os.environ.get("CROSSFADE_SOAK") == "1"
ROUNDS = 150 if IS_SOAK else 2
SEED = int(os.environ.get("CROSSFADE_SEED", "20"))
TWINS = 48
PATH = "/api/v1/events"
DUPLICATE = "x-crossfade-duplicate"
GIVE_UP = 30.0
"""Seconds that a client goes on trying."""

pytestmark = pytest.mark.asyncio


def request(event_id: str, body: dict[str, Any] | None = None) -> bytes:
    data = orjson.dumps(body or {"entity_id": event_id})
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: a\r\nX-Event-Id: {event_id}\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        + data
    )


async def ask(opened: Scene, event_id: str, body: dict[str, Any] | None = None) -> Answer:
    """One event on a connection of its own. Raises OSError or EOFError when the worker dies."""
    wire = await Wire.open(opened.instance.address.port)
    try:
        return await wire.ask(request(event_id, body))
    finally:
        wire.close()


async def insist(opened: Scene, event_id: str) -> Answer:
    """The same event again and again until it is accepted, as a client that believes in retries."""
    deadline = time.monotonic() + GIVE_UP
    while True:
        try:
            answer = await ask(opened, event_id)
            if answer.status < 300:
                return answer
            assert answer.status in (502, 503), answer.raw
        except (OSError, EOFError, TimeoutError):
            pass
        assert time.monotonic() < deadline, f"{event_id} was never accepted"
        await asyncio.sleep(0.02)


def sent(backend: ToyBackend) -> Counter[str]:
    """How often each event came from a worker."""
    return Counter(row.id for row in backend.stored() if row.role != "replay")


@asynccontextmanager
async def window(seconds: str = "5m") -> AsyncIterator[Scene]:
    """Dual write, with patience for slow backends."""

    def configure(config: dict[str, Any]) -> None:
        for backend in config["backends"].values():
            backend["response_timeout"] = "20s"

    async with scene(configure, dedupe=seconds, trigger=NEVER_REVERT) as opened:
        yield opened


async def counters(opened: Scene) -> dict[str, int]:
    found: dict[str, int] = (await opened.admin.ask("GET", "/api/v1/status"))["counters"]
    return found


async def by_worker(opened: Scene, figure: str) -> list[int]:
    """What the status says of each worker."""
    return [worker[figure] for worker in (await opened.admin.ask("GET", "/api/v1/status"))["workers"]]


async def kill(opened: Scene, pid: int) -> None:
    """End it by force, and wait until another is in its place."""
    os.kill(pid, signal.SIGKILL)
    await until(lambda: is_staffed(opened, {pid}), "a new process")
    await opened.admin.until(is_whole, 30, "the recovery")


async def test_of_many_twins_at_once_one_reaches_the_backends() -> None:
    async with window() as opened:
        await opened.old.fault("slow", seconds=0.5)
        wires: list[Wire] = []
        try:
            while not wires or min(await by_worker(opened, "clients")) == 0:  # a busy worker leaves them to the other
                assert len(wires) < 40 * TWINS, "all of them came to one worker"
                wires += [await Wire.open(opened.instance.address.port) for _ in range(TWINS)]
                await asyncio.sleep(0.3)  # figures are a quarter of a second old
            answers = await asyncio.gather(*[wire.ask(request("one")) for wire in wires])
        finally:
            for wire in wires:
                wire.close()
        await opened.old.fault("none")
        assert {answer.status for answer in answers} == {201}
        assert sum(DUPLICATE not in answer.headers for answer in answers) == 1
        assert {answer.headers.get(DUPLICATE, "201") for answer in answers} == {"201"}
        assert (await ask(opened, "one")).headers[DUPLICATE] == "201"
        assert (await ask(opened, "one", {"entity_id": "another"})).status == 422
        assert (await ask(opened, "two")).status == 201
        _, receipts = await opened.settled(least=2)
        assert [receipt.id for receipt in receipts] == ["one", "two"]
        assert sent(opened.old) == sent(opened.new) == {"one": 1, "two": 1}
        await until_counted(opened, {"duplicates_answered": len(wires), "refused_duplicate_conflict": 1})


async def until_counted(opened: Scene, wanted: dict[str, int]) -> None:
    deadline = time.monotonic() + 10
    while not wanted.items() <= (found := await counters(opened)).items():
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


async def test_after_a_first_that_failed_the_next_one_goes_and_after_the_window_another() -> None:
    async with window("1s") as opened:
        for backend in (opened.old, opened.new):
            await backend.fault("errors", status=422)
        assert (await ask(opened, "e")).status == 422
        for backend in (opened.old, opened.new):
            await backend.fault("none")
        began = time.monotonic()
        answer = await ask(opened, "e")
        assert (answer.status, DUPLICATE in answer.headers) == (201, False)
        assert (await ask(opened, "e")).headers[DUPLICATE] == "201"
        while DUPLICATE in (await ask(opened, "e")).headers:
            assert time.monotonic() - began < 10
            await asyncio.sleep(0.05)
        assert time.monotonic() - began >= 0.95  # the window counts from the claim, in whole milliseconds
        await opened.settled(least=3)
        assert sent(opened.old) == sent(opened.new) == {"e": 2}


async def test_the_worker_that_holds_the_claim_dies() -> None:
    async with window() as opened:
        await opened.old.fault("slow", seconds=3)
        first = asyncio.create_task(ask(opened, "e"))
        await until(lambda: sent(opened.old), "it is on its way")
        while not any(busy := await by_worker(opened, "in_flight")):
            assert not first.done(), "it was answered before anybody could see who has it"
            await asyncio.sleep(0.02)
        (holder,) = [pid for pid, n in zip(await by_worker(opened, "pid"), busy, strict=True) if n]
        os.kill(holder, signal.SIGKILL)
        with pytest.raises((OSError, EOFError)):
            await first
        answer = await insist(opened, "e")
        assert (answer.status, answer.headers[DUPLICATE]) == (202, "202"), "the ledger has it, and delivers"
        await opened.old.fault("none")
        _, receipts = await opened.settled(least=1)
        assert [receipt.id for receipt in receipts] == ["e"]
        assert sent(opened.old) == {"e": 1}
        assert sum(row.role == "replay" for row in opened.old.stored()) == 1


async def test_the_window_outlives_the_ledger() -> None:
    async with window() as opened:
        ids = [f"e{n}" for n in range(40)]
        for event_id in ids:
            assert (await ask(opened, event_id)).status == 201
        (ledger,) = opened.instance.pids("ledger")
        os.kill(ledger, signal.SIGKILL)  # the last ones are not on disk yet, and their workers say them again
        answers = await asyncio.gather(*[insist(opened, event_id) for event_id in ids])
        assert {answer.headers.get(DUPLICATE) for answer in answers} == {"201"}
        await opened.admin.until(is_whole, 30, "the recovery")
        conflict = await ask(opened, ids[0], {"entity_id": "another"})
        assert conflict.status == 422
        assert await opened.instance.stop() == 0
        await opened.instance.start()
        assert (await ask(opened, ids[0])).headers[DUPLICATE] == "201"
        await opened.settled(least=len(ids))
        assert sent(opened.old) == sent(opened.new) == Counter(ids)


@pytest.mark.timeout(7_200 if IS_SOAK else 240)
async def test_through_kills_no_twin_is_sent_twice() -> None:
    chosen = random.Random(SEED)
    async with window("6h") as opened:
        known: list[str] = []
        for turn in range(ROUNDS):
            ids = [f"r{turn}-{n}" for n in range(30)]
            known += ids
            clients = [insist(opened, event_id) for event_id in ids + chosen.sample(known, 20) for _ in range(3)]
            chosen.shuffle(clients)
            asking = [asyncio.create_task(client) for client in clients]
            await asyncio.sleep(chosen.random() * 0.15)  # so that the kill hits any moment
            await kill(opened, chosen.choice(opened.instance.pids(("ledger", "worker")[turn % 2])))
            await asyncio.gather(*asking)
            # On disk before the next one dies: what a worker and the ledger lose together may come twice.
            await opened.settled(least=len(known))
        for backend in (opened.old, opened.new):
            assert {event_id: n for event_id, n in sent(backend).items() if n > 1} == {}
            assert {row.id for row in backend.stored()} == set(known)

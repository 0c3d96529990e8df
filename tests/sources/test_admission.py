"""Admission: what waits is bounded in number and bytes, and what is refused for a while waits for its turn."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import cast

import orjson
import pytest

from proxy.http.budget import Budget
from proxy.http.values import json_value
from proxy.ledger.backoff import Backoff
from proxy.sources.admission import Admission
from proxy.sources.event import SourceEvent
from proxy.sources.lane import Lane
from proxy.sources.share import Share
from tests.http.wire import until

pytestmark = pytest.mark.asyncio

LIMIT = 1_000_000


class Route:
    """What the lanes post to. answer: the status of a key, or None while there is none."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, str]] = []
        """Key and id of each event that was tried."""
        self.statuses: dict[str, int | None] = {}
        self.usual: int | None = 200

    async def post(self, event_id: str, body: bytes) -> int:
        key = orjson.loads(body)["key"]
        self.posted.append((key, event_id))
        while (status := self.statuses.get(key, self.usual)) is None:
            await asyncio.sleep(0.001)
        return status

    def abort(self) -> None:
        """There is no connection."""


class Scene:
    """One source's admission over lanes to a route that is scripted."""

    def __init__(self, share: Share, lanes: int = 4) -> None:
        self.route = Route()
        self.counts: Counter[str] = Counter()
        self.accepted: list[str] = []
        ids = (f"ours-{number}" for number in count())
        posts = [cast(Lane, self.route) for _ in range(lanes)]
        key_of = json_value("/key")
        backoff = Backoff(0.001, 0.005)
        self.admission = Admission(posts, share, key_of, backoff, 1000, lambda: next(ids), self.count)

    def count(self, name: str) -> None:
        self.counts[name] += 1

    async def put(self, key: str, event_id: str = "e", size: int = 0) -> None:
        body = orjson.dumps({"key": key, "fill": "x" * size})
        await self.admission.put(SourceEvent(event_id, body), lambda: self.accepted.append(key))

    async def put_all(self, keys: list[str], size: int = 0) -> None:
        for key in keys:
            await self.put(key, size=size)


@asynccontextmanager
async def scene(share: Share | None = None) -> AsyncIterator[Scene]:
    made = Scene(share or Share(Budget(LIMIT)))
    made.admission.start()
    try:
        yield made
    finally:
        await made.admission.close(0.0)


async def stays(condition: Callable[[], object]) -> None:
    """It holds, and goes on to."""
    await until(condition)
    await asyncio.sleep(0.02)
    assert condition()


async def test_what_waits_has_a_quarter_of_the_memory_and_leaves_nothing_of_it_taken() -> None:
    budget = Budget(LIMIT)
    async with scene(Share(budget)) as made:
        made.route.usual = None
        putting = asyncio.create_task(made.put_all([f"k{number}" for number in range(50)], 20_000))
        await stays(lambda: made.admission.unaccepted == 12)
        assert 240_000 < budget.held <= LIMIT / 4
        made.route.usual = 200
        await putting
        await until(lambda: len(made.accepted) == 50)
        assert budget.held == 0


async def test_one_event_goes_however_long_it_is() -> None:
    async with scene() as made:
        await made.put("a", size=LIMIT)
        await until(lambda: made.accepted == ["a"])


async def test_all_sources_share_that_quarter_and_wait_for_each_other() -> None:
    budget = Budget(LIMIT)
    share = Share(budget)
    async with scene(share) as one, scene(share) as two:
        one.route.usual = two.route.usual = None
        await one.put("a", size=240_000)
        await two.put("b", size=100)
        putting = asyncio.create_task(two.put("c", size=100_000))
        await stays(lambda: not putting.done())
        one.route.usual = 200
        await putting
        assert one.accepted == ["a"]


async def test_what_is_dropped_at_the_end_is_held_no_longer() -> None:
    budget = Budget(LIMIT)
    async with scene(Share(budget)) as made:
        made.route.usual = None
        await made.put_all(["a", "a", "b"], 10_000)
        assert budget.held > 30_000
    assert budget.held == 0


async def test_at_the_end_what_fails_is_dropped_and_all_else_accepted() -> None:
    async with scene() as made:
        made.route.statuses["bad"] = 503
        await made.put_all(["bad", "bad"])
        await until(lambda: made.counts["retried"])
        await made.put_all([f"k{number % 20}" for number in range(100)])
        await made.admission.close(5.0)
        assert (made.counts["accepted"], len(made.accepted), made.admission.unaccepted) == (100, 100, 2)


async def test_an_event_without_an_id_has_one_of_ours_however_often_it_is_tried() -> None:
    async with scene() as made:
        made.route.statuses["a"] = 503
        await made.put("a", "")
        await made.put("b", "")
        await made.put("c", "theirs")
        await until(lambda: made.counts["retried"] > 3)
        made.route.statuses.clear()
        await until(lambda: len(made.accepted) == 3)
        assert set(made.route.posted) == {("a", "ours-0"), ("b", "ours-1"), ("c", "theirs")}

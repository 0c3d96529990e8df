"""What the ledger delivers during a drill."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from config.model import Settings
from proxy.core.drill import DEAD, ERRORS, SLOW, Fault
from proxy.core.event import DELIVERED, NEW, OLD, RETRY, UNREACHABLE, Attempt, Event, Outcome
from proxy.worker.drilled import DrilledDelivery
from tests.http.wire import until
from tests.ledger.support import event

pytestmark = pytest.mark.asyncio
SETTINGS = Settings.model_validate(
    {
        "version": 1,
        "salt": "a-salt-for-tests",
        "backends": {"old": {"url": "http://127.0.0.1:1"}, "new": {"url": "http://127.0.0.1:2"}},
        "routes": tuple({"name": n, "match": {"path": f"/{n}"}, "key": "client"} for n in ("events", "orders")),
    }
)


class Scene:
    """A delivery whose transport delivers everything."""

    def __init__(self) -> None:
        self.delivered: list[tuple[str, int]] = []
        self.over: list[str] = []
        self.delivery = DrilledDelivery(SETTINGS, self.deliver, asyncio.get_running_loop(), self.over.append)

    async def deliver(self, event: Event, attempt: Attempt) -> Outcome:
        self.delivered.append((event.route, attempt.side))
        return Outcome(DELIVERED, 200)

    async def outcome(self, side: int, **changes: Any) -> Outcome:
        return await self.delivery.deliver(event(1, **changes), Attempt(side, "replay", 1))


@pytest.mark.parametrize(("kind", "expected"), [(DEAD, (UNREACHABLE, 502)), (ERRORS, (RETRY, 503))])
async def test_only_what_goes_to_new_of_this_route_fails(kind: str, expected: tuple[int, int]) -> None:
    scene = Scene()
    scene.delivery.faults.set({"events": Fault(kind, 60.0)})
    failed = await scene.outcome(NEW)
    assert (failed[:2], bool(failed.reason), scene.delivered) == (expected, True, [])
    assert (await scene.outcome(OLD)).kind == DELIVERED
    assert (await scene.outcome(NEW, route="orders")).kind == DELIVERED
    assert scene.over == []
    scene.delivery.faults.set({})
    assert (await scene.outcome(NEW)).kind == DELIVERED
    assert (scene.over, scene.delivered) == (["events"], [("events", OLD), ("orders", NEW), ("events", NEW)])


async def test_slow_deliveries_take_longer() -> None:
    scene = Scene()
    scene.delivery.faults.set({"events": Fault(SLOW, 60.0, 0.1)})
    begun = time.monotonic()
    assert (await scene.outcome(NEW)).kind == DELIVERED
    assert time.monotonic() - begun >= 0.09
    scene.delivery.faults.close()


async def test_the_end_by_time_is_told_too() -> None:
    scene = Scene()
    scene.delivery.faults.set({"events": Fault(DEAD, 0.02)})
    await until(lambda: scene.over == ["events"], "its end")
    assert (await scene.outcome(NEW)).kind == DELIVERED

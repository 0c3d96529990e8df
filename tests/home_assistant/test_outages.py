"""A real Home Assistant and every process behind the proxy, killed again and again while states change: what Home
Assistant's recorder has is in both stores.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from deploy.home_assistant.demo.compared import Span, compare, stored_states
from deploy.home_assistant.demo.house import ROOMS, House
from deploy.home_assistant.demo.parts import Parts
from proxy.core.event import SIDES
from proxy.demo.admin import SourceStatus, Status
from proxy.demo.instance import Instance
from tests.conftest import SOAK
from tests.harness.scene import NEVER_REVERT

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(3600 if SOAK else 400)]

ROUNDS = 20 if SOAK else 3
RATE = 60.0
UNSENT = 250_000
"""Microseconds: what changed so shortly before Home Assistant is killed it may not have sent any more."""
PATIENCE = 90.0


def now() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


class Scene:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.house = House(parts.home, RATE)
        self.gaps: list[Span] = []

    async def until(self, condition: Callable[[Status], bool], what: str) -> Status:
        return await self.parts.instance.admin.until(condition, PATIENCE, what)

    async def source(self) -> SourceStatus:
        return (await self.parts.instance.admin.status()).sources[0]

    async def kill_home(self) -> None:
        """While its states change. Its sensors are gone then, for it keeps none that its API has set."""
        before = (await self.source()).recovered
        begun = now() - UNSENT
        await self.house.stop()
        await self.parts.home.kill()
        await self.parts.home.start()

        def has_them(status: Status) -> bool:
            source = status.sources[0]
            return source.recovered - before >= ROOMS // 2 and source.unaccepted == 0

        await self.until(has_them, "states that are recovered")
        self.gaps.append(Span(begun, now()))
        self.house.start()

    async def kill_backends(self) -> None:
        """One process after the other, each away for a moment."""
        for side in self.parts.sides.values():
            for part in side.parts:
                accepted = (await self.source()).accepted
                await part.kill()

                def goes_on(status: Status, accepted: int = accepted) -> bool:
                    return status.sources[0].accepted > accepted + RATE / 4

                await self.until(goes_on, f"events while {part.name} is away")
                await part.restart()

    async def end(self) -> None:
        """Nothing changes any more, everything is where it belongs, and the recorder is complete."""
        await self.house.stop()
        accepted = -1
        while accepted != (source := await self.source()).accepted or source.unaccepted:
            accepted = source.accepted
            await asyncio.sleep(1)
        await self.parts.home.stop()

        def is_all_there(status: Status) -> bool:
            return status.routes[0].pending == 0

        status = await self.until(is_all_there, "the drain of the ledger")
        assert status.ledger.balanced
        for side in status.routes[0].sides.values():
            assert side.ledger.owed == side.ledger.delivered


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    parts = Parts(directory)
    document = yaml.safe_load(parts.instance.config_path.read_text())
    document["routes"][0]["trigger"] = NEVER_REVERT
    parts.instance = Instance(directory, document)
    opened = Scene(parts)
    try:
        await parts.start_stores()
        await parts.home.start()
        await parts.instance.start()
        await opened.until(lambda status: status.sources[0].state == "connected", "the source is connected")
        yield opened
    finally:
        await opened.house.stop()
        await parts.stop()


async def test_whoever_is_killed_both_stores_have_what_was_recorded(directory: Path) -> None:
    """At 50 %: either side answers half of the keys, and gets the other half as copies."""
    async with scene(directory) as opened:
        await opened.parts.instance.admin.stage("live", 50)
        opened.house.start()
        await opened.until(lambda status: status.sources[0].accepted > RATE, "events")
        begun = now()
        for _ in range(ROUNDS):
            await opened.kill_home()
            await opened.kill_backends()
        await opened.end()
        span = Span(begun, now())
        recorded = [each for each in opened.parts.home.recorded() if span.has(each.at)]
        assert len(recorded) > ROUNDS * RATE
        for side in SIDES:
            found = compare(recorded, stored_states(await opened.parts.points(side)), span, opened.gaps)
            assert found.is_complete, (side, found.problems())
            assert len(found.superseded) < len(recorded) / 2, "most changes were told one by one"

"""An InfluxDB that is stopped or killed and comes back has everything, by the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.influxdb.stand import Stand, stand
from tests.influxdb.writers import TELEGRAF, Point, body, home_assistant, in_pieces, stored, telegraf

pytestmark = pytest.mark.asyncio


class Writer:
    """Writes one batch after another. points: of those that were accepted, which all of them must be."""

    def __init__(self, opened: Stand) -> None:
        self._opened = opened
        self._is_stopping = False
        self.points: list[Point] = []
        self.statuses: list[int] = []

    async def run(self) -> None:
        """Until `stop`."""
        while not self._is_stopping:
            number = len(self.statuses)
            if number % 2:
                batch = home_assistant(number)
                said = await self._opened.post(body(batch))
            else:
                batch = telegraf("web-1", number)
                said = await self._opened.post(in_pieces(body(batch)), **TELEGRAF)
            assert said.status == 204, said
            self.statuses.append(said.status)
            self.points += batch

    def stop(self) -> None:
        """After the batch that is under way."""
        self._is_stopping = True

    async def more(self, count: int) -> None:
        """Wait until so many more were written."""
        wanted = len(self.statuses) + count
        async with asyncio.timeout(30):
            while len(self.statuses) < wanted:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def writing(opened: Stand) -> AsyncIterator[Writer]:
    writer = Writer(opened)
    async with asyncio.TaskGroup() as group:
        group.create_task(writer.run())
        yield writer
        writer.stop()


async def test_new_was_away_and_has_everything(soak: bool) -> None:
    async with stand() as opened:
        async with writing(opened) as writer:
            for end in (opened.new.stop, opened.new.kill) * (10 if soak else 1):
                await writer.more(20)
                await end()
                await writer.more(30)
                await opened.new.start()
        assert set(writer.statuses) == {204}, "old was there all the time"
        await everything_is_at_both(opened, writer)


async def test_old_was_away_and_has_everything() -> None:
    """At weight 0 nobody answers for old: durable is enough then, and writers take only 204 for success."""
    async with stand() as opened:
        async with writing(opened) as writer:
            await writer.more(20)
            await opened.old.kill()
            await writer.more(30)
            await opened.old.start()
            await writer.more(20)
        assert set(writer.statuses) == {204}
        await opened.status_when(lambda found: found["counters"].get("accepted_for_authority", 0) > 0)
        await everything_is_at_both(opened, writer)


async def everything_is_at_both(opened: Stand, writer: Writer) -> None:
    await opened.settled(len(writer.statuses))
    assert await opened.old.points() == await opened.new.points() == stored(writer.points)
    for side in (await opened.balance()).values():
        assert (side.delivered, side.lost, side.dead) == (len(writer.statuses), 0, 0)
        assert (side.refused, side.discarded) == (0, 0)

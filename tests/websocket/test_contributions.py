"""What a worker tells of its sessions: how much of each is heard, and what is still without a receipt."""

from __future__ import annotations

from time import monotonic

import pytest

from proxy.core.contribution import SAVED
from proxy.worker.stats import worker_stats
from tests.http.wire import until
from tests.websocket.rig import Opens, SessionRig, text

pytestmark = pytest.mark.asyncio
HEARD = int(SAVED)


def outstanding(rig: SessionRig) -> tuple[int, int]:
    return worker_stats(rig.rig.plane, rig.rig.service).outstanding["events"]


async def test_messages_without_a_receipt_are_told_by_side(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.opened()
        rig.new.mute()
        for n in range(7):
            await client.send(text(n))
        await until(lambda: outstanding(rig) == (0, 7), "old has them, new does not read")
        session = rig.only_session
        session.links[1].pause_reading()
        await until(lambda: outstanding(rig) == (0, 0), "what it says is not heard")
        session.links[1].resume_reading()
        rig.new.unmute()
        await until(lambda: outstanding(rig) == (0, 0), "new has them as well")


async def test_a_backend_that_says_something_else_is_not_silent(paired: Opens) -> None:
    """As for the link itself, which waits for a Pong while anything comes."""
    async with paired() as rig:
        client = await rig.opened()
        rig.new.mute()
        await client.send(text(1))
        await until(lambda: outstanding(rig) == (0, 1), "it is on its way to new")
        wire = rig.only_session.links[1]._wire
        assert wire is not None
        wire.heard_at = monotonic()
        await until(lambda: outstanding(rig) == (0, 0), "new has said something since")
        await client.send(text(2))
        await until(lambda: outstanding(rig) == (0, 1), "nothing since the second")
        rig.new.unmute()
        await until(lambda: outstanding(rig) == (0, 0), "new has both")


async def test_of_a_burst_of_one_session_a_bounded_part_counts(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.opened()
        rig.new.mute()
        for n in range(40):
            await client.send(text(n))
        await until(lambda: outstanding(rig) == (0, 40), "they are on their way to new")
        rig.new.cut()
        await until(lambda: outstanding(rig) == (0, 0), "the connection is lost")
        old, new = worker_stats(rig.rig.plane, rig.rig.service).left_out["events"]
        assert (old[1], new) == (0, (40 - HEARD, 40 - HEARD))
        assert old[0] <= 40 - HEARD

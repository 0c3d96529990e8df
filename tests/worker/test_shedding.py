"""What a worker says of its turning clients away, and for how long."""

from __future__ import annotations

import pytest

from proxy.http.budget import CONNECTION
from proxy.worker.shedding import HOLD, Shedding
from tests.http.rig import Rig, running

pytestmark = pytest.mark.asyncio

MIB = 2**20


def shedding(rig: Rig) -> Shedding:
    return Shedding(rig.plane, rig.service)


async def test_a_full_budget_is_said_until_a_second_after_it() -> None:
    async with running(limits={"memory": "4MiB"}) as rig:
        made = shedding(rig)
        assert made.look(100.0) == ""
        rig.plane.budget.add(5 * MIB)
        assert made.look(100.25) == "memory 5 of 4 MiB"
        rig.plane.budget.add(-5 * MIB)
        assert made.look(100.25 + HOLD / 2) == "memory 5 of 4 MiB"
        assert made.look(100.25 + HOLD) == ""


@pytest.mark.parametrize(
    ("counter", "said"),
    [
        ("refused_memory", "memory 0 of 4 MiB"),
        ("refused_bodies", "memory 0 of 4 MiB"),
        ("refused_descriptors", "no descriptors left"),
        ("accept_failures", "no descriptors left"),
        ("refused_connections", "clients 0 of 0"),
    ],
)
async def test_what_was_counted_since_the_last_look_is_said(counter: str, said: str) -> None:
    async with running(limits={"memory": "4MiB"}) as rig:
        rig.service.most_clients = 0
        made = shedding(rig)
        rig.plane.count(counter)
        assert made.look(100.0) == said
        assert made.look(100.0 + HOLD) == ""
        rig.plane.count(counter)
        assert made.look(102.0) == said


async def test_connections_that_memory_has_no_room_for_are_a_matter_of_memory() -> None:
    async with running(limits={"memory": "1MiB"}) as rig:
        made = shedding(rig)
        while rig.service.has_room():
            rig.plane.budget.connected(CONNECTION)
        rig.plane.count("refused_connections")
        assert made.look(100.0) == "memory 1 of 1 MiB"
        rig.plane.budget.connected(-rig.plane.budget.connections)


async def test_what_is_a_clients_own_fault_is_not() -> None:
    async with running() as rig:
        made = shedding(rig)
        for name in ("refused_400", "refused_413", "refused_no_key", "passed_through"):
            rig.plane.count(name)
        assert made.look(100.0) == ""

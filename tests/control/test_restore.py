"""Earlier routing with a real supervisor: a change like others."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.control.audit import Entry
from tests.control.fakes import Plane, worker_stats
from tests.control.helpers import eventually

pytestmark = pytest.mark.asyncio
PATH = "/api/v1/routes/events/restore"


async def moved(plane: Plane) -> None:
    """Epochs 1: off, 2: dualwrite, 3: live 25, 4: split 60."""
    await plane.change("stage", stage="dualwrite")
    await plane.change("weight", weight=25)
    await plane.change("stage", stage="split", weight=60)


async def newest(plane: Plane) -> Any:
    return (await plane.get("/api/v1/history?limit=1"))["entries"][0]


async def test_both_dials_are_as_they_were(plane: Plane) -> None:
    await moved(plane)
    answer = await plane.change("restore", epoch=3, reason="it was well then")
    assert answer["before"] == {"weight": 60, "copy": "none", "stage": "split", "latched": False}
    assert answer["after"] == {"weight": 25, "copy": "durable", "stage": "live", "latched": False}
    assert (answer["previous_epoch"], answer["epoch"], answer["changed"]) == (4, 5, True)
    assert {worker.epoch for worker in plane.workers} == {5}
    entry = await newest(plane)
    assert (entry["action"], entry["reason"], entry["evidence"]) == (
        "restore", "it was well then", {"restored_epoch": 3}
    )  # fmt: skip
    assert (entry["before"], entry["after"]) == (answer["before"], answer["after"])
    assert (await plane.change("restore", epoch=4))["after"] == answer["before"]
    assert (await plane.change("restore", epoch=1))["after"]["stage"] == "off"


async def test_across_a_restart(plane: Plane) -> None:
    await moved(plane)
    await plane.restart()
    await plane.until_ready()
    assert (await plane.change("restore", epoch=2))["after"]["stage"] == "dualwrite"


async def test_nothing_to_change(plane: Plane) -> None:
    await moved(plane)
    await plane.change("restore", epoch=3)
    for epoch in (5, 3):
        answer = await plane.change("restore", epoch=epoch)
        assert (answer["changed"], answer["epoch"]) == (False, 5)


async def test_a_dry_run(plane: Plane) -> None:
    await moved(plane)
    answer = await plane.change("restore", epoch=3, dry_run=True)
    assert (answer["after"]["weight"], answer["changed"], answer["dry_run"]) == (25, False, True)
    assert (await newest(plane))["action"] == "stage"
    assert (await plane.get("/api/v1/status"))["epoch"] == 4


@pytest.mark.parametrize("epoch", [0, -1, 5, 10**9])
async def test_an_epoch_that_never_was(plane: Plane, epoch: int) -> None:
    await moved(plane)
    status, problem = await plane.ask("POST", PATH, {"epoch": epoch})
    assert (status, problem["detail"]) == (
        422, f"there is no epoch {epoch}: they go from 1 to the present one, 4"
    )  # fmt: skip


@pytest.mark.parametrize("body", [{}, {"epoch": "3"}, {"epoch": 2.5}, {"epoch": 3, "weight": 5}])
async def test_a_body_that_names_none(plane: Plane, body: Any) -> None:
    status, _ = await plane.ask("POST", PATH, body)
    assert status == 422


async def test_another_epoch_than_expected(plane: Plane) -> None:
    await moved(plane)
    status, _ = await plane.ask("POST", PATH, {"epoch": 3}, If_Match="3")
    assert status == 409
    status, _ = await plane.ask("POST", PATH, {"epoch": 3}, If_Match="4")
    assert status == 200


async def test_a_latched_route_gets_no_weight_and_keeps_its_latch(plane: Plane) -> None:
    await moved(plane)
    plane.workers[0].link.send(worker_stats(epoch=4, breakers={"new": "open"}))
    await eventually(lambda: plane.supervisor.instance.epoch == 5, "the revert")
    status, problem = await plane.ask("POST", PATH, {"epoch": 4})
    assert (status, problem["detail"]) == (423, "the route is latched after a revert; re-arm it first")
    answer = await plane.change("restore", epoch=2)
    assert answer["after"] == {"weight": 0, "copy": "durable", "stage": "dualwrite", "latched": True}
    plane.workers[0].link.send(worker_stats(epoch=6))
    await plane.change("rearm")
    # The position at which it was latched is restored without the latch: that is the guard's alone.
    answer = await plane.change("restore", epoch=5)
    assert answer["after"] == {"weight": 0, "copy": "none", "stage": "off", "latched": False}


async def test_a_frozen_route_is_not_restored(plane: Plane) -> None:
    await moved(plane)
    await plane.ask("PUT", "/api/v1/freeze", {"seconds": 60})
    status, _ = await plane.ask("POST", PATH, {"epoch": 3})
    assert status == 423


async def test_a_line_without_effect_leaves_the_numbers_right(plane: Plane) -> None:
    """The process died between audit and effect: its epoch is not given again, and the trail says the next one."""
    await moved(plane)
    await plane.supervisor.instance.audit.write(Entry("", 5, 4, "ann", "stage", "events"))
    await plane.restart()
    await plane.until_ready()
    answer = await plane.change("weight", weight=10)
    assert (answer["epoch"], (await newest(plane))["epoch"]) == (6, 6)
    assert (await plane.change("restore", epoch=4))["after"]["weight"] == 60
    status, problem = await plane.ask("POST", PATH, {"epoch": 5})
    assert status == 422
    assert "epoch 5 was never live: 4 is the last one before it" in problem["detail"]


async def test_a_trail_that_was_moved_away(plane: Plane) -> None:
    await moved(plane)
    plane.places.audit.unlink()
    status, problem = await plane.ask("POST", PATH, {"epoch": 3})
    assert status == 422
    assert "does not say what epoch 4 changed" in problem["detail"]

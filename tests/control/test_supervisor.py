"""The supervisor as a whole: readiness, pushing, taking over, draining."""

from __future__ import annotations

import pytest

from tests.control.fakes import Plane

pytestmark = pytest.mark.asyncio


async def test_first_start_makes_epoch_one(plane: Plane) -> None:
    status = await plane.get("/api/v1/status")
    assert status["epoch"] == 1
    assert status["ready"] is True
    assert status["routes"][0]["stage"] == "off"
    assert [worker["epoch"] for worker in status["workers"]] == [1, 1]

"""A test that takes too long fails, whatever loop it runs on."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness.bounds import bounded, limit_of


@pytest.mark.asyncio
async def test_a_coroutine_that_waits_for_ever_is_ended() -> None:
    async def hangs(number: int) -> int:
        while True:  # many short waits: a signal that comes between two of them must not be lost
            await asyncio.sleep(0.001 * number)

    with pytest.raises(TimeoutError):
        await bounded(hangs, 0.2)(1)


@pytest.mark.asyncio
async def test_others_are_as_they_were() -> None:
    async def twice(number: int) -> int:
        return 2 * number

    assert await bounded(twice, 5.0)(4) == 8
    assert bounded(twice, 5.0).__name__ == "twice"


@pytest.mark.timeout(77)
@pytest.mark.asyncio
async def test_every_test_of_a_coroutine_is_bounded(request: pytest.FixtureRequest) -> None:
    assert hasattr(request.function, "__wrapped__")
    assert limit_of(request.node) >= 77 + 60, "and by the signal, later"

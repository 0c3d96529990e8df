"""Probes that are sent again and again: what is told of them, and what is held against new."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from consistency.live import probing
from consistency.live.probing import LiveProbe
from consistency.probe import Outcome, Prober, Step
from consistency.stores.errors import StoreUnreachable
from proxy.core.routing import Dials, Routing
from tests.consistency.test_probe import Ledger, check

pytestmark = pytest.mark.asyncio

GOOD = (Step("send", 0.01), Step("old", 0.1), Step("new", 0.2), Step("content", None))
BAD_NEW = (Step("send", 0.01), Step("old", 0.1), Step("new", None, "not there within 30 s"))
BAD_BOTH = (Step("send", 0.01), Step("old", None, "not there"), Step("new", None, "not there"))
NOT_SENT = (Step("send", None, "answered 503"),)


class Ended(Exception):
    """There is no more to come."""


async def probed(monkeypatch: pytest.MonkeyPatch, *steps: tuple[Step, ...] | Exception, weights: Any = ()) -> LiveProbe:
    """After these outcomes, one after another. weights: of the route before each of them."""
    made = check(every="10s")
    assert made.probe is not None
    left = list(steps)
    turns = list(weights)

    async def both(*_: object) -> tuple[()]:
        if left and isinstance(left[0], Exception):
            raise cast("Exception", left.pop(0))
        return ()

    async def run(*_: object) -> Outcome:
        said = left.pop(0)
        assert isinstance(said, tuple)
        return Outcome("crossfade-probe-1", 1_700_000_000 * 10**9, said, "events")

    async def sleep(_: float) -> None:
        if not left:
            raise Ended
        if turns:
            live.on_routing(Routing(1, {"events": Dials(turns.pop(0))}))
        await asyncio.sleep(0)

    monkeypatch.setattr(probing, "both_stores", both)
    monkeypatch.setattr(Prober, "run", run)
    live = LiveProbe(made, made.probe, "http://127.0.0.1:1", Ledger(), sleep=sleep)
    with pytest.raises(Ended):
        await live.run()
    return live


async def test_good_ones_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = (await probed(monkeypatch, GOOD)).stats
    assert (stats.at, stats.error, stats.failures) == (1_700_000_000 * 10**9, "", 0)
    assert stats.visible == {"old": 0.1, "new": 0.2}


async def test_failures_in_a_row_are_counted_until_one_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = (await probed(monkeypatch, BAD_NEW, BAD_NEW)).stats
    assert (stats.failures, stats.against_new, stats.error) == (2, 2, "new: not there within 30 s")
    assert stats.visible == {"old": 0.1}
    stats = (await probed(monkeypatch, BAD_NEW, BAD_NEW, GOOD)).stats
    assert (stats.failures, stats.against_new, stats.error) == (0, 0, "")


@pytest.mark.parametrize("steps", [BAD_BOTH, NOT_SENT])
async def test_what_fails_at_both_is_not_held_against_new(
    monkeypatch: pytest.MonkeyPatch, steps: tuple[Step, ...]
) -> None:
    stats = (await probed(monkeypatch, BAD_NEW, steps)).stats
    assert (stats.failures, stats.against_new) == (2, 0)


async def test_a_store_that_cannot_be_opened_is_a_failure_that_says_nothing_of_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stats = (await probed(monkeypatch, StoreUnreachable("new", "no connection"))).stats
    assert (stats.failures, stats.against_new, stats.error) == (1, 0, "store new: no connection")
    assert stats.at > 0
    stats = (await probed(monkeypatch, BAD_NEW, BAD_NEW, StoreUnreachable("new", "no connection"))).stats
    assert (stats.failures, stats.against_new) == (3, 0), "and it ends the row"


async def test_another_weight_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    live = await probed(monkeypatch, BAD_NEW, BAD_NEW, BAD_NEW, weights=[25.0, 25.0, 50.0])
    assert (live.stats.failures, live.stats.against_new, live.stats.route) == (3, 1, "events")

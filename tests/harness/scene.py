"""A scene: the daemon between two toy backends, in a directory of its own, and what must hold at its end."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from proxy.core.owed import PENDING, STATE_NAMES
from proxy.demo.admin import Admin, Status
from proxy.demo.comparison import Comparison, compare
from proxy.demo.instance import Instance, basic_config
from proxy.demo.load import Load
from proxy.demo.record import Record
from proxy.demo.toy import ToyBackend
from proxy.demo.verify import consistency_of
from tests.conftest import SOAK
from tests.harness.ledger import Receipt, all_receipts, count_states

PACE = 1.0 if SOAK else 0.4
"""Share of the rates and of the large counts that the short form has: events are what it costs."""
SLOW = 50.0
"""Events a second that are few enough."""
DRAIN_SECONDS = 90.0
RECEIPT_SECONDS = 30.0
"""An event that a healthy pair has got is answered before its receipt is on disk; large ones take their time."""
GAP_SECONDS = 15.0
"""A ledger waits a few seconds for lost streams to come back before it calls them a gap."""


class Scene:
    """Everything that runs, seen from a test."""

    def __init__(self, directory: Path, old: ToyBackend, new: ToyBackend, instance: Instance) -> None:
        self.directory = directory
        self.old = old
        self.new = new
        self.instance = instance
        self._loads: list[Load] = []

    @property
    def admin(self) -> Admin:
        """The daemon's admin API."""
        return self.instance.admin

    def load(self, **arguments: Any) -> Load:
        """A load, started, at PACE of its rate, but SLOW at least; see `Load` for the arguments."""
        chosen = {"rate": 300.0, "keys": 200, "connections": 12} | arguments
        load = Load(self.instance.address, **(chosen | {"rate": max(min(chosen["rate"], SLOW), chosen["rate"] * PACE)}))
        self._loads.append(load)
        load.start()
        return load

    async def settled(self, least: int = 0) -> tuple[Status, list[Receipt]]:
        """See `settled`."""
        return await settled(self.admin, least)

    async def verify(self, record: Record, *, sides: str = "both", may_have_gaps: bool = False) -> list[Receipt]:
        """Stores, order, ledger and record agree event by event; the receipts.

        sides: both, or either when each event belongs to one side alone. may_have_gaps: a process that
        held records died together with the ledger, so receipts may be missing if the ledger says so.
        """
        status, receipts = await self.settled()
        assert record.accepted > 0
        found = {backend.name: compare(record, backend.stored()) for backend in (self.old, self.new)}
        if sides == "both":
            for name, comparison in found.items():
                assert comparison.is_complete, (name, comparison.problems())
        else:
            _assert_on_either_side(found)
        for name, comparison in found.items():
            assert not comparison.misordered, (name, comparison.problems())
        known = {receipt.id for receipt in receipts}
        deadline = time.monotonic() + RECEIPT_SECONDS
        while not may_have_gaps and not record.accepted_ids() <= known and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            status, receipts = await self.settled()
            known = {receipt.id for receipt in receipts}
        assert may_have_gaps or status.ledger.gaps == 0
        if not record.accepted_ids() <= known:
            assert may_have_gaps, "accepted, but the ledger has no receipt"
            await self.admin.until(lambda status: bool(status.ledger.gaps), GAP_SECONDS, "a coverage gap")
        assert known <= record.digests.keys(), "the ledger has receipts of events that nobody sent"
        return receipts

    async def close(self) -> None:
        """Stop everything, the loads first."""
        for load in self._loads:
            await load.cancel()
        try:
            await self.instance.stop()
        finally:
            await self.old.stop()
            await self.new.stop()


async def settled(admin: Admin, least: int = 0) -> tuple[Status, list[Receipt]]:
    """Wait until nothing is pending, workers have the last epoch, and the ledger's sums are those of its receipts.

    The status is up to a quarter of a second older than the receipts; with no load both come to agree,
    and what they disagree about is the failure. least: how many receipts there are to be; what was answered
    may not be committed yet.
    """
    deadline = time.monotonic() + DRAIN_SECONDS
    while True:
        status = await _drained(admin)
        receipts = await all_receipts(admin)
        problems = _unbalanced(status, receipts)
        if not problems and len(receipts) >= least:
            return status, receipts
        assert time.monotonic() < deadline, problems or f"{len(receipts)} receipts, not {least}"
        await asyncio.sleep(0.1)


async def _drained(admin: Admin) -> Status:
    """Wait for as long as less is pending than before: how long a backlog takes is the machine's business."""
    least = 2**62

    def is_news(status: Status) -> bool:
        return _is_settled(status) or sum(route.pending for route in status.routes) < least

    while True:
        status = await admin.until(is_news, DRAIN_SECONDS, "the drain of the ledger")
        if _is_settled(status):
            return status
        least = min(least, sum(route.pending for route in status.routes))
        await asyncio.sleep(0.5)


def _is_settled(status: Status) -> bool:
    workers = status.workers
    return (
        status.ledger.pending is not None
        and all(route.pending == 0 for route in status.routes)
        and len(workers) > 0
        and all(worker.alive and worker.epoch == status.epoch for worker in workers)
    )


def _assert_on_either_side(found: dict[str, Comparison]) -> None:
    lost_at_both = set(found["old"].lost) & set(found["new"].lost)
    assert not lost_at_both, f"accepted, but stored nowhere: {sorted(lost_at_both)[:5]}"
    for name, comparison in found.items():
        assert not comparison.different, (name, comparison.problems())
        assert not comparison.unknown, (name, comparison.problems())


def _unbalanced(status: Status, receipts: list[Receipt]) -> list[str]:
    """Where the ledger's sums are not exact, or not those of its receipts."""
    problems = [] if status.ledger.balanced else ["the ledger says it is not balanced"]
    for route in status.routes:
        of_route = [receipt for receipt in receipts if receipt.route == route.name]
        for name, side in route.sides.items():
            counted = count_states(of_route, name)
            if not side.ledger.owed == side.ledger.in_states == counted.total():
                problems.append(
                    f"{name}: owed {side.ledger.owed}, in states {side.ledger.in_states}, {counted.total()} receipts"
                )
            problems += [
                f"{name}: {counted[state]} receipts are {state}, the sum says {getattr(side.ledger, state)}"
                for state in STATE_NAMES[PENDING:]
                if counted[state] != getattr(side.ledger, state)
            ]
    return problems


def paced(count: int) -> int:
    """So many events in the soak, and as long in the short form."""
    return int(count * PACE)


@asynccontextmanager
async def scene(
    configure: Callable[[dict[str, Any]], None] | None = None, *, stage: str = "dualwrite", **route: Any
) -> AsyncIterator[Scene]:
    """A running scene. configure: changes the configuration; stage, route: the route's keys in it."""
    directory = Path(tempfile.mkdtemp(prefix="cf-"))
    old, new = ToyBackend("old", directory), ToyBackend("new", directory)
    config = basic_config(old.url, new.url, stage=stage, **route)
    if configure is not None:
        configure(config)
    opened = Scene(directory, old, new, Instance(directory, config))
    try:
        await old.ready()
        await new.ready()
        await opened.instance.start()
        yield opened
    except BaseException:
        # pytest shows it with the failure: without the daemon's log a failure in CI cannot be understood.
        print(opened.instance.log.read_text(errors="replace")[-20_000:] if opened.instance.log.exists() else "no log")
        raise
    finally:
        await opened.close()
        shutil.rmtree(directory)


def with_stores(config: dict[str, Any]) -> None:
    """Where both sides keep the events of `events`, for a scene's `configure`: so there is a live checker."""
    config["consistency"] = [consistency_of(Path()) | {"routes": ["events"]}]


ANSWERS_NEVER_REVERT = {"on_breaker": False, "on_health": False, "silence": "0s", "error_rate": "100%", "slower": "0%"}
"""A trigger that fires for what the checker finds alone."""
NEVER_REVERT = ANSWERS_NEVER_REVERT | {"lost": 0, "mismatch_rate": "100%"}
"""A trigger that does not fire: faults are then seen at every weight."""

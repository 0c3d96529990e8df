"""Takes a sample of every route's figures every ten seconds, and keeps it in the file of past figures.

The event loop adds up what is in memory anyway (see DECISIONS.md for what that takes); the file is a thread's affair. A
sample that could not be kept is counted and told, and what it counted is in the next one.

After a kill the account that this process loads is some seconds older than the file's base. So there is no sample
before every worker and the ledger were heard: until then the account would seem to have shrunk, and those seconds
would count twice.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import apsw

from proxy.control.figures import Figures, SideFigures
from proxy.control.figures_file import EVERY, FiguresFile
from proxy.control.instance import Instance
from proxy.control.state import RouteState
from proxy.control.status import side_stats
from proxy.control.sums import Sums
from proxy.control.threads import begin
from proxy.core.checked import MISMATCHES
from proxy.core.event import NEW, OLD

log = logging.getLogger(__name__)

HEAR_WAIT: Final = 60.0
"""Seconds that workers and ledger have to say something before the first sample."""
LAST_WAIT: Final = 2.0
"""Seconds that the last sample may take when the supervisor stops."""


class Recorder:
    """The one that samples an instance."""

    def __init__(self, instance: Instance, file: FiguresFile) -> None:
        self._instance = instance
        self._file = file
        self._first: dict[str, Figures] = {}
        self._since: float | None = None
        self._started = 0.0
        self._put_aside = 0
        self._has_heard_all = False
        self._one = asyncio.Lock()

    def start(self) -> None:
        """What was counted until now is of an earlier time. To be called once there is a live state."""
        self._first, self._since = counted(self._instance), self._instance.clock()
        self._started = self._since

    async def run(self) -> None:
        """Sample at every full ten seconds."""
        while True:
            await asyncio.sleep(EVERY - self._instance.wall() % EVERY)
            # A thread cannot be stopped: who cancels this must not have a second one write beside it.
            await asyncio.shield(self.take())

    async def take(self) -> None:
        """One sample."""
        if self._since is None:
            return  # it never came to a live state
        async with self._one:
            instance = self._instance
            now = instance.clock()
            if not self._is_whole(now):
                return
            arguments = instance.wall(), now - self._since, counted(instance), self._first
            try:
                await asyncio.wrap_future(begin("figures", lambda: self._file.keep(*arguments)))
            except (apsw.Error, OSError) as error:
                instance.tally.own["figures_not_kept"] += 1
                if not instance.figures_trouble:
                    log.warning("figures cannot be kept in %s: %s", self._file.path, error)
                instance.figures_trouble = str(error)
                return
            finally:
                self._count_put_aside()
            if instance.figures_trouble:
                log.info("figures are kept again in %s", self._file.path)
            instance.figures_trouble = ""
            self._since = now

    def _is_whole(self, now: float) -> bool:
        """Is what everybody counted in the account?"""
        if self._has_heard_all:
            return True
        silent = self._instance.tally.unheard(self._instance.settings.workers)
        self._has_heard_all = not silent or now - self._started >= HEAR_WAIT
        if silent and self._has_heard_all:
            log.warning(
                "figures are kept without a word of %s: some seconds before this start may count twice",
                ", ".join(silent),
            )
        return self._has_heard_all

    def _count_put_aside(self) -> None:
        if self._file.put_aside > self._put_aside:
            self._instance.tally.own["figures_put_aside"] += self._file.put_aside - self._put_aside
            self._put_aside = self._file.put_aside

    async def close(self) -> None:
        """The last sample, and the end. A disk that does not answer is not waited for, neither here nor at exit."""
        try:
            async with asyncio.timeout(LAST_WAIT):
                await self.take()
                await asyncio.wrap_future(begin("figures", self._file.close))
        except TimeoutError:
            log.warning("the last figures were not kept: %s does not answer", self._file.path)


def counted(instance: Instance) -> dict[str, Figures]:
    """By route, what was counted since the first start, and what is so at the moment."""
    if instance.state is None:
        return {}
    total, states = instance.tally.total(), instance.state.routes
    return {name: _of_route(instance, name, states[name], total) for name in instance.routes if name in states}


def _of_route(instance: Instance, name: str, state: RouteState, total: Sums) -> Figures:
    tally = instance.tally
    verdict = tally.verdicts.get(name)
    return Figures(
        epoch=instance.epoch,
        weight=state.weight,
        verdict=verdict.name if verdict is not None else "",
        accepted=total.accepted[name],
        sides=(_of_side(instance, name, OLD, total), _of_side(instance, name, NEW, total)),
        mismatches=_mismatches(instance, name),
        sessions=sum(stats.sessions for _, stats in tally.present()),
    )


def _of_side(instance: Instance, name: str, side: int, total: Sums) -> SideFigures:
    answers, ledger = total.side(name, side), side_stats(instance.tally.ledger, name, side)
    return SideFigures(
        answers=answers.total,
        failed=answers.failed,
        chosen=total.chosen.get(name, [0, 0])[side],
        body_bytes=answers.body_bytes + instance.tally.ledger_bytes(name, side),
        latency=answers.sketch.buckets,
        pending=ledger.balance.get("pending", 0) if ledger is not None else None,
        oldest_age=ledger.oldest_pending_age if ledger is not None else None,
    )


def _mismatches(instance: Instance, route: str) -> dict[str, int] | None:
    check = next((each for each in instance.tally.checks if route in each.routes), None)
    if check is None:
        return None
    return {name: number for name, number in check.classes.items() if name in MISMATCHES}

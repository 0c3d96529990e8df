"""Probes of one check, sent again and again for as long as the instance runs.

It has connections of its own to both stores, new ones for each probe: those of the check may wait for a long answer.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Final, NoReturn

from config.consistency import Check
from config.probe import Probe
from consistency.assembly import both_stores
from consistency.judge import Sleep
from consistency.ledger import Asker
from consistency.probe import Outcome, Prober
from consistency.stores.errors import StoreError
from proxy.core.checked import ProbeStats
from proxy.core.routing import Routing

log = logging.getLogger(__name__)

FIRST: Final = 5.0
"""Seconds until the first one: all processes are born together."""


class LiveProbe:
    """The probe of one check. probe: with `every`; url: of the proxy."""

    def __init__(self, check: Check, probe: Probe, url: str, admin: Asker, *, sleep: Sleep = asyncio.sleep) -> None:
        assert probe.every is not None, "nobody wants it again and again"
        self._check = check
        self._every = probe.every
        self._prober = Prober(check, probe, url, admin, sleep=sleep)
        self._sleep = sleep
        self._weights: dict[str, float] = {}
        self._changes = 0
        """Of these weights, so far."""
        self.stats = ProbeStats()

    def on_routing(self, routing: Routing) -> None:
        """The live routing is this from now on: what was held against new was at another weight."""
        weights = {name: routing.routes[name].weight for name in self._check.routes if name in routing.routes}
        if weights != self._weights:
            self._weights = weights
            self._changes += 1
            self.stats.against_new = 0

    async def run(self) -> NoReturn:
        """Send one after another, for ever."""
        await self._sleep(min(FIRST, self._every))
        clock = self._prober.clock
        while True:
            begun = clock()
            await self._one()
            await self._sleep(max(0.0, self._every - (clock() - begun)))

    async def _one(self) -> None:
        changes = self._changes
        try:
            async with AsyncExitStack() as stack:
                outcome = await self._prober.run(await both_stores(self._check, stack))
        except StoreError as error:
            self._say(str(error))
            self.stats.at, self.stats.visible, self.stats.against_new = self._prober.wall(), {}, 0
            return
        self._say(outcome.error)
        self._keep(outcome, is_of_now=changes == self._changes)

    def _keep(self, outcome: Outcome, *, is_of_now: bool) -> None:
        stats = self.stats
        stats.at, stats.route = outcome.at, outcome.route
        stats.visible = {
            name: round(step.seconds, 3)
            for name in ("old", "new")
            if (step := outcome.step(name)) is not None and step.seconds is not None
        }
        if not is_of_now:
            return  # the weight was changed while it was on its way
        stats.against_new = stats.against_new + 1 if outcome.is_against_new else 0

    def _say(self, error: str) -> None:
        """Count it, and log what is news."""
        stats = self.stats
        stats.failures = stats.failures + 1 if error else 0
        if error and error != stats.error:
            log.warning("a probe failed: %s", error, extra={"routes": ",".join(self._check.routes)})
        elif stats.error and not error:
            log.info("probes pass again", extra={"routes": ",".join(self._check.routes)})
        stats.error = error

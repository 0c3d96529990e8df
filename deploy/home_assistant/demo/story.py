"""What happens, in order: the phases of the migration, with a fault and a dead Home Assistant on the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from deploy.home_assistant.demo import latency
from deploy.home_assistant.demo.commands import Commands
from deploy.home_assistant.demo.compared import Span
from deploy.home_assistant.demo.house import ROOMS, House
from deploy.home_assistant.demo.latency import Latency
from deploy.home_assistant.demo.parts import Direct, Parts
from proxy.demo.admin import SourceStatus, Status
from proxy.demo.view import View

_SECONDS: Final = 60.0
"""Until something that is expected has happened, on a busy machine."""
_QUIET: Final = 1.0
"""Seconds in which nothing came: nothing is under way."""
_UNSENT: Final = 250_000
"""Microseconds: what changed so shortly before Home Assistant is killed it may not have sent any more."""


class Pace(NamedTuple):
    """weights: up to the fault, and from the beginning again up to 100; step, fault: seconds at each, and of the fault;
    rate: changes per second; measured: seconds at `measured_rate` changes per second in which both ways are compared;
    restart_at: weight at which Home Assistant is killed.
    """

    until_fault: tuple[int, ...]
    after_it: tuple[int, ...]
    restart_at: int
    step: float
    fault: float
    rate: float
    measured: float
    measured_rate: float = 200.0


FAST: Final = Pace((10, 50), (50, 100), 50, step=1.5, fault=1.0, rate=60.0, measured=3.0)
CALM: Final = Pace((10, 25, 50), (10, 25, 50, 75, 90, 100), 75, step=5.0, fault=5.0, rate=60.0, measured=20.0)


class Story:
    """Plays it on parts that are started by it. What it leaves: which times were judged, and how it went.

    span: from when on both sides were owed everything, until nothing changed any more; gaps: in which Home Assistant
    was away.
    """

    def __init__(self, parts: Parts, view: View, pace: Pace) -> None:
        self._parts = parts
        self._view = view
        self._pace = pace
        self._commands = Commands(parts.instance, view)
        self._house = House(parts.home, pace.rate)
        self._begun = 0
        self.span = Span(0, 0)
        self.gaps: list[Span] = []
        self.latency: Latency | None = None
        self.weights: list[int] = [0]
        self.reverts = 0
        self.time_to_revert = 0.0

    async def play(self) -> None:
        """All phases but the last. Raises CrossfadeError, TimeoutError when something expected does not happen."""
        try:
            await self._lay_foundation()
            await self._process_in_parallel()
            await self._switch()
        finally:
            await self._house.stop()

    # phase 1

    async def _lay_foundation(self) -> None:
        say = self._view.say
        say("PHASE 1  the new services are started beside the monolith, and the proxy before both")
        await self._parts.start_stores()
        new = " -> ".join(part.name for part in self._parts.sides["new"].parts)
        say(f"         old: monolith -> InfluxDB; new: {new} -> another InfluxDB; all are well")
        say("         Home Assistant is installed, if it is not there yet, and started")
        await self._parts.home.start()
        await self._parts.instance.start()
        await self._until_source(lambda source: source.state == "connected", "a source that is connected")
        self._house.start()
        await self._until_source(lambda source: source.accepted > 0, "events of Home Assistant")
        say(f"         stage off: {self._pace.rate:g} changes/s reach old through the proxy, and nobody else")

    # phase 2

    async def _process_in_parallel(self) -> None:
        self._view.say("PHASE 2  both process in parallel: old answers, new gets every event too")
        await self._commands.do("stage", "dualwrite", "--wait", "--reason", "phase 2")
        self._begun = _now()
        await self._hold(self._pace.step)
        await self._measure()

    async def _measure(self) -> None:
        """Compare the way through the proxy with one without."""
        pace, parts = self._pace, self._parts
        self._view.say(
            f"MEASURED for {pace.measured:g} s {pace.measured_rate:g} changes/s go to a second monolith as well, "
            "without a proxy"
        )
        async with Direct(parts) as direct:
            self._house.rate = pace.measured_rate
            await self._hold(pace.measured)
            direct.check()
            self._house.rate = pace.rate
            await self._until_source(lambda source: source.unaccepted == 0, "a source that has caught up")
            await asyncio.sleep(_QUIET)
            direct_points = await direct.points()
        proxied = latency.delays(await parts.points("old"))
        self.latency = latency.compared(latency.delays(direct_points), proxied)
        self._view.say(f"         {self.latency.text()}")

    # phase 3

    async def _switch(self) -> None:
        self._view.say("PHASE 3  the traffic is switched, step by step")
        for weight in self._pace.until_fault:
            await self._raise_weight(weight)
        await self._break()
        await self._mend()
        for weight in self._pace.after_it:
            await self._raise_weight(weight)
            if weight == self._pace.restart_at:
                await self._kill_home()
        await self._finish()

    async def _raise_weight(self, weight: int) -> None:
        await self._commands.do("set-weight", str(weight), "--wait", "--reason", "phase 3")
        self.weights.append(weight)
        await self._house.burst()
        await self._hold(self._pace.step)
        status = await self._parts.instance.admin.status()
        observed = status.routes[0].weight_observed
        share = "nobody answered lately" if observed is None else f"new answered {observed:.1f} % of the last 10 s"
        source = status.sources[0]
        self._view.say(f"         {share}; {source.rate:.0f} events/s; {_troubles(source)}")

    async def _break(self) -> None:
        say, admin = self._view.say, self._parts.instance.admin
        await self._parts.sides["new"].part("enrich").fault("errors")
        began = time.monotonic()
        say("FAULT    enrich answers 503 from now on, so ingest does")
        status = await admin.until(lambda status: status.routes[0].latched, _SECONDS, "the automatic revert")
        self.time_to_revert = time.monotonic() - began
        self.reverts += 1
        self.weights.append(0)
        route = status.routes[0]
        say(
            f"REVERTED to {route.weight_target:g} % by the proxy itself after {self.time_to_revert:.1f} s: "
            f"{route.latch_reason}"
        )
        await self._commands.do("why")
        await self._hold(self._pace.fault)
        status = await admin.status()
        say(f"         the ledger holds {status.pending('new'):,} events for new; {_troubles(status.sources[0])}")

    async def _mend(self) -> None:
        await self._parts.sides["new"].part("enrich").fault("none")
        self._view.say("MENDED   enrich is well again; the ledger delivers what new missed, in the order of each key")
        await self._parts.instance.admin.until(_is_caught_up, _SECONDS, "the drain of new's backlog")
        await self._commands.do("rearm", "--wait", "--reason", "enrich is mended, and new has everything")

    async def _kill_home(self) -> None:
        """While its states change; what happened until the source has its states again falls into a gap.

        Home Assistant keeps no states that were set by its API, so the sensors are gone then, which has to be told.
        """
        before = (await self._parts.instance.admin.status()).sources[0]
        self._view.say("KILLED   Home Assistant, with kill -9, while its states change; it is started again")
        begun = _now() - _UNSENT
        await self._house.stop()
        await self._parts.home.kill()
        await self._parts.home.start()
        source = await self._until_source(
            lambda source: source.recovered - before.recovered >= ROOMS // 2 and source.unaccepted == 0,
            "states that are recovered",
        )
        self.gaps.append(Span(begun, _now()))
        told = source.recovered - before.recovered
        self._view.say(
            f"         the source is connected again; {told} states are told as they are now, or as gone; "
            f"{_troubles(source)}"
        )
        self._house.start()

    async def _finish(self) -> None:
        """No changes, nothing on its way, everything recorded."""
        await self._house.burst()
        await self._house.stop()
        accepted = -1
        while (
            accepted != (source := (await self._parts.instance.admin.status()).sources[0]).accepted or source.unaccepted
        ):
            accepted = source.accepted
            await asyncio.sleep(_QUIET)
        self.span = Span(self._begun, _now())
        self._view.say("         nothing changes any more; Home Assistant is stopped, for its recorder to be complete")
        await self._parts.home.stop()
        await self._commands.do("status", "--wait", "--timeout", "60s")

    async def _hold(self, seconds: float) -> None:
        """Let it live; what broke ends the demo at once."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._house.check()
            self._parts.instance.check()
            await asyncio.sleep(min(left, 0.1))

    async def _until_source(self, is_so: Callable[[SourceStatus], bool], what: str) -> SourceStatus:
        """Wait for something of the source. Raises TimeoutError, which names `what`."""
        status = await self._parts.instance.admin.until(
            lambda status: bool(status.sources) and is_so(status.sources[0]), _SECONDS, what
        )
        return status.sources[0]


def _is_caught_up(status: Status) -> bool:
    """Nothing waits for new but what is under way, and the workers send to it again."""
    new = status.routes[0].sides["new"]
    return new.ledger.pending <= 5 and new.breaker == "closed"


def _troubles(source: SourceStatus) -> str:
    """What the source's events met."""
    return f"refused {source.refused}, tried again {source.retried}, waiting {source.unaccepted}"


def _now() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000

"""What happens in the demo, in order: a migration that goes well, until new breaks, and then ends well."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from proxy.demo.admin import Admin, RouteStatus, Status
from proxy.demo.load import Load
from proxy.demo.toy import ToyBackend
from proxy.demo.view import View

_REVERT_SECONDS = 15.0
_DRAIN_SECONDS = 60.0


class Pace(NamedTuple):
    """Seconds for which each step and each fault lasts, and events per second."""

    step: float
    fault: float
    rate: float


FAST = Pace(step=1.2, fault=1.3, rate=400.0)
CALM = Pace(step=4.0, fault=4.0, rate=400.0)


class Story:
    """Plays it on running parts; `weights`, `reverts` and `time_to_revert` tell how it went."""

    def __init__(self, admin: Admin, new: ToyBackend, load: Load, view: View, pace: Pace) -> None:
        self._admin = admin
        self._new = new
        self._load = load
        self._view = view
        self._pace = pace
        self.weights: list[float] = [0]
        self.reverts = 0
        self.time_to_revert = 0.0

    async def play(self) -> None:
        """From old alone to new alone. Raises TimeoutError when something expected does not happen."""
        say = self._view.say
        await self._admin.stage("dualwrite", reason="both sides get every event, old answers")
        say("stage dualwrite: old answers, and new gets every event too")
        self._load.start()
        say(f"the load begins: {self._pace.rate:g} state changes/s of 1,200 entities")
        await self._hold(self._pace.step)
        await self._raise_weight(10, "stage live: new answers 10 % of the keys; old still gets every event")
        await self._raise_weight(25, "weight 25 %")
        await self._raise_weight(50, "weight 50 %")
        await self._break_new()
        await self._recover()
        await self._raise_weight(25, "stage live again: new answers 25 % of the keys")
        await self._raise_weight(100, "weight 100 %: new answers everything, old still gets a copy")

    async def finish(self) -> Status:
        """No new events, nothing pending: the final status."""
        self._view.say("the load stops; waiting until nothing is pending")
        record = await self._load.stop()

        def is_drained(status: Status) -> bool:
            # A status is a little older than now: it counts once it knows of everything that was accepted.
            sides = status.routes[0].sides.values()
            return all(side.ledger.owed >= record.accepted and side.ledger.pending == 0 for side in sides)

        return await self._admin.until(is_drained, _DRAIN_SECONDS, "the drain of the ledger")

    async def _raise_weight(self, weight: float, line: str) -> None:
        changed = await self._admin.stage("live", weight, reason="demo")
        applied = changed["applied"]
        self.weights.append(weight)
        self._view.say(f"{line} ({applied['workers']} workers changed in {applied['seconds'] * 1000:.0f} ms)")
        before = self._load.record.accepted
        await self._hold(self._pace.step)
        self._view.say(f"         {self._who_answered(before)}")

    def _who_answered(self, since: int) -> str:
        answered = [promise.by for promise in self._load.record.promises[since:]]
        share = 100 * answered.count("new") / max(1, len(answered))
        return f"new answered {share:.1f} % of {len(answered):,} events; client errors {self._errors()}"

    def _errors(self) -> int:
        return self._load.record.client_errors

    async def _break_new(self) -> None:
        """Errors first, which make the proxy revert; then a stall, then no process at all."""
        say = self._view.say
        await self._new.fault("errors")
        began = time.monotonic()
        say("FAULT    new answers 503 from now on")
        status = await self._admin.until(lambda s: s.routes[0].latched, _REVERT_SECONDS, "the automatic revert")
        route = status.routes[0]
        self.time_to_revert = time.monotonic() - began
        self.reverts += 1
        self.weights.append(route.weight_target)
        say(
            f"REVERTED to {route.weight_target:g} % by the proxy itself after {self.time_to_revert:.1f} s:"
            f" {route.latch_reason}"
        )
        say("         latched: no weight above 0 until a person re-arms the route")
        await self._watch_backlog("new still answers 503")
        await self._new.fault("stall")
        say("FAULT    new accepts connections and never answers")
        await self._watch_backlog("new hangs")
        await self._new.fault("down")
        say("FAULT    new is down: connection refused")
        await self._watch_backlog("new is down")

    async def _watch_backlog(self, why: str) -> None:
        await self._hold(self._pace.fault)
        pending = (await self._admin.status()).routes[0].sides["new"].ledger.pending
        self._view.say(f"         {why}: the ledger holds {pending:,} events for it; client errors {self._errors()}")

    async def _recover(self) -> None:
        say = self._view.say
        pending = (await self._admin.status()).routes[0].sides["new"].ledger.pending
        await self._new.fault("none")
        began = time.monotonic()
        say("RECOVERY new is back; the ledger delivers what it missed, in order per key")
        await self._admin.until(_is_caught_up, _DRAIN_SECONDS, "the drain of new's backlog")
        say(f"         drained {pending:,} events and what came meanwhile in {time.monotonic() - began:.1f} s")
        await self._admin.rearm(reason="new is healthy again and has every event")
        say("         re-armed: new has every event again, so the weight may rise")

    async def _hold(self, seconds: float) -> None:
        """Let the load run; a load that broke ends the demo at once."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._load.check()
            await asyncio.sleep(min(left, 0.1))


def _is_caught_up(status: Status) -> bool:
    """Nothing waits for new but what is under way, and the workers send to it again."""
    new = status.routes[0].sides["new"]
    return new.ledger.pending <= 5 and new.breaker == "closed"


def figures(status: Status, load: Load) -> list[str]:
    """The live view's lines."""
    route = status.routes[0]
    observed = "" if route.weight_observed is None else f", observed {route.weight_observed:.1f} %"
    latch = "   LATCHED" if route.latched else ""
    return [
        "",
        f"  load {load.record.accepted:>8,} accepted   {load.record.client_errors} errors   {load.rate:g}/s",
        f"  route {route.stage}, weight {route.weight_target:g} %{observed}{latch}",
        *(_side_line(name, route) for name in ("old", "new")),
    ]


def _side_line(name: str, route: RouteStatus) -> str:
    side = route.sides[name]
    p99 = "-" if side.p99 is None else f"{side.p99 * 1000:.1f} ms"
    return (
        f"  {name}  {side.rate:5.0f}/s  errors {side.error_rate:6.1%}  p99 {p99:>9}"
        f"  pending {side.ledger.pending:>6,}  {side.breaker}"
    )

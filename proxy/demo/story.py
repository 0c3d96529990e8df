"""What happens in the demo, in order: a migration that goes well, until new breaks, and then ends well."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from proxy.core.event import SIDES
from proxy.demo.admin import Admin, RouteStatus, Status
from proxy.demo.clients import Clients
from proxy.demo.toy import ToyBackend
from proxy.demo.view import View

_REVERT_SECONDS = 15.0
_FOUND_SECONDS = 60.0
"""Until damage is found: a window, its settle time, further readings, on a busy machine."""
_DRAIN_SECONDS = 60.0


class Pace(NamedTuple):
    """Seconds for which each step and each fault lasts; requests and messages per second."""

    step: float
    fault: float
    requests: float
    messages: float


FAST = Pace(step=1.2, fault=1.3, requests=250.0, messages=100.0)
CALM = Pace(step=4.0, fault=4.0, requests=250.0, messages=100.0)


class Story:
    """Plays it on running parts; `weights`, `reverts`, `time_to_revert` and `injected`, what was spoiled, tell how it
    went.
    """

    def __init__(self, admin: Admin, new: ToyBackend, clients: Clients, view: View, pace: Pace) -> None:
        self._admin = admin
        self._new = new
        self._clients = clients
        self._view = view
        self._pace = pace
        self._routes: list[str] = []
        self.weights: list[float] = [0]
        self.reverts = 0
        self.time_to_revert = 0.0
        self.injected: dict[str, list[str]] = {}

    async def play(self) -> None:
        """From old alone to new alone. Raises TimeoutError when something expected does not happen."""
        say = self._view.say
        self._routes = [route.name for route in (await self._admin.status()).routes]
        await self._set_stage("dualwrite", None, "both sides get every event, old answers")
        say("stage dualwrite: old answers, and new gets every event too")
        self._clients.start()
        say(
            f"the load begins: {self._pace.requests:g} requests/s, and {self._pace.messages:g} messages/s in "
            f"{self._clients.sessions.count} WebSocket sessions that stay open"
        )
        await self._hold(self._pace.step)
        await self._raise_weight(10, "stage live: new answers 10 % of the keys; old still gets every event")
        await self._raise_weight(25, "weight 25 %")
        await self._raise_weight(50, "weight 50 %")
        await self._break_new()
        await self._recover()
        await self._raise_weight(25, "stage live again: new answers 25 % of the keys")
        await self._raise_weight(100, "weight 100 %: new answers everything, old still gets a copy")

    async def damage(self, lost: int, different: int) -> None:
        """Spoil what new has stored of late, and wait until the live checker has found it; for what is lost, or for too
        much that differs, the proxy reverts.
        """
        self.injected = self._new.damage(lost, different)
        began = time.monotonic()
        self._view.say(f"DAMAGE   behind the proxy's back new's store loses {lost} events, and {different} are changed")

        def is_found(status: Status) -> bool:
            found = sum(check.mismatches for check in status.consistency)
            return _is_reverted(status) or (not lost and found >= different)

        status = await self._admin.until(is_found, _FOUND_SECONDS, "what the checker is to find")
        if not _is_reverted(status):
            self._view.say(f"FOUND    {different} that differ, by the checker: too few of all to revert for")
            return
        route = status.routes[0]
        self.reverts += 1
        self.weights.append(route.weight_target)
        self._view.say(
            f"REVERTED to {route.weight_target:g} % by the proxy itself after {time.monotonic() - began:.1f} s, both "
            f"routes: {route.latch_reason}"
        )

    async def finish(self) -> Status:
        """No new events, nothing pending: the final status."""
        self._view.say("the load stops; waiting until nothing is pending")
        await self._clients.stop()
        accepted = self._clients.accepted

        def is_drained(status: Status) -> bool:
            # A status is a little older than now: it counts once it knows of everything that was accepted.
            return all(status.owed(side) >= accepted and status.pending(side) == 0 for side in SIDES)

        return await self._admin.until(is_drained, _DRAIN_SECONDS, "the drain of the ledger")

    async def _raise_weight(self, weight: float, line: str) -> None:
        workers, seconds = await self._set_stage("live", weight, "demo")
        self.weights.append(weight)
        self._view.say(f"{line} ({workers} workers changed in {seconds * 1000:.0f} ms)")
        http, sessions = self._clients.http.record, self._clients.sessions.record
        before = http.accepted, sessions.accepted
        await self._hold(self._pace.step)
        by = [promise.by for promise in http.promises[before[0] :]]
        share = 100 * by.count("new") / max(1, len(by))
        self._view.say(
            f"         new answered {share:.1f} % of {len(by):,} requests; {sessions.accepted - before[1]:,} messages "
            f"are safe; {self._errors()}"
        )

    async def _set_stage(self, stage: str, weight: float | None, reason: str) -> tuple[int, float]:
        """Set both dials of every route; how many workers changed, and the longest that it took, seconds."""
        applied = [(await self._admin.stage(stage, weight, reason, route))["applied"] for route in self._routes]
        return min(each["workers"] for each in applied), max(each["seconds"] for each in applied)

    def _errors(self) -> str:
        return f"client errors {self._clients.client_errors}, sessions closed {self._clients.sessions.record.closed}"

    async def _break_new(self) -> None:
        """Errors first, which make the proxy revert; then a stall, then no process at all."""
        say = self._view.say
        await self._new.fault("errors")
        began = time.monotonic()
        say("FAULT    new answers 503 from now on, and closes every session at its next message")
        status = await self._admin.until(_is_reverted, _REVERT_SECONDS, "the automatic revert of both routes")
        route = status.routes[0]
        self.time_to_revert = time.monotonic() - began
        self.reverts += 1
        self.weights.append(route.weight_target)
        say(
            f"REVERTED to {route.weight_target:g} % by the proxy itself after {self.time_to_revert:.1f} s, both routes:"
            f" {route.latch_reason}"
        )
        say("         latched: no weight above 0 until a person re-arms them")
        await self._watch_backlog("new still answers 503")
        await self._new.fault("stall")
        say("FAULT    new accepts connections and never answers")
        await self._watch_backlog("new hangs")
        await self._new.fault("down")
        say("FAULT    new is down: connection refused")
        await self._watch_backlog("new is down")

    async def _watch_backlog(self, why: str) -> None:
        await self._hold(self._pace.fault)
        held = [f"{r.sides['new'].ledger.pending:,} of {r.name}" for r in (await self._admin.status()).routes]
        self._view.say(f"         {why}: the ledger holds {' and '.join(held)} for it; {self._errors()}")

    async def _recover(self) -> None:
        say = self._view.say
        pending = (await self._admin.status()).pending("new")
        await self._new.fault("none")
        began = time.monotonic()
        say("RECOVERY new is back; the ledger delivers what it missed, in order per key")
        await self._admin.until(_is_caught_up, _DRAIN_SECONDS, "the drain of new's backlog")
        say(f"         drained {pending:,} events and what came meanwhile in {time.monotonic() - began:.1f} s")
        for route in self._routes:
            await self._admin.rearm("new is healthy again and has every event", route)
        say("         re-armed: new has every event again, so the weight may rise")

    async def _hold(self, seconds: float) -> None:
        """Let the load run; one that broke ends the demo at once."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._clients.check()
            await asyncio.sleep(min(left, 0.1))


def _is_caught_up(status: Status) -> bool:
    """Nothing waits for new but what is under way, and the workers send to it again."""
    sides = [route.sides["new"] for route in status.routes]
    return all(new.ledger.pending <= 5 and new.breaker == "closed" for new in sides)


def _is_reverted(status: Status) -> bool:
    return all(route.latched for route in status.routes)


def figures(status: Status, clients: Clients) -> list[str]:
    """The live view's lines."""
    http, sessions = clients.http, clients.sessions
    talk = f"{sessions.count} sessions, {sessions.record.closed} closed"
    lines = [
        "",
        f"  requests {http.record.accepted:>8,} accepted   {http.record.client_errors} errors   {http.rate:g}/s",
        f"  messages {sessions.record.accepted:>8,} accepted   {talk}   {sessions.rate:g}/s",
    ]
    for route in status.routes:
        observed = "" if route.weight_observed is None else f", observed {route.weight_observed:.1f} %"
        latch = "   LATCHED" if route.latched else ""
        lines.append(f"  {route.name}: {route.stage}, weight {route.weight_target:g} %{observed}{latch}")
        lines += [_side_line(name, route) for name in SIDES]
    lines += [f"  checked {check.checked:>9,} events, {check.mismatches} mismatches" for check in status.consistency]
    return lines


def _side_line(name: str, route: RouteStatus) -> str:
    side = route.sides[name]
    p99 = "-" if side.p99 is None else f"{side.p99 * 1000:.1f} ms"
    return (
        f"    {name}  {side.rate:5.0f}/s  errors {side.error_rate:6.1%}  p99 {p99:>9}"
        f"  pending {side.ledger.pending:>6,}  {side.breaker}"
    )

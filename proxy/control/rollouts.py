"""Rollouts as they run: looks at each twice a second, turns the weight when its plan says so, keeps how far it is.

    tick: seen --> proxy.core.rollout.advance --> kept (durable) --> Changes.turn, where a weight is due

What is kept comes before what is done, so that a supervisor that dies in between goes on where it was. A restart begins
the present step anew: what the guard knew of it is gone with the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy.control.audit import Audit, Entry, iso
from proxy.control.changes import OWN_ACTOR, Changes, Who
from proxy.control.files import write_whole
from proxy.control.instance import Instance
from proxy.control.state import Conflict
from proxy.core import rollout
from proxy.core.errors import BadChange, RefuseToStart
from proxy.core.rollout import DONE, MOVING, PAUSED, REVERTED, WAITING, Plan, Progress, Rollout, Seen
from proxy.core.routing import rolled_back, with_weight
from proxy.core.verdict import NOTHING_YET

log = logging.getLogger(__name__)

TICK: Final = 0.5
"""Seconds between looks."""
MOST_ELAPSED: Final = 5.0
"""Seconds that one look adds at most: while this process stood still, nobody looked."""
_TOLD: Final = {phase: f"rollout-{phase}" for phase in (PAUSED, DONE, REVERTED, WAITING)}
"""Phases that are entered without a person, and what the audit trail calls that."""


class Rollouts:
    """The rollouts of an instance. path: of the file that keeps them.

    Raises RefuseToStart for a file that cannot be read.
    """

    def __init__(self, instance: Instance, path: Path) -> None:
        self._instance = instance
        self._changes: Changes = instance.changes
        self._audit: Audit = instance.audit
        self._path = path
        self._clock: Callable[[], float] = instance.clock
        self._one_at_a_time = asyncio.Lock()
        self._looked: float | None = None
        for route, found in _read(path).items():
            instance.rollouts[route] = msgspec.structs.replace(found, progress=rollout.restarted(found.progress))
        self._rollouts = instance.rollouts

    def of(self, route: str) -> Rollout | None:
        """The last one of a route."""
        return self._rollouts.get(route)

    async def run(self) -> None:
        """Look at all of them for ever."""
        while True:
            await asyncio.sleep(TICK)
            await self.tick()

    async def tick(self) -> None:
        """Look at each once."""
        async with self._one_at_a_time:
            now = self._clock()
            elapsed = 0.0 if self._looked is None else min(now - self._looked, MOST_ELAPSED)
            self._looked = now
            for route, found in list(self._rollouts.items()):
                if found.progress.is_over or route not in self._instance.routes:
                    continue
                try:
                    await self._look(route, found, elapsed)
                except OSError as error:
                    # Nothing was done that is not kept; the next look tries again.
                    self._instance.tally.own["rollouts_not_kept"] += 1
                    log.warning("the rollout could not be kept: %s", error, extra={"route": route})

    async def _look(self, route: str, found: Rollout, elapsed: float) -> None:
        instance = self._instance
        if instance.state is None:
            return
        state = instance.state.routes[route]
        applied = instance.peers.applied(instance.epoch) >= instance.settings.workers
        verdict = instance.tally.verdicts.get(route, NOTHING_YET)
        seen = Seen(state.weight, state.latch_reason if state.latched else "", applied, verdict)
        before = found.progress
        progress = rollout.advance(found.plan, before, seen, elapsed)
        self._take(route, found, progress)
        if progress.phase != before.phase and progress.phase in _TOLD:
            await self._tell(route, found, _TOLD[progress.phase], OWN_ACTOR, progress.reason)
        if progress.phase == MOVING and state.weight != rollout.target(found.plan, progress):
            await self._turn(route, found.plan, progress, instance.epoch)

    async def _turn(self, route: str, plan: Plan, progress: Progress, epoch: int) -> None:
        weight = rollout.target(plan, progress)
        who = Who(OWN_ACTOR, f"step {progress.step + 1} of {len(plan.steps)} of the rollout", epoch)
        try:
            await self._changes.turn(route, "rollout-step", lambda dials: with_weight(dials, weight), who)
            self._take(route, self._rollouts[route], rollout.turned(progress))
        except Conflict:
            log.info("somebody else was first; looking again", extra={"route": route})
        except BadChange as refused:
            paused = rollout.paused(progress, str(refused))
            self._take(route, self._rollouts[route], paused)
            await self._tell(route, self._rollouts[route], _TOLD[PAUSED], OWN_ACTOR, paused.reason)

    # --- what people do ------------------------------------------------------------------------------------

    async def start(self, route: str, plan: Plan, from_step: int, who: Who) -> Rollout:
        """Begin one; with dry_run only what it would be. Raises BadChange, Conflict, OSError."""
        async with self._one_at_a_time:
            self._expect(who)
            running = self._rollouts.get(route)
            if running is not None and not running.progress.is_over and not who.dry_run:
                raise BadChange(f"a rollout of {route} is {running.progress.phase} already: abort it first")
            state = self._instance.state
            if state is None:
                raise BadChange("there is no live state yet")
            dials = state.routes[route].dials
            progress = rollout.start(plan, dials.weight, from_step)
            with_weight(dials, rollout.target(plan, progress))  # raises what stands against it
            found = Rollout(plan, progress, iso(self._instance.wall()), who.actor, who.reason)
            if not who.dry_run:
                steps = [msgspec.to_builtins(step) for step in plan.steps]
                evidence = {"steps": steps, "from_step": from_step + 1, "auto_promote": plan.auto_promote}
                await self._tell(route, found, "rollout-start", who.actor, who.reason, evidence)
                self._take(route, found, progress)
            return found

    async def pause(self, route: str, who: Who) -> Rollout:
        """Stay where it is. Raises BadChange, Conflict, OSError."""
        return await self._act(route, "rollout-pause", who, lambda found: rollout.paused(found.progress, who.reason))

    async def resume(self, route: str, who: Who) -> Rollout:
        """Go on from where it was paused. Raises BadChange, Conflict, OSError."""
        return await self._act(
            route, "rollout-resume", who, lambda found: rollout.resumed(found.progress, self._weight(route))
        )

    async def promote(self, route: str, who: Who) -> Rollout:
        """To the next step at once. Raises BadChange, Conflict, OSError."""
        return await self._act(
            route,
            "rollout-promote",
            who,
            lambda found: rollout.promoted(found.plan, found.progress, self._weight(route)),
        )

    async def abort(self, route: str, who: Who) -> Rollout:
        """Weight 0, and the end of it. Raises BadChange, Conflict, OSError."""
        async with self._one_at_a_time:
            found = self._find(route, who)
            ended = rollout.aborted(found.progress, who.reason)
            if who.dry_run:
                return msgspec.structs.replace(found, progress=ended)
            # Paused until the weight is 0, so that a death in between leaves no plan that raises it.
            self._take(route, found, rollout.paused(found.progress, "it is being aborted"))
            await self._changes.turn(route, "rollback", rolled_back, Who(who.actor, who.reason or "rollout aborted"))
            await self._tell(route, found, "rollout-abort", who.actor, who.reason)
            return self._take(route, found, ended)

    async def _act(self, route: str, action: str, who: Who, act: Callable[[Rollout], Progress]) -> Rollout:
        async with self._one_at_a_time:
            found = self._find(route, who)
            progress = act(found)
            if who.dry_run:
                return msgspec.structs.replace(found, progress=progress)
            await self._tell(route, found, action, who.actor, who.reason)
            return self._take(route, found, progress)

    def _find(self, route: str, who: Who) -> Rollout:
        self._expect(who)
        found = self._rollouts.get(route)
        if found is None:
            raise BadChange(f"there is no rollout of {route}")
        return found

    def _expect(self, who: Who) -> None:
        if who.expected is not None and who.expected != self._instance.epoch:
            raise Conflict(self._instance.epoch)

    def _weight(self, route: str) -> float:
        state = self._instance.state
        return state.routes[route].weight if state is not None else 0.0

    # --- keeping -------------------------------------------------------------------------------------------

    def _take(self, route: str, found: Rollout, progress: Progress) -> Rollout:
        """This is how far it is from now on; kept where it is more than time at a step. Raises OSError."""
        before = self._rollouts.get(route)
        taken = msgspec.structs.replace(found, progress=progress)
        is_kept = (
            before is not None
            and (before.progress.phase, before.progress.step) == (progress.phase, progress.step)
            and before.started_at == found.started_at
        )
        if not is_kept:
            write_whole(self._path, msgspec.json.encode(self._rollouts | {route: taken}))
        self._rollouts[route] = taken
        return taken

    async def _tell(
        self, route: str, found: Rollout, action: str, actor: str, reason: str, evidence: dict[str, Any] | None = None
    ) -> None:
        epoch, progress = self._instance.epoch, found.progress
        step = {"step": progress.step + 1, "of": len(found.plan.steps), "held_s": round(progress.held, 1)}
        entry = Entry("", epoch, epoch, actor, action, route, reason=reason, evidence=evidence or step)
        await self._audit.write(entry)


def _read(path: Path) -> dict[str, Rollout]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Rollout])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise RefuseToStart(f"{path} cannot be read: {error}; move it away to forget the rollouts") from None

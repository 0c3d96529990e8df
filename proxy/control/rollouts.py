"""Rollouts as they run: looks at each twice a second, turns the weight when its plan says so, keeps how far it is.

    tick: seen, gates asked --> proxy.core.rollout.advance --> kept (durable) --> Changes.turn, where a weight is due
                                                                                  gates told, where the plan says so

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
from proxy.control.gate_calls import Question
from proxy.control.gates import Gates, as_evidence
from proxy.control.instance import Instance
from proxy.control.reverts import Reverts
from proxy.control.soak import ENOUGH, soaking
from proxy.control.state import Conflict
from proxy.core import rollout
from proxy.core.errors import BadChange, CrossfadeError, Drilled, Frozen, RefuseToStart
from proxy.core.event import NEW
from proxy.core.gate import Said
from proxy.core.rollout import (
    DONE,
    HOLDING,
    MOVING,
    PAUSED,
    PREPARING,
    REVERTED,
    REVERTING,
    WAITING,
    Latency,
    Plan,
    Progress,
    Rollout,
    Seen,
)
from proxy.core.routing import COPY_NONE, rolled_back, with_weight
from proxy.core.sketch import Sketch
from proxy.core.verdict import NOTHING_YET

log = logging.getLogger(__name__)

TICK: Final = 0.5
"""Seconds between looks."""
MOST_ELAPSED: Final = 5.0
"""Seconds that one look adds at most: while this process stood still, nobody looked."""
_TOLD: Final = {phase: f"rollout-{phase}" for phase in (PAUSED, DONE, REVERTED, WAITING)}
"""Phases that are entered without a person, and what the audit trail calls that."""


_GOES_ON: Final = ("rollout-resume", "rollout-promote")
"""What a person does knowing what the checker has found at this weight."""


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
        self._reverts = Reverts(instance.changes, instance.tally, instance.settings.workers)
        self._gates = Gates(
            instance.settings.gates,
            instance.config_path.parent,
            instance.clock,
            lambda gate, route, calls: soaking(instance, gate, route, calls),
            instance.tally.own,
        )
        self._since: dict[str, tuple[tuple[str, int], Sketch]] = {}
        """By route, the present step, and new's answers before it began to hold."""
        self.said: dict[str, dict[str, Said]] = {}
        """By route, what the gates of its present step have said."""
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

    async def close(self) -> None:
        """Ask and tell no gate any more."""
        await self._gates.close()

    async def tick(self) -> None:
        """Look at each once."""
        async with self._one_at_a_time:
            now = self._clock()
            elapsed = 0.0 if self._looked is None else min(now - self._looked, MOST_ELAPSED)
            self._looked = now
            for route, found in list(self._rollouts.items()):
                if found.progress.is_over:
                    self._gates.forget(route)
                    continue
                try:
                    if route in self._instance.routes:
                        await self._look(route, found, elapsed)
                    else:
                        await self._drop(route, found)
                except (CrossfadeError, OSError) as error:
                    # Nothing was done that is not kept; the next look tries again.
                    self._instance.tally.own["rollouts_not_kept"] += 1
                    log.warning("the rollout could not be kept: %s", error, extra={"route": route})

    async def _drop(self, route: str, found: Rollout) -> None:
        """The configuration has the route no more: when it has it again, that is another one."""
        ended = rollout.aborted(found.progress, "the configuration has the route no more")
        await self._tell(route, found, "rollout-abort", OWN_ACTOR, ended.reason)
        await self._take(route, found, ended)

    async def _look(self, route: str, found: Rollout, elapsed: float) -> None:
        instance = self._instance
        if instance.state is None:
            return
        # Both of one moment, before anything is waited for: who turns the weight meanwhile makes another epoch.
        state, epoch = instance.state.routes[route], instance.epoch
        applied = instance.peers.applied(epoch) >= instance.settings.workers
        verdict = instance.tally.verdicts.get(route, NOTHING_YET)
        before = found.progress
        latency = self._latency(route, found)
        latch, frozen = state.latch_reason if state.latched else "", instance.freezes.refusal(route)
        split = instance.splits.doubt(route, instance.clock())
        seen = Seen(state.weight, latch, applied, verdict, {}, latency, frozen, split)
        asked = rollout.asks(found.plan, before, seen)
        said = self._gates.said(asked, self._question(route, found, "before" if before.phase == PREPARING else "gates"))
        progress = rollout.advance(found.plan, before, seen._replace(said=said), elapsed)
        if asked:
            self.said[route] = said  # they stay until the next ones are asked: what opened the way
        if progress.step < before.step:
            await self._tell(route, found, "rollout-step-back", OWN_ACTOR, progress.reason, as_evidence(said))
        taken = await self._enter(route, found, progress)
        if progress.phase == MOVING and state.weight != rollout.target(found.plan, progress):
            await self._turn(route, found.plan, progress, epoch)
        elif progress.phase == REVERTING:
            await self._revert(route, taken)

    async def _enter(self, route: str, found: Rollout, progress: Progress) -> Rollout:
        """The trail says what happened, then it is kept, then gates are told: after a death in between it is said twice
        rather than never. Raises OSError; nothing is kept then.
        """
        before = found.progress
        if progress.phase != before.phase and progress.phase in _TOLD:
            told = msgspec.structs.replace(found, progress=progress)
            await self._tell(route, told, _TOLD[progress.phase], OWN_ACTOR, progress.reason)
        taken = await self._take(route, found, progress)
        self._tell_gates(route, found, progress)
        return taken

    def _latency(self, route: str, found: Rollout) -> Latency:
        """New's since the present step began to hold, where the plan asks for it."""
        if found.plan.latency == Latency():
            return Latency()
        latencies = self._instance.tally.latencies(route, NEW)
        at = found.started_at, found.progress.step
        if found.progress.phase not in (HOLDING, WAITING) or self._since.get(route, (None,))[0] != at:
            self._since[route] = at, latencies
        answers = latencies.since(self._since[route][1])
        return Latency(answers.quantile(0.5), answers.quantile(0.95)) if answers.count >= ENOUGH else Latency()

    async def _revert(self, route: str, found: Rollout) -> None:
        """A gate said that the weight must go back; the next look finds it so, or tries again."""
        evidence = as_evidence(self.said.get(route, {})) | _step(found) | {"seconds_to_detect": None}
        await self._reverts.revert(route, "gate", Who(OWN_ACTOR, found.progress.reason), evidence, is_shut=True)

    def _question(self, route: str, found: Rollout, phase: str) -> Question:
        plan, progress = found.plan, found.progress
        weight, target = self._weight(route), rollout.target(plan, progress)
        return Question(route, phase, progress.step + 1, len(plan.steps), weight, target, self._instance.epoch)

    def _tell_gates(self, route: str, found: Rollout, after: Progress) -> None:
        """Those that the plan wants told of what has just happened."""
        names = rollout.tells(found.plan, found.progress, after)
        phase = "revert" if after.phase == REVERTED else "after"

        def note(name: str, said: Said) -> None:
            log.warning("gate %s was told and said: %s (%s)", name, said.answer, said.text, extra={"route": route})
            self._instance.tally.own["gates_not_told"] += 1

        self._gates.tell(names, self._question(route, found, phase), note)

    async def _turn(self, route: str, plan: Plan, progress: Progress, epoch: int) -> None:
        weight = rollout.target(plan, progress)
        who = Who(OWN_ACTOR, f"step {progress.step + 1} of {len(plan.steps)} of the rollout", epoch)
        try:
            evidence = as_evidence(self.said.get(route, {}))
            await self._changes.turn(
                route, "rollout-step", lambda dials: with_weight(dials, weight), who, evidence=evidence
            )
            self.said.pop(route, None)
            await self._take(route, self._rollouts[route], rollout.turned(progress))
        except Conflict:
            log.info("somebody else was first; looking again", extra={"route": route})
        except (Frozen, Drilled) as held_up:
            await self._take(route, self._rollouts[route], msgspec.structs.replace(progress, reason=str(held_up)))
        except BadChange as refused:
            await self._enter(route, self._rollouts[route], rollout.paused(progress, str(refused)))

    # --- what people do ------------------------------------------------------------------------------------

    async def start(self, route: str, plan: Plan, from_step: int, who: Who) -> Rollout:
        """Begin one; with dry_run only what it would be. Raises BadChange, Conflict, OSError."""
        rollout.check(plan)
        await self._gates.check(plan)
        async with self._one_at_a_time:
            self._expect(who)
            if not who.dry_run:
                self._instance.freezes.allow(route, "rollout-start")
                self._instance.drills.allow(route, "rollout-start")
            running = self._rollouts.get(route)
            if running is not None and not running.progress.is_over and not who.dry_run:
                raise BadChange(f"a rollout of {route} is {running.progress.phase} already: abort it first")
            state = self._instance.state
            if state is None:
                raise BadChange("there is no live state yet")
            dials = state.routes[route].dials
            progress = rollout.start(plan, dials.weight, from_step)
            with_weight(dials, rollout.target(plan, progress))  # raises what stands against it
            if rollout.target(plan, progress) == 0 and dials.copy == COPY_NONE:
                raise BadChange("at 0 % new gets nothing without copies: proxyctl stage dualwrite before it begins")
            found = Rollout(plan, progress, iso(self._instance.wall()), who.actor, who.reason)
            if not who.dry_run:
                steps = [msgspec.to_builtins(step) for step in plan.steps]
                evidence = {"steps": steps, "from_step": from_step + 1, "auto_promote": plan.auto_promote}
                self.said.pop(route, None)
                self._gates.forget(route)
                await self._tell(route, found, "rollout-start", who.actor, who.reason, evidence)
                await self._take(route, found, progress)
                self._instance.tally.beginnings[route] += 1
            return found

    async def pause(self, route: str, who: Who, evidence: dict[str, Any] | None = None) -> Rollout:
        """Stay where it is. evidence: what led to it, where that was no person. Raises BadChange, Conflict, OSError."""

        def stop(found: Rollout) -> Progress:
            by = who.actor if found.paused_by not in ("", who.actor) else ""
            return rollout.paused(found.progress, who.reason, by=by)

        return await self._act(route, "rollout-pause", who, stop, evidence)

    async def resume(self, route: str, who: Who) -> Rollout:
        """Go on from where it was paused, whatever was found there. Raises BadChange, Conflict, OSError."""
        return await self._act(
            route,
            "rollout-resume",
            who,
            lambda found: rollout.resumed(found.plan, found.progress, self._weight(route)),
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
            if found.progress.phase != REVERTING:
                # Paused until the weight is 0, so that a death in between leaves no plan that raises it.
                await self._take(route, found, rollout.paused(found.progress, "it is being aborted"))
            self._gates.forget(route)
            await self._changes.turn(route, "rollback", rolled_back, Who(who.actor, who.reason or "rollout aborted"))
            await self._tell(route, found, "rollout-abort", who.actor, who.reason)
            return await self._take(route, found, ended)

    async def _act(
        self,
        route: str,
        action: str,
        who: Who,
        act: Callable[[Rollout], Progress],
        evidence: dict[str, Any] | None = None,
    ) -> Rollout:
        async with self._one_at_a_time:
            if action != "rollout-pause":
                self._instance.freezes.allow(route, action)
            found = self._find(route, who)
            progress = act(found)
            if who.dry_run:
                return rollout.owned(found, progress, who.actor, iso(self._instance.wall()))
            await self._tell(route, found, action, who.actor, who.reason, evidence)
            if action in _GOES_ON:
                self._instance.tally.beginnings[route] += 1
            if progress.phase == PAUSED:  # the trail has just said so
                return await self._take(route, found, progress, who.actor)
            return await self._enter(route, found, progress)

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

    async def _take(self, route: str, found: Rollout, progress: Progress, by: str = "") -> Rollout:
        """This is how far it is from now on; kept where it is more than time at a step. by: the person who pauses it.

        Raises OSError.
        """
        before = self._rollouts.get(route)
        if progress.phase == PAUSED != found.progress.phase:
            by = by or OWN_ACTOR
        taken = rollout.owned(found, progress, by, iso(self._instance.wall()))
        is_kept = (
            before is not None
            and (before.progress.phase, before.progress.step) == (progress.phase, progress.step)
            and before.started_at == found.started_at
            and (progress.phase != PAUSED or before.progress.reason == progress.reason)
        )
        if not is_kept:
            await asyncio.to_thread(write_whole, self._path, msgspec.json.encode(self._rollouts | {route: taken}))
        self._rollouts[route] = taken
        return taken

    async def _tell(
        self, route: str, found: Rollout, action: str, actor: str, reason: str, evidence: dict[str, Any] | None = None
    ) -> None:
        epoch = self._instance.epoch
        entry = Entry("", epoch, epoch, actor, action, route, reason=reason, evidence=evidence or _step(found))
        await self._audit.write(entry)


def _step(found: Rollout) -> dict[str, Any]:
    """Where it is, for the audit trail."""
    progress = found.progress
    return {"step": progress.step + 1, "of": len(found.plan.steps), "held_s": round(progress.held, 1)}


def _read(path: Path) -> dict[str, Rollout]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Rollout])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise RefuseToStart(f"{path} cannot be read: {error}; move it away to forget the rollouts") from None

"""A switch: processes are replaced one by one while traffic flows, or everything is put back.

    supervisor, ledger, checker            worker
      successor stands by                    successor serves, beside its predecessor
      predecessor is relieved, stands by     ... for a moment that shows whether it lives
      successor goes, serves                 predecessor is relieved: hands over, drains, stands by

A worker's successor is loaded while the one before it is watched: loading takes a core for a while, which connections
that are being handed over would have to wait for.

What was relieved stays, with its code in memory, until all successors have served for a while: only then it is
dismissed. So whatever fails before, the predecessors go on, even where their code is gone from the disk.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from proxy.control.crew import Child, Crew, Life
from proxy.control.outfit import Outfit
from proxy.control.plan import KINDS, Plan, Terms
from proxy.control.switch_state import Phase, Place, SwitchState
from proxy.core.errors import CrossfadeError

log = logging.getLogger(__name__)

WATCH: Final = 2.0
"""Seconds that the first new worker serves beside its predecessor before that is relieved, and that all successors
must have lived for before their predecessors are dismissed."""
TRIAL: Final = 0.2
"""The same of the workers after the first."""
_HANDOVER: Final = 1.0
"""Seconds at most for which the next worker keeps its connections while the last one hands over its own."""
MARGIN: Final = 5.0
"""Seconds beyond a process's own times until it is killed."""
_LOOK: Final = 0.05
"""Seconds between two looks at a place that the crew fills by itself."""


class SwitchFailed(CrossfadeError):
    """A process did not take its place; the message says which one, and why.

    child: the place, where its turn was still to come.
    """

    child: Child | None = None


def _ended_early(life: Life) -> SwitchFailed:
    return SwitchFailed(f"{life.name} (process {life.pid}) {life.how} after it had begun to serve")


def _check(lives: Sequence[Life]) -> None:
    """Raises SwitchFailed unless all of them live."""
    for life in lives:
        if not life.runs:
            raise _ended_early(life)


@dataclass(frozen=True)
class Step:
    """A place that was given to another life. before: who had it, in which outfit; after: None where it is no more.

    is_new: the place was not there before.
    """

    child: Child
    before: Life | None
    outfit: Outfit
    after: Life | None
    is_new: bool = False


class Switch:
    """One switch. outfit: of the successors; terms: in force until now; modules: of children that are new; told: called
    with each change of state.

    `run` does it; its result stands in `state`, whose `reason` says what failed.
    """

    def __init__(
        self,
        crew: Crew,
        outfit: Outfit,
        plan: Plan,
        terms: Terms,
        modules: dict[str, str],
        state: SwitchState,
        told: Callable[[], None],
    ) -> None:
        self._crew = crew
        self._outfit = outfit
        self._plan = plan
        self._modules = modules
        self._state = state
        self._told = told
        self._steps: list[Step] = []
        self._timeout = plan.terms.upgrade_timeout
        # Predecessors go by their own times, whatever the next file says.
        self._drain_timeout = max(terms.drain_timeout, plan.terms.drain_timeout)
        self._stop_grace = max(terms.stop_grace, plan.terms.stop_grace)
        self._tried = False
        self._ahead: dict[str, Life] = {}
        """Successors that are loaded before it is their turn, by name."""

    async def run(self) -> bool:
        """Replace everything; true when that is done, false when it was put back."""
        wanted, surplus = self._wanted(), self._surplus()
        for child in (*wanted, *surplus):
            self._state.of(child.name)
        self._phase("replacing")
        try:
            for child, following in zip_longest(wanted, wanted[1:]):
                self._check_placed()
                await self._replace(child, following)
            for child in surplus:
                await self._retire(child)
            self._phase("watching")
            await self._watch(WATCH, self._placed())
        except SwitchFailed as failure:
            self._state.reason = str(failure)
            log.error("%s failed: %s; putting back", self._plan.kind, failure)
            await self._put_back()
            return False
        except Exception as error:
            self._state.reason = f"{type(error).__name__}: {error}"
            log.exception("%s failed; putting back", self._plan.kind)
            await self._put_back()
            return False
        return True

    def commit(self) -> None:
        """There is no way back from here: those that were relieved end."""
        for step in self._steps:
            if step.before is not None:
                self._let_go(step.before)
            if step.after is not None:
                step.after.on_trial = False
                if not step.after.runs:
                    self._crew.start(step.child)

    def _wanted(self) -> list[Child]:
        """The places that get another life, in order, with those that are new."""
        terms, crew = self._plan.terms, self._crew
        wanted = []
        for kind in KINDS:
            count = {"worker": terms.workers, "checker": int(terms.needs_checker)}.get(kind, 1)
            there = crew.of(kind)
            new = [Child(kind, index, self._modules[kind], self._outfit) for index in range(len(there), count)]
            wanted += [*(there[:count] if kind in self._plan.replaces else []), *new]
        return wanted

    def _surplus(self) -> list[Child]:
        terms = self._plan.terms
        return [*self._crew.of("worker")[terms.workers :], *self._crew.of("checker")[int(terms.needs_checker) :]]

    # --- one by one ----------------------------------------------------------------------------------------

    async def _replace(self, child: Child, following: Child | None) -> None:
        self._process(child, "starts")
        try:
            if child.kind == "worker":
                await self._beside(child, following)
            else:
                await self._in_turn(child)
        except SwitchFailed as failure:
            self._process(failure.child or child, "failed", str(failure))
            raise
        self._process(child, "done")

    async def _beside(self, child: Child, following: Child | None) -> None:
        """A worker: the successor serves before the predecessor is relieved. following: whose turn is next.

        The one before it has handed over by then, and the next one is loaded: nothing has moved yet where that fails.
        """
        is_held = self._predecessor(child) is not None
        after = None
        try:
            after = self._ahead.pop(child.name, None) or self._launch(child)
            self._shows(child, after)
            after.go(after=is_held)
            await self._until(after, after.serving, "serve", beside=self._placed())
            serving = [after, *self._placed()]
            await self._handed_over(serving)
            loading = None
            if following is not None and following.kind == "worker":
                loading = self._ahead[following.name] = self._launch(following)
            await self._watch(TRIAL if self._tried else WATCH, serving)
            if following is not None and loading is not None:
                await self._loaded(following, loading, serving)
            self._tried = True
        except SwitchFailed:
            if after is not None:
                self._kill(after)
            self._resume(child)
            raise
        before = await self._able(child)
        self._place(child, before, after)
        if before is not None:
            before.relieve()

    async def _loaded(self, child: Child, loading: Life, serving: Sequence[Life]) -> None:
        """Wait until a successor stands by before its turn."""
        try:
            await self._until(loading, loading.standby, "start", beside=serving)
        except SwitchFailed as failure:
            failure.child = child if all(life.runs for life in serving) else None
            raise

    async def _handed_over(self, serving: Sequence[Life]) -> None:
        """Wait, though not for long, until the worker that was relieved last has no connections left; raises
        SwitchFailed when one of those that serve dies.
        """
        last = self._steps[-1] if self._steps else None
        if last is not None and last.child.kind == "worker" and last.before is not None:
            gone = (life.gone for life in serving)
            await self._any_of(last.before.standby, last.before.gone, *gone, seconds=_HANDOVER)
            _check(serving)

    async def _in_turn(self, child: Child) -> None:
        """One of which there is only one: the successor is ready when the predecessor makes room."""
        await self._handed_over(self._placed())
        after = self._launch(child)
        self._shows(child, after)
        try:
            await self._until(after, after.standby, "start", beside=self._placed())
        except SwitchFailed:
            self._kill(after)
            self._resume(child)
            raise
        before = await self._able(child)
        if before is not None:
            before.on_trial = True  # if it dies of this, nobody is started in its place but the successor
            before.relieve()
        placed = self._placed()
        self._place(child, before, after)  # before anything can fail: else its predecessor would not come back
        if before is not None:
            await self._relieved(before, placed)
        after.go()
        await self._until(after, after.serving, "serve", beside=placed)

    async def _relieved(self, before: Life, beside: Sequence[Life]) -> None:
        """Wait until it has made room; one that does not is killed, for nobody else can begin before.

        Raises SwitchFailed when one of those beside it dies.
        """
        gone = (life.gone for life in beside)
        await self._any_of(before.standby, before.gone, *gone, seconds=self._stop_grace + MARGIN)
        _check(beside)
        if before.runs and not before.standby.is_set():
            log.warning("%s did not make room in time: killing it", before.name)
            self._kill(before)
            await before.gone.wait()

    async def _retire(self, child: Child) -> None:
        """A place that is no more."""
        before = await self._able(child)
        self._crew.children.remove(child)
        self._steps.append(Step(child, before, child.outfit, None))
        child.life = None
        if before is not None:
            self._crew.leaving.add(before)
            before.relieve()
        self._process(child, "done", "not needed any more")

    def _launch(self, child: Child) -> Life:
        try:
            life = self._crew.launch(child, self._outfit)
        except OSError as error:
            raise SwitchFailed(f"{child.name} could not be started: {error}") from None
        life.on_trial = True
        self._crew.leaving.add(life)
        return life

    def _predecessor(self, child: Child) -> Life | None:
        """Who has the place now; nobody starts there meanwhile."""
        self._crew.cancel_restart(child)
        return child.life if child.is_running else None

    async def _able(self, child: Child) -> Life | None:
        """Who has the place now and can be relieved; one that does not serve ends."""
        before = self._predecessor(child)
        if before is None or before.serving.is_set():
            return before
        before.on_trial = True  # nobody is started in its place
        await self._crew.end([before], MARGIN)
        return None

    def _place(self, child: Child, before: Life | None, after: Life) -> None:
        """The successor has the place."""
        is_new = child not in self._crew.children
        self._steps.append(Step(child, before, child.outfit, after, is_new))
        if is_new:
            self._crew.children.append(child)
        self._crew.cancel_restart(child)
        if before is not None and before.runs:
            self._crew.leaving.add(before)
        self._crew.leaving.discard(after)
        child.life, child.outfit = after, self._outfit

    def _resume(self, child: Child) -> None:
        """Nothing came of it: who had the place keeps it, and one that was about to be started again is."""
        if child in self._crew.children and not child.is_running and child.restart is None:
            self._crew.start(child)

    def _kill(self, life: Life) -> None:
        life.dismiss()
        life.signal(signal.SIGKILL)

    # --- waiting -------------------------------------------------------------------------------------------

    def _placed(self) -> list[Life]:
        """Successors that have their places."""
        return [step.after for step in self._steps if step.after is not None]

    def _check_placed(self) -> None:
        """All of them live, or nothing further is replaced: raises SwitchFailed."""
        _check(self._placed())

    async def _until(
        self, life: Life, event: asyncio.Event, what: str, *, more: float = 0.0, beside: Sequence[Life] = ()
    ) -> None:
        """Wait for what a process is to do; raises SwitchFailed when it dies or takes too long, or one of those beside
        it dies. more: seconds more.
        """
        await self._any_of(event, life.gone, *(other.gone for other in beside), seconds=self._timeout + more)
        if not life.runs:
            raise SwitchFailed(f"{life.name} (process {life.pid}) {life.how}")
        _check(beside)
        if not event.is_set():
            raise SwitchFailed(f"{life.name} (process {life.pid}) did not {what} within {self._timeout + more:g} s")

    async def _any_of(self, *events: asyncio.Event, seconds: float) -> None:
        """Wait for the first of these, or for so long."""
        waiting = [asyncio.ensure_future(each.wait()) for each in events]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def _lives(self, life: Life, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await life.gone.wait()
        except TimeoutError:
            return
        raise _ended_early(life)

    async def _watch(self, seconds: float, lives: Sequence[Life]) -> None:
        """Each of these must live on for so long."""
        waiting = [asyncio.ensure_future(self._lives(life, seconds)) for life in lives]
        if not waiting:
            return
        try:
            await asyncio.gather(*waiting)
        finally:
            for each in waiting:
                each.cancel()

    # --- back ----------------------------------------------------------------------------------------------

    async def _put_back(self) -> None:
        """Predecessors serve again: first where nobody does, then the last one that was relieved first."""
        self._phase("putting-back")
        for life in self._ahead.values():
            self._kill(life)
        self._ahead.clear()
        for each in self._state.processes:
            if each.state in ("waits", "starts"):
                each.state = "kept"
        failed = []
        steps = self._steps[::-1]
        steps.sort(key=lambda step: step.after is None or step.after.runs)
        for step in steps:
            try:
                await self._undo(step)
                self._process(step.child, "put-back")
            except (SwitchFailed, OSError) as failure:  # one place that stays empty must not keep the others from it
                log.error("%s", failure)
                self._process(step.child, "failed", str(failure))
                failed.append(str(failure))
        self._state.result = "failed" if failed else "put-back"
        if failed:
            self._state.reason += "; and back: " + "; ".join(failed)

    async def _undo(self, step: Step) -> None:
        """Give a place back to who had it; raises SwitchFailed when the predecessor does not serve again."""
        child, after = step.child, step.after
        if after is not None and child.kind != "worker":  # there may be only one
            await self._crew.end([after], self._stop_grace + MARGIN)
        self._crew.cancel_restart(child)
        child.outfit, child.life = step.outfit, None
        if step.is_new:
            self._crew.children.remove(child)
        elif child not in self._crew.children:
            self._crew.children.append(child)
        try:
            if step.before is not None and step.before.runs:
                await self._resume_life(child, step.before, after)
            elif not step.is_new:
                self._crew.start(child)
        finally:
            if after is not None and after.runs:  # a worker's: its connections go back
                self._crew.leaving.add(after)
                after.relieve()
                self._let_go(after)

    async def _resume_life(self, child: Child, before: Life, after: Life | None) -> None:
        """Let a predecessor go again, from its memory."""
        if not before.standby.is_set() and not self._somebody_serves(child.kind, after):
            # It drains still, and clients have nobody: the code on the disk is quicker than the rest of the drain.
            self._crew.start(child)
            self._let_go(before)
            return
        child.life, before.on_trial = before, False
        self._crew.leaving.discard(before)
        before.go(after=child.kind == "worker" and after is not None and after.runs)
        try:
            await self._until(before, before.serving, "serve again", more=self._drain_timeout)
        except SwitchFailed:
            if before.runs:
                self._kill(before)  # it is started anew then, as any other that dies
            await self._served(child)
            raise

    async def _served(self, child: Child) -> None:
        """Wait until whoever was started anew serves, or long enough for that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                while child.life is None or not child.life.serving.is_set():
                    await asyncio.sleep(_LOOK)

    def _somebody_serves(self, kind: str, after: Life | None) -> bool:
        """after: who is about to give the place back."""
        if kind != "worker":
            return True  # a predecessor makes room before its successor begins, hence it stands by
        lives = [after, *(each.life for each in self._crew.of(kind))]
        return any(life is not None and life.runs and life.serving.is_set() for life in lives)

    def _let_go(self, life: Life) -> None:
        self._crew.let_go(life, self._drain_timeout + self._stop_grace + MARGIN)

    # --- telling -------------------------------------------------------------------------------------------

    def _phase(self, phase: Phase) -> None:
        self._state.phase = phase
        self._told()

    def _shows(self, child: Child, after: Life) -> None:
        """A successor's turn has come."""
        self._state.of(child.name).pid = after.pid
        self._told()

    def _process(self, child: Child, state: Place, reason: str = "") -> None:
        found = self._state.of(child.name)
        found.state, found.reason = state, reason
        found.pid = child.life.pid if child.life is not None else 0
        self._told()

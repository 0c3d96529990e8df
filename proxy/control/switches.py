"""The supervisor's side of switches: asks the launcher for one, and writes down what came of it.

    POST /upgrade --> audit --> signal --> launcher --> run/switch.json --> GET /switch, status, audit, notifications

A switch replaces the supervisor as well, so what came of it is written by whoever is there when it ends, once: the
entry names the switch, and the trail is looked through for it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proxy.control import switch_state
from proxy.control.audit import Audit, Entry
from proxy.control.changes import OWN_ACTOR
from proxy.control.problems import Problem
from proxy.control.switch_state import SwitchState

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 0.5
"""Seconds."""
ANSWER_WAIT: Final = 5.0
"""Seconds that the launcher has to say that it has begun."""
SIGNALS: Final = {"upgrade": signal.SIGUSR2}
_LOOK_BACK: Final = 100
"""Entries of the trail in which the last switch's end is looked for."""


class Switches:
    """path: of the launcher's file; ask: sends a signal to the launcher; counts: by name; epoch: the present one.

    is_told: of a switch whose end somebody else wrote down, or that was none;
    ended: is told of a switch's end before it is written down.
    """

    def __init__(
        self,
        path: Path,
        audit: Audit,
        counts: Counter[str],
        ask: Callable[[signal.Signals], None],
        epoch: Callable[[], int],
        is_told: Callable[[SwitchState], bool],
        ended: Callable[[SwitchState], None],
    ) -> None:
        self._path = path
        self._audit = audit
        self._counts = counts
        self._ask = ask
        self._epoch = epoch
        self._is_told = is_told
        self._ended = ended
        self._asking = False
        self._written: set[float] = set()
        """When those switches began whose ends are on record."""

    @property
    def state(self) -> SwitchState | None:
        """The switch that runs or ran last; None before there was one."""
        found = switch_state.read(self._path)
        return found if found is not None and found.number else None

    def check(self) -> None:
        """Raises Problem where another switch runs, which the new one would have to wait for."""
        state = self.state
        if self._asking or (state is not None and state.runs):
            running = f"{state.kind} {state.number} ({state.phase})" if state is not None and state.runs else "one"
            number = state.number if state is not None else 0
            raise Problem(423, f"there can be one switch at a time, and {running} is running", switch=number)

    async def begin(self, kind: str) -> SwitchState:
        """Ask the launcher for a switch; its state once that has begun. Raises Problem where it does not begin."""
        self.check()
        before = switch_state.read(self._path)
        known, refused = (before.number, before.refused_again) if before is not None else (0, 0)
        self._asking = True
        try:
            self._ask(SIGNALS[kind])
            async with asyncio.timeout(ANSWER_WAIT):
                while (state := switch_state.read(self._path)) is None or state.number == known:
                    if state is not None and state.refused_again > refused:
                        raise Problem(423, f"the launcher refused the {kind}; its log says why", switch=state.number)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise Problem(503, f"the launcher has not begun the {kind} within {ANSWER_WAIT:g} s; see its log") from None
        finally:
            self._asking = False
        if state.kind != kind:
            raise Problem(423, f"{state.kind} {state.number} began in the same moment", switch=state.number)
        return state

    async def run(self) -> None:
        """Write down the end of each switch, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY)

    async def look(self) -> None:
        """Write down the end of the last switch, unless that is on record."""
        state = self.state
        for each in (state.before, state) if state is not None else ():
            if each is None or each.runs or each.began_at in self._written:
                continue
            try:
                await self._note(each)
            except OSError as error:
                log.warning("what came of a switch cannot be written: %s", error)
                return
            self._written.add(each.began_at)

    async def _note(self, state: SwitchState) -> None:
        if await self._is_on_record(state):
            return
        self._ended(state)
        if not self._is_told(state):
            await self._write(state)
        self._counts[f"switches:{state.kind}:{state.result}"] += 1

    async def _is_on_record(self, state: SwitchState) -> bool:
        entries = await self._audit.history(_LOOK_BACK)
        return any(each.evidence.get("switch_began_at") == state.began_at for each in entries)

    async def _write(self, state: SwitchState) -> None:
        epoch = self._epoch()
        evidence = {
            "switch": state.number,
            "switch_began_at": state.began_at,
            "seconds": round(state.ended_at - state.began_at, 3),
            "version_before": state.version_before,
            "version_after": state.version_after,
            "processes": {each.name: each.state for each in state.processes},
        }
        await self._audit.write(
            Entry("", epoch, epoch, OWN_ACTOR, f"{state.kind}-{state.result}", reason=state.reason, evidence=evidence)
        )

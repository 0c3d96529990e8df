"""The gates of running rollouts: asked while a step waits for them, and told of what became of it.

One sitting is one time that a step waits for its gates. Whoever has said yes is not asked again in it, but for queries:
a metric may change. Others are asked again every so often. When the step waits for something else, the sitting is over.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import aiohttp

from config.gates import Gate
from config.programs import fault_of
from proxy.control.gate_calls import GateCalls, Question
from proxy.control.soak import Soaking
from proxy.core.errors import BadPlan
from proxy.core.gate import NO_ANSWER, YES, Said
from proxy.core.rollout import Plan

log = logging.getLogger(__name__)

MOST_TOLD: Final = 64
"""Calls after steps and reverts that may be under way; more are not made, and that is logged."""


class Asked:
    """One gate in a sitting."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.said: Said | None = None
        self.at = 0.0
        """When it answered, on the clock."""
        self.task: asyncio.Task[Said] | None = None
        self.soaking: Soaking | None = None

    def look(self, now: float, ask: Callable[[], asyncio.Task[Said]]) -> None:
        """Take its answer, or ask it once more, where that is due."""
        if self.task is not None:
            if not self.task.done():
                return
            self.said, self.at, self.task = self.task.result(), now, None
        is_settled = self.said is not None and self.said.answer == YES and self.gate.prometheus is None
        if not is_settled and (self.said is None or now - self.at >= self.gate.every):
            self.task = ask()


class Sitting:
    """All gates that one step waits for."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.asked: dict[str, Asked] = {}

    def is_for(self, question: Question) -> bool:
        """Whether it is the same step that waits."""
        return (self.question.phase, self.question.step) == (question.phase, question.step)

    def end(self) -> None:
        """Ask no more."""
        for each in self.asked.values():
            if each.task is not None:
                each.task.cancel()


class Gates:
    """The gates of a configuration. folder: where commands run; clock: monotonic seconds; soak: begins that of a gate
    for a route, and gets who asks a Prometheus; counts: gets `gates:NAME:ANSWER` for each answer.
    """

    def __init__(
        self,
        gates: Iterable[Gate],
        folder: Path,
        clock: Callable[[], float],
        soak: Callable[[Gate, str, GateCalls], Soaking],
        counts: Counter[str] | None = None,
    ) -> None:
        self._gates = {gate.name: gate for gate in gates}
        self._folder = folder
        self._clock = clock
        self._soak = soak
        self._counts = Counter() if counts is None else counts
        self._calls = GateCalls(folder)
        self._sittings: dict[str, Sitting] = {}
        self._telling: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Ask and tell nobody any more."""
        for sitting in self._sittings.values():
            sitting.end()
        for task in self._telling:
            task.cancel()
        asking = [each.task for sitting in self._sittings.values() for each in sitting.asked.values() if each.task]
        await asyncio.gather(*self._telling, *asking, return_exceptions=True)
        await self._calls.close()

    def said(self, names: tuple[str, ...], question: Question) -> dict[str, Said]:
        """What they say so far to a question; whoever is due is asked. Without names nobody is asked any more."""
        sitting = self._sittings.get(question.route)
        if sitting is not None and not (names and sitting.is_for(question)):
            self.forget(question.route)
            sitting = None
        if not names:
            return {}
        if sitting is None:
            sitting = self._sittings[question.route] = Sitting(question)
        return {name: self._look(sitting, name) for name in names}

    def forget(self, route: str) -> None:
        """Nobody is asked for this route any more, and nothing that was said counts."""
        sitting = self._sittings.pop(route, None)
        if sitting is not None:
            sitting.end()

    def _look(self, sitting: Sitting, name: str) -> Said:
        gate = self._gates.get(name)
        if gate is None:
            return Said(NO_ANSWER, "the configuration has it no more")
        asked = sitting.asked.setdefault(name, Asked(gate))
        asked.look(self._clock(), lambda: self._ask(asked, sitting.question))
        if asked.soaking is not None and asked.task is not None:
            before = f"; before that: {asked.said.answer}, {asked.said.text}" if asked.said is not None else ""
            return Said(NO_ANSWER, f"{asked.soaking.progress}{before}")
        return asked.said or Said(NO_ANSWER, "it is being asked")

    def _ask(self, asked: Asked, question: Question) -> asyncio.Task[Said]:
        if asked.gate.soak is None:
            return asyncio.create_task(self._counted(asked.gate, self._calls.ask(asked.gate, question)))
        asked.soaking = self._soak(asked.gate, question.route, self._calls)
        return asyncio.create_task(self._counted(asked.gate, _soaked(asked.soaking, asked.gate.on_fail)))

    async def _counted(self, gate: Gate, asking: Awaitable[Said]) -> Said:
        said = await asking
        self._counts[f"gates:{gate.name}:{said.answer.replace(' ', '_')}"] += 1
        return said

    def tell(self, names: Iterable[str], question: Question, note: Callable[[str, Said], None]) -> None:
        """Tell them, once, and wait for nothing. note: is given a gate that did not say yes, and what it said."""
        for name in names:
            if len(self._telling) >= MOST_TOLD:
                note(name, Said(NO_ANSWER, "too many are being told already"))
                continue
            task = asyncio.create_task(self._tell(name, question, note))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell(self, name: str, question: Question, note: Callable[[str, Said], None]) -> None:
        gate = self._gates.get(name)
        said = Said(NO_ANSWER, "the configuration has it no more")
        if gate is not None:
            said = await self._counted(gate, self._calls.ask(gate, question))
        if said.answer != YES:
            note(name, said)

    # --- before anything begins ----------------------------------------------------------------------------

    async def check(self, plan: Plan) -> None:
        """Raises BadPlan for a gate that is not there, a command that is none, a Prometheus that does not answer."""
        named = list(places_of(plan))
        for name, place in named:
            if name not in self._gates:
                known = f"; there is {', '.join(self._gates)}" if self._gates else ": the configuration has no `gates`"
                raise BadPlan(f"there is no gate '{name}'{known}", place)
            if self._gates[name].soak is not None and "gates" not in place:
                raise BadPlan(
                    f"gate '{name}' is a soak: it belongs under `gates`, where the weight has been turned", place
                )
        for name, place in dict(reversed(named)).items():
            if wrong := await self._wrong(self._gates[name]):
                raise BadPlan(f"gate '{name}': {wrong}", place)

    async def _wrong(self, gate: Gate) -> str:
        """Why it cannot be asked; empty where that is not known before it is."""
        if fault := fault_of(gate, self._folder):
            return fault
        if gate.prometheus is not None:
            return await _unanswered(gate.prometheus.url, gate.timeout, self._calls.values(gate.prometheus))
        resources = gate.soak.resources if gate.soak is not None else None
        if resources is None:
            return ""
        for query in resources.queries.values():
            if wrong := await _unanswered(resources.url, resources.timeout, self._calls.series(resources, query)):
                return wrong
        return ""


async def _unanswered(url: str, timeout: float, asking: Awaitable[object]) -> str:
    """Why a Prometheus does not answer; empty when it does, whatever it says."""
    try:
        async with asyncio.timeout(timeout):
            await asking
    except TimeoutError:
        return f"{url} says nothing within {timeout:g} s"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return f"{url} does not answer: {error}"
    return ""


async def _soaked(soaking: Soaking, on_fail: str) -> Said:
    return Said(*await soaking.run(), on_fail)


def places_of(plan: Plan) -> Iterable[tuple[str, tuple[str | int, ...]]]:
    """All gates of a plan, with where it names them."""
    for number, step in enumerate(plan.steps):
        for key, names in (("before", step.before), ("gates", step.gates), ("after", step.after)):
            for index, name in enumerate(names):
                yield name, ("steps", number, key, index)
    for index, name in enumerate(plan.on_revert):
        yield name, ("on_revert", index)


def as_evidence(said: Mapping[str, Said]) -> dict[str, object]:
    """What they said, for the audit trail."""
    return {"gates": {name: {"answer": each.answer, "said": each.text} for name, each in said.items()}} if said else {}

"""A staged plan as people write it, in a file of its own or for a route: weights, time at each, what a step takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from config.errors import Loc
from config.explain import Finding
from config.patterns import Name
from config.units import Percent, Ratio, SomeShortTime, SomeTime

WEIGHTS: Final = (10.0, 25.0, 50.0, 75.0, 90.0, 100.0)
HOLD: Final = 300.0
ANALYSIS: Final = 300.0
KEEP_OLD: Final = 3600.0


class LatencyLimits(BaseModel):
    """Of new's latency at each step."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    p50: SomeShortTime | None = Field(None, description="half of the answers are as fast", examples=["100ms"])
    p95: SomeShortTime | None = Field(None, description="95 of 100 answers are", examples=["500ms"])


class Improvement(BaseModel):
    """Of new's latency at each step on the baseline that was recorded of old."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    p50: Ratio | None = Field(None, description="by how much new's is below it", examples=["10%"])
    p95: Ratio | None = Field(None, description="by how much new's is below it", examples=["0%"])


class PlanStep(BaseModel):
    """One stop."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    weight: Percent = Field(description="percent of keys that new answers", examples=["25"])
    hold: SomeTime | None = Field(
        None, description="time at this weight; that of the plan without it", examples=["10m"]
    )
    samples: int | None = Field(
        None, ge=0, description="answers of new that this step takes; those of the plan without it", examples=["500"]
    )
    before: tuple[Name, ...] | None = Field(
        None,
        description="gates that must say yes before the weight is turned; those of the plan without it",
        examples=["[warm-caches]"],
    )
    gates: tuple[Name, ...] | None = Field(
        None,
        description="gates that must say yes before it goes on; those of the plan without it",
        examples=["[smoke-test]"],
    )
    after: tuple[Name, ...] | None = Field(
        None,
        description="gates that are told when the step is done; those of the plan without it",
        examples=["[tell-team]"],
    )


class Plan(BaseModel):
    """A plan: steps of rising weight. Each is left when it has held, has its samples, and the verdict is `pass`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    strategy: Literal["canary", "blue-green"] = Field(
        "canary", description="by steps, or all at once after an analysis of copies, with old fed on for a while"
    )
    analysis: SomeTime | None = Field(
        None,
        description="time at 0 % in which new's copies alone are judged, before the first step; 5m with blue-green, "
        "otherwise none",
        examples=["5m"],
    )
    keep_old: SomeTime | None = Field(
        None,
        description="blue-green: time at 100 % in which old is watched and fed on, 1h without it",
        examples=["1h"],
    )
    latency: LatencyLimits | None = Field(None, description="what new's may be at each step", examples=["{p95: 500ms}"])
    improvement: Improvement | None = Field(
        None, description="the same, by the baseline that was recorded of old", examples=["{p95: 10%}"]
    )
    hold: SomeTime = Field(HOLD, description="time at each weight")
    samples: int = Field(0, ge=0, description="answers of new that each step takes")
    auto_promote: bool = Field(True, description="false: a person promotes each step")
    before: tuple[Name, ...] = Field((), description="gates of the configuration, before each step")
    gates: tuple[Name, ...] = Field((), description="gates of the configuration, before each step is left")
    after: tuple[Name, ...] = Field((), description="gates of the configuration that are told of each step done")
    on_revert: tuple[Name, ...] = Field(
        (), description="gates of the configuration that are told of a revert while this rollout runs, and of no other"
    )
    steps: tuple[PlanStep, ...] | None = Field(
        None,
        min_length=1,
        description="weights, in this order; without them 10, 25, 50, 75, 90 and 100",
        examples=["[{weight: 25}, {weight: 100}]"],
    )

    def as_request(self) -> dict[str, object]:
        """The plan as the admin API takes it."""
        steps = [
            {
                "weight": step.weight,
                "hold": self.hold if step.hold is None else step.hold,
                "samples": self.samples if step.samples is None else step.samples,
            }
            | self._gates_of(step)
            for step in self.all_steps
        ]
        told: dict[str, object] = {"on_revert": self.on_revert} if self.on_revert else {}
        for name in ("latency", "improvement"):
            if (limits := getattr(self, name)) is not None:
                told[name] = limits.model_dump(exclude_none=True)
        return {"steps": steps, "auto_promote": self.auto_promote} | told

    def named_gates(self) -> Iterator[tuple[str, Loc]]:
        """Every gate that it names, and where."""
        for key in ("before", "gates", "after", "on_revert"):
            for index, name in enumerate(getattr(self, key)):
                yield name, (key, index)
        for number, step in enumerate(self.own_steps):
            for key in ("before", "gates", "after"):
                for index, name in enumerate(getattr(step, key) or ()):
                    yield name, ("steps", number, key, index)

    @property
    def own_steps(self) -> tuple[PlanStep, ...]:
        """Those that it has, or the usual ones."""
        return self.steps or tuple(PlanStep(weight=weight) for weight in WEIGHTS)

    @property
    def all_steps(self) -> tuple[PlanStep, ...]:
        """Those of the file, with what its strategy adds."""
        is_blue_green = self.strategy == "blue-green"
        analysis = self.analysis if self.analysis is not None else ANALYSIS if is_blue_green else None
        first = (PlanStep.model_construct(weight=0.0, hold=analysis),) if analysis is not None else ()
        if not is_blue_green:
            return first + self.own_steps
        keep_old = KEEP_OLD if self.keep_old is None else self.keep_old
        return (*first, PlanStep.model_construct(weight=100.0, hold=keep_old))

    def _gates_of(self, step: PlanStep) -> dict[str, object]:
        """Those that it has."""
        named = {
            "before": self.before if step.before is None else step.before,
            "gates": self.gates if step.gates is None else step.gates,
            "after": self.after if step.after is None else step.after,
        }
        return {key: names for key, names in named.items() if names}


def falling(plan: Plan) -> list[Finding]:
    """Steps that do not rise above the one before."""
    found = []
    for number, (before, step) in enumerate(zip(plan.own_steps, plan.own_steps[1:], strict=False), 1):
        if step.weight <= before.weight:
            at: Loc = ("steps", number, "weight")
            found.append(Finding(at, f"{step.weight:g} % does not rise above the {before.weight:g} % before it"))
    if plan.own_steps[0].weight == 0:
        found.append(
            Finding(("steps", 0, "weight"), "0 % is no step: `analysis` is the time in which copies are judged")
        )
    return found


def mixed(plan: Plan) -> list[Finding]:
    """What does not go together."""
    found = []
    if plan.strategy == "blue-green" and "steps" in plan.model_fields_set:
        found.append(Finding(("steps",), "blue-green has no steps: it goes from 0 to 100 %", on_key=True))
    if plan.strategy == "canary" and plan.keep_old is not None:
        found.append(Finding(("keep_old",), "belongs to blue-green; here the last step has a `hold`", on_key=True))
    if plan.latency is not None and plan.improvement is not None:
        found.append(Finding(("improvement",), "latency and improvement are two ways to say the same", on_key=True))
    return found

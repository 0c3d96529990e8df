"""The file of a staged plan, which `proxyctl rollout` reads: weights, time at each, and what a step must have seen."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config.document import Loc, decode, read
from config.errors import WHOLE_FILE, ConfigErrors, Problem
from config.explain import Finding, describe, findings
from config.units import Percent, SomeTime

WEIGHTS: Final = (10.0, 25.0, 50.0, 75.0, 90.0, 100.0)
HOLD: Final = 300.0


class PlanStep(BaseModel):
    """One stop."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    weight: Percent = Field(gt=0, description="percent of keys that new answers", examples=["25"])
    hold: SomeTime | None = Field(None, description="time at this weight; that of the plan without it")
    samples: int | None = Field(
        None, ge=0, description="answers of new that this step takes; those of the plan without it"
    )


class PlanFile(BaseModel):
    """A plan: steps of rising weight. Each is left when it has held, has its samples, and the verdict is `pass`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = Field(description="schema version")
    hold: SomeTime = Field(HOLD, description="time at each weight")
    samples: int = Field(0, ge=0, description="answers of new that each step takes")
    auto_promote: bool = Field(True, description="false: a person promotes each step")
    steps: tuple[PlanStep, ...] = Field(
        tuple(PlanStep(weight=weight) for weight in WEIGHTS), min_length=1, description="weights, in this order"
    )

    def as_request(self) -> dict[str, object]:
        """The plan as the admin API takes it."""
        steps = [
            {
                "weight": step.weight,
                "hold": self.hold if step.hold is None else step.hold,
                "samples": self.samples if step.samples is None else step.samples,
            }
            for step in self.steps
        ]
        return {"steps": steps, "auto_promote": self.auto_promote}


def load_plan(path: str, *, environ: Mapping[str, str] = os.environ) -> PlanFile:
    """The plan that a file holds. Raises ConfigErrors with everything that is wrong, and OSError."""
    with open(path, "rb") as file:
        decoded, unreadable = decode(file.read())
    if unreadable is not None:
        raise ConfigErrors.at(path, [unreadable])
    document = read(decoded, environ)
    if document.problems:
        raise ConfigErrors.at(path, document.problems)
    if not isinstance(document.data, dict):
        message = f"expected keys such as `steps:`, not {describe(document.data)}"
        raise ConfigErrors.at(path, [Problem(WHOLE_FILE, message)])
    try:
        plan = PlanFile.model_validate(document.data)
    except ValidationError as error:
        raise ConfigErrors.at(path, [each.placed(document) for each in findings(PlanFile, error)]) from None
    wrong = falling(plan)
    if wrong:
        raise ConfigErrors.at(path, [each.placed(document) for each in wrong])
    return plan


def falling(plan: PlanFile) -> list[Finding]:
    """Steps that do not rise above the one before."""
    found = []
    for number, (before, step) in enumerate(zip(plan.steps, plan.steps[1:], strict=False), 1):
        if step.weight <= before.weight:
            at: Loc = ("steps", number, "weight")
            found.append(Finding(at, f"{step.weight:g} % does not rise above the {before.weight:g} % before it"))
    return found

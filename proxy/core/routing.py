"""Live routing: the two dials of each route, under one epoch. Changed while traffic flows.

stage      weight       copy
off        0            none
shadow     0            best-effort, to new
dualwrite  0            durable, to new
live       0 < w <= 100 durable, to the other side   (rampdown at 100)
split      0 < w < 100  none
complete   100          none
"""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.core.errors import BadChange

COPY_NONE: Final = "none"
COPY_BEST_EFFORT: Final = "best-effort"
COPY_DURABLE: Final = "durable"

STAGES: Final = ("off", "shadow", "dualwrite", "live", "split", "rampdown", "complete")
_STAGE_COPY: Final = {
    "off": COPY_NONE,
    "shadow": COPY_BEST_EFFORT,
    "dualwrite": COPY_DURABLE,
    "live": COPY_DURABLE,
    "split": COPY_NONE,
    "rampdown": COPY_DURABLE,
    "complete": COPY_NONE,
}
_STAGE_WEIGHT: Final = {"off": 0.0, "shadow": 0.0, "dualwrite": 0.0, "rampdown": 100.0, "complete": 100.0}


class Dials(msgspec.Struct, frozen=True):
    """One route's live state. weight: percent 0-100, two decimals; latched: no weight above 0."""

    weight: float = 0.0
    copy: str = COPY_NONE
    latched: bool = False

    @property
    def stage(self) -> str:
        """The name of this position."""
        if self.copy == COPY_BEST_EFFORT:
            return "shadow"
        if self.copy == COPY_DURABLE:
            return "dualwrite" if self.weight == 0 else "rampdown" if self.weight == 100 else "live"
        return "off" if self.weight == 0 else "complete" if self.weight == 100 else "split"


class Routing(msgspec.Struct, frozen=True):
    """All routes' dials by route name, and the epoch that names this very state."""

    epoch: int
    routes: dict[str, Dials]


def check_weight(weight: float) -> float:
    """The weight rounded to two decimals; raises BadChange outside 0-100 or for NaN."""
    if not 0 <= weight <= 100:
        raise BadChange(f"weight must be between 0 and 100 percent, not {weight:.15g}")
    return round(float(weight), 2) + 0.0  # turns -0.0, which would print as -0, into 0.0


def with_weight(dials: Dials, weight: float) -> Dials:
    """Turn the weight alone; raises BadChange while latched or best-effort and the weight is above 0."""
    weight = check_weight(weight)
    if weight > 0 and dials.latched:
        raise BadChange("the route is latched after a revert; re-arm it first", blocked=True)
    if weight > 0 and dials.copy == COPY_BEST_EFFORT:
        raise BadChange("shadow copies are best effort, so new may lack events; go to dualwrite, live or split first")
    return Dials(weight, dials.copy, dials.latched)


def with_stage(dials: Dials, stage: str, weight: float | None = None) -> Dials:
    """Set both dials to a named position.

    `live` and `split` take `weight` or keep the present one; the others have their own.
    Raises BadChange for an unknown stage, a weight that does not fit it, or a latch.
    """
    if stage not in STAGES:
        raise BadChange(f"unknown stage {stage!r}; stages are {', '.join(STAGES)}")
    fixed = _STAGE_WEIGHT.get(stage)
    if fixed is not None and weight is not None and weight != fixed:
        raise BadChange(f"stage {stage} has weight {fixed:g}")
    wanted = fixed if fixed is not None else check_weight(dials.weight if weight is None else weight)
    if fixed is None and not (0 < wanted < 100 if stage == "split" else 0 < wanted <= 100):
        bounds = "above 0 and below 100" if stage == "split" else "above 0"
        hint = "; add --weight 25" if weight is None else ""
        raise BadChange(f"stage {stage} needs a weight {bounds}{hint}")
    return with_weight(Dials(0.0, _STAGE_COPY[stage], dials.latched), wanted)


def rolled_back(dials: Dials, *, latch: bool = False) -> Dials:
    """Weight 0, copy as it is; always allowed. `latch` is set by a revert and kept by a rollback."""
    return Dials(0.0, dials.copy, dials.latched or latch)


def lowered(dials: Dials, weight: float) -> Dials:
    """A part of the way back; allowed whenever a rollback is. Raises BadChange for more than the present weight."""
    weight = check_weight(weight)
    if weight > dials.weight:
        raise BadChange(f"a rollback does not raise the weight, which is {dials.weight:g} %, to {weight:g} %")
    return Dials(weight, dials.copy, dials.latched)


def restored(dials: Dials, past: Dials) -> Dials:
    """An earlier position; the latch stays as it is. Raises BadChange for a weight above 0 while latched."""
    return with_weight(Dials(0.0, past.copy, dials.latched), past.weight)


def rearmed(dials: Dials) -> Dials:
    """The same position without the latch."""
    return Dials(dials.weight, dials.copy, False)

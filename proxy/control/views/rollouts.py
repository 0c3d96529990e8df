"""Rollouts, their steps and their gates."""

from __future__ import annotations

import msgspec


class RolloutStepView(msgspec.Struct):
    """One stop. weight: percent; hold_s: seconds at it; samples: answers of new that it takes; predicted_s: how long it
    lasts at the present rate of events, null when no events come; before, gates, after: names of gates.
    """

    weight: float
    hold_s: float
    samples: int
    predicted_s: float | None
    before: tuple[str, ...]
    gates: tuple[str, ...]
    after: tuple[str, ...]


class LatencyView(msgspec.Struct):
    """Seconds that new's quantiles may have at a step; null: any."""

    p50: float | None
    p95: float | None


class GateView(msgspec.Struct):
    """A gate of the present step. answer: yes, no, or no answer; text: in its own words; on_fail: what a no does."""

    name: str
    answer: str
    text: str
    on_fail: str


class RolloutView(msgspec.Struct):
    """The last rollout of a route. phase: preparing, moving, applying, holding, waiting, paused, reverting, done,
    reverted or aborted; step: from 1; held_s: seconds at it, before it was paused; reason: what it waits for, or why it
    ended; gates: what those of the present step said last; on_revert: those that are told of one; notes: what a person
    should know of it; paused_by, paused_at: null while it is not paused.
    """

    route: str
    phase: str
    step: int
    held_s: float
    reason: str
    auto_promote: bool
    latency: LatencyView
    started_at: str
    actor: str
    dry_run: bool
    steps: list[RolloutStepView]
    gates: list[GateView]
    on_revert: tuple[str, ...]
    notes: list[str]
    paused_by: str | None
    paused_at: str | None

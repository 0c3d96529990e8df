"""What those who watch are told each time: the status, the last few seconds, and how far rollouts are."""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.control.audit import Audit, iso
from proxy.control.instance import Instance
from proxy.control.rollout_view import rollout_view
from proxy.control.rollouts import Rollouts
from proxy.control.status import status
from proxy.control.sums import Answers
from proxy.control.tally import Window
from proxy.control.views import History, Lately, Snapshot
from proxy.core.event import NEW, OLD, SIDES

LATELY: Final = 2.0
"""Seconds, about: workers' figures are kept once in each."""


def snapshot(instance: Instance, rollouts: Rollouts) -> Snapshot:
    """Everything, at this moment."""
    window = instance.tally.window(instance.clock(), LATELY)
    return Snapshot(
        at=iso(instance.wall()),
        status=status(instance),
        lately={
            name: {SIDES[side]: _lately(window.sums.side(name, side), window) for side in (OLD, NEW)}
            for name in instance.routes
        },
        rollouts={
            name: rollout_view(instance, rollouts, name, found)
            for name, found in instance.rollouts.items()
            if name in instance.routes
        },
    )


async def newest(audit: Audit, count: int) -> History:
    """The newest entries of the audit trail, without their evidence, which may be long. Raises OSError."""
    entries = [msgspec.structs.replace(each, evidence={}) for each in await audit.history(count)]
    return History(entries, audit.damaged)


def _lately(answers: Answers, window: Window) -> Lately:
    sketch, total = answers.sketch, answers.total
    p50, p99 = (round(sketch.quantile(q), 6) if sketch.buckets else None for q in (0.5, 0.99))
    return Lately(
        rate=round(total / window.seconds, 2) if window.seconds > 0 else 0.0,
        error_rate=round(answers.failed / total, 6) if total else None,
        p50=p50,
        p99=p99,
    )

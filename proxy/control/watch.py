"""What the watches of the guard have in common."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from proxy.core.gate import REVERT
from proxy.core.sequential import Suspicion


class Cause(NamedTuple):
    """What is wrong. kind: one word for the watch that found it; text: for people; is_alert: a person should know, and
    nothing is reverted for it; act: what is done about it else, see `proxy.core.gate`.
    """

    kind: str
    text: str
    evidence: dict[str, Any]
    is_alert: bool = False
    act: str = REVERT


def run_of_failures(last: str, failures: int, lasts: float) -> dict[str, Any]:
    """Evidence of nothing but failures for `lasts` seconds, the last of them for this reason."""
    return {"last_failure": last, "in_a_row": failures, "lasts": round(lasts, 3)}


def told(suspicion: Suspicion, limit: float, now: float) -> dict[str, Any]:
    """What a test went by. value: likelihood ratio of the failures against the limit; alarm_from: which is an
    alarm.
    """
    return {
        "total": suspicion.total,
        "failed": suspicion.failed,
        "seconds": round(now - suspicion.since, 3),
        "limit": round(limit, 9),
        "value": min(suspicion.value, 1e300),
        "alarm_from": suspicion.threshold,
    }


class Watch(Protocol):
    """One kind of trouble."""

    def begin(self, epoch: int) -> None:
        """The weight is another one, since this epoch."""

    def judge(self, now: float) -> Cause | None:
        """What the figures say now (monotonic seconds)."""

    def doubts(self) -> list[str]:
        """What was not enough for a cause when it judged last, and is no reason to go on either."""

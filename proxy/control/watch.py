"""What the watches of the guard have in common."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Cause(NamedTuple):
    """What is wrong. kind: one word for the watch that found it; text: for people; is_alert: a person should know, and
    nothing is reverted for it.
    """

    kind: str
    text: str
    evidence: dict[str, Any]
    is_alert: bool = False


def run_of_failures(last: str, failures: int, lasts: float) -> dict[str, Any]:
    """Evidence of nothing but failures for `lasts` seconds, the last of them for this reason."""
    return {"last_failure": last, "in_a_row": failures, "lasts": round(lasts, 3)}


class Watch(Protocol):
    """One kind of trouble."""

    def begin(self, epoch: int) -> None:
        """The weight is another one, since this epoch."""

    def judge(self, now: float) -> Cause | None:
        """What the figures say now (monotonic seconds)."""

    def doubts(self) -> list[str]:
        """What was not enough for a cause when it judged last, and is no reason to go on either."""

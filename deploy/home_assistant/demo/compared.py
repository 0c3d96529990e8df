"""What Home Assistant's recorder has against what a store has, change by change.

A change is named by its entity and its time, in microseconds. While Home Assistant is away, and until the source has
its states again, nobody hears of changes: of each entity the last state is told then. What was another one before is
*superseded*, which is not lost; that holds within a gap alone, and only if a later state of the entity is stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from deploy.home_assistant.recorded import Recorded
from deploy.influxdb import Points

Change = tuple[str, int]
"""An entity, and when it changed: microseconds since 1970."""


class Span(NamedTuple):
    """From a time to another one, microseconds since 1970, both within."""

    begun: int
    ended: int

    def has(self, at: int) -> bool:
        """Whether a time is within."""
        return self.begun <= at <= self.ended


class Comparison(NamedTuple):
    """One store. stored: changes of the span that it has; lost: recorded, and not stored; different: stored with
    another state; superseded: told as a later state; unrecorded: stored, and not recorded, for a recorder that is
    killed loses its last second, and a state that is gone after a gap is told when that is seen.
    """

    stored: int
    lost: tuple[Change, ...]
    different: tuple[Change, ...]
    superseded: tuple[Change, ...]
    unrecorded: int

    @property
    def is_complete(self) -> bool:
        """Nothing that was recorded is missing, or another one."""
        return not (self.lost or self.different)

    def problems(self) -> list[str]:
        """What is wrong, with up to five names each."""
        found = {"lost": self.lost, "different": self.different}
        return [
            f"{len(changes)} {name}: {', '.join(f'{entity} at {at}' for entity, at in changes[:5])}"
            for name, changes in found.items()
            if changes
        ]


def stored_states(points: Points) -> dict[Change, str | None]:
    """By change, the state that is stored; None: the entity was removed."""
    return {
        (dict(tags)["entity_id"], at // 1000): fields.get("state")
        for (_, tags), rows in points.items()
        for at, fields in rows.items()
    }


def compare(recorded: Iterable[Recorded], stored: dict[Change, str | None], span: Span, gaps: list[Span]) -> Comparison:
    """What one store lacks of the changes of a span. gaps: in which nobody heard of changes."""
    wanted = {(each.entity, each.at): each.state for each in recorded if span.has(each.at)}
    found = {change: state for change, state in stored.items() if span.has(change[1])}
    missing = [change for change in wanted if change not in found]
    later = {change for change in missing if _is_superseded(change, found, gaps)}
    return Comparison(
        stored=len(found),
        lost=tuple(change for change in missing if change not in later),
        different=tuple(change for change in wanted if change in found and found[change] != wanted[change]),
        superseded=tuple(sorted(later)),
        unrecorded=len(found.keys() - wanted.keys()),
    )


def _is_superseded(change: Change, found: dict[Change, str | None], gaps: list[Span]) -> bool:
    entity, at = change
    gap = next((gap for gap in gaps if gap.has(at)), None)
    return gap is not None and any(name == entity and at < when <= gap.ended for name, when in found)

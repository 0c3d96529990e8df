"""What a store holds against what the client was promised, event by event."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.demo.record import Promise, Record
from proxy.demo.store import Stored


@dataclass(frozen=True)
class Comparison:
    """One store compared with the record.

    rows: all rows; stored: distinct ids; lost: accepted, but not stored; different: stored with
    another body than was sent; unknown: stored, but never sent; unanswered: stored and sent, but
    never answered 2xx (allowed: the client does not know); misordered: (key, a, b) where a was
    answered before b was sent, but b was stored first (a duplicate's first row counts).
    """

    rows: int
    stored: int
    lost: tuple[str, ...]
    different: tuple[str, ...]
    unknown: tuple[str, ...]
    unanswered: tuple[str, ...]
    misordered: tuple[tuple[str, str, str], ...]

    @property
    def duplicates(self) -> int:
        """Rows beyond the first of each id."""
        return self.rows - self.stored

    @property
    def is_complete(self) -> bool:
        """Everything accepted is there, byte for byte, and nothing else came from nowhere."""
        return not (self.lost or self.different or self.unknown)

    def problems(self) -> list[str]:
        """What is wrong, with up to five names each."""
        found = {
            "lost": self.lost,
            "different": self.different,
            "unknown": self.unknown,
            "misordered": tuple(f"{key}: {b} stored before {a}" for key, a, b in self.misordered),
        }
        return [f"{len(ids)} {name}: {', '.join(ids[:5])}" for name, ids in found.items() if ids]


def compare(record: Record, rows: list[Stored]) -> Comparison:
    """Compare a store's rows, in their order of arrival, with the client's record."""
    first: dict[str, Stored] = {}
    different: dict[str, None] = {}
    for row in rows:
        first.setdefault(row.id, row)
        if record.digests.get(row.id, row.digest) != row.digest:
            different[row.id] = None
    accepted = record.accepted_ids()
    return Comparison(
        rows=len(rows),
        stored=len(first),
        lost=tuple(sorted(accepted - first.keys())),
        different=tuple(different),
        unknown=tuple(id for id in first if id not in record.digests),
        unanswered=tuple(id for id in first if id in record.digests and id not in accepted),
        misordered=tuple(_misordered(record, first)),
    )


def _misordered(record: Record, first: dict[str, Stored]) -> list[tuple[str, str, str]]:
    """Walk each key's events in stored order, and look for one that should be before an earlier one.

    Requests and messages are of two routes, which keep their order each for itself.
    """
    by_key: dict[tuple[bool, str], list[Promise]] = {}
    for promise in record.promises:
        if promise.id in first:
            by_key.setdefault((promise.is_message, promise.key), []).append(promise)
    found = []
    for (_, key), promises in by_key.items():
        promises.sort(key=lambda promise: first[promise.id].position)
        latest = promises[0]
        for promise in promises[1:]:
            if promise.binds_from < latest.sent:
                found.append((key, promise.id, latest.id))
            latest = max(latest, promise, key=lambda each: each.sent)
    return found

"""What a store holds against what the client was promised, event by event."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from proxy.demo.load import Record
from proxy.demo.store import Stored


@dataclass(frozen=True)
class Comparison:
    """One store compared with the record.

    rows: all rows; stored: distinct ids; lost: accepted, but not stored; different: stored with
    another body than was sent; unknown: stored, but never sent; unanswered: stored and sent, but
    never answered 2xx (allowed: the client does not know); misordered: (key, earlier id, later id)
    answered in this order and first stored in the other.
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
            "misordered": tuple(f"{key}: {a} answered before {b}" for key, a, b in self.misordered),
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
    found = []
    for key, ids in record.accepted.items():
        stored = [id for id in ids if id in first]
        found += [(key, a, b) for a, b in pairwise(stored) if first[a].position > first[b].position]
    return found

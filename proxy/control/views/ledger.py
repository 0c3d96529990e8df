"""What the ledger has on record."""

from __future__ import annotations

from typing import Any

import msgspec


class LedgerSide(msgspec.Struct):
    """One side in the record. backend: empty for a route that left the configuration; balance: events by state."""

    route: str
    side: str
    backend: str
    balance: dict[str, int]
    oldest_pending_age: float
    marked: int
    paused: str


class LedgerSummary(msgspec.Struct):
    """The record as the ledger sums it up."""

    balanced: bool
    sides: list[LedgerSide]
    segments: int
    gaps: list[dict[str, Any]]


class Receipts(msgspec.Struct):
    """One page of events; ask again with next_after_seq until it is null."""

    events: list[dict[str, Any]]
    next_after_seq: int | None


class ReceiptsOfEvent(msgspec.Struct):
    """Everything recorded under one event id."""

    receipts: list[dict[str, Any]]


class Recorded(msgspec.Struct):
    """Receipts as short rows: seq, id, accepted_ns, event_time, identities, then state and attempts of old and of new.

    after_seq: where the next question goes on; more: there are further receipts already. States are numbers, see
    `proxy.core.owed`.
    """

    rows: list[list[Any]]
    after_seq: int
    more: bool


class Settled(msgspec.Struct):
    """The same rows of receipts that were asked for by their numbers."""

    rows: list[list[Any]]


class Covered(msgspec.Struct):
    """Of which times the record says everything: since when, but for gaps. Nanoseconds since 1970.

    last_seq: number of the newest receipt; when it is less than before, this is another record.
    """

    from_ns: int | None
    last_seq: int
    gaps: list[list[int]]


class Replayed(msgspec.Struct):
    """Events that are pending again, and how many could not be because their body is gone."""

    replayed: int
    without_body: int
    dry_run: bool


class Moved(msgspec.Struct):
    """Dead letters that were moved."""

    moved: int
    dry_run: bool

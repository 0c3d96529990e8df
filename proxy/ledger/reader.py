"""Reads what is pending from the segment files, a bounded chunk at a time.

Each chunk is one statement that gives one JSON text, for two reasons: Python's lock is taken back once
and not once per row (see `bulk`), and the statement is over when it returns: a reader left open keeps
the log from being emptied, and it grew to 125 MB within 20,000 inserts.
"""

# ruff: noqa: S608 - what is put into SQL text here are our own constants

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw
import msgspec
import orjson

from proxy.core.event import OLD, SIDES, Event
from proxy.core.owed import DEAD, DEFERRED, PENDING
from proxy.ledger.schema import OPEN_STATES, connect
from proxy.ledger.segment import Segment


class Item(msgspec.Struct, gc=False):
    """One side of an event that is to be delivered. attempts: made so far.

    other_state, other_status: of the other side;
    has_body: false when context and body are not in the file, which cannot be but for damage.
    """

    seq: int
    event: Event
    attempts: int
    other_state: int
    other_status: int
    has_body: bool


class Chunk(NamedTuple):
    """What one reading found. next_seq: where to go on; more: there may be more from there."""

    items: list[Item]
    next_seq: int
    more: bool


_PENDING: Final = tuple(
    f"""
SELECT json_group_array(json_array(seq, n, id, key, bucket, epoch, authority, after_authority, accepted_ns, transport,
    event_time, identities, client_id, owed, {other}_state, {other}_status, {side}_attempts, hex(context), hex(body),
    found))
FROM (
    SELECT r.*, b.context, b.body, b.seq IS NOT NULL AS found FROM (
        SELECT seq, sum(body_size) OVER (ORDER BY seq) - body_size AS bytes_before FROM (
            SELECT seq, body_size FROM receipt
            WHERE {side}_state IN {OPEN_STATES} AND {side}_state = {PENDING} AND route = ?1 AND seq >= ?2
                AND key NOT IN (SELECT value FROM json_each(?3))
            ORDER BY seq LIMIT ?4
        )
    ) AS w CROSS JOIN receipt AS r ON r.seq = w.seq LEFT JOIN body AS b ON b.seq = r.seq
    WHERE bytes_before < ?5 ORDER BY r.seq
)"""
    for side, other in (("old", "new"), ("new", "old"))
)

_DEFERRED: Final = (
    "SELECT json_group_array(json_array(seq, bucket)) FROM (SELECT seq, bucket FROM receipt "
    f"WHERE old_state IN {OPEN_STATES} AND old_state = {DEFERRED} AND route = ? AND seq >= ? AND seq < ? "
    "AND bucket >= ? AND held = 0 ORDER BY seq LIMIT ?)"
)


class Reader:
    """Reads in a thread of its own. segments: gives the present ones."""

    def __init__(self, segments: Callable[[], tuple[Segment, ...]]) -> None:
        self._segments = segments
        self._connections: dict[Path, apsw.Connection] = {}

    def pending(self, route: str, side: int, from_seq: int, without: list[str], rows: int, size: int) -> Chunk:
        """What is pending at a side from `from_seq` on, oldest first, but for the keys `without`.

        rows, size: at most so many, and no more once so many bytes of bodies are there.
        """
        items: list[Item] = []
        keys = orjson.dumps(without).decode()
        used = 0
        segments = self._segments()
        # Before the reading: what is committed meanwhile may or may not be seen, and is looked for again.
        end = max(from_seq, segments[-1].last_seq + 1)
        for segment in segments:
            counts = segment.balance.get((route, side))
            if segment.last_seq < from_seq or counts is None or not counts[PENDING]:
                continue
            connection = self._connection(segment.path)
            wanted = rows - len(items)
            text = connection.execute(_PENDING[side], (route, from_seq, keys, wanted, size - used)).get
            found = [_item(route, row) for row in orjson.loads(str(text))]
            items += found
            used += sum(len(item.event.body) for item in found)
            if len(found) == wanted or used >= size:
                return Chunk(items, items[-1].seq + 1, more=True)
        self._forget_all_but(segments)
        return Chunk(items, max(end, items[-1].seq + 1) if items else end, more=False)

    def candidates(
        self,
        side: int,
        state: int,
        *,
        route: str | None,
        since_ns: int,
        from_seq: int,
        ids: list[str] | None,
        rows: int,
    ) -> list[tuple[int, str, int, bool]]:
        """Events in a state at a side: (seq, route, bucket, has a body), oldest first, at most `rows`."""
        found: list[tuple[int, str, int, bool]] = []
        for segment in self._segments():
            totals = [counts[state] for (r, s), counts in segment.balance.items() if s == side and route in (None, r)]
            if segment.last_seq >= from_seq and any(totals):
                connection = self._connection(segment.path)
                text = connection.execute(
                    _candidates(side, state),
                    (route, from_seq, since_ns, None if ids is None else orjson.dumps(ids).decode(), rows - len(found)),
                ).get
                found += [(seq, name, bucket, bool(body)) for seq, name, bucket, body in orjson.loads(str(text))]
                if len(found) >= rows:
                    break
        return found

    def deferred(
        self, route: str, from_bucket: int, from_seq: int, before_seq: int, rows: int
    ) -> list[tuple[int, str, int, bool]]:
        """What is deferred to old in buckets from `from_bucket` on and no worker is on, as `candidates` gives it."""
        found: list[tuple[int, str, int, bool]] = []
        for segment in self._segments():
            counts = segment.balance.get((route, OLD))
            if segment.last_seq >= from_seq and counts is not None and counts[DEFERRED]:
                text = (
                    self._connection(segment.path)
                    .execute(_DEFERRED, (route, from_seq, before_seq, from_bucket, rows - len(found)))
                    .get
                )
                found += [(seq, route, bucket, True) for seq, bucket in orjson.loads(str(text))]
                if len(found) >= rows:
                    break
        return found

    def oldest_pending(self, route: str, side: int) -> tuple[int, int]:
        """The oldest event that is pending at a side, and when it was accepted, wall clock ns; zeros without one."""
        for segment in self._segments():
            counts = segment.balance.get((route, side))
            if counts is not None and counts[PENDING]:
                found = (
                    self._connection(segment.path)
                    .execute(
                        f"SELECT seq, accepted_ns FROM receipt WHERE {SIDES[side]}_state IN {OPEN_STATES} "
                        f"AND {SIDES[side]}_state = {PENDING} AND route = ? ORDER BY seq LIMIT 1",
                        (route,),
                    )
                    .get
                )
                if found is not None:
                    seq, accepted_ns = found
                    return int(seq), int(accepted_ns)
        return 0, 0

    def _connection(self, path: Path) -> apsw.Connection:
        connection = self._connections.get(path)
        if connection is None:
            connection = self._connections[path] = connect(path, query_only=True)
        return connection

    def _forget_all_but(self, segments: tuple[Segment, ...]) -> None:
        """Close files that are gone or have nothing open any more."""
        wanted = {segment.path for segment in segments if segment.open_count(PENDING, DEFERRED, DEAD)}
        for path in [path for path in self._connections if path not in wanted]:
            self._connections.pop(path).close()

    def close(self) -> None:
        """Close all files."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()


def _candidates(side: int, state: int) -> str:
    name = SIDES[side]
    indexed = f"{name}_state IN {OPEN_STATES} AND " if state in (PENDING, DEFERRED, DEAD) else ""
    return (
        "SELECT json_group_array(json_array(seq, route, bucket, has_body)) FROM ("
        "SELECT seq, route, bucket, EXISTS (SELECT 1 FROM body WHERE body.seq = receipt.seq) AS has_body FROM receipt "
        f"WHERE {indexed}{name}_state = {state} AND (?1 IS NULL OR route = ?1) AND seq >= ?2 AND accepted_ns >= ?3 "
        "AND (?4 IS NULL OR id IN (SELECT value FROM json_each(?4))) AND held = 0 ORDER BY seq LIMIT ?5)"
    )


def _item(route: str, row: list[Any]) -> Item:
    (seq, n, id, key, bucket, epoch, authority, after, accepted, transport, event_time, identities, client_id, owed,
     other_state, other_status, attempts, context, body, found) = row  # fmt: skip
    event = Event(
        n, id, route, key, bucket, epoch, authority, owed, 0, 0, bool(after), accepted, transport,
        bytes.fromhex(context), bytes.fromhex(body), event_time,
        tuple(orjson.loads(identities)) if identities else (), bool(client_id),
    )  # fmt: skip
    return Item(seq, event, attempts, other_state, other_status, bool(found))

"""What the receipts say of ids: the dedupe windows of a ledger that was started again.

`in_flight` is read at the start, before any worker is heard: few rows, by their index. `Recall` goes on beside the
work, newest first and a bounded range of receipts at a time, until the windows are over or full.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw
import orjson

from proxy.core.dedupe import fingerprint, id_digest, recorded_status
from proxy.core.owed import PENDING
from proxy.ledger.arbiter import Policy
from proxy.ledger.schema import connect
from proxy.ledger.segment import Segment

_RANGE: Final = 2000
"""Receipts that are looked at in one step: 5 ms in the thread, 1 ms in the loop."""

_IN_FLIGHT: Final = (
    "SELECT seq, route, id, head, digest, accepted_ns FROM receipt WHERE held > 0 AND client_id ORDER BY seq"
)
_NEWEST: Final = "SELECT max(accepted_ns) FROM receipt WHERE seq >= ? AND seq < ?"
_SETTLED: Final = (
    "SELECT json_group_array(json_array(route, id, head, hex(digest), accepted_ns, authority, old_state, old_status, "
    "new_state, new_status)) FROM (SELECT * FROM receipt WHERE seq >= ? AND seq < ? AND client_id AND held = 0 "
    "AND route IN (SELECT value FROM json_each(?)) ORDER BY seq DESC)"
)


class InFlight(NamedTuple):
    """An event that a worker was on. line: of the request; digest: of its body."""

    seq: int
    route: str
    id: str
    line: bytes
    digest: bytes
    accepted_ns: int


class Recalled(NamedTuple):
    """An id that was accepted. status: what its client was told."""

    route: str
    id: bytes
    fingerprint: bytes
    status: int
    accepted_ns: int


def in_flight(segments: Iterable[Segment], routes: Mapping[str, Policy]) -> list[InFlight]:
    """The events of these routes that workers were on, oldest first, whose clients gave them their ids."""
    rows: list[InFlight] = []
    for segment in segments:
        if segment.open_count(PENDING):
            found: list[tuple[Any, ...]] = segment.connection.execute(_IN_FLIGHT).fetchall()
            rows += [
                InFlight(seq, route, id, head.encode("latin-1"), digest, accepted)
                for seq, route, id, head, digest, accepted in found
                if route in routes
            ]
    return rows


class Recall:
    """Reads the receipts before `before_seq`, newest first. now_ns: wall clock at the start."""

    def __init__(self, segments: Iterable[Segment], routes: Mapping[str, Policy], before_seq: int, now_ns: int) -> None:
        self._routes = routes
        self._since = {name: now_ns - int(policy.remembered.seconds * 1e9) for name, policy in routes.items()}
        self._steps = self._ranges(tuple(segments), before_seq)

    def _ranges(self, segments: tuple[Segment, ...], before_seq: int) -> Iterator[tuple[Path, int, int]]:
        earliest = min(self._since.values())
        for segment in reversed(segments):
            if segment.last_seq < segment.first_seq:
                continue  # just begun: nothing of it says how old the one before is
            if segment.newest_ns < earliest:
                return
            end = min(segment.last_seq + 1, before_seq)
            while end > segment.first_seq:
                begin = max(end - _RANGE, segment.first_seq)
                yield segment.path, begin, end
                end = begin

    def step(self) -> list[Recalled] | None:
        """What the next range of receipts says, newest first; None when there is no more. In a thread of its own."""
        found = next(self._steps, None)
        if found is None:
            return None
        path, begin, end = found
        try:
            connection = connect(path, query_only=True)
        except apsw.CantOpenError:
            if path.exists():
                raise
            return None  # dropped meanwhile: it and those before it are past `retain`, and so past every window
        try:
            newest = connection.execute(_NEWEST, (begin, end)).get
            if newest is None or int(newest) < min(self._since.values()):
                return None  # sequence is the order of time, but for what workers say late
            names = orjson.dumps(list(self._routes)).decode()
            rows = orjson.loads(str(connection.execute(_SETTLED, (begin, end, names)).get))
        finally:
            connection.close()
        return [recalled for row in rows if (recalled := self._read(row)) is not None]

    def _read(self, row: list[Any]) -> Recalled | None:
        route, id, head, digest, accepted_ns, *states = row
        if accepted_ns < self._since[route]:
            return None
        policy = self._routes[route]
        status = recorded_status(policy.ack, policy.accepted, *states)
        if not status:
            return None
        print_ = fingerprint(head.encode("latin-1"), bytes.fromhex(digest))
        return Recalled(route, id_digest(id), print_, status, accepted_ns)

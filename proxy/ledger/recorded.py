"""What the consistency checker asks: receipts as short rows in the order of the record, and what became of some.

    recorded   {route, after_seq, limit, since_ns}
                                           {"rows": [[seq, id, accepted_ns, event_time, identities, old_state,
                                           old_attempts, new_state, new_attempts], ...], "after_seq", "more"}
    settled    {seqs}                      {"rows": ...}, the same rows of these; what was dropped is not among them
    covered    {}                          {"from_ns", "last_seq", "gaps": [[from_ns, to_ns], ...]}

`after_seq` of an answer is where the next question goes on, also when no receipt of the route was found up to there.
Receipts are committed in the order of their seq, so none appears later behind that place. States are the numbers of
`proxy.core.owed`. `from_ns` is when the oldest receipt was accepted, null without any.
"""

# ruff: noqa: S608 - what is put into SQL text here are our own constants

from __future__ import annotations

from typing import Any, Final

import orjson

from proxy.ledger.schema import connect
from proxy.ledger.segment import Segment

MOST: Final = 5000
"""Receipts of one answer."""

_COLUMNS: Final = "seq, id, accepted_ns, event_time, identities, old_state, old_attempts, new_state, new_attempts"


def recorded(
    segments: tuple[Segment, ...], route: str, after_seq: int, limit: int, since_ns: int = 0
) -> dict[str, Any]:
    """Receipts of a route behind a place, accepted since a time, from one segment at most."""
    limit = max(1, min(limit, MOST))
    for number, segment in enumerate(segments):
        last_seq = segment.last_seq
        if last_seq <= after_seq:
            continue
        rows = _rows(
            segment,
            "route = ?1 AND seq > ?2 AND seq <= ?3 AND accepted_ns >= ?4 ORDER BY seq LIMIT ?5",
            (route, after_seq, last_seq, since_ns, limit),
        )
        is_full = len(rows) == limit
        return {
            "rows": rows,
            "after_seq": rows[-1][0] if is_full else last_seq,
            "more": is_full or number + 1 < len(segments),
        }
    return {"rows": [], "after_seq": after_seq, "more": False}


def settled(segments: tuple[Segment, ...], seqs: list[int]) -> dict[str, Any]:
    """What became of these."""
    rows: list[list[Any]] = []
    for segment in segments:
        mine = [seq for seq in seqs if segment.first_seq <= seq <= segment.last_seq]
        if mine:
            rows += _rows(
                segment, "seq IN (SELECT value FROM json_each(?1)) ORDER BY seq", (orjson.dumps(mine).decode(),)
            )
    return {"rows": rows}


def covered(segments: tuple[Segment, ...]) -> dict[str, Any]:
    """Of which times the record says everything."""
    first: int | None = None
    gaps: list[list[int]] = []
    for segment in segments:
        if first is not None and not segment.gaps:
            continue  # it is asked for often, and nearly no segment has any
        connection = connect(segment.path, query_only=True)
        try:
            if first is None:
                first = connection.execute("SELECT accepted_ns FROM receipt ORDER BY seq LIMIT 1").get
            gaps += [[start, end] for start, end in connection.execute("SELECT from_ns, to_ns FROM gap")]
        finally:
            connection.close()
    return {"from_ns": first, "last_seq": segments[-1].last_seq, "gaps": gaps}


def _rows(segment: Segment, where: str, values: tuple[Any, ...]) -> list[list[Any]]:
    connection = connect(segment.path, query_only=True)
    try:
        # One text for all of them: a row at a time takes Python's lock back and forth beside a busy loop.
        text = connection.execute(
            f"SELECT json_group_array(json_array({_COLUMNS})) FROM (SELECT * FROM receipt WHERE {where})", values
        ).get
    finally:
        connection.close()
    rows: list[list[Any]] = orjson.loads(str(text))
    return rows

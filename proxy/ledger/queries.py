"""What the supervisor asks the ledger, and the answers: plain dicts and lists for the admin API.

    events        {route, side, state, since_ns, after_seq, limit, id}   receipts, oldest first; all but limit optional
    summary       {}                                                     balance of each side, segments, gaps
    replay        {since_ns, side, route}                                {"replayed", "without_body"}
    dead_requeue  {ids | null, side | null, route | null}                {"moved"}
    dead_discard  {ids | null, side | null, route | null}                {"moved"}

What the consistency checker asks stands in `recorded`.

side is 0 (old), 1 (new) or null; state is a name of `proxy.core.owed.STATE_NAMES`. Reading is done in a
thread of its own, a segment at a time. No value of a header ever leaves the ledger, only names; a
target leaves without its query string.
"""

# ruff: noqa: S608 - what is put into SQL text here are our own constants

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from proxy.core.event import SIDES, UNFIT_STATUS
from proxy.core.owed import DEAD, DEFERRED, NOT_OWED, PENDING, STATE_NAMES, Balance
from proxy.ledger import recorded
from proxy.ledger.moves import Moves
from proxy.ledger.schema import OPEN_STATES, connect
from proxy.ledger.segment import BalanceTable, Segment

MAX_LIMIT: Final = 1000
"""Receipts in one answer."""

_COLUMNS: Final = (
    "seq, id, route, key, bucket, epoch, authority, transport, head, accepted_ns, event_time, identities, "
    "lower(hex(digest)), body_size, old_state, old_status, old_attempts, new_state, new_status, new_attempts"
)


class BadQuestion(ValueError):
    """A question that cannot be answered; the text says why."""


class Queries:
    """Answers questions. segments, balance: what the store has now; thread: where reading is done."""

    def __init__(
        self,
        segments: Callable[[], tuple[Segment, ...]],
        balance: Callable[[], BalanceTable],
        moves: Moves,
        thread: ThreadPoolExecutor,
        *,
        retain_bodies: bool,
    ) -> None:
        self._segments = segments
        self._balance = balance
        self._moves = moves
        self._thread = thread
        self._retain_bodies = retain_bodies

    async def answer(self, op: str, args: dict[str, Any]) -> Any:
        """The answer to one question. Raises BadQuestion for an unknown one or bad arguments."""
        loop = asyncio.get_running_loop()
        if op == "events":
            return await loop.run_in_executor(self._thread, self.events, args)
        if op == "summary":
            return await loop.run_in_executor(self._thread, self.summary)
        if op in ("recorded", "settled", "covered"):
            return await loop.run_in_executor(self._thread, self.checked, op, args)
        side, route = _side(args.get("side")), args.get("route")
        if op == "replay":
            if side is None:
                raise BadQuestion("replay needs a side, old or new")
            if not self._retain_bodies:
                raise BadQuestion("bodies of settled events are not kept: set ledger.retain_bodies to replay them")
            moved, bare = await self._moves.replay(_whole(args, "since_ns") or 0, side, route)
            return {"replayed": moved, "without_body": bare}
        if op in ("dead_requeue", "dead_discard"):
            ids = args.get("ids")
            if ids is not None and not (isinstance(ids, list) and all(isinstance(each, str) for each in ids)):
                raise BadQuestion("ids must be a list of event ids, or null for all")
            move = self._moves.requeue if op == "dead_requeue" else self._moves.discard
            return {"moved": await move(ids, side, route)}
        raise BadQuestion(f"unknown question {op!r}")

    # reading, in the thread

    def summary(self) -> dict[str, Any]:
        """Balance of each side, and what the record is made of."""
        sides = []
        balanced = True
        for (route, side), counts in sorted(self._balance().items()):
            balance = Balance(counts)
            balanced = balanced and balance.is_sound()
            sides.append({"route": route, "side": side, "balance": balance.as_dict()})
        segments = self._segments()
        gaps: list[dict[str, Any]] = []
        for segment in segments:
            if segment.gaps:
                connection = connect(segment.path, query_only=True)
                try:
                    text = connection.execute(
                        "SELECT json_group_array(json_array(from_ns, to_ns, reason)) FROM gap"
                    ).get
                finally:
                    connection.close()
                gaps += [
                    {"from": _iso(start), "to": _iso(end), "reason": reason}
                    for start, end, reason in orjson.loads(str(text))
                ]
        return {
            "balanced": balanced,
            "sides": sides,
            "segments": len(segments),
            "receipts": segments[-1].last_seq - segments[0].first_seq + 1,
            "gaps": gaps,
        }

    def checked(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        """What the consistency checker asks."""
        if op == "covered":
            return recorded.covered(self._segments())
        if op == "settled":
            seqs = args.get("seqs")
            if not (isinstance(seqs, list) and len(seqs) <= recorded.MOST and all(type(seq) is int for seq in seqs)):
                raise BadQuestion(f"seqs must be a list of at most {recorded.MOST} whole numbers")
            return recorded.settled(self._segments(), seqs)
        route = args.get("route")
        if not isinstance(route, str):
            raise BadQuestion("recorded needs a route")
        after_seq, since_ns = _whole(args, "after_seq") or 0, _whole(args, "since_ns") or 0
        return recorded.recorded(self._segments(), route, after_seq, _whole(args, "limit") or recorded.MOST, since_ns)

    def events(self, args: dict[str, Any]) -> dict[str, Any]:
        """Receipts that fit, and where the next page begins."""
        limit = max(1, min(_whole(args, "limit") or 100, MAX_LIMIT))
        wanted = args.get("id")
        after = _whole(args, "after_seq") or 0
        where, values = _conditions(args)
        found: list[dict[str, Any]] = []
        more = False
        # An id is most likely looked for soon after it came; pages go on upwards.
        segments = self._segments()
        for segment in reversed(segments) if wanted else segments:
            if segment.last_seq <= after:
                continue
            rows = _read(segment, where, (*values, after, limit + 1 - len(found)))
            found += [_receipt(row) for row in rows]
            if len(found) > limit:
                more = True
                break
        found = found[:limit]
        return {"events": found, "next_after_seq": found[-1]["seq"] if more else None}


def _read(segment: Segment, where: str, values: tuple[Any, ...]) -> list[list[Any]]:
    connection = connect(segment.path, query_only=True)
    try:
        text = connection.execute(
            f"SELECT json_group_array(json_array({_COLUMNS}, hex(context), found)) FROM ("
            "SELECT r.*, b.context, b.seq IS NOT NULL AS found FROM receipt AS r LEFT JOIN body AS b ON b.seq = r.seq "
            f"WHERE {where} AND r.seq > ? ORDER BY r.seq LIMIT ?)",
            values,
        ).get
    finally:
        connection.close()
    rows: list[list[Any]] = orjson.loads(str(text))
    return rows


def _conditions(args: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """SQL conditions and their values, from a question's arguments."""
    parts = ["1"]
    values: list[Any] = []
    for name in ("id", "route"):
        if args.get(name) is not None:
            parts.append(f"{name} = ?")
            values.append(str(args[name]))
    since_ns = _whole(args, "since_ns")
    if since_ns is not None:
        parts.append("accepted_ns >= ?")
        values.append(since_ns)
    side, state = _side(args.get("side")), _state(args.get("state"))
    sides = SIDES if side is None else (SIDES[side],)
    if state is not None:
        terms = []
        for name in sides:
            indexed = f"{name}_state IN {OPEN_STATES} AND " if state in (PENDING, DEFERRED, DEAD) else ""
            terms.append(f"({indexed}{name}_state = {state})")
        parts.append(f"({' OR '.join(terms)})")
    elif side is not None:
        parts.append(f"{SIDES[side]}_state != {NOT_OWED}")
    return " AND ".join(parts), tuple(values)


def _whole(args: dict[str, Any], name: str) -> int | None:
    value = args.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise BadQuestion(f"{name} must be a whole number, not {value!r}")


def _side(value: Any) -> int | None:
    if value is None or (value in (0, 1) and not isinstance(value, bool)):
        return value
    raise BadQuestion(f"side must be 0, 1 or null, not {value!r}")


def _state(value: Any) -> int | None:
    if value is None:
        return None
    if value not in STATE_NAMES:
        raise BadQuestion(f"unknown state {value!r}; states are {', '.join(STATE_NAMES[PENDING:])}")
    return STATE_NAMES.index(value)


def _iso(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _receipt(row: list[Any]) -> dict[str, Any]:
    (seq, id, route, key, bucket, epoch, authority, transport, head, accepted, event_time, identities, digest, size,
     old_state, old_status, old_attempts, new_state, new_status, new_attempts, context, found) = row  # fmt: skip
    method, _, rest = head.partition(" ")
    receipt = {
        "seq": seq, "id": id, "route": route, "key": key, "bucket": bucket, "epoch": epoch,
        "authority": SIDES[authority], "transport": transport, "method": method, "target": _without_query(rest),
        "accepted_at": _iso(accepted), "event_time": event_time,
        "identities": orjson.loads(identities) if identities else [], "digest": digest, "body_size": size,
        "old": _side_of(old_state, old_status, old_attempts), "new": _side_of(new_state, new_status, new_attempts),
    }  # fmt: skip
    if found:
        # A header's value may hold any byte, so this is text only byte by byte. What a session's message has behind
        # the empty line may be secret.
        lines = bytes.fromhex(context).partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        receipt["headers"] = [line.partition(":")[0] for line in lines if line]
    return receipt


def _without_query(rest: str) -> str:
    """The target of a request line after its method: a query string may hold a secret and is not shown."""
    return rest.rpartition(" ")[0].partition("?")[0]


def _side_of(state: int, status: int, attempts: int) -> dict[str, Any] | None:
    if state == NOT_OWED:
        return None
    side = {"state": STATE_NAMES[state], "status": status, "attempts": attempts}
    return side | {"reason": "unfit"} if status == UNFIT_STATUS else side

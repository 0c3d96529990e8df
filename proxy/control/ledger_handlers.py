"""The operations on the record: questions to the ledger process, and what a person does with dead letters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from proxy.control import views
from proxy.control.admin import Call, nanoseconds
from proxy.control.bodies import DeadLetters, Replay
from proxy.control.instance import Instance
from proxy.control.problems import Problem
from proxy.control.status import side_stats
from proxy.core.event import SIDES
from proxy.core.owed import STATE_NAMES

PAGE: Final = 1000
"""Events asked for at a time when they are only counted."""
ROWS: Final = 5000
SEQS: Final = 500
Record = Callable[[Call, str, dict[str, Any], str], Awaitable[None]]


class LedgerHandlers:
    """record: writes the audit line of a change."""

    def __init__(self, instance: Instance, record: Record) -> None:
        self._instance = instance
        self._record = record

    async def _ask(self, op: str, args: dict[str, Any]) -> Any:
        return await self._instance.peers.ask(op, args)

    async def ledger(self, _call: Call) -> views.LedgerSummary:
        """The balance of the record."""
        summary = await self._ask("summary", {})
        sides = [self._side_view(each) for each in summary["sides"]]
        return views.LedgerSummary(summary["balanced"], sides, summary["segments"], summary["gaps"])

    def _side_view(self, summed: dict[str, Any]) -> views.LedgerSide:
        """One side of the summary, with what the ledger's last report says of the present beside it."""
        name, side = summed["route"], summed["side"]
        route, last = self._instance.routes.get(name), side_stats(self._instance.tally.ledger, name, side)
        return views.LedgerSide(
            route=name,
            side=SIDES[side],
            backend=(route.old, route.new)[side] if route is not None else "",
            balance=summed["balance"],
            oldest_pending_age=round(last.oldest_pending_age, 3) if last is not None else 0.0,
            marked=last.marked if last is not None else 0,
            paused=last.paused if last is not None else "",
        )

    async def ledger_events(self, call: Call) -> views.Receipts:
        """Receipts, page by page."""
        since = call.query.get("since")
        return await self._page(
            call,
            state=call.choice("state", STATE_NAMES[1:]),
            since_ns=nanoseconds(since) if since is not None else None,
        )

    async def ledger_event(self, call: Call) -> views.ReceiptsOfEvent:
        """Everything recorded under one id."""
        page = await self._ask("events", _filter(id=call.path["id"], limit=PAGE))
        if not page["events"]:
            raise Problem(404, f"no event {call.path['id']!r} is recorded; settled ones are kept for ledger.retain")
        return views.ReceiptsOfEvent(page["events"])

    async def recorded(self, call: Call) -> views.Recorded:
        """Receipts of a route as the consistency checker reads them."""
        route = call.query.get("route", "")
        if route not in self._instance.routes:
            raise Problem(422, f"recorded needs a route, one of {', '.join(self._instance.routes)}, not {route!r}")
        args = {
            "route": route,
            "after_seq": call.integer("after_seq", 0, 0, 10**18),
            "limit": call.integer("limit", ROWS, 1, ROWS),
            "since_ns": nanoseconds(call.query.get("since", "0")),
        }
        return views.Recorded(**await self._ask("recorded", args))

    async def settled(self, call: Call) -> views.Settled:
        """What became of some receipts."""
        texts = call.query.get("seqs", "").split(",")
        if len(texts) > SEQS or not all(text.isascii() and text.isdigit() and len(text) <= 18 for text in texts):
            raise Problem(422, f"seqs must be at most {SEQS} whole numbers with commas between them")
        return views.Settled(**await self._ask("settled", {"seqs": [int(text) for text in texts]}))

    async def covered(self, _call: Call) -> views.Covered:
        """Of which times the record says everything."""
        return views.Covered(**await self._ask("covered", {}))

    async def dead(self, call: Call) -> views.Receipts:
        """Dead letters, page by page."""
        return await self._page(call, state="dead", since_ns=None)

    async def _page(self, call: Call, *, state: str | None, since_ns: int | None) -> views.Receipts:
        page = await self._ask(
            "events",
            _filter(
                route=call.query.get("route"),
                side=_side(call.choice("side", SIDES)),
                state=state,
                since_ns=since_ns,
                after_seq=call.integer("after_seq", 0, 0, 10**18),
                limit=call.integer("limit", 100, 1, PAGE),
            ),
        )
        return views.Receipts(page["events"], page["next_after_seq"])

    async def replay(self, call: Call) -> views.Replayed:
        """Delivered events of a side become pending again."""
        body: Replay = call.body
        if not self._instance.settings.ledger.retain_bodies:
            raise Problem(422, "bodies of delivered events are not kept; replay needs ledger.retain_bodies: true")
        args = {"since_ns": nanoseconds(body.since), "side": _side(body.side), "route": body.route}
        await self._record(call, "replay", {"since": body.since, "side": body.side}, body.route or "")
        if call.who.dry_run:
            return views.Replayed(await self._count({"state": "delivered", **args}), 0, True)
        result = await self._ask("replay", args)
        return views.Replayed(result["replayed"], result["without_body"], False)

    async def dead_requeue(self, call: Call) -> views.Moved:
        """Dead letters become pending again."""
        return await self._move(call, "dead-requeue", "dead_requeue")

    async def dead_discard(self, call: Call) -> views.Moved:
        """Dead letters are given up."""
        return await self._move(call, "dead-discard", "dead_discard")

    async def _move(self, call: Call, action: str, op: str) -> views.Moved:
        body: DeadLetters = call.body
        if body.all == (body.ids is not None):
            raise Problem(422, 'name the events ("ids") or say "all": true, one of them')
        args = {"ids": body.ids, "side": _side(body.side), "route": body.route}
        named = await self._count_named(body) if body.ids is not None else 0
        await self._record(call, action, {"ids": body.ids, "all": body.all, "side": body.side}, body.route or "")
        if call.who.dry_run:
            found = {"state": "dead", "side": args["side"], "route": body.route}
            return views.Moved(await self._count(found) if body.all else named, True)
        return views.Moved((await self._ask(op, args))["moved"], False)

    async def _count_named(self, body: DeadLetters) -> int:
        """How many dead letters the ids name; a Problem with those that name none, because somebody mistyped them."""
        wanted = {"state": "dead", "side": _side(body.side), "route": body.route}
        counts = {id_: await self._count(wanted | {"id": id_}) for id_ in body.ids or ()}
        unknown = [id_ for id_, count in counts.items() if count == 0]
        if unknown:
            raise Problem(404, f"nothing was moved: no dead letters are {', '.join(unknown)}", ids=unknown)
        return sum(counts.values())

    async def _count(self, wanted: dict[str, Any]) -> int:
        """How many events a change would move: one for each side where the event is in that state."""
        state, side = wanted["state"], wanted["side"]
        sides = SIDES if side is None else (SIDES[side],)
        count, after = 0, 0
        while True:
            page = await self._ask("events", _filter(**wanted, after_seq=after, limit=PAGE))
            for event in page["events"]:
                count += sum((event[name] or {}).get("state") == state for name in sides)
            if page["next_after_seq"] is None:
                return count
            after = page["next_after_seq"]


def _filter(**given: Any) -> dict[str, Any]:
    """The arguments of the ledger's `events`, with None for what is not asked."""
    return dict.fromkeys(("route", "side", "state", "since_ns", "id")) | {"after_seq": 0, "limit": 100} | given


def _side(name: str | None) -> int | None:
    return None if name is None else SIDES.index(name)

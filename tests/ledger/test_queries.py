"""What the admin API asks, answered from a real store."""

from __future__ import annotations

from typing import Any

import apsw
import pytest

from proxy.core.event import REFUSED, Outcome
from proxy.core.owed import DELIVERED
from proxy.ledger.keeper import Keeper
from proxy.ledger.queries import BadQuestion
from tests.ledger.support import ROUTE, Ledgers, event, until

pytestmark = pytest.mark.asyncio


SETTLED = {("delivered", "delivered"), ("delivered", "refused")}


async def ask(keeper: Keeper, **args: Any) -> list[str]:
    """Ids of the events found."""
    answer = await keeper.queries.answer("events", args)
    return [each["id"] for each in answer["events"]]


async def filled(ledgers: Ledgers) -> Keeper:
    """Ten events in two segments: odd ones delivered at both sides, even ones refused at new; 10 is deferred."""
    keeper = await ledgers.start()
    ledgers.backends.default[1] = Outcome(REFUSED, 422)
    worker = await ledgers.worker()
    for n in range(1, 10):
        reports = [(n, 0, DELIVERED, 200)] + ([(n, 1, DELIVERED, 201)] if n % 2 else [])
        await worker.say_durably([event(n, key=f"k{n}", handed=0 if n % 2 else 2)], reports)
        if n == 5:
            await until(
                lambda: set(ledgers.states().values()) <= {("delivered", "delivered"), ("delivered", "refused")},
                "settled",
            )
            await keeper.committer.write(keeper._store.roll)
    await worker.say_durably([event(10, authority=1, deferred=1)], [(10, 1, DELIVERED, 200)])
    await until(lambda: ledgers.states()["id-8"] == ("delivered", "refused"), "settled")
    return keeper


async def test_events_are_found_by_what_is_known_of_them(ledgers: Ledgers) -> None:
    keeper = await filled(ledgers)
    assert await ask(keeper) == [f"id-{n}" for n in range(1, 11)]
    assert await ask(keeper, side=1, state="refused") == ["id-2", "id-4", "id-6", "id-8"]
    assert await ask(keeper, state="deferred") == ["id-10"]
    assert await ask(keeper, side=1, state="deferred") == []
    assert await ask(keeper, since_ns=8000) == ["id-8", "id-9", "id-10"]
    assert await ask(keeper, route=ROUTE, limit=2) == ["id-1", "id-2"]
    assert await ask(keeper, route="other") == []
    assert await ask(keeper, id="id-3") == ["id-3"]
    assert await ask(keeper, id="nobody") == []


async def test_pages_follow_one_another(ledgers: Ledgers) -> None:
    keeper = await filled(ledgers)
    found: list[str] = []
    after: int | None = 0
    while after is not None:
        answer = await keeper.queries.answer("events", {"after_seq": after, "limit": 3})
        assert len(answer["events"]) <= 3
        found += [each["id"] for each in answer["events"]]
        after = answer["next_after_seq"]
    assert found == [f"id-{n}" for n in range(1, 11)]


async def test_an_event_that_leaves_the_count_is_noticed(ledgers: Ledgers) -> None:
    keeper = await filled(ledgers)
    summary = await keeper.queries.answer("summary", {})
    assert summary["balanced"]
    assert [each["balance"]["owed"] for each in summary["sides"]] == [10, 10]
    await ledgers.stop()
    connection = apsw.Connection(str(max(ledgers.directory.glob("segment-*.db"))))
    connection.execute("UPDATE balance SET n = n - 1 WHERE side = 1 AND state = 3")
    connection.close()
    keeper = await ledgers.start()
    assert not (await keeper.queries.answer("summary", {}))["balanced"]


async def test_a_receipt_is_shown_whatever_bytes_its_headers_hold_and_without_its_query(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    head = b"POST /api/v1/events?token=secret HTTP/1.1\r\nHost: h\r\nX-Caf\xe9: caf\xe9 \x00\r\n"
    await worker.say_durably([event(1, context=head, authority=1, deferred=1)])
    [receipt] = (await keeper.queries.answer("events", {}))["events"]
    assert receipt["headers"] == ["Host", "X-Caf\xe9"]
    assert (receipt["method"], receipt["target"]) == ("POST", "/api/v1/events")
    assert "secret" not in str(receipt)


async def test_a_receipt_shows_names_of_headers_and_never_a_value(ledgers: Ledgers) -> None:
    keeper = await filled(ledgers)
    [receipt] = (await keeper.queries.answer("events", {"id": "id-10"}))["events"]
    assert "secret" not in str(receipt)
    assert receipt["headers"] == ["Host", "Authorization"]
    assert receipt["method"] == "POST"
    assert receipt["target"] == "/api/v1/events"
    assert receipt["authority"] == "new"
    assert receipt["old"] == {"state": "deferred", "status": 0, "attempts": 0}
    assert receipt["new"] == {"state": "delivered", "status": 200, "attempts": 1}
    assert receipt["accepted_at"] == "1970-01-01T00:00:00.000Z"
    assert len(receipt["digest"]) == 32
    [settled] = (await keeper.queries.answer("events", {"id": "id-2"}))["events"]
    assert "headers" not in settled, "they went with the body"
    assert settled["new"] == {"state": "refused", "status": 422, "attempts": 1}


async def test_a_summary_says_how_it_stands(ledgers: Ledgers) -> None:
    keeper = await filled(ledgers)
    summary = await keeper.queries.answer("summary", {})
    assert (summary["balanced"], summary["segments"], summary["receipts"], summary["gaps"]) == (True, 2, 10, [])
    old, new = summary["sides"]
    assert (old["route"], old["side"], old["balance"]["owed"], old["balance"]["deferred"]) == (ROUTE, 0, 10, 1)
    assert (new["balance"]["delivered"], new["balance"]["refused"]) == (6, 4)


@pytest.mark.parametrize(
    ("op", "args", "says"),
    [
        ("nonsense", {}, "unknown question"),
        ("events", {"side": 2}, "side must be"),
        ("events", {"side": True}, "side must be"),
        ("events", {"state": "happy"}, "unknown state"),
        ("events", {"limit": "many"}, "whole number"),
        ("events", {"since_ns": "yesterday"}, "whole number"),
        ("events", {"after_seq": []}, "whole number"),
        ("replay", {"side": None}, "needs a side"),
        ("dead_requeue", {"ids": "id-1"}, "list of event ids"),
        ("dead_discard", {"ids": [1]}, "list of event ids"),
    ],
)
async def test_bad_questions_are_told_what_is_wrong(ledgers: Ledgers, op: str, args: dict[str, Any], says: str) -> None:
    keeper = await ledgers.start()
    with pytest.raises(BadQuestion, match=says):
        await keeper.queries.answer(op, args)


async def test_dead_letters_are_discarded(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.default[0] = Outcome(REFUSED, 400)
    await worker.say_durably([event(n, key=f"k{n}", handed=3, after_authority=True) for n in (1, 2, 3)])
    await until(lambda: set(ledgers.states().values()) == {("dead", "refused")}, "dead letters")
    assert await keeper.queries.answer("dead_discard", {"ids": ["id-2", "nobody"]}) == {"moved": 1}
    assert ledgers.states()["id-2"] == ("discarded", "refused")
    assert await keeper.queries.answer("dead_discard", {"ids": None, "side": 1}) == {"moved": 0}
    assert await keeper.queries.answer("dead_discard", {"ids": None, "route": "other"}) == {"moved": 0}
    assert await keeper.queries.answer("dead_discard", {"ids": None}) == {"moved": 2}
    assert keeper.counters()["discarded"] == 3
    assert ledgers.marks.count(0, 0) == 0

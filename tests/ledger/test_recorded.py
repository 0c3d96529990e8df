"""What the consistency checker reads of a real store while it is written to."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.core import owed
from proxy.core.event import REFUSED, Outcome
from proxy.core.owed import DELIVERED
from proxy.ledger.keeper import Keeper
from proxy.ledger.queries import BadQuestion
from proxy.ledger.recorded import MOST
from tests.ledger.support import ROUTE, Ledgers, event, until

pytestmark = pytest.mark.asyncio


async def ask(keeper: Keeper, op: str, **args: Any) -> Any:
    return await keeper.queries.answer(op, args)


async def ids(keeper: Keeper, after: int = 0, limit: int = MOST, route: str = ROUTE) -> tuple[list[str], int, bool]:
    said = await ask(keeper, "recorded", route=route, after_seq=after, limit=limit)
    return [row[1] for row in said["rows"]], said["after_seq"], said["more"]


async def filled(ledgers: Ledgers) -> Keeper:
    """Six events in two segments, the even ones refused by new."""
    keeper = await ledgers.start()
    ledgers.backends.default[1] = Outcome(REFUSED, 422)
    worker = await ledgers.worker()
    for n in range(1, 7):
        reports = [(n, 0, DELIVERED, 200)] + ([(n, 1, DELIVERED, 201)] if n % 2 else [])
        await worker.say_durably([event(n, key=f"k{n}", handed=0 if n % 2 else 2)], reports)
        if n == 3:
            await until(lambda: ledgers.states()["id-2"] == ("delivered", "refused"), "settled")
            await keeper.committer.write(keeper._store.roll)
    await until(lambda: ledgers.states()["id-6"] == ("delivered", "refused"), "settled")
    return keeper


async def test_pages_go_on_where_the_last_one_ended_over_all_segments(ledgers: Ledgers) -> None:
    keeper = await filled(ledgers)
    for limit in (1, 2, 3, MOST):
        found: list[str] = []
        after, more = 0, True
        while more:
            page, after, more = await ids(keeper, after, limit)
            found += page
        assert found == [f"id-{n}" for n in range(1, 7)]
        assert await ids(keeper, after) == ([], after, False)


async def test_receipts_since_a_time(ledgers: Ledgers) -> None:
    keeper = await filled(ledgers)
    said = await ask(keeper, "recorded", route=ROUTE, since_ns=3000)
    assert ([row[1] for row in said["rows"]], said["more"]) == (["id-3"], True), "one segment at a time"
    said = await ask(keeper, "recorded", route=ROUTE, since_ns=3000, after_seq=said["after_seq"])
    assert [row[1] for row in said["rows"]] == ["id-4", "id-5", "id-6"]


async def test_rows_say_what_became_of_each_event(ledgers: Ledgers) -> None:
    keeper = await filled(ledgers)
    rows = (await ask(keeper, "recorded", route=ROUTE))["rows"]
    assert [row[5:] for row in rows[:2]] == [
        [owed.DELIVERED, 1, owed.DELIVERED, 1],
        [owed.DELIVERED, 1, owed.REFUSED, 1],
    ]
    seqs = [row[0] for row in rows]
    assert (await ask(keeper, "settled", seqs=[seqs[1], 10**9]))["rows"] == rows[1:2]


async def test_of_another_route_nothing_is_said_and_the_place_goes_on(ledgers: Ledgers) -> None:
    """So that a checker of a quiet route does not read a busy one's receipts again and again."""
    keeper = await filled(ledgers)
    first = await ids(keeper, 0, route="quiet")
    assert first[0] == []
    assert first[2], "one segment at a time"
    assert await ids(keeper, first[1], route="quiet") == ([], (await ids(keeper))[1] + 3, False)


async def test_what_comes_later_is_behind_the_place(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    assert await ids(keeper) == ([], 0, False)
    worker = await ledgers.worker()
    await worker.say_durably([event(1)], [(1, 0, DELIVERED, 200), (1, 1, DELIVERED, 200)])
    found, after, more = await ids(keeper)
    assert (found, more) == (["id-1"], False)
    await worker.say_durably([event(2)], [(2, 0, DELIVERED, 200), (2, 1, DELIVERED, 200)])
    assert (await ids(keeper, after))[0] == ["id-2"]


async def test_coverage_begins_with_the_oldest_receipt_and_has_its_gaps(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    assert await ask(keeper, "covered") == {"from_ns": None, "last_seq": 0, "gaps": []}
    worker = await ledgers.worker()
    await worker.say_durably([event(7)], [(7, 0, DELIVERED, 200), (7, 1, DELIVERED, 200)])
    await keeper.committer.write(lambda: keeper.book.add_gap(100, 200, "a test"))
    await worker.say_durably([event(8)], [(8, 0, DELIVERED, 200), (8, 1, DELIVERED, 200)])
    assert await ask(keeper, "covered") == {"from_ns": 7000, "last_seq": 2, "gaps": [[100, 200]]}


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("recorded", {}),
        ("recorded", {"route": 7}),
        ("recorded", {"route": ROUTE, "after_seq": "x"}),
        ("settled", {}),
        ("settled", {"seqs": ["1"]}),
        ("settled", {"seqs": [True]}),
        ("settled", {"seqs": list(range(MOST + 1))}),
    ],
)
async def test_bad_questions(ledgers: Ledgers, op: str, args: dict[str, Any]) -> None:
    keeper = await ledgers.start()
    with pytest.raises(BadQuestion):
        await ask(keeper, op, **args)

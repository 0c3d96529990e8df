"""A whole ledger in one loop: fake workers on its socket, fake backends behind `deliver`."""

from __future__ import annotations

import asyncio

import pytest

from proxy.core.event import DELIVERED as TAKEN
from proxy.core.event import DENIED, PAUSE, REFUSED, RETRY, UNFIT, UNFIT_STATUS, UNREACHABLE, Outcome
from proxy.core.owed import DELIVERED, DISCARDED
from proxy.core.owed import REFUSED as REFUSED_STATE
from proxy.core.routing import Dials, Routing
from proxy.ledger.marks import RESTORED
from proxy.ledger.protocol import HANDED, PARKED
from tests.ledger.support import ROUTE, Ledgers, bucket, event, rows, until

pytestmark = pytest.mark.asyncio
DELIVERED_BOTH = ("delivered", "delivered")


async def test_a_healthy_event_is_acknowledged_and_nothing_is_delivered(ledgers: Ledgers) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    assert worker.welcome == 0
    await worker.say_durably([event(1)], [(1, 0, DELIVERED, 200), (1, 1, DELIVERED, 200)])
    await worker.die()
    await ledgers.stop()
    assert ledgers.states() == {"id-1": DELIVERED_BOTH}
    assert ledgers.backends.got == []


async def test_a_frame_that_nobody_waits_for_is_durable_within_the_interval(ledgers: Ledgers) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    worker.say([event(1)])
    await until(lambda: worker.durable == 1, "the frame is durable")


async def test_marks_count_only_once_a_ledger_has_shown_what_it_found(ledgers: Ledgers) -> None:
    assert not ledgers.marks.flag(RESTORED)
    await ledgers.start()
    assert ledgers.marks.flag(RESTORED)
    await ledgers.stop()


async def test_handed_events_are_delivered_in_order_and_the_mark_is_cleared(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.open.clear()
    numbers = list(range(1, 301))
    reports = [(n, 0, DELIVERED, 200) for n in numbers]
    await worker.say_durably([event(n, key=f"k{n % 7}", handed=2) for n in numbers], reports)
    assert ledgers.marks.is_set(0, 1, bucket("k1")), "set before the frame was durable"
    assert ledgers.marks.count(0, 1) == 7
    ledgers.backends.open.set()
    await until(lambda: len(ledgers.backends.got) == 300, "all are delivered")
    await until(lambda: ledgers.marks.count(0, 1) == 0, "no marks are left")
    for k in range(7):
        got = [id for id in ledgers.backends.order(1) if int(id[3:]) % 7 == k]
        assert got == [f"id-{n}" for n in numbers if n % 7 == k]
    size = sum(len(event(n).body) for n in numbers)
    assert size > 0
    assert [keeper.replayer.delivered_bytes(ROUTE, side) for side in (0, 1)] == [0, size]
    assert keeper.replayer.delivered_bytes("gone", 0) == 0
    assert ledgers.backends.events["id-5"].body == b'{"n":5}'
    assert ledgers.backends.events["id-5"].context.startswith(b"POST /api/v1/events HTTP/1.1\r\n")
    assert 1 < ledgers.backends.most_in_flight <= keeper._settings.ledger.replay_concurrency
    await worker.die()
    await ledgers.stop()
    assert set(ledgers.states().values()) == {DELIVERED_BOTH}


async def test_a_parked_event_blocks_its_key_until_its_worker_reports(ledgers: Ledgers) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    await worker.say_durably([event(1)], [(1, 0, DELIVERED, 200), (1, 1, PARKED, 0)])
    await worker.say_durably([event(2, handed=2), event(3, key="other", handed=2)])
    await until(lambda: ledgers.backends.order(1) == ["id-3"], "the other key goes on")
    assert ledgers.marks.is_set(0, 1, bucket("k"))
    worker.say([], [(1, 1, DELIVERED, 200)])
    await until(lambda: ledgers.backends.order(1) == ["id-3", "id-2"], "then the blocked one")


async def test_a_parked_event_that_is_handed_after_all_goes_first(ledgers: Ledgers) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    await worker.say_durably([event(1)], [(1, 0, DELIVERED, 200)])
    await worker.say_durably([], [(1, 1, PARKED, 0)])
    await worker.say_durably([event(2, handed=2)])
    worker.say([], [(1, 1, HANDED, 504)])
    await until(lambda: ledgers.backends.order(1) == ["id-1", "id-2"], "both, in order")


async def test_a_dead_workers_events_are_delivered(ledgers: Ledgers) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    worker.say([event(1), event(2)], [(1, 0, DELIVERED, 200)])
    await until(lambda: worker.durable == 1, "recorded")
    await worker.die()
    await until(lambda: len(ledgers.backends.got) == 3, "delivered")
    assert ledgers.backends.order(0) == ["id-2"]
    assert ledgers.backends.order(1) == ["id-1", "id-2"]
    await until(lambda: set(ledgers.states().values()) == {DELIVERED_BOTH}, "settled on disk")


async def test_what_was_read_before_a_worker_died_counts(ledgers: Ledgers) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    for n in range(1, 51):
        worker.say([event(n, key=f"k{n}")], [(n, 0, DELIVERED, 200), (n, 1, DELIVERED, 200)])
    await worker.die()
    await until(lambda: len(ledgers.states()) == 50, "all of it is in the record")
    assert set(ledgers.states().values()) == {DELIVERED_BOTH}
    assert ledgers.backends.got == []


async def test_what_cannot_be_made_for_its_backend_is_a_dead_letter_at_once(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.answers[1, "id-1"] = Outcome(UNFIT, UNFIT_STATUS, "its body cannot be made: /x is missing")
    await worker.say_durably([event(n, handed=2) for n in (1, 2)], [(n, 0, DELIVERED, 200) for n in (1, 2)])
    await until(lambda: ledgers.backends.order(1) == ["id-2"], "its successor goes on")
    await until(lambda: ledgers.states()["id-1"] == ("delivered", "dead"), "it is on record")
    assert ledgers.backends.attempts[1, "id-1"] == 1
    found = keeper.queries.events({"id": "id-1"})["events"][0]["new"]
    assert found == {"state": "dead", "status": UNFIT_STATUS, "attempts": 0, "reason": "unfit"}
    assert keeper.replayer.counters["unfit"] == 1
    ledgers.backends.answers.clear()
    async with asyncio.timeout(20):  # it is on disk a moment before the ledger itself knows
        while await keeper.queries.answer("dead_requeue", {"ids": ["id-1"]}) != {"moved": 1}:
            await asyncio.sleep(0.005)
    await until(lambda: ledgers.backends.order(1) == ["id-2", "id-1"], "requeued once the template is mended")


@pytest.mark.parametrize("restarts", [False, True])
async def test_what_an_authority_cannot_be_given_the_other_side_gets(ledgers: Ledgers, restarts: bool) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.answers[1, "id-1"] = Outcome(UNFIT, UNFIT_STATUS, "its body cannot be made: /x is missing")
    ledgers.backends.default[0] = Outcome(UNREACHABLE, 502)
    await worker.say_durably([event(n, authority=1, handed=3, after_authority=True) for n in (1, 2)])
    await until(lambda: ledgers.states()["id-1"] == ("pending", "dead"), "new cannot be given it, old is down")
    if restarts:
        await ledgers.stop()
        keeper = await ledgers.start()
    ledgers.backends.default[0] = Outcome(TAKEN, 200)
    await until(lambda: ledgers.backends.order(0) == ["id-1", "id-2"], "old has it, in order")
    await until(lambda: ledgers.states() == {"id-1": ("delivered", "dead"), "id-2": DELIVERED_BOTH}, "on record")
    ledgers.backends.answers.clear()
    async with asyncio.timeout(20):  # it is on disk a moment before the ledger itself knows
        while await keeper.queries.answer("dead_requeue", {"ids": ["id-1"]}) != {"moved": 1}:
            await asyncio.sleep(0.005)
    await until(lambda: ledgers.states()["id-1"] == DELIVERED_BOTH, "new has it once the template is mended")
    assert ledgers.backends.order(0) == ["id-1", "id-2"], "old has it once"


@pytest.mark.parametrize("kind", [UNFIT, DENIED])
async def test_what_tells_nothing_of_a_backend_that_was_away_does_not_keep_it_away(ledgers: Ledgers, kind: int) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.default[1] = Outcome(UNREACHABLE, 502)
    await worker.say_durably([event(n, key=f"k{n}", handed=2) for n in (1, 2)])
    await until(lambda: ledgers.backends.attempts[1, "id-1"] + ledgers.backends.attempts[1, "id-2"] >= 2, "away")
    ledgers.backends.answers[1, "id-1"] = Outcome(kind, UNFIT_STATUS if kind == UNFIT else 401)
    ledgers.backends.answers[1, "id-2"] = ledgers.backends.answers[1, "id-1"]
    before = dict(ledgers.backends.attempts)
    await until(lambda: sum(ledgers.backends.attempts.values()) > sum(before.values()), "a trial")
    ledgers.backends.answers.clear()
    ledgers.backends.default[1] = Outcome(TAKEN, 200)
    await worker.say_durably([event(3, key="k3", handed=2)])
    await until(lambda: "id-3" in ledgers.backends.order(1), "it goes on")


async def test_a_failing_key_blocks_only_itself(ledgers: Ledgers) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.answers[1, "id-1"] = Outcome(RETRY, 408)
    await worker.say_durably(
        [event(1, handed=2), event(2, handed=2), *[event(n, key=f"k{n}", handed=2) for n in range(3, 60)]]
    )
    await until(lambda: len(ledgers.backends.got) == 57, "all other keys")
    await until(lambda: ledgers.backends.attempts[1, "id-1"] >= 3, "it is tried again")
    assert ledgers.backends.attempts[1, "id-2"] == 0
    del ledgers.backends.answers[1, "id-1"]
    await until(lambda: ledgers.backends.order(1)[-2:] == ["id-1", "id-2"], "then it and its successor")


@pytest.mark.parametrize("ledgers", [{"dead_after": 3}], indirect=True)
async def test_an_event_that_fails_while_others_succeed_becomes_a_dead_letter(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.answers[1, "id-1"] = Outcome(RETRY, 500)
    await worker.say_durably([event(1, handed=2), event(2, handed=2)], [(1, 0, DELIVERED, 200), (2, 0, DELIVERED, 200)])
    for n in range(3, 1000):
        if ledgers.states()["id-1"] == ("delivered", "dead"):
            break
        await worker.say_durably([event(n, key=f"k{n}", handed=2)], [(n, 0, DELIVERED, 200)])
    await until(lambda: ledgers.states()["id-1"] == ("delivered", "dead"), "a dead letter")
    assert ledgers.backends.attempts[1, "id-1"] >= 3
    await until(lambda: "id-2" in ledgers.backends.order(1), "its successor goes on")
    assert keeper.counters()["gave_up"] == 1
    question = {"ids": ["id-1"], "side": None, "route": None}
    async with asyncio.timeout(20):
        while await keeper.queries.answer("dead_requeue", question) == {"moved": 0}:
            await asyncio.sleep(0.01)  # what the book knows is on disk a moment later
    del ledgers.backends.answers[1, "id-1"]
    await until(lambda: ledgers.states()["id-1"] == DELIVERED_BOTH, "requeued and delivered")
    await until(lambda: ledgers.marks.count(0, 1) == 0, "no marks are left")


@pytest.mark.parametrize("ledgers", [{"dead_after": 3}], indirect=True)
@pytest.mark.parametrize(("is_own", "state"), [(True, "dead"), (False, "pending")])
async def test_a_failure_without_an_answer_counts_where_it_is_the_events_own(
    ledgers: Ledgers, is_own: bool, state: str
) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.answers[1, "id-1"] = Outcome(RETRY, 0, "no receipt within 1 s", is_own=is_own)
    await worker.say_durably([event(1, handed=2)], [(1, 0, DELIVERED, 200)])
    n = 1
    while ledgers.backends.attempts[1, "id-1"] < 8 and ledgers.states()["id-1"][1] == "pending":
        n += 1
        await worker.say_durably([event(n, key=f"k{n}", handed=2)], [(n, 0, DELIVERED, 200)])
    assert ledgers.states()["id-1"] == ("delivered", state)


@pytest.mark.parametrize("ledgers", [{"dead_after": 2}], indirect=True)
async def test_when_everything_fails_no_event_becomes_a_dead_letter(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.default[1] = Outcome(RETRY, 503)
    await worker.say_durably([event(n, key=f"k{n}", handed=2) for n in range(1, 41)])
    await until(lambda: ledgers.backends.attempts.total() > 60, "many attempts")
    assert keeper.counters()["gave_up"] == 0 if "gave_up" in keeper.counters() else True
    ledgers.backends.default[1] = Outcome(1, 200)
    await until(lambda: len(ledgers.backends.got) == 40, "all delivered in the end")


@pytest.mark.parametrize("ledgers", [{"dead_after": 3}], indirect=True)
async def test_an_event_that_fails_while_live_ones_succeed_becomes_a_dead_letter(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.answers[1, "id-1"] = Outcome(RETRY, 500)
    await worker.say_durably([event(1, key="bad", handed=2)], [(1, 0, DELIVERED, 200)])
    for n in range(2, 1000):
        if ledgers.states()["id-1"] == ("delivered", "dead"):
            break
        # What its worker delivered by itself, some of it said together with the event and some later.
        await worker.say_durably([event(n, key=f"k{n}")], [(n, 0, DELIVERED, 200), (n, 1, DELIVERED, 201)][: n % 2 + 1])
        await worker.say_durably([], [(n, 1, DELIVERED, 201)][n % 2 :])
        assert keeper.replayer.gates["new"].is_open, "one failing key is not the backend"
    assert ledgers.states()["id-1"] == ("delivered", "dead")
    assert ledgers.backends.got == []
    assert keeper.counters()["gave_up"] == 1


@pytest.mark.parametrize("ledgers", [{"dead_after": 2}], indirect=True)
@pytest.mark.parametrize("status", [302, 412, 414, 431, 501])
async def test_an_answer_that_will_never_change_makes_a_dead_letter(ledgers: Ledgers, status: int) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.answers[1, "id-1"] = Outcome(RETRY, status)
    await worker.say_durably([event(1, key="bad", handed=2)], [(1, 0, DELIVERED, 200)])
    for n in range(2, 1000):
        if ledgers.states()["id-1"] == ("delivered", "dead"):
            break
        await worker.say_durably([event(n, key=f"k{n}")], [(n, 0, DELIVERED, 200), (n, 1, DELIVERED, 201)])
    assert ledgers.states()["id-1"] == ("delivered", "dead")
    assert keeper.counters()["gave_up"] == 1


@pytest.mark.parametrize("ledgers", [{"dead_after": 2}], indirect=True)
@pytest.mark.parametrize("outcome", [Outcome(RETRY, 429), Outcome(RETRY, 504, "timed out"), Outcome(RETRY, 0, "reset")])
async def test_a_failure_that_may_pass_never_makes_a_dead_letter(ledgers: Ledgers, outcome: Outcome) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.answers[1, "id-1"] = outcome
    await worker.say_durably([event(1, key="bad", handed=2)], [(1, 0, DELIVERED, 200)])
    n = 1
    while ledgers.backends.attempts[1, "id-1"] < 6:
        n += 1
        await worker.say_durably([event(n, key=f"k{n}")], [(n, 0, DELIVERED, 200), (n, 1, DELIVERED, 201)])
    assert ledgers.states()["id-1"] == ("delivered", "pending")


async def test_a_trial_of_what_was_settled_meanwhile_still_ends_the_trial(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    gate = keeper.replayer.gates["new"]
    ledgers.backends.default[1] = Outcome(UNREACHABLE, 502, "connection refused")
    await worker.say_durably([event(1, handed=2)])
    await until(lambda: not gate.is_open, "paused")
    ledgers.backends.open.clear()
    await until(lambda: ledgers.backends.in_flight == 1, "a trial")
    await worker.say_durably([], [(1, 0, REFUSED_STATE, 400), (1, 1, DISCARDED, 0)])
    ledgers.backends.open.set()
    await until(lambda: ledgers.backends.in_flight == 0, "the trial failed")
    ledgers.backends.default[1] = Outcome(1, 200)
    await worker.say_durably([event(2, key="other", handed=2)], [(2, 0, DELIVERED, 200)])
    await until(lambda: ledgers.backends.order(1) == ["id-2"], "the gate opens again")


async def test_an_unreachable_backend_costs_no_attempts(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.default[1] = Outcome(UNREACHABLE, 502, "connection refused")
    await worker.say_durably([event(n, key=f"k{n}", handed=2) for n in range(1, 201)])
    await until(lambda: keeper.replayer.counters["unreachable"] > 70, "trials")
    assert not keeper.replayer.gates["new"].is_open
    ledgers.backends.default[1] = Outcome(1, 200)
    await until(lambda: len(ledgers.backends.got) == 200, "all delivered")
    await until(lambda: ledgers.marks.count(0, 1) == 0, "settled")
    await until(lambda: set(ledgers.states().values()) == {("pending", "delivered")}, "on disk")
    attempts = {row[0] for row in rows(keeper._store.newest.path, "SELECT new_attempts FROM receipt")}
    assert attempts == {1}


@pytest.mark.parametrize("kind", [UNREACHABLE, PAUSE])
async def test_what_went_out_before_it_could_not_be_reached_was_an_attempt(ledgers: Ledgers, kind: int) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.default[1] = Outcome(kind, 502, "connection refused", 1)
    await worker.say_durably([event(1, handed=2)], [(1, 0, DELIVERED, 200)])
    await until(lambda: ledgers.backends.attempts[1, "id-1"] >= 2, "tried again")
    ledgers.backends.default[1] = Outcome(1, 200, "", 1)
    await until(lambda: ledgers.states() == {"id-1": ("delivered", "delivered")}, "on disk")
    numbers = ledgers.backends.numbers[1, "id-1"]
    assert numbers == list(range(1, len(numbers) + 1)), "each has a number of its own"
    found = rows(keeper._store.newest.path, "SELECT new_attempts FROM receipt")
    assert found == [(len(numbers) + 1,)], "the last one went out twice"


async def test_a_wrong_credential_pauses_the_backend_and_empties_nothing(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.default[1] = Outcome(PAUSE, 401)
    await worker.say_durably([event(n, key=f"k{n}", handed=3) for n in range(1, 31)])
    await until(lambda: keeper.replayer.gates["new"].paused == "status 401", "it says why")
    await until(lambda: len(ledgers.backends.order(0)) == 30, "the other side is not concerned")
    await until(lambda: set(ledgers.states().values()) == {("delivered", "pending")}, "nothing is lost")
    ledgers.backends.default[1] = Outcome(1, 200)
    await until(lambda: set(ledgers.states().values()) == {DELIVERED_BOTH}, "mended")
    assert keeper.replayer.gates["new"].paused == ""


async def test_a_refusal_is_final(ledgers: Ledgers) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.answers[1, "id-1"] = Outcome(REFUSED, 422)
    await worker.say_durably([event(1, handed=2), event(2, handed=2)], [(1, 0, DELIVERED, 200), (2, 0, DELIVERED, 200)])
    await until(lambda: ledgers.states() == {"id-1": ("delivered", "refused"), "id-2": DELIVERED_BOTH}, "refused")


async def test_accepted_events_go_to_the_authority_first(ledgers: Ledgers) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.default[0] = Outcome(UNREACHABLE, 502)
    await worker.say_durably([event(n, key=f"k{n % 3}", handed=3, after_authority=True) for n in range(1, 31)])
    await until(lambda: ledgers.backends.attempts.total() >= 3, "the authority is tried")
    assert ledgers.backends.order(1) == []
    ledgers.backends.default[0] = Outcome(1, 200)
    await until(lambda: len(ledgers.backends.got) == 60, "both sides")
    for n in range(1, 31):
        got = ledgers.backends.got
        assert got.index((0, f"id-{n}")) < got.index((1, f"id-{n}"))
    for side in (0, 1):
        for k in range(3):
            got_ids = [int(id[3:]) for id in ledgers.backends.order(side) if int(id[3:]) % 3 == k]
            assert got_ids == sorted(got_ids)


async def test_what_the_authority_refuses_of_accepted_events_is_a_dead_letter(ledgers: Ledgers) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.answers[0, "id-1"] = Outcome(REFUSED, 400)
    await worker.say_durably([event(n, handed=3, after_authority=True) for n in (1, 2)])
    await until(lambda: ledgers.states() == {"id-1": ("dead", "refused"), "id-2": DELIVERED_BOTH}, "dead and refused")
    assert ledgers.backends.attempts[1, "id-1"] == 0
    await until(lambda: ledgers.marks.count(0, 0) == ledgers.marks.count(0, 1) == 0, "no marks")


@pytest.mark.parametrize("authority", [0, 1])
@pytest.mark.parametrize("answer", [Outcome(REFUSED, 400), Outcome(RETRY, 500)])
@pytest.mark.parametrize("ledgers", [{"dead_after": 1}], indirect=True)
async def test_a_requeued_authority_takes_the_other_side_along(
    ledgers: Ledgers, authority: int, answer: Outcome
) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.answers[authority, "id-1"] = answer
    await worker.say_durably([event(1, authority=authority, handed=3, after_authority=True)])
    await until(lambda: "pending" not in ledgers.states()["id-1"], "given up at both")
    assert ledgers.states()["id-1"][authority] == "dead"
    del ledgers.backends.answers[authority, "id-1"]
    assert await keeper.queries.answer("dead_requeue", {"ids": ["id-1"]}) == {"moved": 2}
    await until(lambda: ledgers.states()["id-1"] == DELIVERED_BOTH, "both are delivered")
    assert ledgers.backends.got == [(authority, "id-1"), (1 - authority, "id-1")]
    assert ledgers.backends.numbers[authority, "id-1"] == [1, 2], "the attempts go on being counted"
    await until(lambda: ledgers.marks.count(0, 0) == ledgers.marks.count(0, 1) == 0, "no marks are left")


@pytest.mark.parametrize("ledgers", [{"dead_after": 1}], indirect=True)
async def test_a_dead_letter_whose_worker_is_gone_is_requeued_while_the_other_side_is_down(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    ledgers.backends.answers[0, "id-1"] = Outcome(RETRY, 500)
    ledgers.backends.default[1] = Outcome(UNREACHABLE, 502, "connection refused")
    await worker.say_durably([event(1)])
    await worker.die()
    await until(lambda: ledgers.states()["id-1"] == ("dead", "pending"), "dead at old, new is down")
    del ledgers.backends.answers[0, "id-1"]
    assert await keeper.queries.answer("dead_requeue", {"side": 0}) == {"moved": 1}
    await until(lambda: ledgers.states()["id-1"] == ("delivered", "pending"), "delivered to old")
    await until(lambda: ledgers.marks.count(0, 0) == 0, "its mark is cleared")


async def test_a_bug_in_the_transport_costs_no_event(ledgers: Ledgers, caplog: pytest.LogCaptureFixture) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    good, calls = keeper.replayer._deliver, []

    async def bad(each: object, attempt: object) -> Outcome:
        calls.append(each)
        if len(calls) == 1:
            raise RuntimeError("a bug")
        return await good(each, attempt)  # type: ignore[arg-type]

    keeper.replayer._deliver = bad
    await worker.say_durably([event(1, handed=2)])
    await until(lambda: ledgers.backends.order(1) == ["id-1"], "delivered in the end")
    assert "the transport failed to deliver" in caplog.text
    assert keeper.counters()["deliver_bugs"] == 1


async def test_deferred_events_wait_for_the_rollback(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    keeper.set_routing(Routing(1, {ROUTE: Dials(25.0)}))
    numbers = range(1, 1301)
    events = [event(n, key=f"k{n % 40}", authority=1, deferred=1) for n in numbers]
    await worker.say_durably(events, [(n, 1, DELIVERED, 200) for n in numbers])
    assert set(ledgers.states().values()) == {("deferred", "delivered")}
    assert ledgers.marks.count(0, 0) == 0
    ledgers.backends.open.clear()
    keeper.set_routing(Routing(2, {ROUTE: Dials(0.0)}))
    await until(lambda: ledgers.marks.count(0, 0) == 40, "marks are set")
    ledgers.backends.open.set()
    await until(lambda: len(ledgers.backends.order(0)) == 1300, "all are carried over")
    for k in range(40):
        got = [int(id[3:]) for id in ledgers.backends.order(0) if int(id[3:]) % 40 == k]
        assert got == sorted(got)
    await until(lambda: ledgers.marks.count(0, 0) == 0, "no marks are left")
    late = event(2000, authority=1, deferred=1)
    await worker.say_durably([late], [(2000, 1, DELIVERED, 200)])
    await until(lambda: "id-2000" in ledgers.backends.order(0), "what a slow worker still deferred, too")


async def test_a_restart_delivers_what_is_pending(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    ledgers.backends.default[1] = Outcome(UNREACHABLE, 502)
    worker = await ledgers.worker()
    await worker.say_durably([event(n, key=f"k{n % 5}", handed=2) for n in range(1, 2501)],
                             [(n, 0, DELIVERED, 200) for n in range(1, 2501)])  # fmt: skip
    await worker.die()
    await ledgers.stop(clean=False)
    ledgers.backends.default[1] = Outcome(1, 200)
    ledgers.backends.got.clear()
    keeper = await ledgers.start()
    assert ledgers.marks.count(0, 1) == 5
    await until(lambda: len(ledgers.backends.got) == 2500, "delivered")
    for k in range(5):
        got = [int(id[3:]) for id in ledgers.backends.order(1) if int(id[3:]) % 5 == k]
        assert got == sorted(got)
    await until(lambda: ledgers.marks.count(0, 1) == 0, "no marks are left")
    assert keeper.replayer.gates["new"].is_open


async def test_a_worker_that_resumes_keeps_what_it_was_on(ledgers: Ledgers) -> None:
    await ledgers.start()
    worker = await ledgers.worker()
    await worker.say_durably([event(1)], [(1, 0, DELIVERED, 200)])
    await ledgers.stop(clean=False)
    await worker.die()
    await ledgers.start()
    await worker.connect()
    assert worker.welcome == 1
    await worker.say_durably([event(2, key="other", handed=2)])
    await until(lambda: ledgers.backends.order(1) == ["id-2"], "the replayer works")
    worker.say([], [(1, 1, DELIVERED, 200)])
    await until(lambda: ledgers.states()["id-1"] == DELIVERED_BOTH, "settled by its worker")
    assert ledgers.backends.attempts[1, "id-1"] == 0


async def test_after_a_kill_no_turn_is_given_before_its_holder_is_back(ledgers: Ledgers) -> None:
    await ledgers.start()
    first, second = await ledgers.worker("s1"), await ledgers.worker("s2", 1)
    await ledgers.stop(clean=False)
    for worker in (first, second):
        await worker.die()
    # Its predecessor had given the turn to the event of s1; of neither anything was durable.
    await ledgers.start()
    await second.connect()
    second.say([event(1, id="later", accepted_ns=2000)], turns=[1])
    await until(lambda: second.durable == 1, "the later one is known")
    assert second.turns == []
    await first.connect()
    first.say([event(1, id="earlier", accepted_ns=1000)], turns=[1])
    await until(lambda: first.turns == [1], "the earlier one goes on")
    assert second.turns == []
    first.say([], [(1, 0, DELIVERED, 200), (1, 1, DELIVERED, 200)])
    await until(lambda: second.turns == [1], "then the later one")


async def test_a_mark_outlives_the_ledger_until_workers_said_what_they_handed(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    await ledgers.stop(clean=False)
    await worker.die()
    ledgers.marks.show(0, 1, bucket("k"), 1)  # its predecessor's, for an event that never became durable
    ledgers.marks.show(0, 1, bucket("stale"), 1)
    ledgers.backends.open.clear()
    keeper = await ledgers.start()
    assert ledgers.marks.is_set(0, 1, bucket("k"))
    await worker.connect()
    await worker.say_durably([event(1, handed=2)], [(1, 0, DELIVERED, 200)])
    await until(lambda: not ledgers.marks.is_set(0, 1, bucket("stale")), "cleared, for nobody claims it")
    assert ledgers.marks.is_set(0, 1, bucket("k"))
    ledgers.backends.open.set()
    await until(lambda: ledgers.marks.count(0, 1) == 0, "delivered")
    assert keeper.backlog.marked(ROUTE, 1) == 0


async def test_replaying_by_hand_needs_bodies(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    with pytest.raises(ValueError, match="retain_bodies"):
        await keeper.queries.answer("replay", {"since_ns": 0, "side": 1, "route": None})


@pytest.mark.parametrize("ledgers", [{"retain_bodies": True}], indirect=True)
async def test_replaying_by_hand_refeeds_a_restored_backend(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    numbers = range(1, 1201)
    reports = [(n, side, DELIVERED, 200) for n in numbers for side in (0, 1)]
    await worker.say_durably([event(n, key=f"k{n % 9}") for n in numbers], reports)
    answer = await keeper.queries.answer("replay", {"since_ns": 601_000, "side": 1, "route": ROUTE})
    assert answer == {"replayed": 600, "without_body": 0}
    await until(lambda: len(ledgers.backends.order(1)) == 600, "delivered again")
    assert ledgers.backends.order(0) == []
    await until(lambda: set(ledgers.states().values()) == {DELIVERED_BOTH}, "settled again")
    await until(lambda: ledgers.marks.count(0, 1) == 0, "no marks are left")


async def test_garbage_ends_one_connection_and_nothing_else(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    good, bad = await ledgers.worker("good"), await ledgers.worker("bad")
    bad.send_raw(b"\xff\xff\xff\xff")
    await until(lambda: bad.is_closed, "closed")
    reader, writer = await asyncio.open_unix_connection(str(ledgers.socket))
    writer.write(b"\x00\x00\x00\x02\x91\x00")
    assert await reader.read() == b""
    writer.close()
    await good.say_durably([event(1)])
    assert keeper.counters()["garbage_connections"] == 2


async def test_events_of_one_round_are_numbered_by_their_time(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    one, two = await ledgers.worker("s1"), await ledgers.worker("s2", 1)
    # Held back so that both workers' frames are there when the loop looks.
    late = one.say([event(1, id="late", accepted_ns=2000)])
    early = two.say([event(1, id="early", accepted_ns=1000)])
    await until(lambda: one.durable == late and two.durable == early, "both durable")
    found = rows(keeper._store.newest.path, "SELECT id FROM receipt ORDER BY seq")
    assert sorted(found) == [("early",), ("late",)]

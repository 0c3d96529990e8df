"""A route with a dedupe window, as one worker sees it: what it asks, what it does with each verdict."""

from __future__ import annotations

from time import monotonic
from typing import Any

import orjson
import pytest

from proxy.core.dedupe import CONFLICT, DONE, FIRST, body_digest, fingerprint, id_digest
from proxy.core.event import OLD
from proxy.ledger.marks import LOW_DISK
from proxy.ledger.protocol import HANDED
from tests.http.acts import ask, dropped, never, turns
from tests.http.backend import BackendConnection, Seen, always, reply
from tests.http.rig import COMPLETE, DUAL, LIVE, OFF, PATH, SPLIT, Rig, event_bytes, key_for, make_route, running
from tests.http.wire import Answer, until

pytestmark = pytest.mark.asyncio

POLICIES = [
    (ack, durability)
    for ack in ("authority", "both", "accepted")
    for durability in ("before-send", "before-ack", "off")
    if (ack, durability) != ("accepted", "off")  # a configuration that does not load
]


def route(**changes: Any) -> Any:
    """The usual route with a window."""
    return make_route(**({"dedupe": "5m"} | changes))


async def asked(rig: Rig, count: int = 1) -> list[int]:
    """Wait until so many claims are open; their numbers."""
    await until(lambda: len(rig.fake.asked()) == count, f"{count} claims")
    return rig.fake.asked()


async def judged(rig: Rig, kind: int, status: int = 0, data: bytes = b"", method: str = "POST") -> Answer:
    """The answer to an event on which this is the verdict."""
    rig.fake.judges = False
    wire = await rig.wire()
    wire.send(data or event_bytes("e", key="k"))
    (n,) = await asked(rig)
    rig.fake.judge(n, kind, status)
    return await wire.answer(method)


# what is asked


async def test_an_event_with_its_clients_id_is_asked_for_and_its_outcome_is_said() -> None:
    async with running(route()) as rig:
        rig.old.behave = always(reply(201, b"stored"))
        answer = await rig.ask(event_bytes("e", key="k"))
        assert (answer.status, answer.body) == (201, b"stored")
        assert "x-crossfade-duplicate" not in answer.headers
        await rig.settled()
        ((row,),) = [claims.asked for claims in rig.fake.claims]
        line = f"POST {PATH} HTTP/1.1".encode()
        body = orjson.dumps({"key": "k"})
        n = rig.fake.events["e"].n
        assert row == (n, "events", id_digest("e"), fingerprint(line, body_digest(body)), False)
        assert rig.fake.answers == {n: 201}
        assert rig.old.ids() == rig.new.ids() == ["e"]
        rig.check_ends()


async def test_other_events_are_not_asked_for() -> None:
    async with running(route(event_id=("header:X-Event-Id", "json:/id"))) as rig:
        assert (await rig.ask(event_bytes(key="k"))).status == 200
        assert (await rig.ask(event_bytes(id="not a header value", key="k"))).status == 200
        await rig.settled()
        assert rig.fake.claims == []
        assert rig.fake.answers == {}
    async with running(make_route()) as rig:
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        await rig.settled()
        assert rig.fake.claims == []
        assert rig.fake.answers == {}


async def test_nothing_of_it_exists_before_the_verdict() -> None:
    async with running(route(ordering="strict"), dials=LIVE) as rig:
        rig.fake.judges = False
        asking = ask(rig, "e", key_for(1))
        (n,) = await asked(rig)
        await turns()
        assert not rig.fake.events
        assert rig.old.seen == rig.new.seen == []
        assert rig.fake.wanted_turns == []
        rig.turn(OFF)
        rig.fake.judge(n, FIRST)
        assert (await asking).status == 200
        await rig.settled()
        assert rig.fake.events["e"].authority == 0, "the weight of the moment in which it goes"
        assert (rig.old.ids(), rig.new.ids()) == (["e"], [])


# verdicts


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_a_duplicate_is_answered_as_the_first_was(status: int) -> None:
    async with running(route()) as rig:
        answer = await judged(rig, DONE, status)
        assert (answer.status, answer.headers["x-crossfade-duplicate"]) == (status, str(status))
        assert orjson.loads(answer.body) == {"duplicate": "e"}
        assert rig.plane.counters == {"duplicates_answered": 1}
        assert rig.plane.routes[0].answered_else == 1
        assert not rig.ledger.claims._rows, "nothing is left to say of it"
        assert rig.old.seen == rig.new.seen == []
        await rig.settled()
        assert not rig.fake.events
        assert rig.plane.routes[0].accepted == 0


@pytest.mark.parametrize("status", [204, 205])
async def test_a_status_without_content_has_none_and_the_connection_goes_on(status: int) -> None:
    async with running(route()) as rig:
        rig.fake.judges = False
        wire = await rig.wire()
        for _ in range(2):
            wire.send(event_bytes("e", key="k"))
            await until(lambda: rig.ledger.claims.waiting, "asked")
            rig.fake.judge(max(rig.ledger.claims.waiting), DONE, status)
            answer = await wire.answer()
            assert (answer.status, answer.body) == (status, b"")
            assert ("content-length" in answer.headers) == (status == 205)


async def test_a_client_of_http_1_0_gets_it_too() -> None:
    async with running(route()) as rig:
        data = event_bytes("e", key="k").replace(b"HTTP/1.1", b"HTTP/1.0")
        answer = await judged(rig, DONE, 200, data)
        assert (answer.status, answer.headers["connection"]) == (200, "close")


async def test_another_content_is_422() -> None:
    async with running(route()) as rig:
        answer = await judged(rig, CONFLICT)
        assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json")
        assert rig.plane.counters == {"refused_duplicate_conflict": 1}
        assert not rig.ledger.claims._rows
        assert rig.old.seen == rig.new.seen == []


async def test_pipelined_twins_wait_for_each_other() -> None:
    async with running(route()) as rig:
        wire = await rig.wire()
        wire.send(event_bytes("e", key="k") * 2)
        assert (await wire.answer()).status == 200
        assert (await wire.answer()).status == 200
        assert rig.fake.answers == dict.fromkeys([1, 2], 200)


# who leaves, and what does not come


async def test_a_client_that_leaves_is_forgotten() -> None:
    async with running(route()) as rig:
        rig.fake.judges = False
        wire = await rig.wire()
        wire.send(event_bytes("e", key="k"))
        (n,) = await asked(rig)
        wire.reset()
        await until(lambda: rig.fake.asked() == [], "withdrawn")
        rig.fake.judge(n, FIRST)
        assert (await rig.ask(event_bytes(key="k"))).status == 200
        assert "e" not in rig.old.ids()


async def test_a_twin_gives_up_after_the_response_timeout() -> None:
    async with running(route(), backend={"response_timeout": "3s", "new": {"response_timeout": "4s"}}) as rig:
        rig.fake.judges = False
        asking = ask(rig, "e")
        await asked(rig)
        rig.ledger.check_time(monotonic() + 3.9)
        assert rig.ledger.claims.waiting
        rig.ledger.check_time(monotonic() + 4.0)
        answer = await asking
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert rig.plane.counters == {"duplicates_timed_out": 1}
        await until(lambda: rig.fake.asked() == [], "withdrawn")


async def test_without_a_ledger_it_is_refused_after_a_second() -> None:
    async with running(route()) as rig:
        rig.plane.start()
        rig.fake.stop()
        await until(lambda: rig.ledger.away_since is not None, "away")
        asking = ask(rig, "e")
        await until(lambda: rig.ledger.claims.waiting, "waits")
        rig.ledger.away_since = monotonic() - 1.1
        answer = await asking
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert (await rig.ask(event_bytes("f", key="k"))).status == 503
        assert rig.plane.counters == {"refused_ledger_away": 2}
        assert (await rig.ask(event_bytes(key="k"))).status == 200, "others need no word of it"
        await rig.fake.start()
        await until(lambda: rig.ledger.is_connected, "back")
        await until(lambda: rig.fake.claims, "it is told that there is none")
        assert (rig.fake.claims[-1].asked, rig.fake.claims[-1].anew) == ([], True)
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200


async def test_a_ledger_that_is_started_again_is_told_what_waits_and_what_was_granted() -> None:
    async with running(route(drain_wait="10s"), dials=OFF) as rig:
        rig.fake.judges = False
        rig.mark(0, "k")
        granted = ask(rig, "granted")
        (first,) = await asked(rig)
        rig.fake.judge(first, FIRST)
        await until(lambda: rig.plane.counters.get("waited_for_backlog"), "it waits, and is not recorded yet")
        waiting = ask(rig, "waiting")
        (_, second) = await asked(rig, 2)
        rig.fake.stop()
        await until(lambda: not rig.ledger.is_connected, "away")
        rig.fake.claims.clear()
        await rig.fake.start()
        await until(lambda: rig.fake.claims, "said again")
        (claims,) = rig.fake.claims
        assert claims.anew
        assert [(row[0], row[4]) for row in claims.asked] == [(first, True), (second, False)]
        rig.fake.judge(first, FIRST)
        rig.fake.judge(second, DONE, 200)
        assert (await waiting).headers["x-crossfade-duplicate"] == "200"
        rig.mark(0, "k", False)
        assert (await granted).status == 200
        await rig.settled()
        assert rig.old.ids() == ["granted"]


async def test_what_waits_is_in_the_memory_budget() -> None:
    async with running(route()) as rig:
        rig.fake.judges = False
        asking = ask(rig, "e", text="x" * 10_000)
        (n,) = await asked(rig)
        assert rig.ledger.waiting == 1
        large = rig.plane.budget.held
        assert large > 10_000
        rig.fake.judge(n, DONE, 200)
        assert (await asking).status == 200
        await until(lambda: rig.plane.budget.held <= large - 10_000, "given back")
        assert rig.ledger.waiting == 0


async def test_no_room_lets_the_claim_go() -> None:
    async with running(route()) as rig:
        rig.fake.judges = False
        asking = ask(rig, "e")
        (n,) = await asked(rig)
        rig.marks.set_flag(LOW_DISK, True)
        rig.fake.judge(n, FIRST)
        assert (await asking).status == 503
        await until(lambda: rig.fake.asked() == [], "withdrawn")
        assert not rig.fake.events


# every policy


@pytest.mark.parametrize("ordering", ["answered", "strict", "none"])
@pytest.mark.parametrize(("ack", "durability"), POLICIES)
async def test_the_outcome_is_said_under_every_policy(ack: str, durability: str, ordering: str) -> None:
    async with running(route(ack=ack, durability=durability, ordering=ordering)) as rig:
        rig.old.behave = always(reply(201))
        answer = await rig.ask(event_bytes("ok", key="k"))
        rig.old.behave = always(reply(400))
        refused = await rig.ask(event_bytes("no", key="k"))
        await rig.settled()
        told = {event_id: rig.fake.answers[event.n] for event_id, event in rig.fake.events.items()}
        assert told == {"ok": answer.status, "no": refused.status}
        assert (answer.status, refused.status) == ((202, 202) if ack == "accepted" else (201, 400))
        assert rig.ledger.claims._rows == {}


async def test_an_accepted_event_says_the_status_that_its_client_hears() -> None:
    async with running(route(ack="accepted", accepted_status=204)) as rig:
        assert (await rig.ask(event_bytes("e", key="k"))).status == 204
        await rig.settled()
        assert list(rig.fake.answers.values()) == [204]


async def test_a_copys_answer_that_was_not_kept_says_the_status_that_its_client_hears() -> None:
    async with running(route(copy_wait="60s", accepted_status=204), dials=LIVE) as rig:
        held: list[BackendConnection] = []
        rig.old.behave = lambda seen, connection: held.append(connection)
        rig.new.behave = always(reply(200, b"x" * 300_000))
        wire = await rig.wire()
        wire.send(event_bytes("e", key=key_for(OLD)))
        await until(lambda: held and rig.new.seen and rig.upstreams["new"].is_idle, "new has answered")
        held[0].write(reply(503))
        assert (await wire.answer()).status == 204
        await rig.settled()
        assert list(rig.fake.answers.values()) == [204]


async def test_forced_events_are_outside_of_the_window() -> None:
    settings = route(override="header:X-Side", preview_host="p")
    async with running(settings, dials=OFF) as rig:
        plain = event_bytes("e", key="k")
        rig.new.behave = always(reply(202))
        for data in (
            plain.replace(b"X-Event-Id", b"X-Side: new\r\nX-Event-Id"),
            plain.replace(b"Host: a", b"Host: p"),
        ):
            assert (await rig.ask(data)).status == 202
        await rig.settled()
        assert rig.fake.claims == []
        assert rig.fake.answers == {}
        assert not rig.fake.events["e"].client_id, "else the ledger would take it for the first of its id"
        assert (await rig.ask(plain.replace(b"X-Event-Id", b"X-Side: none\r\nX-Event-Id"))).status == 200
        assert [len(claims.asked) for claims in rig.fake.claims] == [1]
        assert (rig.old.ids(), rig.new.ids()) == (["e"], ["e", "e"])


async def test_a_forced_event_with_its_clients_id_is_tried_again_on_another_connection() -> None:
    async with running(route(override="header:X-Side"), dials=OFF) as rig:
        data = event_bytes("e", key="k").replace(b"X-Event-Id", b"X-Side: old\r\nX-Event-Id")
        assert (await rig.ask(data)).status == 200

        def drop_once(seen: Seen, connection: BackendConnection) -> None:
            rig.old.behave = always(reply(201))
            dropped(seen, connection)

        rig.old.behave = drop_once
        assert (await rig.ask(data)).status == 201


async def test_pinned_deferred_and_failed_over_events_say_theirs() -> None:
    settings = route(pins={"new": ("pinned",)}, carry_over=True)
    async with running(settings, dials=SPLIT) as rig:
        rig.old.behave, rig.new.behave = always(reply(201)), always(reply(202))
        wanted = {
            "pinned": (event_bytes("pinned", key="pinned"), 202),
            "deferred": (event_bytes("deferred", key=key_for(1, SPLIT)), 202),
            "plain": (event_bytes("plain", key=key_for(0, SPLIT)), 201),
        }
        for event_id, (data, status) in wanted.items():
            assert (await rig.ask(data)).status == status, event_id
        rig.new.behave = always(reply(500))
        assert (await rig.ask(event_bytes("over", key=key_for(1, SPLIT)))).status == 201
        await rig.settled()
        told = {event_id: rig.fake.answers[event.n] for event_id, event in rig.fake.events.items()}
        assert told == {event_id: status for event_id, (_, status) in wanted.items()} | {"over": 201}


async def test_a_failure_is_said_and_so_is_an_unknown_end() -> None:
    async with running(route(on_authority_down="fail"), dials=COMPLETE, backend={"response_timeout": "50ms"}) as rig:
        rig.new.behave = always(reply(503))
        assert (await rig.ask(event_bytes("failed", key="k"))).status == 503
        rig.new.behave = never
        assert (await rig.ask(event_bytes("unknown", key="k"))).status == 504
        await rig.settled()
        told = {event_id: rig.fake.answers[event.n] for event_id, event in rig.fake.events.items()}
        assert told == {"failed": 503, "unknown": 504}


async def test_a_client_that_leaves_later_changes_nothing() -> None:
    async with running(route(), dials=DUAL) as rig:
        rig.old.behave = never
        wire = await rig.wire()
        wire.send(event_bytes("e", key="k"))
        await until(lambda: rig.old.seen, "on its way")
        wire.reset()
        await until(lambda: not rig.service.clients, "left")
        for connection in rig.old.connections:
            connection.write(reply(201))
        await until(lambda: rig.fake.answers, "said")
        assert list(rig.fake.answers.values()) == [201]
        assert HANDED not in rig.fake.codes(rig.fake.events["e"].n, 0)

"""The way of one event, promise by promise: what the client hears, when, and what the ledger was told."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from proxy.core.event import NEW, OLD
from proxy.core.routing import Dials
from proxy.ledger.marks import LOW_DISK
from proxy.ledger.protocol import PARKED
from tests.http.backend import BackendConnection, Seen, always, reply
from tests.http.rig import LIVE, OFF, SHADOW, SPLIT, Rig, event_bytes, key_for, make_route, running
from tests.http.wire import Answer, until

LATCHED = Dials(0.0, "durable", latched=True)


def never(seen: Seen, connection: BackendConnection) -> None:
    """A stalled backend."""


def dropped(seen: Seen, connection: BackendConnection) -> None:
    """A backend that closes without an answer."""
    connection.reset()


class Gate:
    """A backend that answers when it is opened."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._held: list[BackendConnection] = []

    def __call__(self, seen: Seen, connection: BackendConnection) -> None:
        self._held.append(connection)

    def open(self, data: bytes = b"") -> None:
        """Answer everything that waits."""
        for connection in self._held:
            connection.write(data or self._data)
        self._held.clear()


async def turns(count: int = 20) -> None:
    """Let everything happen that is ready to happen."""
    for _ in range(count):
        await asyncio.sleep(0)


def ask(rig: Rig, event_id: str, key: str = "k", **body: str) -> asyncio.Task[Answer]:
    """Send an event and go on."""
    return asyncio.create_task(rig.ask(event_bytes(event_id, key=key, **body)))


# durability


@pytest.mark.asyncio
async def test_a_healthy_pair_never_waits_for_the_disk() -> None:
    async with running() as rig:
        rig.fake.holds = True
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        rig.fake.release()
        await rig.settled()
        assert rig.story("e") == ("D", "D")


@pytest.mark.asyncio
async def test_a_slow_copy_is_parked_and_the_answer_waits_until_that_is_durable() -> None:
    async with running() as rig:
        rig.fake.holds = True
        gate = Gate(reply(200))
        rig.new.behave = gate
        asked = ask(rig, "e")
        await until(lambda: PARKED in rig.fake.codes(1, NEW), "parked")
        await turns()
        assert not asked.done()
        rig.fake.release()
        assert (await asked).status == 200
        gate.open()
        rig.fake.holds = False
        await rig.settled()
        assert rig.story("e") == ("D", "PD")
        rig.check_ends()
        assert rig.plane.counters["parked"] == 1


@pytest.mark.asyncio
async def test_a_parked_copy_that_fails_is_handed() -> None:
    async with running() as rig:
        gate = Gate(reply(503))
        rig.new.behave = gate
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        gate.open()
        await until(lambda: rig.story("e") == ("D", "PH"), "handed")


@pytest.mark.asyncio
async def test_a_copy_that_fails_before_its_copy_wait_is_handed_once_and_not_parked() -> None:
    async with running(make_route(copy_wait="20ms")) as rig:
        rig.fake.holds = True
        rig.new.behave = always(reply(500))
        asked = ask(rig, "e")
        await until(lambda: rig.story("e") == ("D", "H") if "e" in rig.fake.events else False, "handed")
        await asyncio.wait({asked}, timeout=0.05)  # past copy_wait
        assert not asked.done()
        rig.fake.release()
        assert (await asked).status == 200
        assert rig.story("e") == ("D", "H")


@pytest.mark.asyncio
async def test_each_route_has_its_own_patience_with_copies() -> None:
    slow = make_route(name="slow", match={"path": "/slow", "methods": ("POST",)}, copy_wait="60s")
    async with running(slow, make_route(name="quick", copy_wait="1ms")) as rig:
        gate = Gate(reply(200))
        rig.new.behave = gate
        patient = asyncio.create_task(rig.ask(event_bytes("p", key="k").replace(b"POST /events", b"POST /slow")))
        await until(lambda: rig.old.seen and rig.new.seen, "sent")
        assert (await rig.ask(event_bytes("q", key="k"))).status == 200
        assert not patient.done()
        gate.open()
        assert (await patient).status == 200


@pytest.mark.asyncio
@pytest.mark.parametrize("ordering", ["answered", "strict"])
async def test_before_send_not_one_byte_leaves_before_the_record_is_durable(ordering: str) -> None:
    async with running(make_route(durability="before-send", ordering=ordering)) as rig:
        rig.fake.holds = True
        asked = ask(rig, "e")
        await until(lambda: "e" in rig.fake.events, "recorded")
        await turns()
        assert rig.old.received == rig.new.received == b""
        rig.fake.release()
        if ordering == "strict":
            await until(lambda: len(rig.fake.frames) > rig.fake.durable or asked.done(), "asked again for its turn")
            rig.fake.release()
        assert (await asked).status == 200
        assert rig.story("e") == ("D", "D")


@pytest.mark.asyncio
async def test_without_durability_nobody_waits_for_a_copy_and_a_lost_one_is_counted() -> None:
    async with running(make_route(durability="off")) as rig:
        rig.fake.holds = True
        gate = Gate(reply(500))
        rig.new.behave = gate
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        gate.open()
        await until(lambda: rig.plane.counters.get("copies_lost"), "lost")
        rig.fake.release()
        await until(lambda: rig.story("e") == ("D", "L"), "recorded as lost")


@pytest.mark.asyncio
async def test_a_marked_copy_is_lost_without_durability() -> None:
    async with running(make_route(durability="off")) as rig:
        rig.mark(NEW, "k")
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        await rig.settled()
        assert rig.story("e") == ("D", "L")
        assert rig.new.seen == []


# backlogs


@pytest.mark.asyncio
async def test_the_copy_of_a_marked_bucket_goes_to_the_ledger_before_the_answer() -> None:
    async with running() as rig:
        rig.fake.holds = True
        rig.mark(NEW, "k")
        asked = ask(rig, "e")
        await until(lambda: rig.old.seen, "the authority got it")
        await turns()
        assert not asked.done()
        rig.fake.holds = False
        rig.fake.release()
        assert (await asked).status == 200
        await rig.settled()
        assert rig.story("e") == ("D", "h")
        assert rig.new.seen == []


@pytest.mark.asyncio
async def test_a_marked_copy_is_taken_back_when_the_authority_refuses() -> None:
    async with running() as rig:
        rig.mark(NEW, "k")
        rig.old.behave = always(reply(400))
        assert (await rig.ask(event_bytes("e", key="k"))).status == 400
        await rig.settled()
        assert rig.story("e") == ("R", "hX")


@pytest.mark.asyncio
async def test_without_ordering_a_mark_is_not_looked_at() -> None:
    async with running(make_route(ordering="none")) as rig:
        rig.mark(NEW, "k")
        rig.mark(OLD, "k")
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        await rig.settled()
        assert rig.story("e") == ("D", "D")


@pytest.mark.asyncio
async def test_an_event_waits_until_its_authority_has_no_backlog() -> None:
    async with running(make_route(drain_wait="60s", on_authority_down="accept")) as rig:
        rig.mark(OLD, "k")
        asked = ask(rig, "e")
        await until(lambda: rig.plane.counters.get("waited_for_backlog"), "waits")
        assert rig.old.seen == rig.new.seen == []
        rig.mark(OLD, "k", marked=False)
        assert (await asked).status == 200
        await rig.settled()
        assert rig.story("e") == ("D", "D")


@pytest.mark.asyncio
@pytest.mark.parametrize(("down", "status", "story"), [("accept", 202, ("H", "H")), ("fail", 503, ("X", "X"))])
async def test_a_backlog_that_does_not_drain_in_time(down: str, status: int, story: tuple[str, str]) -> None:
    async with running(make_route(drain_wait="10ms", on_authority_down=down)) as rig:
        rig.mark(OLD, "k")
        answer = await rig.ask(event_bytes("e", key="k"))
        assert answer.status == status
        assert (answer.headers.get("retry-after") == "1") == (status == 503)
        await rig.settled()
        assert rig.story("e") == story
        assert rig.old.seen == rig.new.seen == []


@pytest.mark.asyncio
@pytest.mark.parametrize("durability", ["before-send", "before-ack"])
async def test_past_a_backlog_the_other_side_answers(durability: str) -> None:
    async with running(make_route(durability=durability, drain_wait="60s"), dials=LIVE) as rig:
        key = key_for(NEW)
        rig.mark(NEW, key)
        early: list[str] = []

        def behave(seen: Seen, connection: BackendConnection) -> None:
            if not rig.fake.holds_event(seen.id):
                early.append(seen.id)
            connection.write(reply(201))

        rig.old.behave = behave
        assert (await rig.ask(event_bytes("e", key=key))).status == 201
        await rig.settled()
        assert rig.story("e") == ("AD", "H")
        assert rig.new.seen == []
        assert rig.old.seen[0].role == "authority"
        assert durability == "before-ack" or not early


@pytest.mark.asyncio
async def test_with_both_sides_behind_the_ledger_takes_the_event() -> None:
    async with running(make_route(drain_wait="10ms"), dials=LIVE) as rig:
        key = key_for(NEW)
        rig.mark(NEW, key)
        rig.mark(OLD, key)
        assert (await rig.ask(event_bytes("e", key=key))).status == 202
        await rig.settled()
        assert rig.story("e") == ("H", "H")


@pytest.mark.asyncio
async def test_ack_both_waits_for_a_backlog_in_vain_and_everything_stays_owed() -> None:
    async with running(make_route(ack="both", drain_wait="10ms"), dials=LIVE) as rig:
        key = key_for(NEW)
        rig.mark(NEW, key)
        assert (await rig.ask(event_bytes("e", key=key))).status == 503
        await rig.settled()
        assert rig.story("e") == ("H", "H")


# ack


@pytest.mark.asyncio
async def test_ack_both_waits_for_a_copy_however_slow() -> None:
    async with running(make_route(ack="both", copy_wait="1ms")) as rig:
        gate = Gate(reply(201))
        rig.new.behave = gate
        asked = ask(rig, "e")
        await until(lambda: rig.new.seen and rig.old.seen, "sent")
        await asyncio.wait({asked}, timeout=0.02)  # past copy_wait
        assert not asked.done()
        gate.open()
        assert (await asked).status == 200
        await rig.settled()
        assert rig.story("e") == ("D", "D")


@pytest.mark.asyncio
async def test_ack_both_with_a_marked_copy_is_a_timeout_and_the_copy_stays_owed() -> None:
    async with running(make_route(ack="both")) as rig:
        rig.mark(NEW, "k")
        assert (await rig.ask(event_bytes("e", key="k"))).status == 504
        await rig.settled()
        assert rig.story("e") == ("D", "h")


@pytest.mark.asyncio
async def test_ack_both_passes_the_refusing_sides_answer_on() -> None:
    async with running(make_route(ack="both")) as rig:
        rig.new.behave = always(reply(422, b"new says no"))
        answer = await rig.ask(event_bytes("e", key="k"))
        assert (answer.status, answer.body) == (422, b"new says no")


@pytest.mark.asyncio
async def test_ack_accepted_waits_for_the_disk_alone() -> None:
    async with running(make_route(ack="accepted")) as rig:
        rig.fake.holds = True
        asked = ask(rig, "e")
        await until(lambda: "e" in rig.fake.events, "recorded")
        await turns()
        assert not asked.done()
        rig.fake.release()
        answer = await asked
        assert (answer.status, answer.body) == (202, b'{"accepted":"e"}')
        assert rig.fake.events["e"].after_authority
        assert rig.story("e") == ("h", "h")


# stages


@pytest.mark.asyncio
async def test_split_keeps_what_new_answers_for_old() -> None:
    async with running(make_route(carry_over=True), dials=SPLIT) as rig:
        rig.fake.holds = True
        asked = ask(rig, "e", key_for(NEW))
        await until(lambda: rig.new.seen, "new got it")
        await turns()
        assert not asked.done()
        rig.fake.release()
        assert (await asked).status == 200
        rig.fake.holds = False
        assert (await rig.ask(event_bytes("o", key=key_for(OLD)))).status == 200
        await rig.settled()
        assert rig.story("e") == ("d", "D")
        assert rig.story("o") == ("D", "-")
        assert rig.old.ids() == ["o"]
        rig.check_ends()


@pytest.mark.asyncio
async def test_what_new_refuses_in_split_is_not_kept_for_old() -> None:
    async with running(make_route(carry_over=True), dials=SPLIT) as rig:
        rig.new.behave = always(reply(400))
        assert (await rig.ask(event_bytes("e", key=key_for(NEW)))).status == 400
        await rig.settled()
        assert rig.story("e") == ("dX", "R")


@pytest.mark.asyncio
@pytest.mark.parametrize("carry_over", [True, False])
async def test_new_down_in_split_old_answers_what_nobody_got(carry_over: bool) -> None:
    async with running(make_route(carry_over=carry_over), dials=SPLIT, down=("new",)) as rig:
        assert (await rig.ask(event_bytes(key=key_for(NEW)))).status == 200
        await rig.settled()
        (generated,) = rig.fake.events
        assert rig.story(generated) == ("dOAD" if carry_over else "OAD", "X")
        rig.check_ends()


@pytest.mark.asyncio
@pytest.mark.parametrize("carry_over", [True, False])
@pytest.mark.parametrize("has_id", [True, False])
async def test_in_split_what_new_may_have_stored_goes_to_old_only_under_the_clients_id(
    carry_over: bool, has_id: bool
) -> None:
    async with running(make_route(carry_over=carry_over), dials=SPLIT) as rig:
        rig.new.behave = dropped
        answer = await rig.ask(event_bytes("e" if has_id else "", key=key_for(NEW)))
        await rig.settled()
        (event_id,) = rig.fake.events
        old = "dOAD" if carry_over else "OAD"
        if has_id:
            assert (answer.status, rig.story(event_id)) == (200, (old, "X"))
        else:
            assert (answer.status, rig.story(event_id)) == (502, ("dX" if carry_over else "-", "X"))
        rig.check_ends()


@pytest.mark.asyncio
async def test_both_down_in_split_is_a_failure_that_leaves_nothing_behind() -> None:
    async with running(make_route(carry_over=True), dials=SPLIT, down=("new", "old")) as rig:
        assert (await rig.ask(event_bytes("e", key=key_for(NEW)))).status == 502
        await rig.settled()
        assert rig.story("e") == ("dOAX", "X")
        rig.check_ends()


@pytest.mark.asyncio
async def test_a_backlog_in_split_leaves_nothing_behind_when_the_client_is_told_no() -> None:
    route = make_route(carry_over=True, drain_wait="10ms", on_authority_down="fail")
    async with running(route, dials=SPLIT) as rig:
        key = key_for(NEW)
        rig.mark(NEW, key)
        assert (await rig.ask(event_bytes("e", key=key))).status == 503
        await rig.settled()
        assert rig.story("e") == ("dX", "X")
        rig.check_ends()


@pytest.mark.asyncio
async def test_a_shadow_copy_is_not_owed_and_nobody_waits_for_it() -> None:
    async with running(dials=SHADOW) as rig:
        gate = Gate(reply(500))
        rig.new.behave = gate
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        gate.open()
        await rig.settled()
        assert rig.story("e") == ("D", "-")
        assert [seen.role for seen in rig.new.seen] == ["copy"]
        assert rig.new.seen[0].body == rig.old.seen[0].body


@pytest.mark.asyncio
async def test_a_shadow_copy_is_not_sent_to_a_backend_whose_breaker_is_open() -> None:
    settings = {"new": {"breaker": {"failures": 1, "reset": "60s"}}}
    async with running(dials=SHADOW, backend=settings) as rig:
        rig.new.behave = always(reply(500))
        for i in range(3):
            assert (await rig.ask(event_bytes(f"e{i}", key="k"))).status == 200
            await rig.settled()
        assert rig.new.ids() == ["e0"]
        assert rig.plane.counters["shadow_copies_skipped"] == 2


@pytest.mark.asyncio
async def test_a_shadowed_event_does_not_fail_over_although_the_weight_was_raised_meanwhile() -> None:
    async with running(dials=SHADOW) as rig:
        gate = Gate(reply(500))
        rig.old.behave = gate
        asked = ask(rig, "e")
        await until(lambda: rig.old.seen and rig.new.seen and rig.upstreams["new"].is_idle, "the shadow is over")
        rig.turn(LIVE)
        gate.open()
        assert (await asked).status == 202
        await rig.settled()
        assert rig.story("e") == ("H", "-")


@pytest.mark.asyncio
async def test_stage_off_takes_old_alone() -> None:
    async with running(dials=OFF) as rig:
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        await rig.settled()
        assert rig.story("e") == ("D", "-")
        assert rig.new.received == b""


@pytest.mark.asyncio
async def test_a_turned_weight_holds_from_the_next_event_on_an_open_connection() -> None:
    async with running(dials=Dials(0.0, "durable")) as rig:
        wire = await rig.wire()
        for weight, role in ((0.0, "copy"), (100.0, "authority"), (0.0, "copy")):
            rig.turn(Dials(weight, "durable"))
            assert (await wire.ask(event_bytes(key="k"))).status == 200
            await rig.settled()
            assert rig.new.seen[-1].role == role
        assert [event.epoch for event in rig.fake.events.values()] == [2, 3, 4]


@pytest.mark.asyncio
async def test_both_sides_get_the_same_bytes_but_for_the_role() -> None:
    async with running() as rig:
        assert (await rig.ask(event_bytes("e", key="k", text="ä\n"))).status == 200
        await rig.settled()
        old, new = rig.old.seen[0], rig.new.seen[0]
        assert old.raw.replace(b"Role: authority", b"Role: copy") == new.raw
        assert old.header("X-Crossfade-Attempt") == "1"
        assert old.head.startswith(rig.fake.events["e"].context)


# strict order


@pytest.mark.asyncio
async def test_strict_ordering_waits_for_the_turn() -> None:
    async with running(make_route(ordering="strict")) as rig:
        rig.fake.grants = False
        first, second = ask(rig, "e1"), ask(rig, "e2")
        await until(lambda: len(rig.fake.wanted_turns) == 2, "both wait")
        await turns()
        assert rig.old.seen == []
        numbers = [rig.fake.events[event_id].n for event_id in ("e1", "e2")]
        rig.fake.grant(numbers[0])
        assert (await first).status == 200
        assert not second.done()
        rig.fake.grant(numbers[1])
        assert (await second).status == 200
        await rig.settled()
        rig.check_ends()
        assert rig.old.ids() == rig.new.ids() == ["e1", "e2"]


@pytest.mark.asyncio
async def test_a_turn_that_comes_again_is_nothing_new() -> None:
    async with running(make_route(ordering="strict")) as rig:
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        rig.fake.grant(1)
        assert (await rig.ask(event_bytes("f", key="k"))).status == 200
        await rig.settled()
        assert rig.old.ids() == ["e", "f"]


@pytest.mark.asyncio
async def test_strict_ordering_hands_the_copy_of_a_marked_bucket() -> None:
    async with running(make_route(ordering="strict")) as rig:
        rig.mark(NEW, "k")
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        await rig.settled()
        assert rig.story("e") == ("D", "H")


# the ledger


@pytest.mark.asyncio
async def test_while_the_ledger_is_away_healthy_events_go_on_and_are_recorded_later() -> None:
    async with running() as rig:
        rig.fake.stop()
        await until(lambda: not rig.ledger.is_connected, "away")
        wire = await rig.wire()
        for i in range(5):
            assert (await wire.ask(event_bytes(f"e{i}", key="k"))).status == 200
        assert not rig.fake.events
        await rig.fake.start()
        await rig.settled()
        assert [rig.story(f"e{i}") for i in range(5)] == [("D", "D")] * 5
        rig.check_ends()


@pytest.mark.asyncio
async def test_a_ledger_that_was_started_again_gets_exactly_what_it_had_not_made_durable() -> None:
    async with running() as rig:
        assert (await rig.ask(event_bytes("durable", key="k"))).status == 200
        await rig.settled()
        durable = rig.fake.durable
        rig.fake.holds = True
        assert (await rig.ask(event_bytes("forgotten", key="k"))).status == 200
        await until(lambda: "forgotten" in rig.fake.events, "received")
        rig.fake.stop()
        assert durable == rig.fake.durable == max(rig.fake.frames)
        rig.fake.holds = False
        assert "forgotten" not in rig.fake.events
        await until(lambda: not rig.ledger.is_connected, "away")
        await rig.fake.start()
        await rig.settled()
        assert rig.story("forgotten") == ("D", "D")
        assert len(rig.fake.hellos) == 2
        assert rig.fake.hellos[0] == rig.fake.hellos[1]
        rig.check_ends()


@pytest.mark.asyncio
async def test_an_event_that_needs_the_ledger_waits_a_second_for_it() -> None:
    async with running() as rig:
        rig.plane.start()
        rig.fake.holds = True
        rig.new.behave = always(reply(500))
        asked = ask(rig, "e")
        await until(lambda: rig.ledger._waiters, "waits")
        rig.fake.stop()
        await until(lambda: rig.ledger.away_since is not None, "away")
        assert not asked.done()
        rig.ledger.away_since = monotonic() - 1.1
        answer = await asked
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert rig.plane.counters["ledger_unavailable"] == 1
        rig.fake.holds = False
        await rig.fake.start()
        await rig.settled()
        assert rig.story("e") == ("D", "H"), "what was recorded stays owed"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "policy", [{"ack": "accepted"}, {"durability": "before-send"}, {"ordering": "strict"}], ids=str
)
async def test_events_that_need_the_ledger_are_refused_while_it_is_away(policy: dict[str, str]) -> None:
    async with running(make_route(**policy)) as rig:
        rig.fake.stop()
        await until(lambda: rig.ledger.away_since is not None, "away")
        rig.ledger.away_since = monotonic() - 1.1
        answer = await rig.ask(event_bytes("e", key="k"))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert rig.old.seen == rig.new.seen == []
        assert rig.plane.counters["refused_ledger_away"] == 1
        await rig.fake.start()
        await until(lambda: rig.ledger.is_connected, "back")
        assert (await rig.ask(event_bytes("f", key="k"))).status in (200, 202)
        await rig.settled()
        assert "e" not in rig.fake.events


@pytest.mark.asyncio
async def test_a_strict_event_outlives_a_ledger_that_is_started_again() -> None:
    async with running(make_route(ordering="strict")) as rig:
        rig.fake.grants = False
        asked = ask(rig, "e")
        await until(lambda: rig.fake.wanted_turns, "waits")
        rig.fake.stop()
        await until(lambda: not rig.ledger.is_connected, "away")
        await rig.fake.start()
        await until(lambda: rig.ledger.is_connected, "back")
        rig.fake.grant(1)
        assert (await asked).status == 200


@pytest.mark.asyncio
async def test_low_disk_refuses_before_dispatch() -> None:
    async with running() as rig:
        rig.marks.set_flag(LOW_DISK, True)
        answer = await rig.ask(event_bytes("e", key="k"))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert rig.old.seen == rig.new.seen == []
        assert not rig.fake.events
        assert rig.plane.counters["refused_no_room"] == 1
        rig.marks.set_flag(LOW_DISK, False)
        assert (await rig.ask(event_bytes("f", key="k"))).status == 200


# breakers and pools

BREAKER = {"failures": 1, "reset": "10ms"}


@pytest.mark.asyncio
@pytest.mark.parametrize("order", ["parallel", "sequential"])
async def test_a_copys_open_breaker_closes_again_by_a_trial(order: str) -> None:
    async with running(make_route(copy_order=order), backend={"new": {"breaker": BREAKER}}) as rig:
        rig.new.behave = always(reply(500))
        assert (await rig.ask(event_bytes("bad", key="k"))).status == 200
        rig.new.behave = always(reply(200))
        deadline = monotonic() + 10
        while not rig.upstreams["new"].breaker.is_closed:
            assert monotonic() < deadline, "no trial was ever sent"
            assert (await rig.ask(event_bytes(key="k"))).status == 200
            await rig.settled()
        rig.check_ends()


@pytest.mark.asyncio
async def test_an_authority_with_an_open_breaker_is_failed_over_without_a_byte() -> None:
    settings = {"new": {"breaker": {"failures": 1, "reset": "60s"}}}
    async with running(dials=LIVE, backend=settings) as rig:
        key = key_for(NEW)
        rig.new.behave = always(reply(500))
        assert (await rig.ask(event_bytes("e", key=key))).status == 200
        assert (await rig.ask(event_bytes("f", key=key))).status == 200
        await rig.settled()
        assert rig.new.ids() == ["e"]
        assert rig.story("f") == ("AD", "H")
        assert rig.plane.counters["failovers"] == 2


@pytest.mark.asyncio
async def test_a_latched_route_never_fails_over_to_new() -> None:
    async with running(dials=LATCHED, down=("old",)) as rig:
        assert (await rig.ask(event_bytes("e", key="k"))).status == 202
        await rig.settled()
        assert rig.story("e") == ("H", "D")


@pytest.mark.asyncio
async def test_a_stalled_copy_goes_to_the_ledger_once_its_line_is_long() -> None:
    async with running(backend={"new": {"connections": 2, "response_timeout": "60s"}}) as rig:
        rig.new.behave = never
        asked = [await rig.ask(event_bytes(f"e{i}", key=f"k{i}")) for i in range(8)]
        assert {answer.status for answer in asked} == {200}
        await until(lambda: rig.ledger.is_flushed, "recorded")
        stories = [rig.story(f"e{i}")[1] for i in range(8)]
        assert stories == ["P"] * 4 + ["h"] * 4
        rig.upstreams["new"].close()
        await until(lambda: rig.plane.is_idle, "closed")
        await rig.settled()
        rig.check_ends()


@pytest.mark.asyncio
async def test_a_full_line_is_a_failed_authority() -> None:
    settings = {"old": {"connections": 1, "pending": 1, "response_timeout": "60s"}}
    async with running(make_route(on_authority_down="fail"), dials=OFF, backend=settings) as rig:
        gate = Gate(reply(200))
        rig.old.behave = gate
        first = ask(rig, "e1")
        await until(lambda: rig.old.seen, "sent")
        second = ask(rig, "e2")
        await until(lambda: not rig.upstreams["old"].is_idle and rig.upstreams["old"]._waiting, "waits")
        answer = await rig.ask(event_bytes("e3", key="k"))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        gate.open()
        assert (await first).status == 200
        await until(lambda: len(rig.old.seen) == 2, "sent")
        gate.open()
        assert (await second).status == 200
        await rig.settled()
        assert rig.story("e3") == ("X", "-")


# clients that leave


@pytest.mark.asyncio
@pytest.mark.parametrize("word", ["parallel", "sequential"])
async def test_an_event_goes_on_when_its_client_leaves(word: str) -> None:
    async with running(make_route(copy_order=word)) as rig:
        gate = Gate(reply(200))
        rig.old.behave = gate
        wire = await rig.wire()
        wire.send(event_bytes("e", key="k"))
        await until(lambda: rig.old.seen, "sent")
        wire.reset()
        await until(lambda: not rig.service.clients, "gone")
        gate.open()
        await until(lambda: rig.new.seen, "the copy too")
        await rig.settled()
        assert rig.story("e") == ("D", "D")
        assert rig.plane.routes[0].accepted == 1


@pytest.mark.asyncio
async def test_reports_reach_the_ledger_though_nobody_is_there_to_be_answered() -> None:
    async with running(dials=OFF) as rig:
        gate = Gate(reply(400))
        rig.old.behave = gate
        wire = await rig.wire()
        wire.send(event_bytes("e", key="k"))
        await until(lambda: rig.old.seen, "sent")
        wire.reset()
        await until(lambda: not rig.service.clients, "gone")
        gate.open()
        await until(lambda: rig.story("e") == ("R", "-"), "reported")


# long answers

LONG = b"x" * 300_000
HEAD = b"HTTP/1.1 %d Said\r\nContent-Length: 300000\r\n\r\n"


def long_reply(status: int, seen: Seen, connection: BackendConnection) -> None:
    """A head, and its long body a moment later."""
    connection.write(HEAD % status)
    asyncio.get_running_loop().call_later(0.002, connection.write, LONG)


@pytest.mark.asyncio
async def test_a_failed_authoritys_long_answer_holds_nothing_up() -> None:
    async with running(dials=LIVE) as rig:
        rig.new.behave = lambda seen, connection: long_reply(500, seen, connection)
        answer = await rig.ask(event_bytes("e", key=key_for(NEW)))
        assert (answer.status, answer.body) == (200, b"ok")
        await rig.settled()
        assert rig.story("e") in (("AD", "H"), ("DA", "H"))
        assert rig.upstreams["new"].open == 1, "it was read to its end and is used again"


@pytest.mark.asyncio
async def test_an_authoritys_long_answer_is_kept_until_the_copy_is_safe_and_then_passed_on() -> None:
    async with running(make_route(copy_wait="60s")) as rig:
        gate = Gate(reply(200))
        rig.new.behave = gate
        rig.old.behave = lambda seen, connection: long_reply(200, seen, connection)
        asked = ask(rig, "e")
        await until(lambda: rig.new.seen and rig.old.seen, "sent")
        await asyncio.wait({asked}, timeout=0.02)
        assert not asked.done()
        gate.open()
        answer = await asked
        assert (answer.status, answer.body) == (200, LONG)
        await rig.settled()


@pytest.mark.asyncio
async def test_ack_both_drops_the_authoritys_long_answer_when_the_copy_is_refused() -> None:
    async with running(make_route(ack="both")) as rig:
        gate = Gate(reply(409, b"no"))
        rig.new.behave = gate
        rig.old.behave = lambda seen, connection: long_reply(200, seen, connection)
        asked = ask(rig, "e")
        await until(lambda: rig.new.seen and rig.old.seen, "sent")
        await asyncio.wait({asked}, timeout=0.02)
        gate.open()
        answer = await asked
        assert (answer.status, answer.body) == (409, b"no")
        await rig.settled()
        assert rig.upstreams["old"].open == 1, "it was read to its end and is used again"


@pytest.mark.asyncio
@pytest.mark.parametrize(("status", "told"), [(200, 202), (409, 409), (499, 202)])
async def test_a_copys_answer_that_is_too_long_to_keep_still_tells_what_became_of_the_event(
    status: int, told: int
) -> None:
    async with running(dials=LIVE) as rig:
        gate = Gate(reply(500))
        rig.new.behave = gate
        rig.old.behave = lambda seen, connection: long_reply(status, seen, connection)
        asked = ask(rig, "e", key_for(NEW))
        await until(lambda: rig.new.seen and rig.old.seen, "sent")
        await until(lambda: rig.upstreams["old"].is_idle, "the copy's answer is over")
        gate.open()
        assert (await asked).status == told
        await rig.settled()
        rig.check_ends()


# keys and ids


@pytest.mark.asyncio
@pytest.mark.parametrize(("missing", "status"), [("event-id", 200), ("old", 200), ("reject", 400)])
@pytest.mark.parametrize("body", [b"", b"no JSON", b"{}", b'{"key":null}', b'{"key":' + b"[" * 5000, b'{"key":""}'])
async def test_an_event_without_a_key(missing: str, status: int, body: bytes) -> None:
    async with running(make_route(key_missing=missing), dials=Dials(100.0, "durable")) as rig:
        head = b"POST /events HTTP/1.1\r\nHost: a\r\nX-Event-Id: e\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert (await rig.ask(head + body)).status == status
        await rig.settled()
        assert rig.plane.counters["key_missing"] == 1
        if missing == "reject":
            assert not rig.fake.events
        elif missing == "old":
            assert rig.story("e") == ("D", "-")
        else:
            assert rig.fake.events["e"].key == "e"
            assert rig.story("e") == ("D", "D")


@pytest.mark.asyncio
@pytest.mark.parametrize(("length", "status"), [(511, 200), (512, 200), (513, 400)])
async def test_a_key_has_a_bounded_length(length: int, status: int) -> None:
    async with running() as rig:
        assert (await rig.ask(event_bytes("e", key="k" * length))).status == status


@pytest.mark.asyncio
async def test_ids_are_generated_in_the_order_of_time() -> None:
    async with running() as rig:
        wire = await rig.wire()
        for _ in range(5):
            assert (await wire.ask(event_bytes(key="k"))).status == 200
        await rig.settled()
        ids = [event.id for event in sorted(rig.fake.events.values(), key=lambda event: event.n)]
        assert ids == sorted(ids)
        assert all(not event.client_id and len(event.id) == 28 for event in rig.fake.events.values())


@pytest.mark.asyncio
async def test_a_receipt_has_what_the_route_reads() -> None:
    route = make_route(event_time="json:/at", identities=("json:/key", "header:X-Tenant", "json:/none"))
    async with running(route) as rig:
        data = event_bytes("e", key="k", at="2026-01-01T00:00:00Z").replace(b"Host: a", b"Host: a\r\nX-Tenant: t")
        assert (await rig.ask(data)).status == 200
        await rig.settled()
        event = rig.fake.events["e"]
        assert (event.route, event.key, event.client_id, event.transport) == ("events", "k", True, "http")
        assert (event.event_time, event.identities) == ("2026-01-01T00:00:00Z", ("k", "t", ""))
        assert event.context.startswith(b"POST /events HTTP/1.1\r\nHost: a\r\n")
        assert b"X-Event-Id" not in event.context
        assert b"Content-Length" not in event.context

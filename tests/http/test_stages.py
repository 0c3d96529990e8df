"""What each stage sends where, what it owes, and what becomes of it when a side fails."""

from __future__ import annotations

import pytest

from proxy.core.answers import LONGEST, MOST
from proxy.core.event import NEW, OLD
from proxy.core.routing import Dials
from tests.http.acts import Gate, ask, dropped, turns
from tests.http.backend import always, reply
from tests.http.rig import LIVE, OFF, SHADOW, SPLIT, event_bytes, key_for, make_route, running
from tests.http.wire import until


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
async def test_answers_to_shadowed_events_are_put_aside_for_comparing() -> None:
    async with running(make_route(compare_answers={"sample": "100%"}), dials=SHADOW) as rig:
        rig.new.behave = always(reply(201, b"new"))
        for number in range(2):
            assert (await rig.ask(event_bytes(f"e{number}", key="k"))).status == 200
            await rig.settled()
        assert [pair.id for pair in rig.plane.compared] == ["e0", "e1"]
        pair = rig.plane.compared[1]
        assert (pair.route, pair.old.status, pair.new.status, pair.new.body) == ("events", 200, 201, b"new")
        assert pair.body == rig.old.seen[1].body
        assert b"X-Event-Id: e1\r\n" in pair.request
        rig.turn(LIVE)
        for number in range(4):
            await rig.ask(event_bytes(f"l{number}", key="k"))
            await rig.settled()
        assert len(rig.plane.compared) == 2, "not in this stage"


@pytest.mark.asyncio
async def test_a_share_of_the_answers_is_compared_whatever_the_rhythm_of_the_clients() -> None:
    async with running(make_route(compare_answers={"sample": "25%"}), dials=SHADOW) as rig:
        sampled = []
        for number in range(400):
            await rig.ask(event_bytes(f"e{number}", key="k"))
            await rig.settled()
            sampled += rig.plane.compared
            rig.plane.compared.clear()
        assert 50 < len(sampled) < 170, "4 in 10^10 that chance takes it out of these bounds"
        assert rig.plane.counters["answers_sampled"] == len(sampled)
        assert len({int(pair.id[1:]) % 4 for pair in sampled}) == 4


@pytest.mark.asyncio
async def test_answers_are_compared_in_every_stage_with_copies_where_that_is_said() -> None:
    route = make_route(compare_answers={"sample": "100%", "when": "always"})
    async with running(route, dials=LIVE) as rig:
        await rig.ask(event_bytes("live", key="k"))
        await rig.settled()
        rig.turn(SPLIT)
        await rig.ask(event_bytes("split", key="k"))
        await rig.settled()
        rig.turn(SHADOW)
        rig.new.behave = dropped
        await rig.ask(event_bytes("dropped", key="k"))
        await rig.settled()
        assert [pair.id for pair in rig.plane.compared] == ["live"], "where both have answered"
        rig.new.behave = always(reply(200, b"y" * (LONGEST + 1)))
        await rig.ask(event_bytes("long", key="k"))
        await rig.settled()
        assert len(rig.plane.compared) == 1
        rig.new.behave = always(reply(200))
        for number in range(MOST + 4):
            await rig.ask(event_bytes(f"e{number}", key="k"))
            await rig.settled()
        assert len(rig.plane.compared) == MOST, "and no more until they were reported"
        assert rig.plane.counters["answers_sampled"] == MOST + 7, "those that came to nothing as well"


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

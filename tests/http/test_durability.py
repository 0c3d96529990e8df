"""When a 2xx may be given: what is safe by then, under each `durability` and `ack`."""

from __future__ import annotations

import asyncio

import pytest

from proxy.core.event import NEW
from proxy.ledger.protocol import PARKED
from tests.http.acts import Gate, ask, turns
from tests.http.backend import always, reply
from tests.http.rig import event_bytes, make_route, running
from tests.http.wire import until

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
@pytest.mark.parametrize("ends_with", [200, 503, None])
async def test_after_eight_parked_in_a_row_clients_wait_for_no_copy_until_one_has_ended(ends_with: int | None) -> None:
    async with running(backend={"new": {"response_timeout": "60s" if ends_with else "500ms"}}) as rig:
        gate = Gate(reply(ends_with or 200))
        rig.new.behave = gate
        for n in range(9):
            assert (await rig.ask(event_bytes(f"e{n}", key=f"k{n}"))).status == 200
        assert [rig.story(f"e{n}") for n in range(9)] == [("D", "P")] * 8 + [("D", "h")]
        if ends_with is not None:
            gate.open()
        await until(lambda: all(len(rig.story(f"e{n}")[NEW]) == 2 for n in range(8)), "the eight have ended")
        rig.new.behave = always(reply(200))
        assert (await rig.ask(event_bytes("e9", key="k9"))).status == 200
        assert rig.story("e9") == ("D", "D")


@pytest.mark.asyncio
async def test_a_slow_backend_that_answers_meanwhile_is_not_taken_for_a_stalled_one() -> None:
    async with running() as rig:
        for n in range(12):
            gate = Gate(reply(200))
            rig.new.behave = gate
            assert (await rig.ask(event_bytes(f"e{n}", key=f"k{n}"))).status == 200
            gate.open()
            await until(lambda n=n: rig.story(f"e{n}") == ("D", "PD"), "answered in the end")  # type: ignore[misc]


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

"""When a 2xx may be given: what is safe by then, under each `durability` and `ack`."""

from __future__ import annotations

import asyncio

import pytest

from proxy.core.event import NEW
from proxy.http.leg import NOBODY, Leg
from proxy.http.upstream import STALLED
from proxy.ledger.protocol import PARKED
from tests.http.acts import Gate, ask, turns
from tests.http.backend import BackendConnection, Behave, Seen, always, reply
from tests.http.rig import Rig, event_bytes, make_route, running
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
@pytest.mark.parametrize("ends_with", [200, 503, "a head", "no answer"])
async def test_when_copies_are_parked_in_a_row_clients_wait_for_none_until_something_is_heard(
    ends_with: int | str,
) -> None:
    timeout = "2s" if ends_with == "no answer" else "60s"
    async with running(backend={"new": {"response_timeout": timeout}}) as rig:
        await rig.ask(event_bytes("usual", key="usual"))
        gate = Gate(reply(ends_with if isinstance(ends_with, int) else 200))
        rig.new.behave = gate
        rig.upstreams["new"].latency = 0.001
        handed = await until_handed(rig)
        if ends_with == "a head":
            rig.new.connections[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
            await until(lambda: "D" in rig.story("e0")[NEW], "its outcome is known")
            assert rig.upstreams["new"].parked == 0
        elif ends_with == "no answer":
            await until(lambda: rig.story("e0")[NEW] == "PH", "its time is over")
        else:
            gate.open()
            await until(lambda: len(rig.story("e0")[NEW]) == 2, "it has ended")
        rig.new.behave = always(reply(200))
        assert (await rig.ask(event_bytes("last", key="last"))).status == 200
        assert rig.story("last")[NEW] == "D"
        assert handed >= STALLED


async def until_handed(rig: Rig) -> int:
    """Send one event after another, of keys that have no backlog, until one is handed unsent; which that was."""
    for n in range(1000):
        assert (await rig.ask(event_bytes(f"e{n}", key=f"k{n}"))).status == 200
        if rig.story(f"e{n}") == ("D", "h"):
            return n
        assert rig.story(f"e{n}") == ("D", "P")
    raise AssertionError("none of 1,000 was handed")


@pytest.mark.asyncio
async def test_a_stalled_backend_gets_a_copy_now_and_then_to_see_whether_it_answers() -> None:
    async with running(backend={"new": {"response_timeout": "60s"}}) as rig:
        await rig.ask(event_bytes("usual", key="usual"))
        swallowed = Gate(reply(200))
        rig.new.behave = swallowed
        rig.upstreams["new"].latency = 0.001
        await until_handed(rig)
        rig.new.behave = always(reply(200))  # it only lost what it was on
        for n in range(10_000):
            await rig.ask(event_bytes(f"t{n}", key=f"t{n}"))
            if rig.story(f"t{n}") == ("D", "D"):
                break
        assert rig.upstreams["new"].parked == 0
        assert n < 9_999
        swallowed.open()


@pytest.mark.asyncio
async def test_a_slow_backend_that_answers_is_not_taken_for_a_stalled_one() -> None:
    async with running(backend={"new": {"connections": 1000}}) as rig:
        rig.new.behave = slow(0.1)
        for start in range(0, 300, 60):
            asked = [rig.ask(event_bytes(f"e{n}", key=f"k{n}")) for n in range(start, start + 60)]
            assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
        await rig.settled()
        assert {rig.story(f"e{n}") for n in range(300)} <= {("D", "PD"), ("D", "D")}


@pytest.mark.asyncio
async def test_what_answers_usually_take_is_learnt() -> None:
    async with running() as rig:
        for n in range(100):
            await rig.ask(event_bytes(f"e{n}", key="k"))
        assert 0 < rig.upstreams["new"].latency < 0.1


@pytest.mark.asyncio
async def test_an_answer_after_a_minute_does_not_hide_the_next_stall() -> None:
    async with running() as rig:
        upstream = rig.upstreams["new"]
        upstream.latency = 0.001
        leg = Leg(NOBODY, upstream, NEW, 1, b"POST", b"", False)
        leg.answered_at = 60.0
        upstream.heard(leg)
        for _ in range(STALLED):
            upstream.park(100.0)
        assert not upstream.is_stalled(100.05)
        assert not upstream.is_stalled(100.1), "one to try"
        assert upstream.is_stalled(100.11)
        assert not upstream.is_stalled(100.21), "another one"


@pytest.mark.asyncio
@pytest.mark.parametrize(("settings", "story"), [({"ack": "both"}, ("D", "D")), ({"durability": "off"}, ("D", "D"))])
async def test_copies_that_one_route_parked_are_nothing_to_routes_that_park_none(
    settings: dict[str, str], story: tuple[str, str]
) -> None:
    other = make_route(name="other", match={"path": "/other", "methods": ("POST",)}, **settings)
    async with running(other, make_route(), backend={"new": {"response_timeout": "60s"}}) as rig:
        await rig.ask(event_bytes("usual", key="usual"))
        gate = Gate(reply(200))
        rig.new.behave = gate
        rig.upstreams["new"].latency = 0.001
        await until_handed(rig)
        asked = asyncio.create_task(rig.ask(event_bytes("b", key="b").replace(b"POST /events", b"POST /other")))
        await until(lambda: "b" in rig.new.ids(), "sent all the same")
        gate.open()
        assert (await asked).status == 200
        await rig.settled()
        assert rig.story("b") == story


def slow(seconds: float) -> Behave:
    """A backend that answers each request after so long."""

    def behave(seen: Seen, connection: BackendConnection) -> None:
        asyncio.get_running_loop().call_later(seconds, connection.write, reply(200))

    return behave


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


@pytest.mark.asyncio
@pytest.mark.parametrize(("status", "body"), [(200, b'{"accepted":"e"}'), (201, b'{"accepted":"e"}'), (204, b"")])
async def test_durable_is_said_with_the_status_that_the_route_has_for_it(status: int, body: bytes) -> None:
    """On a connection that goes on, and on one that ends with it."""
    async with running(make_route(ack="accepted", accepted_status=status)) as rig:
        wire = await rig.wire()
        for version in ("1.1", "1.0"):
            answer = await wire.ask(event_bytes("e", key="k").replace(b"HTTP/1.1", b"HTTP/" + version.encode()))
            assert (answer.status, answer.body) == (status, body)
            assert ("content-length" in answer.headers) == (status != 204)
            assert answer.headers.get("connection") == (None if version == "1.1" else "close")
        assert await wire.is_cut()

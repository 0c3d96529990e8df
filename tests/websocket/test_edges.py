"""Sessions at their edges: what is handed meanwhile, ends that cross, replies that wait."""

from __future__ import annotations

import asyncio
import json
from time import monotonic
from typing import Any

import pytest

from proxy.core.event import DENIED
from proxy.websocket import deliver
from proxy.websocket.upstream import OPEN
from tests.http.rig import OFF
from tests.http.wire import until
from tests.websocket.byhand import CLOSE, PING, PONG, TEXT, closing, sent
from tests.websocket.rig import HandRig, by_hand, make_route, text
from tests.websocket.test_deliver import couriers
from tests.websocket.test_deliver import event as courier_event

pytestmark = pytest.mark.asyncio

REPLIES = {"receipt": "reply", "reply": {"message_id": "/id", "reply_id": "/id"}}


def raw(n: int) -> bytes:
    return sent(TEXT, text(n).encode())


async def test_nothing_is_written_behind_our_close_frame() -> None:
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        other = await stand.rig.by_hand()
        stand.old.mute()
        client.send(raw(1), sent(PING) * 1_001)
        while (await client.frame()).opcode != CLOSE:
            pass
        # Its client stays for a moment. Now what it waited for is safe:
        stand.old.unmute()
        other.send(sent(PING, b"other"))
        assert (await other.frame()).opcode == PONG
        await asyncio.sleep(0.2)
        assert errors == [], "`Tick.run` ended in the middle: what others were to get is lost"


async def test_nothing_passes_what_was_handed_because_of_what_was_received_before() -> None:
    async with by_hand(make_route({"redeliver_window": "30s"})) as stand:
        rig = stand.rig.rig
        client = await stand.rig.by_hand()
        client.send(raw(1))
        await until(lambda: "m1" in rig.fake.events and rig.story("m1") == ("r", "r"), "both have it")
        rig.mark(1, "a")  # one event of the bucket is with the ledger, from wherever
        client.send(raw(2))
        await until(lambda: rig.fake.holds_event("m2") and rig.story("m2")[1] == "h", "handed behind it")
        await asyncio.sleep(0.05)
        client.send(raw(3))  # the mark is still there: m2 waits at the ledger
        await until(lambda: rig.fake.holds_event("m3"), "recorded")
        await asyncio.sleep(0.1)
        assert stand.new.got == [text(1).encode()], "m3 has passed m2"
        assert rig.story("m3")[1] == "h"


async def test_a_close_is_answered_behind_however_many_pings_wait() -> None:
    async with by_hand(dials=OFF) as stand:
        client = await stand.rig.by_hand(new=False)
        stand.old.mute()
        client.send(raw(1), sent(PING) * 1_000, closing(4001))
        await until(lambda: "m1" in stand.rig.rig.fake.events, "all wait for it")
        stand.old.unmute()
        assert [(await client.frame()).opcode for _ in range(1_000)] == [PONG] * 1_000
        assert await client.closed() == (4001, "")


async def test_text_of_an_authority_that_is_not_utf_8_is_the_clients_to_judge_where_replies_are_read_too() -> None:
    async with by_hand(make_route(REPLIES)) as stand:
        client = await stand.rig.by_hand()
        strange = sent(TEXT, b'{"id": "m1", "name": "\xe2"}', masked=False)
        stand.old.connection.write(strange)
        assert (await client.frame()).raw == strange
        client.send(raw(1))
        await until(lambda: stand.old.got == [text(1).encode()], "it goes on")
        assert not stand.rig.counted("websocket_backend_broken")


class Elsewhere:
    """Another worker, which keeps what was sent on a connection before it was ours."""

    def __init__(self) -> None:
        self.is_lost = False

    def lost(self) -> None:
        self.is_lost = True

    def settled(self) -> None:
        pytest.fail("nothing was")


async def test_what_awaits_its_reply_does_not_pass_what_another_worker_hands() -> None:
    async with by_hand(make_route(REPLIES)) as stand:
        client = await stand.rig.by_hand()
        elsewhere = Elsewhere()
        stand.rig.only_session.links[1]._elsewhere = elsewhere
        client.send(raw(1))
        await until(lambda: stand.new.got == [text(1).encode()], "sent")
        stand.new.cut()
        await until(lambda: stand.rig.rig.story("m1")[1] == "H", "the ledger has it, behind what is older")
        assert elsewhere.is_lost
        await until(lambda: len(stand.new.talks) == 2, "connected again")
        await asyncio.sleep(0.1)
        assert stand.new.got == [text(1).encode()]


@pytest.mark.plain
async def test_what_is_kept_for_a_window_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.websocket.receipts.MOST_KEPT", 5)
    async with by_hand(make_route({"redeliver_window": "1h"}), dials=OFF) as stand:
        client = await stand.rig.by_hand(new=False)
        for n in range(8):
            client.send(raw(n))
            await client.ping()
        link = stand.rig.only_session.links[0]
        assert (link.unsettled, stand.rig.counted("websocket_windows_cut")) == (5, 3)
        await client.ping()
        stand.old.cut()
        await until(lambda: stand.rig.rig.story("m7")[0] == "rH", "handed")
        assert [stand.rig.rig.story(f"m{n}")[0] for n in range(8)] == ["r"] * 3 + ["rH"] * 5


async def parked_copy(stand: HandRig) -> asyncio.Future[None]:
    """m1, which new takes and does not receipt, and the ledger has not confirmed; its client waits for this Pong."""
    rig = stand.rig.rig
    client = await stand.rig.by_hand()
    rig.fake.holds = True
    stand.new.mute()
    client.send(raw(1))
    waiting = asyncio.ensure_future(client.ping())
    await until(lambda: "m1" in rig.fake.events and rig.story("m1") == ("D", "P"), "parked")
    return waiting


async def test_a_ping_is_answered_although_a_parked_copy_is_handed_before_that_is_durable() -> None:
    async with by_hand() as stand:
        rig = stand.rig.rig
        waiting = await parked_copy(stand)
        parked = max(rig.fake.frames)
        await asyncio.sleep(0.05)
        stand.new.cut()
        await until(lambda: rig.story("m1")[1] == "PH", "handed")
        rig.fake._commit(parked)
        await asyncio.sleep(0.05)
        assert not waiting.done()
        rig.fake.holds = False
        rig.fake.release()
        try:
            await asyncio.wait_for(asyncio.shield(waiting), 2)
        except TimeoutError:
            pytest.fail("everything is safe, and the client waits for ever")
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


async def test_what_awaits_its_reply_does_not_pass_what_was_handed_when_a_backend_is_lost_twice() -> None:
    async with by_hand(make_route(REPLIES)) as stand:
        rig = stand.rig.rig
        client = await stand.rig.by_hand()
        first, second = text(1).encode(), text(2).encode()
        client.send(raw(1))
        await until(lambda: stand.new.got == [first], "sent")
        stand.new.cut()
        await until(lambda: stand.new.got == [first, first], "sent again")
        client.send(raw(2))
        await until(lambda: stand.new.got == [first, first, second], "the next one of its key")
        stand.new.cut()
        await until(lambda: rig.story("m1")[1] == "PH", "the ledger has the first one")
        await until(lambda: len(stand.new.talks) == 3, "connected again")
        await asyncio.sleep(0.1)
        assert stand.new.got == [first, first, second], "the second one was sent again before the first one"


async def test_what_awaits_its_reply_does_not_pass_what_awaited_its_pong() -> None:
    async with by_hand(make_route(REPLIES)) as stand:
        client = await stand.rig.by_hand()
        stand.new.pongs = False
        nameless = json.dumps({"key": "a"}).encode()
        client.send(sent(TEXT, nameless), raw(2))
        await until(lambda: stand.new.got == [nameless, text(2).encode()], "sent")
        stand.new.pongs = True
        stand.new.cut()  # the ledger gets the first one, which may be lost
        await until(lambda: len(stand.new.talks) == 2, "connected again")
        await asyncio.sleep(0.1)
        assert stand.new.got == [nameless, text(2).encode()], "the second one was sent again, the first one was not yet"


async def test_a_close_is_not_answered_before_its_time_when_the_proxy_stops() -> None:
    async with by_hand() as stand:
        rig = stand.rig.rig
        client = await stand.rig.by_hand()
        rig.fake.holds = True
        stand.old.mute()
        client.send(raw(1), closing(4001))
        await until(lambda: "m1" in rig.fake.events, "recorded, and not on disk")
        await asyncio.sleep(0.05)
        stand.rig.sessions.stop()
        with pytest.raises(asyncio.IncompleteReadError):  # a Close would be taken for the answer to its own
            await client.frame()
        stand.old.unmute()


async def test_no_reply_is_late_that_was_not_read_because_the_client_read_slowly() -> None:
    async with by_hand(make_route(REPLIES), backend_settings={"response_timeout": "300ms"}) as stand:
        client = await stand.rig.by_hand()
        session = stand.rig.only_session
        link = session.links[0]
        client.send(raw(1))
        await until(lambda: stand.old.got == stand.new.got == [text(1).encode()], "sent")
        await stand.new.connection.send(text(1))
        session.pause_writing()  # as the client's transport says it
        await stand.old.connection.send(text(1))  # in time
        await asyncio.sleep(0.5)
        assert link.state == OPEN
        session.resume_writing()
        session.check_time(monotonic())
        await until(lambda: stand.rig.rig.story("m1")[0] in ("D", "H", "PH"), "it ended")
        assert stand.rig.rig.story("m1")[0] == "D", "cut for want of a reply that was there"


async def test_replies_that_wait_are_counted() -> None:
    async with by_hand(make_route(REPLIES)) as stand:
        rig = stand.rig.rig
        client = await stand.rig.by_hand()
        rig.fake.holds = True
        stand.new.mute()
        client.send(raw(1))
        await until(lambda: stand.old.got == [text(1).encode()], "sent")
        reply = json.dumps({"id": "m1", "pad": "x" * 500_000}).encode()
        await stand.old.connection.send(reply.decode())
        await until(lambda: rig.story("m1") == ("D", "P"), "replied, and not safe yet")
        assert rig.plane.budget.held > 500_000
        stand.new.unmute()
        rig.fake.holds = False
        rig.fake.release()


async def test_a_courier_that_is_refused_for_good_does_not_knock_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deliver, "_REFUSED_FOR", 1.0)
    async with couriers(window="30s") as rig:
        await rig.deliver(courier_event(1))
        rig.backend.refusal = 403
        rig.backend.cut()
        await until(lambda: rig.delivery.counters["courier_resends_given_up"] == 1, "it is given up, and counted")
        knocks = len(rig.backend.requests)
        assert knocks < 10, f"{knocks} handshakes"
        assert not rig.delivery.kept_bytes, "room that other couriers lack"
        assert "handshakes are refused" in caplog.text
        await asyncio.sleep(2)
        assert len(rig.backend.requests) == knocks


@pytest.mark.parametrize("between", [None, 503], ids=["away", "503"])
async def test_refusals_that_do_not_follow_each_other_are_no_long_refusal(
    monkeypatch: pytest.MonkeyPatch, between: int | None
) -> None:
    monkeypatch.setattr(deliver, "_REFUSED_FOR", 1.0)
    async with couriers(window="30s") as rig:
        await rig.deliver(courier_event(1))
        rig.backend.refusal = 404
        rig.backend.cut()
        await until(lambda: len(rig.backend.requests) == 2, "it is refused")
        if between is None:
            await rig.backend.stop()
        rig.backend.refusal = between
        await asyncio.sleep(1.2)
        rig.backend.refusal = 404
        if between is None:
            await rig.backend.start()
        knocks = len(rig.backend.requests)
        await until(lambda: len(rig.backend.requests) > knocks, "it is refused once more")
        rig.backend.refusal = None
        await until(lambda: rig.backend.got == ["message 1", "message 1"], "nothing was given up")
        assert not rig.delivery.counters


@pytest.mark.parametrize("refusal", [401, 403, 404])
async def test_a_load_balancer_whose_backend_starts_costs_nothing_that_was_received(refusal: int) -> None:
    async with couriers(window="30s") as rig:
        await rig.deliver(courier_event(1))
        rig.backend.refusal = refusal
        rig.backend.cut()
        await until(lambda: len(rig.backend.requests) >= 3, "it was refused")
        [outcome] = await rig.deliver(courier_event(2))
        assert outcome.kind == DENIED
        rig.backend.refusal = None
        await until(lambda: rig.backend.got == ["message 1", "message 1"], "it is there again")
        assert not rig.delivery.counters


async def test_what_a_courier_has_no_room_to_keep_is_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deliver, "_KEPT_BYTES", 40)
    async with couriers(window="30s") as rig:
        await rig.deliver(courier_event(1))
        for n in (2, 3, 4):
            await rig.deliver(courier_event(n))
        assert rig.delivery.counters["courier_windows_cut"] == 2
        assert caplog.text.count("no room to keep") == 1
        rig.backend.cut()
        await until(lambda: rig.backend.got[4:] == ["message 1", "message 2"], "what was kept is sent again")


async def test_answers_that_wait_for_a_ledger_that_is_away_are_counted() -> None:
    async with by_hand() as stand:
        rig = stand.rig.rig
        waiting = await parked_copy(stand)
        rig.ledger.fail_waiters()
        assert stand.rig.counted("websocket_answers_delayed") == 1
        assert not waiting.done()
        stand.new.unmute()
        rig.fake.holds = False
        rig.fake.release()
        await asyncio.wait_for(waiting, 5)

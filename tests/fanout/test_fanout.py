"""Consumers of a fanout route, with a real data plane and a real ledger: order, completeness, restarts, bad manners."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from proxy.core.routing import Dials
from proxy.fanout import admission as admission_module
from proxy.fanout import fed as fed_module
from proxy.fanout import server as server_module
from proxy.fanout.fed import FedConnection
from proxy.fanout.relay import Relay
from proxy.fanout.told import Told
from tests.fanout.rig import CHANGED, TOKENS, FanRig, Service, changed, fanning_out
from tests.http.wire import Wire, until

pytestmark = pytest.mark.asyncio

HANDSHAKE = (
    b"GET /events HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class TestFeeding:
    async def test_both_are_fed_the_same_stream_in_order(self) -> None:
        async with fanning_out() as rig:
            old, new = [await rig.consumer(side).connect() for side in TOKENS]
            await asyncio.gather(*(rig.post(range(60), f"sensor.{key}") for key in "abc"))
            for key in "abc":
                await old.has(60, f"sensor.{key}")
                await new.has(60, f"sensor.{key}")
                assert old.values(f"sensor.{key}") == new.values(f"sensor.{key}") == [*range(60)]
            await rig.all_are(180, ("delivered", "delivered"))
            for side in TOKENS:
                await rig.side_is(side, owed=180, delivered=180)
            assert "entity_id" not in old.events[0]

    async def test_who_is_away_holds_up_nobody_and_gets_all_of_it_later(self) -> None:
        async with fanning_out() as rig:
            new = await rig.consumer("new").connect()
            await rig.post(range(50))
            await new.has(50)
            await rig.side_is("old", owed=50, pending=50)
            old = await rig.consumer("old").connect()
            await rig.post(range(50, 80))
            await old.has(80)
            await new.has(80)
            assert old.values() == new.values() == [*range(80)]
            await rig.all_are(80, ("delivered", "delivered"))

    async def test_who_arrives_is_fed_at_once(self) -> None:
        """However long the ledger would wait for its next try."""
        async with fanning_out(ledger={"retry_initial": "20s", "retry_max": "60s"}) as rig:
            await rig.post(range(5))
            assert rig.keeper is not None
            gate = rig.keeper.replayer.gates["new"]
            await until(lambda: not gate.is_open, "the ledger has tried")
            new = await rig.consumer("new").connect()
            await asyncio.wait_for(new.has(5), 3)

    async def test_one_event_for_each_subscription(self) -> None:
        async with fanning_out() as rig:
            old = await rig.consumer("old").connect(["state_changed", "*"])
            await rig.post([1])
            await until(lambda: old.values() == [1, 1], "both subscriptions have it")

    async def test_without_copies_each_event_is_for_one_side(self) -> None:
        async with fanning_out(route={"carry_over": False}) as rig:
            rig.turn(Dials(50.0, "none"))
            old, new = [await rig.consumer(side).connect() for side in TOKENS]
            entities = [f"sensor.e{n}" for n in range(40)]
            for entity in entities:
                await rig.post([1], entity)
            await until(lambda: len(old.events) + len(new.events) == 40, "each is somewhere")
            assert old.events
            assert new.events
            assert not {e for e in entities if old.values(e)} & {e for e in entities if new.values(e)}

    async def test_what_is_no_event_of_home_assistant_is_a_dead_letter(self) -> None:
        async with fanning_out() as rig:
            for side in TOKENS:
                await rig.consumer(side).connect()
            assert (await rig.ask(b'{"entity_id":"a"}', "e1")).status == 202
            await rig.all_are(1, ("dead", "dead"))


class TestRestarts:
    async def test_of_a_consumer_lose_nothing(self) -> None:
        """Killed in the middle of things ten times, it has everything in the order of each key."""
        async with fanning_out(consumer={"redeliver_window": "100ms"}) as rig:
            posting = asyncio.gather(*(rig.post(range(150), f"sensor.{key}") for key in "ab"))
            old = await rig.consumer("old").connect()
            new = rig.consumer("new")
            for turn in range(10):
                await new.connect()
                await new.has(5 + 10 * turn)
                await new.kill()
            await new.connect()
            await posting
            for key in ("sensor.a", "sensor.b"):
                await new.has(150, key)
                await old.has(150, key)
                assert new.distinct(key) == old.values(key) == [*range(150)]
            await rig.all_are(300, ("delivered", "delivered"))
            assert rig.counters["consumers_sent_again"] > 0

    async def test_what_was_received_just_before_a_kill_comes_again_first(self) -> None:
        async with fanning_out() as rig:
            new = await rig.consumer("new").connect()
            await rig.post(range(5))
            await new.has(5)
            await until(lambda: {new for _, new in rig.states().values()} == {"delivered"}, "all on record")
            await new.kill()
            new.events.clear()
            await rig.post([5, 6])
            await new.connect()
            await new.has(7)
            assert new.values() == [*range(7)]

    async def test_what_was_received_longer_ago_does_not(self) -> None:
        async with fanning_out(consumer={"redeliver_window": "50ms", "ping_interval": "100ms"}) as rig:
            new = await rig.consumer("new").connect()
            await rig.post(range(5))
            await new.has(5)
            await asyncio.sleep(0.5)  # it was asked since, and answered
            await new.kill()
            await until(lambda: not rig.consumers.open, "its connection has ended")
            await asyncio.sleep(0.05)
            new.events.clear()
            await new.connect()
            await rig.post([5])
            await new.has(1)
            assert new.values() == [5]

    async def test_of_a_host_that_dies_without_a_word_lose_nothing(self) -> None:
        """Just after a Pong: when that is found out, the window is long over."""
        own = {"redeliver_window": "300ms", "ping_interval": "800ms"}
        async with fanning_out(backend={"response_timeout": "300ms"}, consumer=own) as rig:
            new = await rig.consumer("new").connect()
            await rig.post(range(3))
            await new.has(3)
            await rig.side_is("new", owed=3, delivered=3)
            new.socket.transport.pause_reading()
            await until(lambda: not rig.consumers.open, "it was cut off")
            await new.kill()
            new.events.clear()
            await new.connect()
            await new.has(3)
            assert new.values() == [*range(3)]

    async def test_of_the_ledger_lose_nothing(self) -> None:
        async with fanning_out() as rig:
            old, new = [await rig.consumer(side).connect() for side in TOKENS]
            for turn in range(4):
                await rig.post(range(turn * 20, turn * 20 + 20))
                await rig.restart_ledger()
                for each in (old, new):
                    await each.ended()
                    await each.connect()
            for each in (old, new):
                await each.has(80)
                assert each.distinct() == [*range(80)]
            await rig.all_are(80, ("delivered", "delivered"))
            await rig.side_is("new", owed=80, delivered=80)

    async def test_of_a_consumer_and_the_ledger_at_once_lose_nothing(self) -> None:
        """What it had received and not processed is on disk, not in the ledger's memory."""
        async with fanning_out() as rig:
            new = await rig.consumer("new").connect()
            await rig.post(range(5))
            await new.has(5)
            await until(lambda: {new for _, new in rig.states().values()} == {"delivered"}, "all on record")
            await new.kill()
            await rig.restart_ledger()
            new.events.clear()
            await new.connect()
            await new.has(5)
            assert new.values() == [*range(5)]

    async def test_of_a_worker_lose_nothing(self) -> None:
        async with fanning_out() as rig:
            new = await rig.consumer("new").connect()
            await rig.post(range(30))
            await rig.end_worker()
            await new.ended()
            await rig.start_worker()
            old, new_again = rig.consumer("old"), rig.consumer("new")
            await old.connect()
            await new_again.connect()
            await rig.post(range(30, 60))
            await old.has(60)
            await until(lambda: 59 in new_again.values(), "the last one")
            assert old.values() == [*range(60)]
            assert list(dict.fromkeys(new.values() + new_again.values())) == [*range(60)]


SHORT = 100_000


def large(n: int, entity: str = "sensor.large") -> bytes:
    """A changed state of 400 KB, which is more than a consumer with SHORT takes: `websockets` closes with 1009."""
    event = orjson.loads(changed(n, entity))
    event["data"]["new_state"]["attributes"] = {"friendly_name": "n" * 400_000}
    return orjson.dumps(event)


@contextlib.asynccontextmanager
async def serving(rig: FanRig, side: str = "new", **settings: Any) -> AsyncIterator[Service]:
    """A consumer that connects again whenever it is disconnected."""
    service = Service(rig.port, side, pause=0.02, path="/events", **settings)
    try:
        yield service
    finally:
        await service.stop()


class TestWhatAConsumerDiesOf:
    async def test_before_its_pong_is_a_dead_letter_and_holds_up_nothing_else(self) -> None:
        quick = {"dead_after": 3, "retry_max": "50ms"}
        async with (
            fanning_out(ledger=quick, consumer={"redeliver_window": "50ms"}) as rig,
            serving(rig, max_size=SHORT) as new,
        ):
            await rig.post(range(5), "sensor.large")
            assert (await rig.ask(large(5), "too-large")).status == 202
            await rig.post(range(6, 9), "sensor.large")
            posted = 0
            async with asyncio.timeout(20):
                while rig.states()["too-large"][1] != "dead":
                    await rig.post([posted])
                    posted += 1
            await new.consumer.has(posted)
            await new.consumer.has(8, "sensor.large")
            assert new.consumer.distinct() == [*range(posted)]
            assert new.consumer.distinct("sensor.large") == [0, 1, 2, 3, 4, 6, 7, 8]
            await rig.side_is("new", owed=posted + 9, delivered=posted + 8, dead=1)
            assert rig.counters["consumers_given_up"] == 0

    async def test_is_not_what_was_on_its_way_when_it_was_restarted(self) -> None:
        """However often, while nothing else comes through: of that alone nothing is a dead letter."""
        async with fanning_out(ledger={"dead_after": 2}, consumer={"redeliver_window": "0s"}) as rig:
            new = rig.consumer("new")
            for number in range(4):
                await new.connect()
                new.socket.transport.pause_reading()
                await rig.post([number], f"sensor.{number}")
                await until(lambda: bool(self.fed(rig)._underway), "an event is on its way")
                await new.kill()
            await new.connect()
            for number in range(4):
                await new.has(1, f"sensor.{number}")
            await rig.side_is("new", owed=4, delivered=4)

    @staticmethod
    def fed(rig: FanRig) -> FedConnection:
        assert rig.fan_out is not None
        found = rig.fan_out._routes["events"].feeds[1]._fed
        assert found is not None
        return found

    async def test_behind_its_pong_is_found_and_given_up_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        async with fanning_out(consumer={"redeliver_window": "150ms"}) as rig, serving(rig, dies_of="3") as new:
            await asyncio.gather(*(rig.post([n], f"sensor.{n}") for n in range(8)))
            await rig.counts("consumers_given_up", 1)
            await rig.post([9])
            await new.consumer.has(1)
            told = {each["data"]["entity_id"] for each in new.consumer.events}
            assert told == {"sensor.a", *(f"sensor.{n}" for n in range(8) if n != 3)}
            assert rig.counters["consumers_given_up"] == 1
            assert "sensor.3-3" in next(line for line in caplog.text.splitlines() if "is not sent again" in line)

    async def test_though_it_is_sent_again_before_all_others_keeps_nothing_from_it_for_ever(self) -> None:
        """It took the long one once, and is another version now."""
        async with fanning_out(consumer={"redeliver_window": "150ms"}) as rig:
            first = await rig.consumer("new").connect()
            assert (await rig.ask(large(0), "too-large")).status == 202
            await rig.post([1, 2])
            await first.has(2)
            await rig.side_is("new", owed=3, delivered=3)
            await first.kill()
            async with serving(rig, max_size=SHORT) as new:
                await rig.post([3])
                await new.consumer.has(3)
                assert new.consumer.distinct() == [1, 2, 3]
                assert rig.counters["consumers_given_up"] == 1

    async def test_is_none_of_what_it_had_when_it_dies_of_something_else(self) -> None:
        async with fanning_out(consumer={"redeliver_window": "200ms"}) as rig:
            new = await rig.consumer("new").connect()
            await rig.post(range(5))
            await new.has(5)
            await rig.side_is("new", owed=5, delivered=5)
            for _ in range(15):
                await new.kill()
                await new.connect()
                await asyncio.sleep(0.02)
            new.events.clear()
            await new.has(5)
            assert new.distinct() == [*range(5)]
            assert rig.counters["consumers_given_up"] == 0
            await rig.post([5])
            await new.has(6)


@contextlib.asynccontextmanager
async def asking_for_much(rig: FanRig) -> AsyncIterator[tuple[socket.socket, Relay]]:
    """Who asks for the same states a hundred times, 40 MB, and reads nothing by itself; and its relay."""
    old = await rig.consumer("old").connect()
    event = orjson.loads(changed(1, "sensor.large"))
    event["data"]["new_state"]["attributes"] = {"friendly_name": "n" * 400_000}
    assert (await rig.ask(orjson.dumps(event), "large")).status == 202
    await old.has(1, "sensor.large")
    await rig.side_is("old", owed=1, delivered=1)
    loop, before = asyncio.get_running_loop(), {*rig.consumers.open}
    with socket.socket() as taker:
        taker.setblocking(False)
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        await loop.sock_connect(taker, ("127.0.0.1", rig.port))
        await loop.sock_sendall(taker, HANDSHAKE)
        assert (await loop.sock_recv(taker, 4096)).startswith(b"HTTP/1.1 101 ")
        await loop.sock_sendall(taker, text_frame({"type": "auth", "access_token": TOKENS["new"]}))
        for number in range(1, 101):
            await loop.sock_sendall(taker, text_frame({"id": number, "type": "get_states"}))
        (relay,) = rig.consumers.open - before
        yield taker, relay


def text_frame(message: dict[str, Any]) -> bytes:
    """As a client sends it, short."""
    body = orjson.dumps(message)
    assert len(body) < 126
    return bytes([0x81, 0x80 | len(body)]) + bytes(4) + body


class TestSlowConsumers:
    async def test_wait_in_the_ledger_and_not_in_memory(self) -> None:
        """It processes 50 events in a second: what is on its way to it is bounded, and the other one is not held up."""
        async with fanning_out(ledger={"replay_concurrency": 4}) as rig:
            old = await rig.consumer("old").connect()
            new = await rig.consumer("new", delay=0.02).connect()
            await asyncio.gather(*(rig.post(range(20), f"sensor.{key}") for key in "abcdef"))
            for key in "abcdef":
                await old.has(20, f"sensor.{key}")
            assert len(new.events) < 60
            assert (await rig.side("new"))["pending"] > 20
            assert rig.fan_out is not None
            fed = rig.fan_out._routes["events"].feeds[1]._fed
            assert fed is not None
            assert len(fed._underway) + len(fed._waiting) <= 4
            for key in "abcdef":
                await new.has(20, f"sensor.{key}")
                assert new.values(f"sensor.{key}") == [*range(20)]

    async def test_fill_no_buffer_of_the_worker(self) -> None:
        async with fanning_out() as rig:
            new = await rig.consumer("new").connect()
            new.socket.transport.pause_reading()
            large = {"friendly_name": "n" * 400_000}
            for number in range(64):
                event = orjson.loads(changed(number, f"sensor.n{number}"))
                event["data"]["new_state"]["attributes"] = large
                assert (await rig.ask(orjson.dumps(event), f"large-{number}")).status == 202
            (relay,) = rig.consumers.open
            most = 0
            for _ in range(50):
                await asyncio.sleep(0.02)
                assert relay._ends[0].transport is not None
                most = max(most, relay._ends[0].transport.get_write_buffer_size())
            assert 0 < most < 2 * 2**20, "of 25 MB that are on their way"
            new.socket.transport.resume_reading()
            await until(lambda: len({e["data"]["entity_id"] for e in new.events}) == 64, "all of them")

    async def test_who_takes_nothing_is_cut_off_and_loses_nothing(self) -> None:
        async with fanning_out(backend={"response_timeout": "300ms"}, consumer={"redeliver_window": "0s"}) as rig:
            new = await rig.consumer("new").connect()
            await rig.post(range(3))
            await new.has(3)
            new.socket.transport.pause_reading()
            await rig.post(range(3, 6))
            await until(lambda: not rig.consumers.open, "it was cut off")
            await rig.side_is("new", owed=6, delivered=3, pending=3)
            await new.kill()
            await new.connect()
            await new.has(6)
            assert new.values() == [*range(6)]

    async def test_who_takes_no_answers_is_cut_off_though_nothing_is_fed_to_it(self) -> None:
        async with fanning_out(backend={"response_timeout": "200ms"}) as rig, asking_for_much(rig) as (_, relay):
            await until(lambda: relay not in rig.consumers.open, "it was cut off")
            assert rig.plane.counters["consumer_stalls"] == 1
            assert relay._ends[0].transport is not None, "what it has not taken is still there"
            await until(lambda: not any(end.transport for end in relay._ends), "its descriptors are free")

    async def test_who_takes_answers_slowly_is_not(self) -> None:
        async with fanning_out(backend={"response_timeout": "200ms"}) as rig, asking_for_much(rig) as (taker, relay):
            for _ in range(10):
                await asyncio.sleep(0.3)
                assert await asyncio.get_running_loop().sock_recv(taker, 512 * 1024)
            assert relay in rig.consumers.open, "for longer than it may take nothing"
            assert relay._ends[0].transport is not None
            assert relay._ends[0].transport.get_write_buffer_size() > 128 * 1024, "and it has much to take"

    async def test_who_is_silent_is_asked(self) -> None:
        async with fanning_out(backend={"response_timeout": "200ms"}, consumer={"ping_interval": "100ms"}) as rig:
            new = await rig.consumer("new").connect()
            await asyncio.sleep(0.6)
            assert rig.consumers.open, "it answers"
            assert rig.breakers()["new"] == "closed"
            new.socket.transport.pause_reading()
            await until(lambda: not rig.consumers.open, "it was cut off")
            await until(lambda: rig.breakers()["new"] == "open", "nobody is there")
            assert rig.troubles()["new"].reason == "no consumer is connected"


class TestWhoIsLetIn:
    @pytest.mark.parametrize(
        "message", ['{"type":"auth","access_token":"wrong"}', '{"type":"auth"}', "{", '{"id":1,"type":"ping"}']
    )
    async def test_nobody_with_another_token(self, message: str) -> None:
        async with fanning_out() as rig:
            socket = await connect(f"ws://127.0.0.1:{rig.port}/events")
            await socket.recv()
            await socket.send(message)
            assert orjson.loads(await socket.recv())["type"] == "auth_invalid"
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1008
            assert rig.counters["consumers_denied"] == 1

    async def test_nobody_who_says_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(admission_module, "AUTH_WAIT", 0.1)
        async with fanning_out() as rig:
            socket = await connect(f"ws://127.0.0.1:{rig.port}/events")
            await socket.recv()
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1008

    async def test_nobody_beyond_the_room_that_there_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "MOST", 1)
        async with fanning_out() as rig:
            await rig.consumer("old").connect()
            new = rig.consumer("new")
            with pytest.raises(ConnectionClosed):
                await new.connect()
            assert (new.socket.close_code, rig.counters["consumers_turned_away"]) == (1013, 1)

    async def test_whoever_connects_and_says_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """They have places of their own, and of these the longest taken one is for who comes."""
        monkeypatch.setattr(admission_module, "MOST_WAITING", 2)
        async with fanning_out() as rig:
            first, second = [await connect(f"ws://127.0.0.1:{rig.port}/events") for _ in range(2)]
            for each in (first, second):
                await each.recv()
            new = await rig.consumer("new").connect()
            await rig.post([1])
            await new.has(1)
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(first.recv(), 5)
            assert rig.counters["consumers_turned_away"] == 1
            await second.send(orjson.dumps({"type": "auth", "access_token": TOKENS["old"]}).decode())
            assert orjson.loads(await second.recv())["type"] == "auth_ok"
            await second.close()

    async def test_wrong_tokens_are_a_line_in_a_minute(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with fanning_out() as rig:
            for _ in range(5):
                with pytest.raises(PermissionError):
                    await rig.consumer("new", token="wrong").connect()
            monkeypatch.setattr(admission_module, "_TELL_EVERY", 0.0)
            with pytest.raises(PermissionError):
                await rig.consumer("new", token="wrong").connect()
            assert rig.counters["consumers_denied"] == 6
            lines = [each for each in caplog.records if "was not let in" in each.message]
            assert [(each.__dict__["route"], each.__dict__["count"]) for each in lines] == [
                ("events", 1),
                ("events", 5),
            ]

    async def test_nobody_with_more_than_commands(self) -> None:
        async with fanning_out() as rig:
            new = await rig.consumer("new").connect()
            assert (await new.ask("nonsense", filler="x" * 60_000))["error"]["code"] == "unknown_command"
            await new.say(id=9, type="ping", filler="x" * 70_000)
            assert await new.ended() == 1009

    async def test_by_a_file_whose_token_may_change(self, tmp_path: Path) -> None:
        for side in TOKENS:
            (tmp_path / side).write_text(f"first-{side}\n")
        files = {side: {"consumer": {"token": None, "token_file": str(tmp_path / side)}} for side in TOKENS}
        async with fanning_out(sides=files) as rig:
            new = await rig.consumer("new", token="first-new").connect()
            (tmp_path / "new").write_text("second-new\n")
            with pytest.raises(PermissionError):
                await rig.consumer("new", token="first-new").connect()
            second = await rig.consumer("new", token="second-new").connect()
            assert await new.ended() == 1008
            old = await rig.consumer("old", token="first-old").connect()
            await rig.post([1])
            await second.has(1)
            await old.has(1)

    async def test_nobody_while_both_files_have_the_same_token(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for side in TOKENS:
            (tmp_path / side).write_text("same\n")
        files = {side: {"consumer": {"token": None, "token_file": str(tmp_path / side)}} for side in TOKENS}
        async with fanning_out(sides=files) as rig:
            with pytest.raises(PermissionError):
                await rig.consumer("new", token="same").connect()
            assert caplog.text.count("consumers old and new have the same token: neither is let in") == 1
            (tmp_path / "old").write_text("another\n")
            new = await rig.consumer("new", token="same").connect()
            await rig.post([1])
            await new.has(1)

    async def test_the_one_whose_file_can_be_read(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        files = {"new": {"consumer": {"token": None, "token_file": str(tmp_path / "none")}}}
        async with fanning_out(sides=files) as rig:
            with pytest.raises(PermissionError):
                await rig.consumer("new", token=TOKENS["new"]).connect()
            assert "cannot be read: No such file" in caplog.text
            await rig.consumer("old").connect()

    async def test_the_handshake_is_refused_in_http(self) -> None:
        async with fanning_out() as rig:
            wire = await Wire.open(rig.port, 2**20)
            assert (await wire.ask(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")).status == 426
            wire.close()
            await rig.kill_ledger()
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://127.0.0.1:{rig.port}/events")
            assert refused.value.response.status_code == 503
            await rig.start_ledger()
            await rig.consumer("old").connect()


class TestSubscriptions:
    async def test_types_that_are_named_a_little_later_are_not_lost(self) -> None:
        async with fanning_out() as rig:
            await rig.post([1])
            other = orjson.dumps({"entity_id": "x", "event_type": "call_service", "data": {}})
            assert (await rig.ask(other, "e2")).status == 202
            new = await rig.consumer("new").connect()
            await new.has(1)
            await asyncio.sleep(0.3)
            await new.ask("subscribe_events", event_type="call_service")
            await until(lambda: len(new.events) == 2, "both types")

    async def test_types_that_nobody_asks_for_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fed_module, "SETTLE", 0.2)
        async with fanning_out() as rig:
            for side in TOKENS:
                await rig.consumer(side).connect()
            other = orjson.dumps({"entity_id": "x", "event_type": "call_service", "data": {}})
            assert (await rig.ask(other, "e1")).status == 202
            await rig.all_are(1, ("refused", "refused"))
            assert rig.counters["consumers_unsubscribed"] == 2

    async def test_who_has_unsubscribed_is_not_fed(self) -> None:
        async with fanning_out() as rig:
            new = await rig.consumer("new").connect()
            await new.ask("unsubscribe_events", subscription=1)
            await rig.post([1])
            assert (await new.ask("ping"))["type"] == "pong"
            await rig.side_is("new", owed=1, pending=1)
            assert not new.events
            await new.ask("subscribe_events", event_type=CHANGED[0])
            await new.has(1)

    async def test_the_connection_that_subscribes_last_is_fed(self) -> None:
        async with fanning_out() as rig:
            first, second = rig.consumer("new"), rig.consumer("new")
            await first.connect()
            await second.connect(None)
            await rig.post(range(5))
            await first.has(5)
            await second.ask("subscribe_events", event_type=CHANGED[0])
            assert await first.ended() == 1008
            await rig.post(range(5, 10))
            await second.has(10)
            assert (first.values(), second.values()) == ([*range(5)], [*range(10)])  # the window's first
            assert rig.counters["consumers_replaced"] == 1

    async def test_what_the_one_before_had_no_receipt_for_goes_to_it(self) -> None:
        async with fanning_out() as rig:
            first = await rig.consumer("new").connect()
            await rig.post(range(3))
            await first.has(3)
            first.socket.transport.pause_reading()
            await asyncio.gather(*(rig.post(range(3, 6), f"sensor.{key}") for key in "abc"))
            second = await rig.consumer("new").connect()
            for key in "abc":
                await second.has(6 if key == "a" else 3, f"sensor.{key}")
                assert second.distinct(f"sensor.{key}")[-3:] == [3, 4, 5]
            await rig.side_is("new", owed=12, delivered=12)

    async def test_what_cannot_be_read_ends_the_connection(self) -> None:
        async with fanning_out() as rig:
            new = await rig.consumer("new").connect()
            await new.socket.send("{")
            assert await new.ended() == 1003
            assert rig.counters["consumers_broken"] == 1


class TestFullDisk:
    async def test_feeds_on_and_counts_what_is_not_noted(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise apsw.FullError("no room")

        async with fanning_out() as rig:
            new = await rig.consumer("new").connect()
            await rig.post([0])
            await new.has(1)
            with monkeypatch.context() as patched:
                patched.setattr(Told, "received", fail)
                await rig.post(range(1, 10))
                await new.has(10)
                await rig.side_is("new", owed=10, delivered=10)
            assert rig.counters["consumers_unwritten"] == 9
            assert caplog.text.count("cannot be noted") == 1
            await rig.post([10])
            await rig.side_is("new", owed=11, delivered=11)
            assert rig.counters["consumers_unwritten"] == 9


class TestDamagedFile:
    @pytest.mark.parametrize("method", ["give_up", "span", "kept"])
    async def test_feeds_on_without_what_was_to_be_sent_again(
        self, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*_: Any) -> None:
            raise apsw.CorruptError("malformed")

        async with fanning_out(consumer={"redeliver_window": "60s"}) as rig:
            new = await rig.consumer("new").connect()
            await rig.post([0])
            await new.has(1)
            await rig.side_is("new", owed=1, delivered=1)
            with monkeypatch.context() as patched:
                patched.setattr(Told, method, fail)
                for number in (1, 2):
                    await new.kill()
                    new.events.clear()
                    await rig.post([number])
                    await new.connect()
                    await new.has(1)
                    assert new.values() == [number]
                    await rig.side_is("new", owed=number + 1, delivered=number + 1)
            assert rig.counters["consumers_unread"] == 2
            assert caplog.text.count("cannot be read: ") == 1
            await new.kill()
            new.events.clear()
            await new.connect()
            await new.has(3)
            assert new.values() == [0, 1, 2]


class TestStates:
    async def test_are_what_was_told_also_to_a_side_that_comes_later_and_after_a_kill(self) -> None:
        async with fanning_out() as rig:
            old = await rig.consumer("old").connect()
            await rig.post([1, 2])
            await rig.post([7], "sensor.b")
            gone = orjson.loads(changed(9, "sensor.b"))
            gone["data"]["new_state"] = None
            await rig.post([4], "sensor.c")
            assert (await rig.ask(orjson.dumps(gone), "gone")).status == 202
            await until(lambda: len(old.events) == 5, "all of it")
            await until(lambda: {each for each, _ in rig.states().values()} == {"delivered"}, "all on record")
            await rig.restart_ledger()
            new = await rig.consumer("new").connect(None)
            states = (await new.ask("get_states"))["result"]
            assert [(each["entity_id"], each["state"]) for each in states] == [("sensor.a", "2"), ("sensor.c", "4")]
            assert (await new.ask("get_services"))["error"]["code"] == "unknown_command"

    async def test_of_what_is_gone_leave_the_file_once_both_sides_are_behind_it(self) -> None:
        async with fanning_out() as rig:
            old = await rig.consumer("old").connect()
            await rig.post([1], "sensor.b")
            gone = orjson.loads(changed(2, "sensor.b"))
            gone["data"]["new_state"] = None
            assert (await rig.ask(orjson.dumps(gone), "gone")).status == 202
            await until(lambda: len(old.events) == 2, "old has both")
            assert await self.names(rig, pending=2) == ["sensor.b"]
            assert rig.fan_out is not None
            new = await rig.consumer("new").connect()
            await until(lambda: len(new.events) == 2, "new has both")
            assert rig.fan_out._told.states("events") == []
            assert await self.names(rig, pending=0) == []

    @staticmethod
    async def names(rig: FanRig, *, pending: int) -> list[str]:
        """Of all states that are kept, gone or not, once so many events are pending for new."""
        async with asyncio.timeout(10):
            while (await rig.balance())["new"]["pending"] != pending or (await rig.balance())["old"]["pending"]:
                await asyncio.sleep(0.01)
        assert rig.keeper is not None
        assert rig.fan_out is not None
        rig.fan_out.forget_gone((await rig.keeper.figures()).nothing_before)
        return [str(name) for (name,) in rig.fan_out._told._db.execute("SELECT name FROM states")]

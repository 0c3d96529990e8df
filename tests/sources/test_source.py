"""A source from its server to both backends: real sockets, a whole data plane, a ledger in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve

from config.sources import Source
from proxy.control.link import RunSource, SourceProgress
from proxy.core.event import NEW, OLD
from proxy.sources import source as source_module
from proxy.sources.share import Share
from proxy.sources.source import CONNECTED, UNHEALTHY, RunningSource
from tests.http.backend import Backend, always, reply
from tests.http.rig import COMPLETE, DUAL, Rig, make_route, running
from tests.http.wire import PATIENCE, until
from tests.sources.fake_home import TOKEN, FakeHome

pytestmark = pytest.mark.asyncio

ROUTE = {"key": "json:/entity_id"}
QUICK = {"retry_initial": "10ms", "retry_max": "50ms"}


def home_source(home: FakeHome, **changes: Any) -> Source:
    own = {name: changes.pop(name) for name in ("token", "token_file", "event_types", "snapshot") if name in changes}
    credential = {} if "token_file" in own else {"token": TOKEN}
    document = {"name": "home", "route": "events", "home_assistant": {"url": home.url} | credential | own}
    return Source.model_validate(document | QUICK | changes)


class Kept:
    """What a supervisor keeps of a source, as it is told."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.is_established = False
        self.had_connection = False

    def take(self, said: SourceProgress | None) -> None:
        if said is None:
            return
        if said.is_whole:
            self.states.clear()
        for name, version in said.states.items():
            if version is None:
                self.states.pop(name, None)
            else:
                self.states[name] = version
        self.is_established, self.had_connection = said.is_established, said.had_connection

    def lease(self, generation: int = 1) -> RunSource:
        return RunSource("home", generation, self.is_established, self.had_connection, dict(self.states))


class Running:
    """A source that runs, what is counted of it, and what a supervisor would keep."""

    def __init__(self, rig: Rig, settings: Source, kept: Kept | None = None) -> None:
        self.kept = kept or Kept()
        self.counts: Counter[str] = Counter()
        route = rig.plane.routes[0]
        share = Share(rig.service.budget)
        self.source = RunningSource(settings, route, rig.service, self.kept.lease(), share, self.count)

    def count(self, source: str, name: str) -> None:
        assert source == "home"
        self.counts[name] += 1

    def report(self) -> Kept:
        self.kept.take(self.source.report(is_whole=False))
        return self.kept

    async def connected(self) -> None:
        await until(lambda: self.source.stats().state == CONNECTED and self.report().is_established, "connected")


@asynccontextmanager
async def run(rig: Rig, settings: Source, kept: Kept | None = None) -> AsyncIterator[Running]:
    made = Running(rig, settings, kept)
    made.source.start()
    try:
        yield made
    finally:
        await made.source.stop(0.0)


@asynccontextmanager
async def fake_home() -> AsyncIterator[FakeHome]:
    home = FakeHome()
    await home.start()
    try:
        yield home
    finally:
        await home.stop()


def told(backend: Backend) -> list[tuple[str, str | None]]:
    """The states that a backend was told, in order of arrival: entity and state."""
    bodies = [orjson.loads(seen.body) for seen in backend.seen]
    return [(body["entity_id"], (body["data"]["new_state"] or {"state": None})["state"]) for body in bodies]


def story(backend: Backend, entity: str) -> list[str | None]:
    return [state for of, state in told(backend) if of == entity]


async def test_events_are_recorded_copied_and_in_order() -> None:
    async with fake_home() as home, running(make_route(**ROUTE)) as rig, run(rig, home_source(home)) as made:
        await made.connected()
        for number in range(200):
            home.change(f"sensor.{number % 7}", str(number))
        await until(lambda: made.counts["accepted"] == 200, "all are accepted")
        await rig.settled()
        for backend in rig.backends:
            assert len(backend.seen) == 200
            for each in range(7):
                assert story(backend, f"sensor.{each}") == [str(n) for n in range(200) if n % 7 == each]
        rig.check_ends()
        event = next(iter(rig.fake.events.values()))
        assert event.key.startswith("sensor.")
        assert event.client_id
        body = orjson.loads(event.body)
        assert list(body) == ["entity_id", "event_type", "data", "origin", "time_fired", "context"]
        assert rig.old.seen[0].header("Content-Type") == "application/json"


async def test_the_first_snapshot_tells_nothing_and_one_behind_a_gap_what_changed() -> None:
    async with fake_home() as home, running(make_route(**ROUTE)) as rig:
        home.change("sensor.a", "1")
        home.change("sensor.b", "1")
        home.change("sensor.c", "1")
        async with run(rig, home_source(home)) as made:
            await made.connected()
            home.change("sensor.a", "2")
            await until(lambda: made.counts["accepted"] == 1, "it is told what happens now")
            await home.stop()
            home.change("sensor.a", "3")
            home.change("sensor.a", "4")
            home.remove("sensor.c")
            await home.start()
            await until(lambda: made.counts["accepted"] == 3, "what changed is told")
            home.change("sensor.b", "2")
            await until(lambda: made.counts["accepted"] == 4, "and what changes then")
            await rig.settled()
            assert sorted(told(rig.old), key=str) == sorted(told(rig.new), key=str)
            assert story(rig.old, "sensor.a") == ["2", "4"]
            assert story(rig.old, "sensor.b") == ["2"]
            assert story(rig.old, "sensor.c") == [None]
            recovered = [body for body in map(orjson.loads, [s.body for s in rig.old.seen]) if body.get("recovered")]
            assert {body["entity_id"] for body in recovered} == {"sensor.a", "sensor.c"}
            assert (made.counts["gaps"], made.counts["recovered"]) == (1, 2)


async def test_a_long_snapshot_lets_the_loop_go_on() -> None:
    async with fake_home() as home, running(make_route(**ROUTE)) as rig:
        for number in range(1000):
            home.change(f"sensor.{number}", "1")
        rig.old.behave = rig.new.behave = always(b"")
        async with run(rig, home_source(home, snapshot="initial", unaccepted=2000)) as made:
            seen = set()
            async with asyncio.timeout(PATIENCE):
                while 1000 not in seen:
                    seen.add(made.source.stats().unaccepted)
                    await asyncio.sleep(0)
            assert len(seen) > 10


async def test_initial_tells_what_was_there_before() -> None:
    async with fake_home() as home, running(make_route(**ROUTE)) as rig:
        home.change("sensor.a", "1")
        async with run(rig, home_source(home, snapshot="initial")) as made:
            await until(lambda: made.counts["recovered"] == 1, "the first snapshot is told")
            await until(lambda: made.report().states == {"sensor.a": home.states["sensor.a"]["last_updated"]}, "kept")


async def test_the_next_worker_goes_on_where_this_one_was_killed() -> None:
    """What was accepted is not told again, what was not is, and what changed meanwhile as well."""
    async with fake_home() as home, running(make_route(**ROUTE)) as rig:
        home.change("sensor.a", "1")
        async with run(rig, home_source(home)) as made:
            await made.connected()
            home.change("sensor.b", "1")
            await until(lambda: made.report().states.keys() == {"sensor.a", "sensor.b"}, "it is kept")
            rig.old.behave = rig.new.behave = always(reply(503))
            rig.plane.budget.add(rig.plane.budget.limit)  # nothing is taken: what comes now is not accepted
            home.change("sensor.c", "1")
            await until(lambda: made.source.stats().unaccepted == 1, "it was read")
            kept = made.report()
        rig.plane.budget.add(-rig.plane.budget.limit)
        rig.old.behave = rig.new.behave = always(reply(200))
        home.change("sensor.a", "2")
        assert "sensor.c" not in kept.states
        async with run(rig, home_source(home), kept) as heir:
            await until(lambda: heir.counts["recovered"] == 2, "what nobody was told")
            await until(lambda: heir.report().states.keys() == {"sensor.a", "sensor.b", "sensor.c"}, "it is kept")
            await rig.settled()
            assert sorted(told(rig.old)) == [("sensor.a", "2"), ("sensor.b", "1"), ("sensor.c", "1")]
            assert heir.counts["gaps"] == 1


async def test_an_event_that_is_told_again_by_a_snapshot_has_its_first_id() -> None:
    async with fake_home() as home, running(make_route(**ROUTE)) as rig:
        async with run(rig, home_source(home)) as made:
            await made.connected()
            home.change("sensor.a", "1")
            await until(lambda: made.counts["accepted"] == 1, "it is told")
            lost = Kept()
            lost.is_established = True
        async with run(rig, home_source(home), lost) as heir:
            await until(lambda: heir.counts["recovered"] == 1, "it is told again")
            await rig.settled()
        assert len(set(rig.old.ids())) == 1
        assert len(rig.old.seen) == 2


@pytest.mark.parametrize("rounds", [6])
async def test_restarts_of_everything_lose_no_last_state(rounds: int) -> None:
    """The server and a backend go and come while states change; each entity's last state is with both backends."""
    async with fake_home() as home, running(make_route(**ROUTE)) as rig, run(rig, home_source(home)) as made:
        await made.connected()
        for turn in range(rounds):
            for number in range(40):
                home.change(f"sensor.{number % 5}", f"{turn}.{number}")
                if number == 20:
                    await home.restart()
                await asyncio.sleep(0)
        await until(lambda: made.source.stats().state == CONNECTED, "it is connected again")
        last = {entity: state["state"] for entity, state in home.states.items()}
        await until(lambda: all(dict(told(each)) == last for each in rig.backends), "the last states are told")
        await rig.settled()
        for backend in rig.backends:
            assert len(told(backend)) == len(set(told(backend))), "told once"


async def test_a_refused_token_is_said_once_and_not_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "LOOK_EVERY", 0.02)
    file = tmp_path / "token"
    file.write_text("wrong\n")
    async with (
        fake_home() as home,
        running(make_route(**ROUTE)) as rig,
        run(rig, home_source(home, token_file=str(file))) as made,
    ):
        await until(lambda: made.source.stats().state == UNHEALTHY, "it is unhealthy")
        assert "the token is refused: Invalid access token" in made.source.stats().trouble
        await asyncio.sleep(0.3)
        assert (home.attempts, made.counts["denied"]) == (1, 1)
        assert len([each for each in caplog.records if "refused" in each.getMessage()]) == 1
        assert "wrong" not in caplog.text
        file.write_text(TOKEN)
        await made.connected()
        assert (home.attempts, made.source.stats().trouble) == (2, "")


async def test_a_token_that_comes_while_the_one_before_is_refused_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "LOOK_EVERY", 0.02)
    file = tmp_path / "token"
    file.write_text("wrong")
    async with fake_home() as home, running(make_route(**ROUTE)) as rig:
        home.refusing = lambda: file.write_text(TOKEN)
        async with run(rig, home_source(home, token_file=str(file))) as made:
            await made.connected()
            assert (home.tokens, made.counts["denied"]) == (["wrong", TOKEN], 1)


async def test_a_token_that_cannot_be_read_is_tried_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    async with (
        fake_home() as home,
        running(make_route(**ROUTE)) as rig,
        run(rig, home_source(home, token_file=str(file))) as made,
    ):
        await until(lambda: "token_file cannot be read" in made.source.stats().trouble, "it says so")
        assert home.attempts == 0
        file.write_text(TOKEN)
        await made.connected()


async def test_garbage_is_counted_and_never_fatal() -> None:
    async with fake_home() as home, running(make_route(**ROUTE)) as rig, run(rig, home_source(home)) as made:
        await made.connected()
        deep = "[" * 300 + "]" * 300
        nested = f'{{"id": 2, "type": "event", "event": {{"event_type": "x", "data": {deep}}}}}'
        for said in (
            "{", b"\xff\xfe", "17", "null", "[1, []]", '{"type": "news"}', '{"id": 99, "type": "event", "event": {}}',
            '{"id": 2, "type": "event", "event": 5}', '{"id": 2, "type": "event", "event": {"event_type": 7}}',
            '{"id": 2, "type": "event", "event": {"event_type": "state_changed", "data": {"new_state": 1}}}',
            '{"id": "x", "type": "result", "success": true}', '{"type": "result"}', nested,
        ):  # fmt: skip
            home.say(said)
        home.change("sensor.a", "x" * 300_000)
        home.change("sensor.b", "1")
        await until(lambda: made.counts["accepted"] == 2, "what is good goes on")
        assert made.counts["unreadable"] >= 7
        assert made.counts["unknown"] >= 5
        assert (made.source.stats().state, made.counts["disconnects"]) == (CONNECTED, 0)


async def test_an_event_that_is_too_long_is_refused_and_the_next_one_taken() -> None:
    limits = {"max_event_size": "64KiB"}
    async with (
        fake_home() as home,
        running(make_route(**ROUTE), limits=limits) as rig,
        run(rig, home_source(home)) as made,
    ):
        await made.connected()
        home.change("sensor.a", "x" * 100_000)
        home.change("sensor.a", "1")  # which has the long one in it, as its old state
        home.change("sensor.a", "2")
        await until(lambda: made.counts["accepted"] == 1, "the next one is taken")
        assert (made.counts["refused"], story(rig.old, "sensor.a")) == (2, ["2"])


async def test_a_message_beyond_the_limit_ends_the_connection_and_its_state_is_recovered() -> None:
    async with (
        fake_home() as home,
        running(make_route(**ROUTE)) as rig,
        run(rig, home_source(home, max_message="8KiB")) as made,
    ):
        await made.connected()
        home.change("sensor.a", "x" * 10_000)
        await until(lambda: made.source.stats().state == UNHEALTHY, "it is disconnected")
        assert "1009" in made.source.stats().trouble
        home.change("sensor.a", "1")
        await until(lambda: story(rig.old, "sensor.a") == ["1"], "what is there now is told")


async def test_unaccepted_events_are_bounded_and_tried_again_in_order() -> None:
    """While the plane takes nothing the source is not read; nothing is dropped, and each key keeps its order."""
    async with (
        fake_home() as home,
        running(make_route(**ROUTE)) as rig,
        run(rig, home_source(home, unaccepted=10)) as made,
    ):
        await made.connected()
        rig.plane.budget.add(rig.plane.budget.limit + 1)
        for number in range(100):
            home.change(f"sensor.{number % 3}", str(number))
        await until(lambda: made.source.stats().unaccepted == 10, "it reads no further")
        await until(lambda: made.counts["retried"] > 3, "they are tried again")
        assert "answered 503" in made.source.stats().trouble
        assert (made.source.stats().unaccepted, rig.old.seen) == (10, [])
        rig.plane.budget.add(-rig.plane.budget.limit - 1)
        await until(lambda: made.counts["accepted"] == 100, "all are accepted")
        await rig.settled()
        for backend in rig.backends:
            for each in range(3):
                assert story(backend, f"sensor.{each}") == [str(n) for n in range(100) if n % 3 == each]
        assert made.source.stats().trouble == ""


@pytest.mark.parametrize(
    ("status", "outcome"), [(500, "retried"), (401, "retried"), (422, "refused"), (400, "refused")]
)
async def test_what_is_refused_for_good_is_left_and_what_is_not_is_tried_again(status: int, outcome: str) -> None:
    route = make_route(**ROUTE, on_authority_down="fail")
    async with fake_home() as home, running(route) as rig, run(rig, home_source(home)) as made:
        await made.connected()
        rig.old.behave = always(reply(status))
        home.change("sensor.a", "1")
        await until(lambda: made.counts[outcome] >= 1, outcome)
        assert made.counts["accepted"] == 0
        rig.old.behave = always(reply(200))
        home.change("sensor.a", "2")
        await until(lambda: made.counts["accepted"] == (2 if outcome == "retried" else 1), "the next one")


async def test_acceptance_is_the_answer_that_is_due() -> None:
    """With ack: accepted, nothing is accepted before it is durable."""
    async with (
        fake_home() as home,
        running(make_route(**ROUTE, ack="accepted")) as rig,
        run(rig, home_source(home)) as made,
    ):
        await made.connected()
        rig.fake.holds = True
        home.change("sensor.a", "1")
        await until(lambda: rig.fake.events, "it is in the ledger's hands")
        await asyncio.sleep(0.05)
        assert made.counts["accepted"] == 0
        rig.fake.holds = False
        rig.fake.release()
        await until(lambda: made.counts["accepted"] == 1, "it is durable")


async def test_silence_is_asked_about_and_a_dead_connection_given_up() -> None:
    async with (
        fake_home() as home,
        running(make_route(**ROUTE)) as rig,
        run(rig, home_source(home, ping_interval="30ms")) as made,
    ):
        await made.connected()
        await asyncio.sleep(0.2)
        assert (made.counts["disconnects"], home.attempts) == (0, 1), "pings are answered"
        home.answers_pings = False
        await until(lambda: made.counts["gaps"] >= 1, "it is connected anew")


async def test_a_home_that_is_still_starting_makes_nothing_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "LOOK_EVERY", 0.05)
    async with fake_home() as home, running(make_route(**ROUTE)) as rig, run(rig, home_source(home)) as made:
        home.change("sensor.a", "1")
        await made.connected()
        await home.stop()
        before, home.states, home.state = home.states, {}, "STARTING"
        await home.start()
        await until(lambda: made.counts["gaps"] == 1, "it is connected again")
        await asyncio.sleep(0.2)
        assert told(rig.old) == []
        home.states = before
        home.change("sensor.b", "1")
        home.state = "RUNNING"
        await until(lambda: told(rig.old) == [("sensor.b", "1")], "it has started")
        home.states.pop("sensor.a")
        await home.restart()
        await until(lambda: ("sensor.a", None) in told(rig.old), "and what is not there then has gone")


async def test_a_subscription_that_is_denied_is_said_and_the_others_go_on() -> None:
    async with fake_home() as home, running(make_route(**ROUTE)) as rig:
        home.denies_types.add("call_service")
        async with run(rig, home_source(home, event_types=("call_service", "state_changed", "door"))) as made:
            await made.connected()
            assert "no events of type call_service: Unauthorized" in made.source.stats().trouble
            home.change("sensor.a", "1")
            home.fire("door", side="front")
            home.fire("door", entity_id="lock.a")
            await until(lambda: made.counts["accepted"] == 3, "they are told")
            bodies = [orjson.loads(seen.body) for seen in rig.old.seen]
            assert sorted(body.get("entity_id", "-") for body in bodies) == ["-", "lock.a", "sensor.a"]


# any other server


class Server:
    """Sends what it is told to; keeps what it hears, by connection."""

    def __init__(self) -> None:
        self.sockets: list[ServerConnection] = []
        self.heard: list[list[str]] = []
        self.headers: list[str] = []

    async def serve(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        self.heard.append([])
        assert socket.request is not None
        self.headers.append(socket.request.headers.get("Authorization", ""))
        heard = self.heard[-1]
        async for message in socket:
            heard.append(str(message))


@asynccontextmanager
async def any_server(**settings: Any) -> AsyncIterator[tuple[Server, Callable[..., Source]]]:
    server = Server()
    async with serve(server.serve, "127.0.0.1", 0, close_timeout=0.1) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]

        def made(**changes: Any) -> Source:
            document = {"name": "home", "route": "events", "websocket": {"url": f"ws://127.0.0.1:{port}"} | settings}
            return Source.model_validate(document | QUICK | changes)

        yield server, made


async def test_any_server_is_greeted_filtered_and_acknowledged() -> None:
    async with (
        any_server(
            hello=('{"subscribe": "readings"}',),
            authorization="Bearer x",
            only={"pointer": "/type", "equals": "reading"},
            id="/n",
            acknowledge={"type": "ack", "of": ["{{/n}}", {"key": "{{/entity_id}}"}]},
        ) as (server, made),
        running(make_route(**ROUTE)) as rig,
        run(rig, made()) as source,
    ):
        await until(lambda: server.heard and server.heard[0] == ['{"subscribe": "readings"}'], "it is greeted")
        assert server.headers == ["Bearer x"]
        rig.fake.holds = True
        rig.turn(DUAL)
        await server.sockets[0].send('{"type": "reading", "n": 7, "entity_id": "a"}')
        await server.sockets[0].send('[{"type": "news"}, {"type": "reading", "n": 8, "entity_id": "b"}]')
        await server.sockets[0].send("}")
        rig.fake.holds = False
        rig.fake.release()
        await until(lambda: len(server.heard[0]) == 3, "both are acknowledged")
        assert sorted(server.heard[0][1:]) == [
            '{"type":"ack","of":[7,{"key":"a"}]}',
            '{"type":"ack","of":[8,{"key":"b"}]}',
        ]
        assert sorted(rig.old.ids()) == ["7", "8"]
        assert (source.counts["unknown"], source.counts["unreadable"]) == (1, 1)


async def test_nothing_is_acknowledged_before_it_is_accepted_nor_on_another_connection() -> None:
    async with (
        any_server(id="/n", acknowledge={"n": "{{/n}}"}) as (server, made),
        running(make_route(**ROUTE, ack="accepted")) as rig,
        run(rig, made()) as source,
    ):
        await until(lambda: server.sockets, "it is connected")
        rig.fake.holds = True
        await server.sockets[0].send('{"n": 1, "entity_id": "a"}')
        await until(lambda: rig.fake.events, "it was read")
        await asyncio.sleep(0.05)
        assert server.heard[0] == []
        await server.sockets[0].close()
        await until(lambda: len(server.sockets) == 2, "it is connected anew")
        rig.fake.holds = False
        rig.fake.release()
        await until(lambda: source.counts["unacknowledgeable"] == 1, "its connection has gone")
        await server.sockets[1].send('{"n": 2, "entity_id": "a"}')
        await until(lambda: server.heard[1] == ['{"n":2}'], "the next one is acknowledged")
        assert server.heard[0] == []


async def test_an_acknowledgement_that_names_nothing_is_not_sent() -> None:
    async with (
        any_server(acknowledge={"n": "{{/n}}"}) as (server, made),
        running(make_route(**ROUTE)) as rig,
        run(rig, made()) as source,
    ):
        await until(lambda: server.sockets, "it is connected")
        await server.sockets[0].send('{"entity_id": "a"}')
        await until(lambda: source.counts["accepted"] == 1, "it is accepted")
        assert (source.counts["unacknowledgeable"], server.heard[0]) == (1, [])
        assert len(rig.old.ids()[0]) > 8, "it has an id of ours"


async def test_a_silent_server_that_answers_pings_stays_connected() -> None:
    async with (
        any_server() as (server, made),
        running(make_route(**ROUTE)) as rig,
        run(rig, made(ping_interval="30ms")) as source,
    ):
        await until(lambda: server.sockets, "it is connected")
        await asyncio.sleep(0.3)
        assert (len(server.sockets), source.counts["disconnects"]) == (1, 0)


async def test_a_port_where_nobody_speaks_websocket_is_told_in_words() -> None:
    async with running(make_route(**ROUTE)) as rig:
        url = f"ws://127.0.0.1:{rig.other.port}"
        document = {"name": "home", "route": "events", "websocket": {"url": url}} | QUICK
        async with run(rig, Source.model_validate(document)) as source:
            await until(lambda: source.source.stats().state == UNHEALTHY, "it is unhealthy")
            assert "it answers 200" in source.source.stats().trouble
            rig.other.behave = always(reply(401))
            await until(lambda: "credential is refused" in source.source.stats().trouble, "it is denied")


async def test_a_source_follows_the_weight() -> None:
    """Its events are events: at weight 100 new answers them."""
    async with fake_home() as home, running(make_route(**ROUTE)) as rig, run(rig, home_source(home)) as made:
        await made.connected()
        home.change("sensor.a", "1")
        await until(lambda: made.counts["accepted"] == 1, "old answers")
        assert rig.plane.routes[0].chosen == [1, 0]
        rig.turn(COMPLETE)
        home.change("sensor.a", "2")
        await until(lambda: made.counts["accepted"] == 2, "new answers")
        assert (rig.plane.routes[0].chosen, len(rig.backends[OLD].seen), len(rig.backends[NEW].seen)) == ([1, 1], 1, 2)

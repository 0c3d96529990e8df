"""Events that leave by another transport than they came by: both ways, in dual write and split, over faults."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Sequence
from typing import Any

import pytest

from proxy.core.routing import Dials
from tests.http.backend import Backend, BackendConnection, Seen, always, reply
from tests.http.wire import until
from tests.websocket.backends import WebsocketsBackend
from tests.websocket.clients import Refused, WebsocketsClient
from tests.worker.crossing import Crossing, crossing

pytestmark = pytest.mark.asyncio

DUAL = Dials(0.0, "durable")
SPLIT = Dials(50.0, "none")
WRAP = {"websocket": {"path": "/feed?v=2", "wrap": {"id": "{{id}}", "event": "{{}}"}}}
RAW = {"websocket": {"path": "/feed"}}


def body(n: int, key: str = "a") -> bytes:
    return b'{"key":"%b","n":%d}' % (key.encode(), n)


async def ask_all(rig: Crossing, numbers: Sequence[int], keys: int = 1) -> set[int]:
    """Send events at once for different keys, one after another within a key; the statuses."""

    async def of_key(key: int) -> list[int]:
        return [(await rig.ask(body(n, f"k{key}"), f"e{n}")).status for n in numbers if n % keys == key]

    return {status for found in await asyncio.gather(*map(of_key, range(keys))) for status in found}


def numbers_by_key(messages: Sequence[Any]) -> dict[str, list[int]]:
    """The events of wrapped messages, in their order."""
    found: dict[str, list[int]] = {}
    for message in messages:
        event = json.loads(message)["event"]
        found.setdefault(event["key"], []).append(event["n"])
    return found


class TestRequestsToSessions:
    """HTTP event, WebSocket backend."""

    async def test_in_dual_write_old_answers_and_new_gets_messages_in_order(self) -> None:
        old, new = Backend(always(reply(201, b"stored"))), WebsocketsBackend("new")
        async with crossing(old, new, deliver={"new": WRAP}) as rig:
            rig.turn(DUAL)
            answer = await rig.ask(body(0, "k0"), "e0")
            assert (answer.status, answer.body) == (201, b"stored")
            assert await ask_all(rig, range(1, 60), keys=3) == {201}
            await rig.all_are(60, ("delivered", "delivered"))
            assert [request.path for request in new.requests] == ["/feed?v=2"]
            assert json.loads(new.got[0]) == {"id": "e0", "event": {"key": "k0", "n": 0}}
            assert numbers_by_key(new.got) == {f"k{k}": [n for n in range(60) if n % 3 == k] for k in range(3)}
            assert (await rig.balance())["new"]["delivered"] == 60

    async def test_in_split_new_accepts_and_old_is_kept_what_it_has_not(self) -> None:
        old, new = Backend(), WebsocketsBackend("new")
        async with crossing(old, new, deliver={"new": WRAP}, route={"accepted_status": 204}) as rig:
            rig.turn(SPLIT)
            statuses = {key: (await rig.ask(body(1, key), f"e-{key}")).status for key in map(str, range(40))}
            assert set(statuses.values()) == {200, 204}
            accepted = [key for key, status in statuses.items() if status == 204]
            await until(lambda: len(new.got) == len(accepted), "new has its share")
            assert set(numbers_by_key(new.got)) == set(accepted)
            assert len(old.seen) == 40 - len(accepted)
            await until(lambda: rig.states()[f"e-{accepted[0]}"] == ("deferred", "delivered"), "kept for a rollback")

    async def test_both_sides_by_the_ledger_authority_first(self) -> None:
        old, new = WebsocketsBackend("old"), Backend()
        async with crossing(old, new, deliver={"old": RAW}, route={"ack": "accepted"}) as rig:
            rig.turn(DUAL)
            assert await ask_all(rig, range(10)) == {202}
            await rig.all_are(10, ("delivered", "delivered"))
            assert (
                [json.loads(each)["n"] for each in old.got] == [seen_n(each.body) for each in new.seen] == [*range(10)]
            )

    async def test_a_body_is_decompressed_and_what_is_no_text_is_binary(self) -> None:
        old, new = Backend(), WebsocketsBackend("new")
        async with crossing(old, new, deliver={"new": RAW}, route={"key": "client"}) as rig:
            rig.turn(DUAL)
            await rig.ask(gzip.compress(b"plain"), "e1", "Content-Encoding: gzip\r\n")
            await rig.ask(b"\xff\x00", "e2")
            await rig.ask(b"no gzip", "e3", "Content-Encoding: gzip\r\n")
            await until(lambda: rig.states().get("e3") == ("delivered", "dead"), "what cannot be decoded is dead")
            assert new.got == ["plain", b"\xff\x00"]

    async def test_what_the_template_cannot_make_is_a_dead_letter_and_its_successors_go_on(self) -> None:
        wrap = {"websocket": {"path": "/", "wrap": {"event": "{{}}", "x": "{{/x}}"}}}
        old, new = Backend(), WebsocketsBackend("new")
        async with crossing(old, new, deliver={"new": wrap}) as rig:
            rig.turn(DUAL)
            await rig.ask(body(1), "e1")
            await rig.ask(b'{"key":"a","n":2,"x":null}', "e2")
            await until(lambda: rig.states().get("e2") == ("delivered", "delivered"), "the second is there")
            assert rig.states()["e1"] == ("delivered", "dead")
            assert numbers_by_key(new.got) == {"a": [2]}
            assert (await rig.balance())["new"]["dead"] == 1

    async def test_replies_are_receipts(self) -> None:
        form = {
            "path": "/",
            "wrap": {"id": "{{id}}", "event": "{{}}"},
            "receipt": "reply",
            "reply": {"message_id": "/id", "reply_id": "/id", "success": {"pointer": "/ok", "equals": "true"}},
        }
        old, new = Backend(), WebsocketsBackend("new")
        new.answers = lambda text: json.dumps({"id": json.loads(text)["id"], "ok": json.loads(text)["id"] != "e2"})
        async with crossing(old, new, deliver={"new": {"websocket": form}}) as rig:
            rig.turn(DUAL)
            await ask_all(rig, range(5))
            await until(
                lambda: len(rig.states()) == 5 and "pending" not in {b for _, b in rig.states().values()}, "all"
            )
            assert {id for id, (_, state) in rig.states().items() if state == "refused"} == {"e2"}

    async def test_a_backend_that_comes_and_goes_misses_nothing(self) -> None:
        old, new = Backend(), WebsocketsBackend("new")
        form = {"websocket": WRAP["websocket"] | {"redeliver_window": "0s"}}
        async with crossing(old, new, deliver={"new": form}) as rig:
            rig.turn(DUAL)
            for turn in range(3):
                await ask_all(rig, range(20 * turn, 20 * turn + 10), keys=2)
                new.cut()
                await new.stop()
                await ask_all(rig, range(20 * turn + 10, 20 * turn + 20), keys=2)
                await new.start()
            await rig.all_are(60, ("delivered", "delivered"))
            for key, numbers in numbers_by_key(new.got).items():
                assert list(dict.fromkeys(numbers)) == [n for n in range(60) if f"k{n % 2}" == key], (
                    "none lost, in order"
                )

    async def test_a_handshake_that_is_refused_pauses_the_backend_and_empties_nothing(self) -> None:
        old, new = Backend(), WebsocketsBackend("new")
        new.refusal = 401
        async with crossing(old, new, deliver={"new": WRAP}) as rig:
            rig.turn(DUAL)
            await ask_all(rig, range(4), keys=4)
            assert rig.keeper is not None
            gate = rig.keeper.replayer.gates["new"]
            await until(lambda: gate.paused == "status 401", "it is paused, and says why")
            new.refusal = None
            await rig.all_are(4, ("delivered", "delivered"))

    @pytest.mark.parametrize("status", [401, 404, 503])
    async def test_what_was_delivered_a_moment_ago_outlives_a_refused_handshake(self, status: int) -> None:
        old, new = Backend(), WebsocketsBackend("new")
        async with crossing(old, new, deliver={"new": WRAP}) as rig:
            rig.turn(DUAL)
            await rig.ask(body(1), "e1")
            await rig.all_are(1, ("delivered", "delivered"))
            new.refusal = status
            new.cut()
            await until(lambda: len(new.requests) == 2, "it came back")
            new.refusal = None
            await rig.ask(body(2), "e2")
            await rig.all_are(2, ("delivered", "delivered"))
            await until(
                lambda: [json.loads(each)["id"] for each in new.got] == ["e1", "e1", "e2"], "first what was lost"
            )

    async def test_a_message_that_is_too_big_is_refused_and_sent_no_more(self) -> None:
        old, new = Backend(), WebsocketsBackend("new")
        async with crossing(old, new, deliver={"new": WRAP}) as rig:
            rig.turn(DUAL)
            big = gzip.compress(b'{"key":"big","n":3,"pad":"%b"}' % (b"0" * 2**20))
            others = asyncio.ensure_future(ask_all(rig, range(100, 200), keys=10))
            await rig.ask(big, "e3", "Content-Encoding: gzip\r\n")
            assert await others == {200}
            await until(lambda: "pending" not in {state for _, state in rig.states().values()}, "settled")
            assert {id: state for id, (_, state) in rig.states().items() if state != "delivered"} == {"e3": "refused"}
            assert len(new.requests) <= 4, "with others, alone, and after each"

    async def test_a_message_that_gets_no_reply_is_a_dead_letter_in_the_end(self) -> None:
        form = {
            "path": "/",
            "wrap": {"id": "{{id}}", "event": "{{}}"},
            "receipt": "reply",
            "reply": {"message_id": "/id", "reply_id": "/id"},
        }
        old, new = Backend(), WebsocketsBackend("new")
        new.answers = lambda text: json.dumps({"id": json.loads(text)["id"]}) if json.loads(text)["id"] != "e3" else ""
        async with crossing(
            old,
            new,
            deliver={"new": {"websocket": form}},
            backend={"response_timeout": "200ms"},
            ledger={"dead_after": 3},
        ) as rig:
            rig.turn(DUAL)
            for n in range(400):
                await rig.ask(body(n, f"k{n}"), f"e{n}")
                if rig.states().get("e3") == ("delivered", "dead"):
                    break
                await asyncio.sleep(0.01)
            await until(lambda: "pending" not in {state for _, state in rig.states().values()}, "settled")
            assert {id: state for id, (_, state) in rig.states().items() if state != "delivered"} == {"e3": "dead"}

    async def test_the_handshake_names_the_backend(self) -> None:
        old, new = Backend(), WebsocketsBackend("new")
        async with crossing(old, new, deliver={"new": WRAP}) as rig:
            rig.turn(DUAL)
            await rig.ask(body(1), "e1")
            await rig.all_are(1, ("delivered", "delivered"))
            assert new.requests[0].headers["Host"] == f"127.0.0.1:{new.port}"

    async def test_a_ledger_that_is_killed_loses_nothing(self) -> None:
        old, new = Backend(), WebsocketsBackend("new")
        async with crossing(old, new, deliver={"new": WRAP}) as rig:
            rig.turn(DUAL)
            for turn in range(3):
                numbers = range(20 * turn, 20 * turn + 20)
                asking = asyncio.ensure_future(ask_all(rig, numbers, keys=2))
                await asyncio.sleep(0.02)
                await rig.kill_ledger()
                await rig.start_ledger()
                assert await asking == {200}
            await rig.all_are(60, ("delivered", "delivered"))
            for key, found in numbers_by_key(new.got).items():
                assert list(dict.fromkeys(found)) == [n for n in range(60) if f"k{n % 2}" == key]

    async def test_a_worker_and_a_ledger_that_end_together_lose_nothing_that_was_answered(self) -> None:
        old, new = Backend(), WebsocketsBackend("new")
        async with crossing(old, new, deliver={"new": WRAP}) as rig:
            rig.turn(Dials(100.0, "durable"))
            await new.stop()
            assert await ask_all(rig, range(20), keys=4) == {202}
            await rig.end_worker()
            await rig.kill_ledger()
            await new.start()
            await rig.start_ledger()
            await rig.start_worker()
            await rig.all_are(20, ("delivered", "delivered"))
            assert await ask_all(rig, range(20, 24), keys=4) == {202}
            await rig.all_are(24, ("delivered", "delivered"))

    async def test_when_old_is_down_nothing_fails_over_to_whom_nobody_can_ask(self) -> None:
        old, new = Backend(always(reply(503))), WebsocketsBackend("new")
        async with crossing(old, new, deliver={"new": WRAP}) as rig:
            rig.turn(Dials(50.0, "durable"))
            statuses = {(await rig.ask(body(1, key), f"e-{key}")).status for key in map(str, range(20))}
            assert statuses == {202}, "accepted for old, and for new"
            old.behave = always(reply(200))
            await rig.all_are(20, ("delivered", "delivered"))

    @pytest.mark.parametrize(
        "route", [{"ordering": "strict"}, {"durability": "before-send"}, {"copy_order": "sequential"}, {"dedupe": "5m"}]
    )
    @pytest.mark.parametrize("dials", [DUAL, Dials(100.0, "durable")])
    async def test_with_every_other_promise(self, route: dict[str, Any], dials: Dials) -> None:
        old, new = Backend(), WebsocketsBackend("new")
        async with crossing(old, new, deliver={"new": WRAP}, route=route) as rig:
            rig.turn(dials)
            assert await ask_all(rig, range(12), keys=3) == {202 if dials.weight else 200}
            await rig.all_are(12, ("delivered", "delivered"))
            assert numbers_by_key(new.got) == {f"k{k}": [n for n in range(12) if n % 3 == k] for k in range(3)}


STREAM = {"match": {"path": "/events"}, "websocket": {"redeliver_window": "0s"}, "event_id": ("json:/id",)}
POST = {
    "http": {
        "path": "/v1/{{/key}}",
        "headers": {"X-Kind": "{{/kind}}"},
        "body": {"id": "{{id}}", "event": "{{}}"},
        "missing": "null",
    }
}


def message(n: int, key: str = "a") -> str:
    return json.dumps({"id": f"m{n}", "key": key, "n": n})


async def client_of(rig: Crossing, **arguments: Any) -> WebsocketsClient:
    return await WebsocketsClient.open(f"ws://127.0.0.1:{rig.port}/events", **arguments)


def numbers_of(new: Backend) -> dict[str, list[int]]:
    """The events of requests, by key, in their order; the same one again counts once."""
    found = numbers_by_key([seen.body for seen in new.seen])
    return {key: list(dict.fromkeys(numbers)) for key, numbers in found.items()}


class TestSessionsToRequests:
    """WebSocket event, HTTP backend."""

    async def test_in_dual_write_old_has_the_session_and_new_gets_requests_in_order(self) -> None:
        old, new = WebsocketsBackend("old"), Backend(always(reply(202)))
        old.replies = True
        async with crossing(old, new, deliver={"new": POST}, route=STREAM) as rig:
            rig.turn(DUAL)
            client = await client_of(rig)
            for n in range(30):
                await client.send(message(n, f"k{n % 3}"))
            for n in range(30):
                assert await client.recv() == f"old:{message(n, f'k{n % 3}')}"
            await client.ping()
            await rig.all_are(30, ("delivered", "delivered"))
            assert old.got == [message(n, f"k{n % 3}") for n in range(30)]
            assert numbers_of(new) == {f"k{k}": [n for n in range(30) if n % 3 == k] for k in range(3)}
            [first] = [seen for seen in new.seen if seen.id == "m0"]
            assert first.head.startswith(b"POST /v1/k0 HTTP/1.1\r\n")
            assert first.header("X-Crossfade-Role") == "replay"
            assert "upgrade" not in first.head.decode().lower()
            assert json.loads(first.body)["id"] == "m0"
            await client.close()

    @pytest.mark.parametrize("weight", [50.0, 100.0])
    async def test_where_new_answers_the_session_is_ours(self, weight: float) -> None:
        old, new = WebsocketsBackend("old"), Backend()
        old.subprotocols = ["b", "a"]
        async with crossing(old, new, deliver={"new": POST}, route=STREAM) as rig:
            rig.turn(Dials(weight, "durable"))
            client = await client_of(rig, subprotocols=["a", "b"])
            for n in range(20):
                await client.send(message(n, f"k{n}"))
            await client.ping()
            await rig.all_are(20, ("delivered", "delivered"))
            assert {numbers[0] for numbers in numbers_of(new).values()} == set(range(20))
            assert sorted(old.got) == sorted(message(n, f"k{n}") for n in range(20))
            await client.close()

    async def test_a_session_at_weight_100_needs_old_no_more(self) -> None:
        old, new = WebsocketsBackend("old"), Backend()
        async with crossing(old, new, deliver={"new": POST}, route=STREAM) as rig:
            rig.turn(Dials(100.0, "none"))
            await old.stop()
            client = await client_of(rig, subprotocols=["a", "b"])
            assert client.subprotocol == "a"
            await client.send(message(1))
            await until(lambda: numbers_of(new) == {"a": [1]}, "delivered")
            assert len(old.requests) == 0
            await client.close()
            plain = await client_of(rig)
            assert plain.subprotocol is None
            await plain.close()

    @pytest.mark.parametrize("policy", ["failover", "accept"])
    async def test_a_session_without_its_old_authority_is_accepted(self, policy: str) -> None:
        old, new = WebsocketsBackend("old"), Backend()
        async with crossing(old, new, deliver={"new": POST}, route=STREAM | {"on_authority_down": policy}) as rig:
            rig.turn(DUAL)
            await old.stop()
            client = await client_of(rig)
            await client.send(message(1))
            await client.ping()
            await old.start()
            await rig.all_are(1, ("delivered", "delivered"))
            await client.close()

    async def test_under_fail_it_is_refused(self) -> None:
        old, new = WebsocketsBackend("old"), Backend()
        async with crossing(old, new, deliver={"new": POST}, route=STREAM | {"on_authority_down": "fail"}) as rig:
            rig.turn(DUAL)
            await old.stop()
            with pytest.raises(Refused) as refused:
                await client_of(rig)
            assert refused.value.status == 502

    async def test_what_new_refuses_is_refused_and_what_it_fails_is_tried_again(self) -> None:
        old, new = WebsocketsBackend("old"), Backend()
        fails = {"m2": 2}

        def behave(seen: Seen, connection: BackendConnection) -> None:
            fails[seen.id] = fails.get(seen.id, 0) - 1
            connection.write(reply(422 if seen.id == "m1" else 500 if fails[seen.id] >= 0 else 200))

        new.behave = behave
        async with crossing(old, new, deliver={"new": POST}, route=STREAM) as rig:
            rig.turn(DUAL)
            client = await client_of(rig)
            for n in range(5):
                await client.send(message(n))
            await until(
                lambda: (
                    [state for _, state in rig.states().values()]
                    == ["delivered", "refused", "delivered", "delivered", "delivered"]
                ),
                "settled",
            )
            assert numbers_of(new) == {"a": [0, 1, 2, 3, 4]}
            assert len([seen for seen in new.seen if seen.id == "m2"]) == 3
            await client.close()

    async def test_a_client_whose_credential_is_refused_stops_nobody_else(self) -> None:
        old, new = WebsocketsBackend("old"), Backend()
        new.behave = lambda seen, connection: connection.write(
            reply(401 if seen.header("Authorization") == "Bearer expired" else 200)
        )
        async with crossing(old, new, deliver={"new": POST}, route=STREAM, ledger={"dead_after": 3}) as rig:
            rig.turn(DUAL)
            assert rig.keeper is not None
            gate = rig.keeper.replayer.gates["new"]
            bad = await client_of(rig, headers={"Authorization": "Bearer expired"})
            await bad.send(message(0, "bad"))
            good = await client_of(rig, headers={"Authorization": "Bearer fine"})
            for n in range(1, 400):
                await good.send(message(n, f"k{n}"))
                assert not gate.paused
                if rig.keeper.replayer.counters["gave_up"]:
                    break
                await asyncio.sleep(0.01)
            await until(lambda: "pending" not in {state for _, state in rig.states().values()}, "settled")
            assert {id: state for id, (_, state) in rig.states().items() if state != "delivered"} == {"m0": "dead"}
            await bad.close()
            await good.close()

    async def test_a_credential_of_the_backends_own_that_is_refused_pauses_it(self) -> None:
        old, new = WebsocketsBackend("old"), Backend(always(reply(401)))
        backend = {"authorization": "Bearer ours"}
        async with crossing(old, new, deliver={"new": POST}, route=STREAM, backend=backend) as rig:
            rig.turn(DUAL)
            client = await client_of(rig)
            await client.send(message(0))
            assert rig.keeper is not None
            gate = rig.keeper.replayer.gates["new"]
            await until(lambda: gate.paused == "status 401", "it is paused")
            new.behave = always(reply(200))
            await rig.all_are(1, ("delivered", "delivered"))
            await client.close()

    async def test_kills_of_the_ledger_and_restarts_of_new_lose_nothing(self) -> None:
        old, new = WebsocketsBackend("old"), Backend()
        async with crossing(old, new, deliver={"new": POST}, route=STREAM) as rig:
            rig.turn(DUAL)
            client = await client_of(rig)
            for turn in range(3):
                for n in range(10 * turn, 10 * turn + 10):
                    await client.send(message(n, f"k{n % 2}"))
                new.behave = always(reply(503))
                await asyncio.sleep(0.02)
                await rig.kill_ledger()
                await rig.start_ledger()
                new.behave = always(reply(200))
            await rig.all_are(30, ("delivered", "delivered"))
            assert numbers_of(new) == {f"k{k}": [n for n in range(30) if n % 2 == k] for k in range(2)}
            await client.close()

    async def test_messages_may_be_wrapped_for_another_session(self) -> None:
        old, new = WebsocketsBackend("old"), WebsocketsBackend("new")
        async with crossing(old, new, deliver={"new": WRAP}, route=STREAM) as rig:
            rig.turn(DUAL)
            client = await client_of(rig)
            for n in range(10):
                await client.send(message(n))
            await rig.all_are(10, ("delivered", "delivered"))
            assert old.got == [message(n) for n in range(10)]
            assert numbers_by_key(new.got) == {"a": [*range(10)]}
            await client.close()


BATCH = {"http": {"path": "/bulk", "batch": {"size": 8, "linger": "10ms"}}}
RESULTS = {"items": "/items", "status": "/status"}


def batches_of(new: Backend) -> list[list[int]]:
    """The events of each request."""
    return [[each["n"] for each in json.loads(seen.body)] for seen in new.seen]


class TestBatches:
    """Several events in one request, and what becomes of each."""

    async def test_events_of_several_keys_share_a_request_and_keep_their_order(self) -> None:
        old, new = Backend(), Backend()
        async with crossing(old, new, deliver={"new": BATCH}) as rig:
            rig.turn(DUAL)
            assert await ask_all(rig, range(80), keys=8) == {200}
            await rig.all_are(80, ("delivered", "delivered"))
            batches = batches_of(new)
            assert len(batches) < 80
            assert max(map(len, batches)) <= 8
            assert all(len({n % 8 for n in each}) == len(each) for each in batches), "one of a key at a time"
            sent = [n for each in batches for n in each]
            assert [[n for n in sent if n % 8 == k] for k in range(8)] == [[*range(k, 80, 8)] for k in range(8)]
            several = next(seen for seen in new.seen if len(json.loads(seen.body)) > 1)
            assert (several.id, several.header("X-Crossfade-Events")) == ("", str(len(json.loads(several.body))))

    async def test_a_batch_carries_the_backends_credential_and_headers(self) -> None:
        old, new = Backend(), Backend()
        backend = {"authorization": "Bearer ours", "headers": {"set": {"X-Tenant": "7"}}}
        async with crossing(old, new, deliver={"new": BATCH}, backend=backend) as rig:
            rig.turn(DUAL)
            await rig.ask(body(1), "e1", "Authorization: Bearer theirs\r\n")
            await rig.all_are(1, ("delivered", "delivered"))
            [seen] = new.seen
            assert (seen.header("Authorization"), seen.header("X-Tenant")) == ("Bearer ours", "7")
            assert seen.header("Content-Type") == "application/json"

    async def test_what_an_answer_says_is_not_taken_is_tried_again_by_itself(self) -> None:
        old, new = Backend(), Backend()
        seen_before: set[int] = set()

        def behave(seen: Seen, connection: BackendConnection) -> None:
            items = []
            for each in json.loads(seen.body):
                n = each["n"]
                fails = n % 5 == 0 and n not in seen_before
                seen_before.add(n)
                items.append({"status": 503 if fails else 409 if n == 7 else 201})
            connection.write(reply(200, json.dumps({"items": items}).encode()))

        new.behave = behave
        form = {"http": {"batch": {"size": 8, "linger": "10ms", "results": RESULTS}}}
        async with crossing(old, new, deliver={"new": form}) as rig:
            rig.turn(DUAL)
            await ask_all(rig, range(40), keys=8)
            await until(
                lambda: len(rig.states()) == 40 and "pending" not in {new for _, new in rig.states().values()},
                "settled",
            )
            assert {id: state for id, (_, state) in rig.states().items() if state != "delivered"} == {"e7": "refused"}
            sent = [n for each in batches_of(new) for n in each]
            assert sorted(sent) == sorted([*range(40), *range(0, 40, 5)]), "nothing that was taken is sent again"
            assert [list(dict.fromkeys(n for n in sent if n % 8 == k)) for k in range(8)] == [
                [*range(k, 40, 8)] for k in range(8)
            ]

    @pytest.mark.parametrize("status", [401, 404])
    async def test_an_event_whose_own_status_speaks_of_its_right_pauses_nothing(self, status: int) -> None:
        old, new = Backend(), Backend()

        def behave(seen: Seen, connection: BackendConnection) -> None:
            items = [{"status": status if each["n"] == 3 else 201} for each in json.loads(seen.body)]
            connection.write(reply(200, json.dumps({"items": items}).encode()))

        new.behave = behave
        form = {"http": {"batch": {"size": 8, "linger": "1ms", "results": RESULTS}}}
        async with crossing(old, new, deliver={"new": form}, ledger={"dead_after": 3}) as rig:
            rig.turn(DUAL)
            assert rig.keeper is not None
            for n in range(5000):  # its failures count while others are taken
                await rig.ask(body(n, f"k{n}"), f"e{n}")
                assert not rig.keeper.replayer.gates["new"].paused
                if rig.keeper.replayer.counters["gave_up"]:
                    break
            await until(lambda: "pending" not in {state for _, state in rig.states().values()}, "settled")
            assert {id: state for id, (_, state) in rig.states().items() if state != "delivered"} == {"e3": "dead"}

    async def test_of_a_batch_that_is_refused_only_the_culprit_is(self) -> None:
        old, new = Backend(), Backend()
        new.behave = lambda seen, connection: connection.write(reply(400 if b'"n":3}' in seen.body else 200))
        async with crossing(old, new, deliver={"new": BATCH}) as rig:
            rig.turn(DUAL)
            await ask_all(rig, range(8), keys=8)
            await until(lambda: len({new for _, new in rig.states().values()}) == 2 and len(rig.states()) == 8, "all")
            await until(lambda: "pending" not in {new for _, new in rig.states().values()}, "settled")
            assert {id for id, (_, state) in rig.states().items() if state == "refused"} == {"e3"}

    @pytest.mark.parametrize("answer", [b"", b"{}", b'{"items": []}', b'{"items": [{"status": "ok"}]}', b"x" * 100])
    async def test_an_answer_that_does_not_say_is_no_receipt(self, answer: bytes) -> None:
        old, new = Backend(), Backend(always(reply(200, answer)))
        form = {"http": {"batch": {"size": 8, "linger": "1ms", "results": RESULTS}}}
        async with crossing(old, new, deliver={"new": form}) as rig:
            rig.turn(DUAL)
            await rig.ask(body(1), "e1")
            await until(lambda: len(new.seen) > 2, "it is tried again")
            assert rig.states()["e1"] == ("delivered", "pending")
            new.behave = always(reply(200, b'{"items": [{"status": 200}]}'))
            await rig.all_are(1, ("delivered", "delivered"))

    async def test_lines_and_a_body_that_cannot_stand_in_an_array(self) -> None:
        old, new = Backend(), Backend()
        lines = {"http": {"batch": {"size": 2, "linger": "200ms", "form": "lines"}}}
        async with crossing(old, new, deliver={"new": lines}, route={"key": "header:X-Key"}) as rig:
            rig.turn(DUAL)
            await asyncio.gather(*(rig.ask(b"temp v=%d" % n, f"e{n}", f"X-Key: k{n}\r\n") for n in (1, 2)))
            await rig.all_are(2, ("delivered", "delivered"))
            assert sorted(b"".join(seen.body for seen in new.seen).splitlines()) == [b"temp v=1", b"temp v=2"]
        old, new = Backend(), Backend()
        async with crossing(old, new, deliver={"new": BATCH}) as rig:
            rig.turn(DUAL)
            await rig.ask(b"temp v=1", "e1")
            await rig.all_are(1, ("delivered", "dead"))

    async def test_one_event_that_spoils_its_batches_does_not_shut_the_gate(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        old, new = Backend(), Backend()
        new.behave = lambda seen, connection: connection.write(reply(500 if b'"n":3}' in seen.body else 200))
        form = {"http": {"batch": {"size": 8, "linger": "100ms"}}}
        async with crossing(old, new, deliver={"new": form}, ledger={"retry_initial": "200ms"}) as rig:
            rig.turn(DUAL)
            await ask_all(rig, range(8), keys=8)
            await until(lambda: any(len(each) > 1 and 3 in each for each in batches_of(new)), "it spoils a batch")
            await until(
                lambda: [state for _, state in rig.states().values()].count("delivered") == 7, "all others are there"
            )
            assert "paused" not in caplog.text

    async def test_what_new_as_the_authority_cannot_be_given_old_has(self) -> None:
        old, new = Backend(), Backend()
        async with crossing(old, new, deliver={"new": BATCH}, route={"key": "header:X-Key"}) as rig:
            rig.turn(Dials(100.0, "durable"))
            assert (await rig.ask(b"temp v=1", "e1", "X-Key: a\r\n")).status == 202
            await rig.all_are(1, ("delivered", "dead"))
            assert [seen.body for seen in old.seen] == [b"temp v=1"]

    async def test_an_event_is_one_line_whatever_it_looked_like(self) -> None:
        old, new = Backend(), Backend()
        lines = {"http": {"batch": {"size": 8, "linger": "1ms", "form": "lines"}}}
        async with crossing(old, new, deliver={"new": lines}, route={"key": "client"}) as rig:
            rig.turn(DUAL)
            await rig.ask(b'{\n "key": "b",\n "n": 2.50\n}\n', "e1")
            await rig.ask(b"a v=1\nb v=2", "e2")
            await until(lambda: rig.states().get("e2") == ("delivered", "dead"), "two lines are no event")
            assert rig.states()["e1"] == ("delivered", "delivered")
            assert [seen.body for seen in new.seen] == [b'{"key":"b","n":2.50}\n']

    async def test_kills_of_the_ledger_and_restarts_of_new_lose_nothing(self) -> None:
        old, new = Backend(), Backend()
        async with crossing(old, new, deliver={"new": BATCH}) as rig:
            rig.turn(DUAL)
            for turn in range(3):
                asking = asyncio.ensure_future(ask_all(rig, range(16 * turn, 16 * turn + 16), keys=4))
                new.behave = always(reply(503))
                await asyncio.sleep(0.03)
                await rig.kill_ledger()
                await rig.start_ledger()
                assert await asking == {200}
                new.behave = always(reply(200))
            await rig.all_are(48, ("delivered", "delivered"))
            assert {n for each in batches_of(new) for n in each} == set(range(48))


def seen_n(text: bytes) -> int:
    """The number of an event in a request's body."""
    number: int = json.loads(text)["n"]
    return number

"""`deliver.http`: the request that a backend gets instead of the client's, from workers and from the ledger alike."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from config.model import Backend
from proxy.core.event import NEW, OLD, UNFIT, UNFIT_STATUS, Attempt, Event, Outcome
from proxy.core.routing import Dials
from proxy.core.template import Unfit
from proxy.http.deliver import rendered_for
from proxy.http.rendering import Rendered, Rendering
from proxy.http.rewrite import Rewrite
from tests.http.backend import BackendConnection, always, reply
from tests.http.rig import COMPLETE, DUAL, LIVE, SHADOW, SPLIT, event_bytes, key_for, make_route, running
from tests.http.test_deliver import delivery
from tests.http.wire import until

CONTEXT = b"POST /events?a=b HTTP/1.1\r\nHost: a\r\nContent-Type: text/x\r\nX-A: theirs\r\nVia: 1.1 crossfade\r\n"
BODY = b'{"type": "state", "entity_id": "sensor.a b", "state": 21.50}'
TEMPLATES = {"path": "/v2/{{/key}}", "headers": {"X-Kind": "{{/kind}}"}, "body": {"id": "{{id}}", "all": "{{}}"}}


class Taken:
    """Stands for an upstream: what a rendering needs of it."""

    def __init__(self, deliver: dict[str, Any], **settings: Any) -> None:
        backend = Backend.model_validate({"url": "http://127.0.0.1:1", "deliver": {"http": deliver}} | settings)
        assert backend.deliver.http is not None
        self.rewrite = Rewrite.of(backend)
        self.rendering = Rendering(backend.deliver.http)


def rendered(
    deliver: dict[str, Any], *, context: bytes = CONTEXT, body: bytes = BODY, transport: str = "http", **settings: Any
) -> Rendered | Unfit:
    event = Event(7, "e7", "events", "k", 0, 1, OLD, 3, 0, 0, False, 0, transport, context, body)
    taken = Taken(deliver, **settings)
    return taken.rendering.render(event, taken.rewrite, 2**20)


def test_what_is_not_given_is_as_it_came() -> None:
    assert rendered({"method": "PUT"}) == Rendered(b"PUT", CONTEXT.replace(b"POST", b"PUT"), BODY)


def test_method_path_headers_and_body() -> None:
    found = rendered(
        {
            "method": "PUT",
            "path": "/v2/{{/type}}/{{/entity_id}}?id={{id}}",
            "headers": {"X-A": "{{/state}}"},
            "body": {"value": "{{/state}}"},
        }
    )
    assert found == Rendered(
        b"PUT",
        b"PUT /v2/state/sensor.a%20b?id=e7 HTTP/1.1\r\nHost: a\r\nVia: 1.1 crossfade\r\n"
        b"X-A: 21.50\r\nContent-Type: application/json\r\n",
        b'{"value":21.50}',
    )


def test_a_given_content_type_is_kept_and_so_is_the_backends_credential() -> None:
    found = rendered({"headers": {"content-type": "application/x"}, "body": ("{{id}}",)}, authorization="Bearer ours")
    assert isinstance(found, Rendered)
    assert found.context.lower().count(b"content-type") == 1
    assert b"content-type: application/x\r\n" in found.context
    assert b"Authorization: Bearer ours\r\n" in found.context


def test_the_backends_own_headers_stand_beside_a_made_body() -> None:
    found = rendered(
        {"body": {"id": "{{id}}"}},
        context=CONTEXT + b"Repr-Digest: sha-256=:x:\r\n",
        headers={"set": {"Content-Type": "application/x+json"}},
    )
    assert isinstance(found, Rendered)
    assert found.context.count(b"Content-Type") == 1
    assert b"Content-Type: application/x+json\r\n" in found.context
    assert b"Digest" not in found.context, "it was that of another body"


@pytest.mark.parametrize(("form", "content_type"), [("array", [b"Content-Type: application/json"]), ("lines", [])])
def test_a_batch_has_the_backends_headers_and_of_the_clients_none(form: str, content_type: list[bytes]) -> None:
    found = rendered(
        {"path": "/bulk", "headers": {"X-B": "b"}, "batch": {"size": 8, "form": form}},
        context=CONTEXT + b"Authorization: Bearer theirs\r\n",
        authorization="Bearer ours",
        headers={"set": {"X-Tenant": "7"}},
    )
    assert isinstance(found, Rendered)
    assert sorted(found.context.split(b"\r\n")[1:-1]) == sorted(
        [b"Host: a", b"Via: 1.1 crossfade", b"X-Tenant: 7", b"Authorization: Bearer ours", b"X-B: b", *content_type]
    )


def test_a_batch_may_say_itself_what_its_lines_are() -> None:
    form = {"size": 8, "form": "lines"}
    found = rendered({"headers": {"Content-Type": "application/x-ndjson"}, "batch": form, "body": {"id": "{{id}}"}})
    assert isinstance(found, Rendered)
    assert [line for line in found.context.split(b"\r\n") if line.startswith(b"Content")] == [
        b"Content-Type: application/x-ndjson"
    ]


def test_a_compressed_body_is_read_and_what_is_made_of_it_is_not_said_to_be_compressed() -> None:
    context = CONTEXT + b"content-encoding: GZIP\r\n"
    found = rendered({"body": "{{/state}}"}, context=context, body=gzip.compress(BODY))
    assert isinstance(found, Rendered)
    assert (found.body, b"encoding" in found.context) == (b"21.50", False)
    raw = rendered({"path": "/{{/type}}"}, context=context, body=gzip.compress(BODY))
    assert isinstance(raw, Rendered)
    assert (gzip.decompress(raw.body), b"encoding" in raw.context) == (BODY, True)
    bomb = rendered({"path": "/{{/type}}"}, context=context, body=gzip.compress(b" " * 2**21 + BODY))
    assert bomb == Unfit("its path cannot be made: the body is no JSON")


def test_a_message_becomes_a_post_without_its_sessions_own_headers() -> None:
    handshake = b"GET /ws?a=1 HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Protocol: p\r\nAuthorization: Bearer t\r\n"
    found = rendered({"path": "/v1"}, context=handshake + b"\r\n\x93secret\r\n\r\n", transport="websocket")
    assert found == Rendered(b"POST", b"POST /v1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\n", BODY)


def test_what_a_handshake_says_of_its_own_body_is_not_of_its_messages() -> None:
    handshake = b"GET /ws HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n\r\nrest"
    found = rendered({"body": "{{/state}}"}, context=handshake, transport="websocket")
    assert isinstance(found, Rendered)
    assert found.body == b"21.50"


def test_what_would_be_made_too_long_is_unfit() -> None:
    context = CONTEXT + b"Content-Encoding: gzip\r\n"
    body = gzip.compress(b'{"a": "%b"}' % (b"x" * 2**19))
    assert isinstance(rendered({"body": ("{{/a}}",)}, context=context, body=body), Rendered)
    twice = rendered({"body": ("{{/a}}", "{{/a}}")}, context=context, body=body)
    assert twice == Unfit("its body cannot be made: it would be longer than 1048576 bytes")


@pytest.mark.asyncio
async def test_the_same_backend_without_templates_is_plain() -> None:
    event = Event(7, "e7", "events", "k", 0, 1, OLD, 3, 0, 0, False, 0, "http", CONTEXT, BODY)
    async with running(dials=DUAL) as rig:
        assert rig.upstreams["new"].is_plain
        assert rendered_for(rig.upstreams["new"], event, 2**20) == Rendered(b"POST", CONTEXT, BODY)


NEW_ALONE = {"new": {"deliver": {"http": TEMPLATES}}}


@pytest.mark.asyncio
async def test_old_gets_what_the_client_sent_and_new_what_the_templates_make() -> None:
    async with running(dials=DUAL, backend=NEW_ALONE) as rig:
        assert (await rig.ask(event_bytes("e1", key="a b", kind="x"))).status == 200
        await rig.settled()
        assert rig.story("e1") in {("D", "D"), ("D", "PD")}
        assert rig.old.seen[0].body == b'{"key":"a b","kind":"x"}'
        [seen] = rig.new.seen
        assert seen.head.startswith(b"POST /v2/a%20b HTTP/1.1\r\n")
        assert (seen.id, seen.role, seen.header("X-Kind")) == ("e1", "copy", "x")
        assert seen.header("Content-Type") == "application/json"
        assert json.loads(seen.body) == {"id": "e1", "all": {"key": "a b", "kind": "x"}}


@pytest.mark.asyncio
async def test_the_authority_answers_what_the_templates_made() -> None:
    async with running(dials=COMPLETE, backend=NEW_ALONE) as rig:
        rig.new.behave = always(reply(201, b"made"))
        answer = await rig.ask(event_bytes("e1", key="a", kind="x"))
        assert (answer.status, answer.body) == (201, b"made")
        assert rig.old.seen == []


@pytest.mark.asyncio
async def test_of_a_copy_that_cannot_be_made_the_ledger_hears() -> None:
    async with running(dials=DUAL, backend=NEW_ALONE) as rig:
        assert (await rig.ask(event_bytes("e1", key="a"))).status == 200
        await rig.settled()
        assert rig.story("e1") == ("D", "H")
        assert rig.new.seen == []
        assert rig.plane.counters["unfit"] == 1
        assert rig.plane.routes[0].figures[NEW][1].classes == [0] * 6, "it says nothing of the backend"


@pytest.mark.asyncio
async def test_an_authority_that_cannot_be_given_it_refuses_it() -> None:
    async with running(dials=COMPLETE, backend=NEW_ALONE) as rig:
        answer = await rig.ask(event_bytes("e1", key="a"))
        assert answer.status == 422
        assert b"its header X-Kind cannot be made: /kind is missing" in answer.body
        await rig.settled()
        assert rig.story("e1")[NEW] == "R"
        assert rig.new.seen == []
        assert rig.plane.routes[0].figures[NEW][0].classes == [0] * 6
        assert rig.plane.routes[0].outstanding == [0, 0]
        assert (await rig.ask(event_bytes("e2", key="a", kind="x"))).status == 200


@pytest.mark.asyncio
async def test_of_what_the_authority_cannot_be_given_no_copy_goes_out() -> None:
    async with running(dials=Dials(100.0, "durable"), backend=NEW_ALONE) as rig:
        assert (await rig.ask(event_bytes("e1", key="a"))).status == 422
        await rig.settled()
        assert rig.story("e1") == ("X", "R")
        assert rig.old.seen == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("changes", "dials", "status", "story"),
    [
        ({}, SPLIT, 503, ("X", "-")),
        ({"copy_order": "sequential"}, LIVE, 202, ("H", "H")),
    ],
)
async def test_nothing_fails_over_to_whom_it_cannot_be_given(
    changes: dict[str, Any], dials: Dials, status: int, story: tuple[str, str]
) -> None:
    route = make_route(on_authority_down="failover", **changes)
    async with running(route, dials=dials, backend=NEW_ALONE) as rig:
        rig.old.behave = always(reply(503))
        assert (await rig.ask(event_bytes("e1", key=key_for(OLD, dials)))).status == status
        await rig.settled()
        assert rig.story("e1") == story
        assert "failovers" not in rig.plane.counters
        event = event_bytes("e2", key=key_for(OLD, dials, 1000), kind="x")
        assert (await rig.ask(event)).status == 200, "what it can be given does"
        assert rig.plane.counters["failovers"] == 1


@pytest.mark.asyncio
async def test_what_is_made_of_a_small_body_is_counted_as_it_is() -> None:
    async with running(dials=COMPLETE, backend={"new": {"deliver": {"http": {"body": "{{/pad}}"}}}}) as rig:
        held: list[BackendConnection] = []
        rig.new.behave = lambda seen, connection: held.append(connection)
        body = gzip.compress(b'{"key": "a", "pad": "%b"}' % (b"0" * 2**20))
        wire = await rig.wire()
        wire.send(b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n")
        wire.send(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        await until(lambda: held, "on its way")
        assert len(body) < 2**14
        assert 2**20 <= rig.plane.budget.held < 2 * 2**20
        held[0].write(reply(200))
        assert (await wire.answer()).status == 200
        assert rig.plane.budget.held < 2**14


@pytest.mark.asyncio
async def test_a_shadow_copy_that_cannot_be_made_is_skipped() -> None:
    async with running(dials=SHADOW, backend=NEW_ALONE) as rig:
        assert (await rig.ask(event_bytes("e1", key="a"))).status == 200
        await rig.settled()
        assert rig.story("e1") == ("D", "-")
        assert rig.plane.counters["shadow_copies_skipped"] == 1


@pytest.mark.asyncio
async def test_a_sequential_copy_that_cannot_be_made_is_handed_after_the_authority() -> None:
    async with running(make_route(copy_order="sequential"), dials=DUAL, backend=NEW_ALONE) as rig:
        assert (await rig.ask(event_bytes("e1", key="a"))).status == 200
        await rig.settled()
        assert rig.story("e1") == ("D", "H")


@pytest.mark.asyncio
async def test_the_ledger_delivers_the_same_or_says_why_not() -> None:
    async with running(dials=DUAL, backend=NEW_ALONE) as rig:
        event = Event(7, "e7", "events", "k", 0, 1, OLD, 3, 0, 0, False, 0, "http", CONTEXT, b'{"key":"a","kind":"x"}')
        outcome = await delivery(rig).deliver(event, Attempt(NEW, "replay", 2))
        assert outcome.status == 200
        assert json.loads(rig.new.seen[0].body) == {"id": "e7", "all": {"key": "a", "kind": "x"}}
        assert rig.new.seen[0].header("X-Crossfade-Attempt") == "2"
        event.body = b'{"key":"a"}'
        outcome = await delivery(rig).deliver(event, Attempt(NEW, "replay", 2))
        assert outcome == Outcome(UNFIT, UNFIT_STATUS, "its header X-Kind cannot be made: /kind is missing")
        assert outcome.tries == 0

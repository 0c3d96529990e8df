"""What one backend gets differently: paths, headers, a credential; and that nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest

from config.model import Backend
from proxy.http.rewrite import Rewrite
from tests.http.backend import always, reply
from tests.http.rig import LIVE, event_bytes, make_route, running

LINE = b"POST /api/v1/events?x=/api/v1 HTTP/1.1\r\nHost: a\r\n"
CONTEXT = LINE + b"Cookie: c=1\r\nAuthorization: Bearer theirs\r\nX-A: b\r\n"


def rewritten(context: bytes = CONTEXT, **settings: Any) -> bytes:
    rewrite = Rewrite.of(Backend.model_validate({"url": "http://127.0.0.1:1"} | settings))
    assert rewrite is not None
    out = rewrite.apply(context)
    assert rewrite.apply(context) == out, "the same again"
    return out


def test_what_changes_nothing_is_none() -> None:
    assert Rewrite.of(Backend.model_validate({"url": "http://127.0.0.1:1"})) is None


@pytest.mark.parametrize(
    ("prefix", "to", "target", "expected"),
    [
        ("/api/v1", "/v2", b"/api/v1/events", b"/v2/events"),
        ("/api/v1", "/v2", b"/api/v1", b"/v2"),
        ("/api/v1", "/v2", b"/api/v1/", b"/v2/"),
        ("/api/v1/", "/v2/", b"/api/v1/events", b"/v2/events"),
        ("/api/v1", "/v2", b"/api/v10/events", b"/api/v10/events"),
        ("/api/v1", "/v2", b"/api/v1?q=/api/v1", b"/v2?q=/api/v1"),
        ("/api/v1", "/v2", b"/x/api/v1", b"/x/api/v1"),
        ("/api/v1", "/", b"/api/v1/events", b"/events"),
        ("/api/v1", "/", b"/api/v1", b"/"),
        ("/api/v1", "/", b"/api/v1?q", b"/?q"),
        ("/", "/v2", b"/events", b"/v2/events"),
        ("/", "/v2", b"/", b"/v2/"),
        ("/api", "/v2", b"*", b"*"),
    ],
)
def test_whole_segments_of_the_path_are_another_beginning(prefix: str, to: str, target: bytes, expected: bytes) -> None:
    rule = {"prefix": prefix, "to": to}
    out = rewritten(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n", rewrite_prefix=rule)
    assert out == b"GET " + expected + b" HTTP/1.1\r\nHost: a\r\n"


def test_headers_are_set_in_the_place_of_the_clients_and_removed() -> None:
    out = rewritten(headers={"set": {"x-a": "c", "X-Tenant": "7"}, "remove": ("COOKIE",)})
    assert out == LINE + b"Authorization: Bearer theirs\r\nx-a: c\r\nX-Tenant: 7\r\n"


def test_a_name_within_another_or_in_a_value_is_left_alone() -> None:
    context = b"GET / HTTP/1.1\r\nHost: a\r\nX-Cookie: 1\r\nX-B: Cookie: 2\r\nCookie2: 3\r\n"
    assert rewritten(context, headers={"remove": ("Cookie",)}) == context


def test_a_credential_takes_the_place_of_the_clients() -> None:
    out = rewritten(authorization="Bearer ours")
    assert out.count(b"uthorization") == 1
    assert out.endswith(b"\r\nAuthorization: Bearer ours\r\n")


@pytest.mark.asyncio
async def test_each_backend_gets_its_own_form_of_an_event_and_the_record_the_clients() -> None:
    new = {
        "rewrite_prefix": {"prefix": "/events", "to": "/v2/write"},
        "headers": {"set": {"X-Tenant": "7"}, "remove": ("Cookie",)},
        "authorization": "Bearer ours",
    }
    async with running(make_route(), dials=LIVE, backend={"new": new}) as rig:
        data = event_bytes("e", key="k").replace(b"Host: a\r\n", b"Host: a\r\nCookie: c=1\r\nAuthorization: theirs\r\n")
        assert (await rig.ask(data)).status == 200
        await rig.settled()
        ((old,), (new_seen,)) = rig.old.seen, rig.new.seen
        assert old.head.startswith(b"POST /events HTTP/1.1\r\n")
        assert (old.header("cookie"), old.header("authorization"), old.header("x-tenant")) == ("c=1", "theirs", "")
        assert new_seen.head.startswith(b"POST /v2/write HTTP/1.1\r\n")
        assert (new_seen.header("cookie"), new_seen.header("authorization")) == ("", "Bearer ours")
        assert new_seen.header("x-tenant") == "7"
        assert old.body == new_seen.body
        assert old.id == new_seen.id == "e"
        assert b"Bearer ours" not in rig.fake.events["e"].context
        assert b"theirs" in rig.fake.events["e"].context


@pytest.mark.asyncio
async def test_what_is_passed_through_is_rewritten_too() -> None:
    other = {"authorization": "Basic x", "rewrite_prefix": {"prefix": "/a", "to": "/b"}}
    async with running(backend={"other": other}) as rig:
        rig.other.behave = always(reply(200))
        await rig.ask(b"GET /a/page HTTP/1.1\r\nHost: a\r\n\r\n", "GET")
        (seen,) = rig.other.seen
        assert seen.head.startswith(b"GET /b/page ")
        assert seen.header("authorization") == "Basic x"

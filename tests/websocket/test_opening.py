"""The opening handshake, rule by rule, and with real ones of `websockets` on either side."""

from __future__ import annotations

import pytest
from websockets.client import ClientProtocol
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from proxy.http.head import HeadParser, Refusal, RequestHead
from proxy.http.request import context_of, forwarded_lines
from proxy.http.response_head import parse_response_head
from proxy.websocket.opening import (
    Agreed,
    Disagreed,
    Opening,
    backend_request,
    new_key,
    read_backend_answer,
    read_opening,
    switching,
    with_protocol,
)

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""Of RFC 6455, 1.3."""
GOOD = {
    "Host": "a",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": KEY.decode(),
    "Sec-WebSocket-Version": "13",
}


def head_of(text: str) -> RequestHead:
    head = HeadParser(frozenset(), 100, 8000).parse(text.encode("latin-1"))
    assert isinstance(head, RequestHead), head
    return head


def asked(*more: str, line: str = "GET /ws?a=1 HTTP/1.1", **changes: str | None) -> Opening | Refusal:
    """What is read of a handshake. changes: other values of its headers, `_` for `-`; None: without it."""
    headers = {**GOOD, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    head = head_of("\r\n".join([line, *lines, *more]))
    return read_opening(head, context_of(head, forwarded_lines("192.0.2.1")))


def test_what_backends_get_is_all_but_the_handshake_with_one_hop() -> None:
    opening = asked(
        "Origin: http://b", "Cookie: c=1", "Authorization: x", "Sec-WebSocket-Extensions: permessage-deflate"
    )
    assert isinstance(opening, Opening)
    assert opening.key == KEY
    assert opening.protocols == ()
    assert opening.context == (
        b"GET /ws?a=1 HTTP/1.1\r\nHost: a\r\nX-Forwarded-Host: a\r\nOrigin: http://b\r\nCookie: c=1\r\n"
        b"Authorization: x\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nVia: 1.1 crossfade\r\n"
    )


@pytest.mark.parametrize("connection", ["upgrade", "Upgrade", "keep-alive, Upgrade", "Upgrade,keep-alive"])
@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket"])
def test_spellings(connection: str, upgrade: str) -> None:
    assert isinstance(asked(Connection=connection, Upgrade=upgrade), Opening)


def test_subprotocols_in_their_order() -> None:
    opening = asked("Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Protocol: c")
    assert isinstance(opening, Opening)
    assert opening.protocols == ("a", "b", "c")
    assert b"Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Protocol: c\r\n" in opening.context


REFUSED = {
    "no GET": ({"line": "POST /ws HTTP/1.1"}, 400),
    "HTTP/1.0": ({"line": "GET /ws HTTP/1.0"}, 400),
    "no Upgrade": ({"Upgrade": None}, 426),
    "Upgrade to something else": ({"Upgrade": "h2c"}, 426),
    "Upgrade to one of several": ({"Upgrade": "websocket, h2c"}, 426),
    "no Connection": ({"Connection": None}, 426),
    "Connection without it": ({"Connection": "keep-alive"}, 426),
    "no version": ({"Sec_WebSocket_Version": None}, 426),
    "version 8": ({"Sec_WebSocket_Version": "8"}, 426),
    "two versions in one": ({"Sec_WebSocket_Version": "13, 13"}, 426),
    "no key": ({"Sec_WebSocket_Key": None}, 400),
    "an empty key": ({"Sec_WebSocket_Key": ""}, 400),
    "a key of 15 bytes": ({"Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAA"}, 400),
    "a key of 17 bytes": ({"Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAAA="}, 400),
    "a key that is not Base64": ({"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25j!Q=="}, 400),
    "a key with bits behind its end": ({"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZR=="}, 400),
    "a malformed subprotocol": ({"Sec_WebSocket_Protocol": "a b"}, 400),
    "an empty subprotocol": ({"Sec_WebSocket_Protocol": ","}, 400),
    "a subprotocol twice": ({"Sec_WebSocket_Protocol": "a, b, a"}, 400),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    changes, status = REFUSED[name]
    refusal = asked(**changes)  # type: ignore[arg-type]
    assert isinstance(refusal, Refusal)
    assert refusal.status == status


@pytest.mark.parametrize(
    ("line", "status"), [(f"Sec-WebSocket-Key: {KEY.decode()}", 400), ("Sec-WebSocket-Version: 13", 426)]
)
def test_what_is_given_twice(line: str, status: int) -> None:
    refusal = asked(line)
    assert isinstance(refusal, Refusal)
    assert refusal.status == status


def test_two_upgrades_are_none() -> None:
    assert (
        head_of("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c").upgrade == b""
    )


def test_a_head_that_is_known_keeps_its_upgrade() -> None:
    parser = HeadParser(frozenset(), 100, 8000)
    for n in range(5):
        text = f"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX-N: {n}"
        head = parser.parse(text.encode())
        assert isinstance(head, RequestHead)
        assert head.upgrade == b"websocket"


# a backend's answer


def answer(*more: str, offered: tuple[str, ...] = (), **changes: str | None) -> Agreed | Disagreed:
    headers: dict[str, str | None] = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Accept": ACCEPT.decode(),
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    raw = "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines, *more]).encode()
    head = parse_response_head(raw)
    assert head is not None
    return read_backend_answer(raw, head, KEY, offered)


def test_a_good_answer_and_what_of_it_is_for_the_client() -> None:
    agreed = answer("Set-Cookie: a=1", "Server: x", "Sec-WebSocket-Protocol: b", offered=("a", "b"))
    assert agreed == Agreed("b", b"Set-Cookie: a=1\r\nServer: x\r\n")
    assert answer() == Agreed("", b"")
    assert answer("Sec-WebSocket-Extensions: ") == Agreed("", b"")


@pytest.mark.parametrize(
    "changes",
    [
        {"Upgrade": None},
        {"Upgrade": "h2c"},
        {"Connection": None},
        {"Connection": "close"},
        {"Sec_WebSocket_Accept": None},
        {"Sec_WebSocket_Accept": ACCEPT.decode().lower()},
        {"Sec_WebSocket_Extensions": "permessage-deflate"},
        {"Sec_WebSocket_Protocol": "c"},
        {"Content_Length": "1"},
        {"Transfer_Encoding": "chunked"},
    ],
    ids=lambda changes: f"{next(iter(changes))}={next(iter(changes.values()))}",
)
def test_answers_that_are_no_handshake(changes: dict[str, str | None]) -> None:
    assert isinstance(answer(offered=("a", "b"), **changes), Disagreed)


@pytest.mark.parametrize("line", [f"Sec-WebSocket-Accept: {ACCEPT.decode()}", "Upgrade: websocket"])
def test_answers_that_say_it_twice(line: str) -> None:
    assert isinstance(answer(line), Disagreed)


def test_a_session_offers_what_was_agreed_on_alone() -> None:
    opening = asked("Sec-WebSocket-Protocol: a, b")
    assert isinstance(opening, Opening)
    assert b"Sec-WebSocket-Protocol" not in with_protocol(opening.context, "")
    assert with_protocol(opening.context, "b").endswith(b"Via: 1.1 crossfade\r\nSec-WebSocket-Protocol: b\r\n")
    assert with_protocol(opening.context, "b").count(b"Protocol") == 1


# with others


def test_websockets_takes_our_answer_and_we_take_its_handshake() -> None:
    client = ClientProtocol(parse_uri("ws://a/ws"), subprotocols=["x", "y"])  # type: ignore[list-item]
    request = client.connect()
    head = head_of(request.serialize().decode("latin-1").removesuffix("\r\n\r\n"))
    opening = read_opening(head, context_of(head, b""))
    assert isinstance(opening, Opening)
    client.send_request(request)
    client.receive_data(switching(opening, Agreed("y", b"Set-Cookie: a=1\r\n")))
    [response] = client.events_received()
    assert isinstance(response, Response)
    assert response.headers["Set-Cookie"] == "a=1"
    assert client.handshake_exc is None
    assert client.subprotocol == "y"


def test_websockets_takes_our_handshake_and_we_take_its_answer() -> None:
    opening = asked("Sec-WebSocket-Protocol: x, y")
    assert isinstance(opening, Opening)
    server, key = ServerProtocol(subprotocols=["y"]), new_key()  # type: ignore[list-item]
    server.receive_data(backend_request(opening.context, key))
    [request] = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    assert server.handshake_exc is None
    raw = b"".join(server.data_to_send())
    assert raw.endswith(b"\r\n\r\n")
    head = parse_response_head(raw[:-4])
    assert head is not None
    agreed = read_backend_answer(raw[:-4], head, key, opening.protocols)
    assert isinstance(agreed, Agreed)
    assert agreed.protocol == "y"


def test_keys_differ() -> None:
    assert len({new_key() for _ in range(20)}) == 20

"""Compressed bodies: what can be read of them, and how much of it at most."""

from __future__ import annotations

import gzip
import zlib

import pytest

from proxy.http.coding import decoded
from tests.http.rig import event_bytes, make_route, running

TEXT = b'{"key":"k","id":"e"}'


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


READABLE = [
    (b"gzip", gzip.compress(TEXT)),
    (b"GZip", gzip.compress(TEXT)),
    (b"x-gzip", gzip.compress(TEXT)),
    (b"gzip", gzip.compress(TEXT[:7]) + gzip.compress(TEXT[7:])),
    (b"deflate", zlib.compress(TEXT)),
    (b"deflate", raw_deflate(TEXT)),
    (b"identity", TEXT),
    (b"", TEXT),
]


@pytest.mark.parametrize(("coding", "body"), READABLE)
def test_what_clients_send_is_read(coding: bytes, body: bytes) -> None:
    assert decoded(body, coding, len(TEXT)) == TEXT


@pytest.mark.parametrize(("coding", "body"), READABLE[:6])
def test_one_byte_more_than_the_limit_is_not(coding: bytes, body: bytes) -> None:
    assert decoded(body, coding, len(TEXT) - 1) is None


UNREADABLE = [
    (b"br", b"\x0b\x02\x80abc\x03"),
    (b"zstd", b"(\xb5/\xfd"),
    (b"gzip, gzip", gzip.compress(gzip.compress(TEXT))),
    (b"gzip", TEXT),
    (b"gzip", gzip.compress(TEXT)[:-1]),
    (b"gzip", gzip.compress(TEXT)[:-8] + b"\0" * 8),
    (b"gzip", gzip.compress(TEXT) + b"more"),
    (b"gzip", zlib.compress(TEXT)),
    (b"deflate", zlib.compress(TEXT) + b"more"),
    (b"deflate", zlib.compress(TEXT)[:-1]),
    (b"deflate", b"\xff" * 20),
]


@pytest.mark.parametrize(("coding", "body"), UNREADABLE)
def test_what_is_damaged_unknown_or_cut_is_not(coding: bytes, body: bytes) -> None:
    assert decoded(body, coding, 2**20) is None


def test_an_empty_body_is_empty_in_every_coding() -> None:
    assert decoded(b"", b"gzip", 100) == b""


def test_a_bomb_costs_no_more_than_the_limit() -> None:
    bomb = gzip.compress(b"0" * 2**28, compresslevel=9)
    assert decoded(bomb, b"gzip", 2**16) is None
    many = gzip.compress(b"0" * 2**14) * 1000
    assert decoded(many, b"gzip", 2**16) is None


def packed(coding: str, body: bytes) -> bytes:
    head, _, _ = event_bytes("").partition(b"Content-Length")
    return head + f"Content-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.asyncio
async def test_a_gzipped_event_has_its_key_and_id_and_travels_as_it_came() -> None:
    body = gzip.compress(TEXT)
    async with running(make_route(event_id=("json:/id",))) as rig:
        assert (await rig.ask(packed("gzip", body))).status == 200
        await rig.settled()
        assert rig.fake.events["e"].key == "k"
        for backend in rig.backends:
            (request,) = backend.seen
            assert request.body == body
            assert request.header("content-encoding") == "gzip"


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b'{"key":"k","pad":"' + b"x" * 5000 + b'"}')])
async def test_one_that_cannot_be_read_is_an_event_without_a_key(body: bytes) -> None:
    async with running(make_route(key_missing="reject"), limits={"max_decoded_size": "1KiB"}) as rig:
        assert (await rig.ask(packed("gzip", body))).status == 400
        assert rig.plane.counters["undecodable_bodies"] == rig.plane.counters["key_missing"] == 1


@pytest.mark.asyncio
async def test_line_protocol_in_gzip_as_telegraf_writes_it() -> None:
    body = gzip.compress(b"cpu,cpu=cpu0,host=attic usage_idle=97.5 1700000000000000000\nmem,host=attic free=1i\n")
    async with running(make_route(key="line:series")) as rig:
        assert (await rig.ask(packed("gzip", body))).status == 200
        (event,) = rig.fake.events.values()
        assert event.key == "cpu,cpu=cpu0,host=attic"

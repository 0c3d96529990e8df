"""TLS with backends: nothing is sent to who cannot prove its name, and every way of ending is understood."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from config.model import BackendTls
from proxy.core.event import DELIVERED, NEW, OLD, UNREACHABLE, Attempt, Event
from proxy.http.deliver import HttpDelivery
from proxy.http.leg import Leg
from proxy.http.response_head import ResponseHead
from proxy.net.client_tls import ClientTls
from proxy.net.live_context import BadTls
from tests.harness.certificates import Authority
from tests.http.backend import always, reply
from tests.http.rig import DUAL, OFF, event_bytes, make_route, running
from tests.http.wire import until

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
URL = "https://localhost:{port}"
EVENT = Event(
    7, "e7", "events", "k", 0, 1, OLD, 3, 0, 0, False, 0, "http", b"POST /events HTTP/1.1\r\nHost: a\r\n", b"x"
)


def https(**tls: Any) -> dict[str, Any]:
    """Settings of a backend."""
    return {"url": URL, "tls": tls}


@pytest.mark.asyncio
async def test_both_sides_over_tls(ca: Authority) -> None:
    server = ca.server(ca.issue("backend"))
    names: list[str | None] = []

    def note(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        names.append(name)

    server.sni_callback = note
    both = {"old": server, "new": server}
    async with running(dials=DUAL, backend={name: https(ca=ca.file) for name in both}, tls=both) as rig:
        for number in range(5):
            answer = await rig.ask(event_bytes(f"e{number}", key="k", text="x" * 50_000))
            assert answer.status == 200
        await rig.settled()
        assert rig.old.ids() == rig.new.ids() == [f"e{number}" for number in range(5)]
        assert names == ["localhost", "localhost"]  # connections are used again
        rig.check_ends()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("hosts", "expired", "tls", "why"),
    [
        (("localhost",), False, {}, "self-signed certificate in certificate chain"),
        (("elsewhere.example",), False, {"ca": "."}, "Hostname mismatch, certificate is not valid for 'localhost'"),
        (("localhost",), True, {"ca": "."}, "certificate has expired"),
        (("localhost",), False, {"ca": ".", "server_name": "other"}, "certificate is not valid for 'other'"),
    ],
)
async def test_who_cannot_prove_its_name_gets_no_byte(
    ca: Authority,
    caplog: pytest.LogCaptureFixture,
    hosts: tuple[str, ...],
    expired: bool,
    tls: dict[str, str],
    why: str,
) -> None:
    server = ca.server(ca.issue("backend", *hosts, expired=expired))
    settings = https(**{key: ca.file if value == "." else value for key, value in tls.items()})
    async with running(
        make_route(on_authority_down="fail"), dials=OFF, backend={"old": settings}, tls={"old": server}
    ) as rig:
        answer = await rig.ask(event_bytes("e1", key="k"))
        assert (answer.status, answer.detail) == (502, "cannot connect to the backend old")
        assert why in rig.upstreams["old"].last_trouble
        outcome = await HttpDelivery({"events": (rig.upstreams["old"], rig.upstreams["new"])}, 2**20).deliver(
            EVENT, Attempt(OLD, "replay", 1)
        )
        assert outcome.kind == UNREACHABLE
        assert rig.old.received == b""
        assert [why in record.reason for record in caplog.records if hasattr(record, "reason")] == [True]


@pytest.mark.asyncio
async def test_names_and_addresses_that_fit(ca: Authority) -> None:
    server = ca.server(ca.issue("backend", "events.internal", "127.0.0.1"))
    for settings in (
        {"url": URL, "tls": {"ca": ca.file, "server_name": "events.internal"}},
        {"url": "https://127.0.0.1:{port}", "tls": {"ca": ca.file}},
        {"url": URL, "tls": {"insecure": True}},
    ):
        async with running(dials=OFF, backend={"other": settings}, tls={"other": server}) as rig:
            assert (await rig.ask(GET, "GET")).status == 200


@pytest.mark.asyncio
async def test_old_versions_are_not_spoken(ca: Authority) -> None:
    server = ca.server(ca.issue("backend"))
    server.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        server.minimum_version, server.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    async with running(dials=OFF, backend={"other": https(ca=ca.file)}, tls={"other": server}) as rig:
        assert (await rig.ask(GET, "GET")).status == 502
        assert rig.other.received == b""


@pytest.mark.asyncio
async def test_a_plain_backend_is_not_spoken_to(ca: Authority) -> None:
    async with running(dials=OFF, backend={"other": https(ca=ca.file)}) as rig:
        rig.other.eager = lambda data, connection: connection.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        assert (await rig.ask(GET, "GET")).status == 502
        assert "wrong version number" in rig.upstreams["other"].last_trouble
        assert b"GET" not in rig.other.received


@pytest.mark.asyncio
async def test_our_certificate_and_its_renewal(ca: Authority, directory: Path) -> None:
    server = ca.server(ca.issue("backend"), asks=True)
    stranger = Authority(directory, "stranger")
    ours = stranger.issue("ours", "crossfade")
    settings = https(ca=ca.file, cert=ours.cert, key=ours.key)
    async with running(dials=OFF, backend={"other": settings}, tls={"other": server}) as rig:
        assert (await rig.ask(GET, "GET")).status == 502
        assert rig.other.received == b""
        ca.issue("ours", "crossfade")
        rig.upstreams["other"].look_at_files()
        assert (await rig.ask(GET, "GET")).status == 200
        found = rig.other.connections[-1].transport.get_extra_info("peercert")
        assert ("DNS", "crossfade") in found["subjectAltName"]


@pytest.mark.asyncio
async def test_a_handshake_counts_as_connecting() -> None:
    settings = {"url": URL, "connect_timeout": "50ms"}
    async with running(dials=OFF, backend={"other": settings}) as rig:  # which waits for a request's end, in plain HTTP
        assert (await rig.ask(GET, "GET")).status == 502
        assert "no connection within 0.05 s" in rig.upstreams["other"].last_trouble


@pytest.mark.asyncio
async def test_the_ledgers_deliveries(ca: Authority) -> None:
    settings = https(ca=ca.file)
    async with running(dials=OFF, backend={"new": settings}, tls={"new": ca.server(ca.issue("backend"))}) as rig:
        delivery = HttpDelivery({"events": (rig.upstreams["old"], rig.upstreams["new"])}, 2**20)
        assert (await delivery.deliver(EVENT, Attempt(NEW, "replay", 1))).kind == DELIVERED


@pytest.mark.asyncio
@pytest.mark.parametrize("is_announced", [True, False])
async def test_a_body_that_ends_with_its_connection(ca: Authority, is_announced: bool) -> None:
    async with running(
        dials=OFF, backend={"other": https(ca=ca.file)}, tls={"other": ca.server(ca.issue("backend"))}
    ) as rig:

        def behave(seen: Any, connection: Any) -> None:
            connection.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
            if is_announced:
                connection.transport.close()
            else:  # somebody cuts the line: its end, but no close_notify
                asyncio.get_running_loop().call_later(0.02, connection.transport.abort)

        rig.other.behave = behave
        wire = await rig.wire()
        wire.send(GET)
        if is_announced:
            assert (await wire.answer("GET")).body == b"half"
        else:
            with pytest.raises(asyncio.IncompleteReadError):
                await wire.answer("GET")


class SlowReader:
    """The owner of a leg that pauses it as soon as the answer begins."""

    def __init__(self) -> None:
        self.body = b""
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def leg_interim(self, leg: Leg, head: ResponseHead) -> None:
        """Not looked at."""

    def leg_started(self, leg: Leg) -> None:
        leg.is_started = True
        leg.pause()

    def leg_data(self, leg: Leg, data: bytes) -> None:
        self.body += data

    def leg_done(self, leg: Leg) -> None:
        self.ended.set_result(leg.truncated)


@pytest.mark.asyncio
async def test_a_slow_reader_gets_all_although_the_backend_has_closed(ca: Authority) -> None:
    body, server = b"0123456789abcdef" * 10_000, ca.server(ca.issue("backend"))
    async with running(dials=OFF, backend={"other": https(ca=ca.file)}, tls={"other": server}) as rig:

        def behave(seen: Any, connection: Any) -> None:
            whole = reply(200, body, "Connection: close\r\n")
            connection.write(whole[:200])

            def rest() -> None:
                connection.write(whole[200:])
                connection.transport.close()  # which waits for our end
                asyncio.get_running_loop().call_later(0.05, connection.transport.abort)

            asyncio.get_running_loop().call_later(0.05, rest)

        rig.other.behave = behave
        owner = SlowReader()
        leg = Leg(owner, rig.upstreams["other"], 0, 0, b"GET", GET, False)
        rig.upstreams["other"].send(leg)
        await asyncio.sleep(0.2)
        assert len(owner.body) < 200
        leg.resume()
        assert await owner.ended is False
        assert owner.body == body


@pytest.mark.asyncio
async def test_an_early_yes_still_gets_the_rest_of_the_body(ca: Authority) -> None:
    text, server = "x" * 16_000_000, ca.server(ca.issue("backend"))
    async with running(
        dials=OFF, backend={"old": https(ca=ca.file)}, tls={"old": server}, limits={"max_event_size": "32MiB"}
    ) as rig:

        def say_yes(data: bytes, connection: Any) -> None:
            connection.write(reply(201, b"", "Connection: close\r\n"))
            connection.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.2, connection.transport.resume_reading)

        rig.old.eager = say_yes
        rig.old.behave = always(b"")
        assert (await rig.ask(event_bytes("e1", key="k", text=text))).status == 201
        await until(lambda: rig.old.seen, "the whole body came")


def test_what_cannot_be_used_refuses_and_names_the_file(ca: Authority) -> None:
    a, b = ca.issue("a"), ca.issue("b")
    for tls in ({"ca": a.key}, {"cert": a.cert, "key": b.key}, {"ca": "/nowhere.pem"}):
        with pytest.raises(BadTls) as caught:
            ClientTls("new", BackendTls.model_validate(tls))
        assert list(tls.values())[-1] in str(caught.value)

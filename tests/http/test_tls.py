"""TLS towards clients: what is spoken, who is let in, how it ends, and that a reload drops nobody."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from config.model import ListenTls
from proxy.http.downstream import Client
from proxy.http.listener import Handshakes, Listener
from proxy.ledger.shape import as_protocol
from proxy.net.live_context import BadTls
from proxy.net.server_tls import ServerTls
from tests.harness.certificates import Authority, Pair
from tests.http.backend import reply
from tests.http.rig import OFF, Rig, event_bytes, running
from tests.http.wire import Wire, until

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
HANDSHAKE = 0.3
"""Seconds that a handshake may take in here."""


class File:
    """A file that is small enough to wait for it."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def read(self) -> bytes:
        return self._path.read_bytes()

    def write(self, data: bytes) -> None:
        self._path.write_bytes(data)

    def remove(self) -> None:
        self._path.unlink()


class Secure:
    """A rig with a TLS listener."""

    def __init__(self, rig: Rig, settings: dict[str, Any], handshake: float) -> None:
        self.rig = rig
        self.failed: list[str] = []
        self.tls = ServerTls(ListenTls.model_validate(settings), "here")
        listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = listening.getsockname()[1]
        handshakes = Handshakes(self.tls.live, timeout=handshake, linger=5, most=1000, failed=self.failed.append)
        loop = asyncio.get_running_loop()
        self.listener = Listener(
            loop, listening, lambda: as_protocol(Client(rig.service, is_tls=True)), lambda: None, handshakes
        )
        self.listener.start()

    async def wire(self, context: ssl.SSLContext, name: str = "localhost", limit: int = 2**20) -> Wire:
        """A client's connection over TLS. name: the server name that it asks for and checks."""
        opened = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=name, limit=limit)
        wire = Wire(*opened)
        self.rig.wires.append(wire)
        return wire

    async def shown(self, context: ssl.SSLContext, name: str) -> set[str]:
        """The names in the certificate that is shown to who asks for this name."""
        context.check_hostname = False
        wire = await self.wire(context, name)
        found = wire.writer.get_extra_info("peercert")
        wire.close()
        return {value.lower() for _, value in found["subjectAltName"]}


@asynccontextmanager
async def secure(settings: dict[str, Any], *, handshake: float = 10.0, **arguments: Any) -> AsyncIterator[Secure]:
    async with running(dials=OFF, **arguments) as rig:
        made = Secure(rig, settings, handshake)
        try:
            yield made
        finally:
            made.listener.close()
            made.listener.abandon()


@pytest.mark.asyncio
async def test_events_and_what_backends_are_told(ca: Authority) -> None:
    async with secure(ca.issue("a").settings) as here:
        context = ca.client()
        context.set_alpn_protocols(["h2", "http/1.1"])
        wire = await here.wire(context)
        spoken = wire.writer.get_extra_info("ssl_object")
        assert spoken.version() == "TLSv1.3"
        assert spoken.selected_alpn_protocol() == "http/1.1"
        for number in range(3):
            answer = await wire.ask(event_bytes(f"e{number}", key="k", text="x" * 100_000))
            assert answer.status == 200
        assert here.rig.old.seen[0].header("X-Forwarded-Proto") == "https"
        assert len(here.rig.old.seen[0].body) > 100_000
        assert (await (await here.rig.wire()).ask(GET, "GET")).status == 200
        assert here.rig.other.seen[0].header("X-Forwarded-Proto") == "http"


@pytest.mark.asyncio
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # asking for what is refused is deprecated
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_old_versions_are_refused(ca: Authority, version: ssl.TLSVersion) -> None:
    async with secure(ca.issue("a").settings) as here:
        context = ca.client()
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await here.wire(context)
        await until(lambda: here.failed == ["unsupported protocol"], "counted")


@pytest.mark.asyncio
async def test_tls_1_2_with_modern_ciphers_alone(ca: Authority) -> None:
    async with secure(ca.issue("a").settings) as here:
        context = ca.client()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        wire = await here.wire(context)
        name, version, _ = wire.writer.get_extra_info("cipher")
        assert version == "TLSv1.2"
        assert name.startswith("ECDHE-")
        for weak in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256", "DHE-RSA-AES128-SHA"):
            context = ca.client()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(weak)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await here.wire(context)
        await until(lambda: here.failed == ["no shared cipher"] * 3, "counted")


@pytest.mark.asyncio
async def test_certificates_by_server_name(ca: Authority) -> None:
    a, b, c = {"a.example"}, {"b.example", "b2.example"}, {"*.c.example"}
    pairs = [ca.issue(f"pair{index}", *hosts) for index, hosts in enumerate((a, b, c))]
    async with secure({**pairs[0].settings, "sni": tuple(pair.settings for pair in pairs[1:])}) as here:
        wanted = {"a.example": a, "B.example": b, "b2.example": b, "x.c.example": c, "other": a}
        # A wildcard stands for one label, no more and no fewer.
        wanted |= {"c.example": a, "x.y.c.example": a}
        assert {name: await here.shown(ca.client(), name) for name in wanted} == wanted
        wire = await here.wire(ca.client(), "b.example")
        assert (await wire.ask(GET, "GET")).status == 200


@pytest.mark.asyncio
@pytest.mark.parametrize("asked", ["required", "optional"])
async def test_client_certificates(ca: Authority, directory: Path, asked: str) -> None:
    stranger = Authority(directory, "stranger")
    settings = {**ca.issue("a").settings, "client_ca": ca.file, "client_certificate": asked}
    async with secure(settings) as here:

        async def serves(pair: Pair | None) -> bool:
            # With TLS 1.3 a client may write before it hears that its certificate was not liked.
            try:
                wire = await here.wire(ca.client(pair))
                return (await wire.ask(GET, "GET")).status == 200
            except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
                return False

        assert await serves(ca.issue("client", "somebody"))
        assert await serves(None) is (asked == "optional")
        assert not await serves(stranger.issue("strange", "somebody"))
        assert not await serves(ca.issue("late", "somebody", expired=True))
        why = [] if asked == "optional" else ["peer did not return a certificate"]
        why.append("certificate verify failed: unable to get local issuer certificate")
        why.append("certificate verify failed: certificate has expired")
        await until(lambda: len(here.failed) == len(why), "counted")
        assert here.failed == why


@pytest.mark.asyncio
async def test_plain_http_at_a_tls_port_ends(ca: Authority, caplog: pytest.LogCaptureFixture) -> None:
    async with secure(ca.issue("a").settings) as here:
        wire = await Wire.open(here.port)
        wire.send(GET)
        assert not (await wire.rest()).startswith(b"HTTP")
        wire.close()
        await until(lambda: here.failed == ["http request"], "counted")
    assert "Traceback" not in caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.asyncio
async def test_a_handshake_has_its_time(ca: Authority) -> None:
    async with secure(ca.issue("a").settings, handshake=0.1) as here:
        wire = await Wire.open(here.port)
        wire.send(b"\x16\x03\x01")
        assert await wire.is_cut()
        wire.close()
        assert len(here.failed) == 1
        assert "longer than" in here.failed[0]
        left = await Wire.open(here.port)
        left.close()
        await until(lambda: len(here.failed) == 2, "one that left is counted")


@pytest.mark.asyncio
async def test_a_refusal_is_read_although_the_client_goes_on_sending(ca: Authority) -> None:
    async with secure(ca.issue("a").settings, limits={"max_event_size": "64KiB"}) as here:
        for _ in range(5):
            wire = await here.wire(ca.client())
            wire.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n" + b"x" * 2_000_000)
            answer = await wire.answer()
            assert answer.status == 413
            assert answer.headers["connection"] == "close"
            wire.send(b"x" * 2_000_000)
            assert await wire.rest() == b""
            wire.close()
        await until(lambda: not here.rig.service.clients, "all gone")


@pytest.mark.asyncio
async def test_a_long_last_answer_reaches_a_slow_client(ca: Authority) -> None:
    body = b"0123456789abcdef" * 200_000
    async with secure(ca.issue("a").settings, limits={"keepalive_timeout": "10m"}) as here:
        here.rig.other.behave = lambda seen, connection: connection.write(reply(200, body))
        wire = await here.wire(ca.client(), limit=1024)
        wire.send(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await until(lambda: here.rig.other.seen, "asked")
        for _ in range(20):  # what a worker does once a second, by a clock that is a minute ahead
            here.rig.service.check_times(asyncio.get_running_loop().time() + 60)
            await asyncio.sleep(0.02)
        assert here.rig.service.clients
        assert (await wire.answer("GET")).body == body
        assert await wire.rest() == b""


@pytest.mark.asyncio
async def test_a_client_that_ignores_the_end_is_cut(ca: Authority) -> None:
    async with secure(ca.issue("a").settings) as here:
        context, loop, service = ca.client(), asyncio.get_running_loop(), here.rig.service

        def idle() -> ssl.SSLSocket:
            raw = socket.create_connection(("127.0.0.1", here.port))
            wrapped = context.wrap_socket(raw, server_hostname="localhost")
            wrapped.sendall(GET)
            assert wrapped.recv(65536)
            return wrapped

        wrapped = await loop.run_in_executor(None, idle)
        service.stop()
        await asyncio.sleep(0.05)
        assert service.clients  # it has not said its end
        service.check_times(loop.time() + 2)
        await until(lambda: not service.clients, "cut after its linger")
        wrapped.close()


@pytest.mark.asyncio
async def test_a_client_that_leaves_while_it_waits(ca: Authority) -> None:
    async with secure(ca.issue("a").settings) as here:
        here.rig.old.behave = lambda seen, connection: None
        wire = await here.wire(ca.client())
        wire.send(event_bytes("e1", key="k"))
        await until(lambda: here.rig.old.seen, "on its way")
        wire.close()
        await until(lambda: not here.rig.service.clients, "gone")
        here.rig.old.connections[0].write(reply(200))
        await here.rig.settled()
        assert here.rig.story("e1")[0] == "D"


@pytest.mark.asyncio
async def test_reloads_under_load_fail_no_handshake(ca: Authority, soak: bool) -> None:
    reloads = 100 if soak else 10
    async with secure(ca.issue("a").settings) as here:
        context, served, is_over = ca.client(), [0], asyncio.Event()
        kept = await here.wire(context)

        async def visit() -> None:
            while not is_over.is_set():
                wire = await here.wire(context)
                assert (await wire.ask(GET, "GET")).status == 200
                wire.close()
                await wire.writer.wait_closed()
                served[0] += 1

        visitors = [asyncio.create_task(visit()) for _ in range(4)]
        serials = set()
        for _ in range(reloads):
            wanted = served[0] + 4
            ca.issue("a")
            assert here.tls.live.look()
            await until(lambda: served[0] >= wanted or any(task.done() for task in visitors), "served")  # noqa: B023
            assert (await kept.ask(GET, "GET")).status == 200
            wire = await here.wire(context)
            serials.add(wire.writer.get_extra_info("peercert")["serialNumber"])
            wire.close()
        is_over.set()
        await asyncio.gather(*visitors)
        assert here.failed == []
        assert here.tls.live.reloads == len(serials) == reloads


@pytest.mark.asyncio
async def test_a_broken_pair_leaves_the_old_one_in_use(ca: Authority, caplog: pytest.LogCaptureFixture) -> None:
    pair = ca.issue("a")
    async with secure(pair.settings) as here:
        live, key = here.tls.live, File(pair.key)
        good, foreign = key.read(), File(ca.issue("other").key).read()
        for number, broken in enumerate((foreign, b"not a key", good[:60]), 1):
            key.write(broken)
            assert [live.look() for _ in range(5)] == [False] * 5
            assert live.failures == number
            assert pair.key in live.trouble
            assert (await (await here.wire(ca.client())).ask(GET, "GET")).status == 200
        key.remove()
        assert not live.look()
        key.write(good)
        assert live.look()
        assert live.trouble == ""
        assert not live.look()
        assert [record.levelname for record in caplog.records].count("WARNING") == 3


def test_what_cannot_be_used_refuses_and_names_the_file(ca: Authority, directory: Path) -> None:
    a, b = ca.issue("a"), ca.issue("b")
    missing, locked = str(directory / "missing.pem"), directory / "locked.key"

    def why(**changes: Any) -> str:
        with pytest.raises(BadTls) as caught:
            ServerTls(ListenTls.model_validate({**a.settings, **changes}), "here")
        return str(caught.value)

    assert missing in why(cert=missing)
    assert missing in why(key=missing)
    assert missing in why(client_ca=missing)
    assert b.key in why(key=b.key)
    assert "key values mismatch" in why(key=b.key)
    assert b.cert in why(sni=({"cert": b.cert, "key": a.key},))
    key = load_pem_private_key(Path(a.key).read_bytes(), None)
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    assert "passphrase" in why(key=str(locked))

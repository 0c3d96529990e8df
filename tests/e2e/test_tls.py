"""The daemon over TLS: certificates renewed under load, client certificates, backends by name and over TLS."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.demo.children import free_port
from tests.harness.certificates import Authority
from tests.harness.scene import Scene, scene
from tests.http.backend import Backend
from tests.http.wire import Wire, until

pytestmark = pytest.mark.asyncio


def event(number: int) -> bytes:
    body = b'{"entity_id": "a", "context": {"id": "e%d"}}' % number
    head = f"POST /api/v1/events HTTP/1.1\r\nHost: a\r\nX-Event-Id: e{number}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def post(port: int, number: int, context: ssl.SSLContext | None = None) -> tuple[int, str]:
    """One event on a connection of its own: its status, and the serial number of the certificate that was shown."""
    name = "localhost" if context is not None else None
    wire = Wire(*await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name))
    try:
        status = (await wire.ask(event(number))).status
        shown = wire.writer.get_extra_info("peercert")
        return status, shown["serialNumber"] if shown else ""
    finally:
        wire.close()


def break_file(path: Path) -> None:
    path.write_text("broken")


async def status_when(opened: Scene, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The status as soon as something shows in it; workers tell of themselves four times a second."""
    for _ in range(100):
        found: dict[str, Any] = await opened.admin.ask("GET", "/api/v1/status")
        if is_so(found):
            return found
        await asyncio.sleep(0.1)
    raise AssertionError("never shown")


async def test_certificates_are_renewed_under_load(tmp_path: Path, soak: bool) -> None:
    renewals = 100 if soak else 5
    ca, port = Authority(tmp_path), free_port()
    pair, ours = ca.issue("a"), ca.issue("client", "somebody")

    def configure(config: dict[str, Any]) -> None:
        tls = {"cert": pair.cert, "key": pair.key, "client_ca": ca.file}
        config["listen"].append({"address": f"127.0.0.1:{port}", "tls": tls})

    async with scene(configure, stage="dualwrite") as opened:
        context, serials, is_over, sent = ca.client(ours), set[str](), asyncio.Event(), [0]

        async def visit() -> None:
            while not is_over.is_set():
                sent[0] += 1
                status, serial = await post(port, sent[0], context)
                assert status == 201
                serials.add(serial)

        visitors = [asyncio.create_task(visit()) for _ in range(4)]
        for _ in range(renewals):
            known = len(serials)
            ca.issue("a")
            assert opened.instance.launcher is not None
            opened.instance.launcher.signal(signal.SIGHUP)
            await until(lambda: len(serials) > known or any(each.done() for each in visitors), "shown")  # noqa: B023
        is_over.set()
        await asyncio.gather(*visitors)
        assert len(serials) >= renewals
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await post(port, 0, ca.client())
        _, receipts = await opened.settled(least=sent[0])
        assert len(receipts) == sent[0]
        shown = await status_when(opened, lambda found: "tls_handshakes_failed" in found["counters"])
        assert shown["counters"]["tls_handshakes_failed"] == 1
        assert shown["counters"]["tls_reloads"] >= renewals
        assert "tls_reload_failures" not in shown["counters"]
        (certificate,) = shown["certificates"]
        assert (certificate["file"], certificate["names"]) == (pair.cert, ["localhost"])
        break_file(tmp_path / "a.key")
        shown = await status_when(opened, lambda found: len(found["warnings"]) > 0)
        (warning,) = shown["warnings"]
        assert pair.key in warning
        assert "is in use" in warning
        assert (await post(port, sent[0] + 1, context))[0] == 201


async def test_backends_by_name_over_tls_with_an_endpoint_that_is_down(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    up, down = Backend(), Backend()
    up.tls = ca.server(ca.issue("backend", "localhost"))
    await up.start()

    def configure(config: dict[str, Any]) -> None:
        config["backends"]["new"] |= {
            "url": [f"https://localhost:{up.port}", f"https://localhost:{down.port}"],
            "tls": {"ca": ca.file},
            "health": {"path": "/health", "interval": "50ms"},
        }

    try:
        async with scene(configure, stage="dualwrite") as opened:
            for number in range(30):
                assert (await post(opened.instance.address.port, number))[0] == 201
            await opened.settled()
            assert set(up.ids()) - {""} == {f"e{number}" for number in range(30)}
            ports = {f"127.0.0.1:{up.port}": "up", f"127.0.0.1:{down.port}": "unhealthy"}

            def is_told(found: dict[str, Any]) -> bool:
                new = found["routes"][0]["sides"]["new"]
                states = {each["address"]: each["state"] for each in new["endpoints"]}
                return new["healthy"] is True and ports.items() <= states.items()

            found = await status_when(opened, is_told)
            assert found["routes"][0]["sides"]["new"]["breaker"] == "closed"
    finally:
        up.stop()
        down.stop()

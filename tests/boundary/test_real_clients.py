"""Clients that people use, each from its own package: keep-alive, HEAD, chunked and large uploads, Expect."""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from deploy.packages import library, program
from proxy.demo.children import free_port
from proxy.demo.instance import Instance
from tests.http.backend import Backend, BackendConnection, Seen, reply

LARGE: Final = b"0123456789abcdef" * 50_000
"""800 kB: less than the default limit of 1 MiB, more than any buffer on the way."""


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@asynccontextmanager
async def stand() -> AsyncIterator[tuple[str, Backend, Path]]:
    """The daemon's address before a backend that answers with the digest of what it got."""

    def behave(seen: Seen, connection: BackendConnection) -> None:
        answer = reply(200, digest(seen.body).encode())
        connection.write(answer[: -len(digest(b""))] if seen.head.startswith(b"HEAD ") else answer)

    backend = Backend(behave)
    await backend.start()
    with tempfile.TemporaryDirectory(prefix="cf-") as name:
        side: dict[str, Any] = {"url": f"http://127.0.0.1:{backend.port}"}
        config: dict[str, Any] = {
            "version": 1,
            "listen": [f"127.0.0.1:{free_port()}"],
            "workers": 1,
            "state_dir": "state",
            "salt": "a salt for these tests",
            "backends": {"old": side, "new": side},
            "routes": [{"name": "events", "match": {"path": "/events", "methods": ["POST"]}}],
            "default": "old",
            "admin": {"tcp": "off"},
            "log": {"format": "text"},
        }
        instance = Instance(Path(name), config)
        try:
            await instance.start()
            (Path(name) / "large").write_bytes(LARGE)
            yield f"http://127.0.0.1:{instance.address.port}", backend, Path(name)
        finally:
            await instance.stop()
            backend.stop()


async def run(*command: str) -> str:
    """A command's output; it must end well."""
    child = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        out, err = await child.communicate()
    assert child.returncode == 0, (command, out[-500:], err[-2000:])
    return (out + err).decode()


async def check_curl(url: str, backend: Backend, directory: Path) -> None:
    curl = [program("curl", "curl"), "-sS", "--http1.1"]
    large = f"@{directory}/large"
    assert digest(LARGE) in await run(*curl, "--data-binary", large, f"{url}/events")
    assert digest(LARGE) in await run(
        *curl, "-H", "Transfer-Encoding: chunked", "--data-binary", large, f"{url}/events"
    )
    waited = await run(*curl, "-v", "-H", "Expect: 100-continue", "--data-binary", large, f"{url}/x")
    assert "100 Continue" in waited
    assert digest(LARGE) in waited
    assert "Content-Length: 64" in await run(*curl, "-I", f"{url}/x")
    twice = await run(*curl, "-v", f"{url}/a", f"{url}/b")
    assert re.search(r"Re-using existing connection", twice)
    assert digest(b"") in await run(*curl, "--http1.0", f"{url}/x")
    refused = await run(*curl, "-o", "/dev/null", "-w", "%{http_code}", "-H", "Content-Length: 010", f"{url}/x")
    assert "400" in refused
    assert all(seen.body in (b"", LARGE) for seen in backend.seen)


_HTTPX: Final = """
import hashlib, sys, httpx
url, large = sys.argv[1], open(sys.argv[2], "rb").read()
wanted = hashlib.sha256(large).hexdigest()
with httpx.Client() as client:
    for _ in range(20):
        assert client.get(url + "/x").status_code == 200
    assert client.post(url + "/events", content=large).text == wanted
    assert client.post(url + "/events", content=iter([large[:9], large[9:]])).text == wanted
    assert client.head(url + "/x").headers["content-length"] == "64"
    assert client.head(url + "/x").content == b""
"""


async def check_httpx(url: str, backend: Backend, directory: Path) -> None:
    library("httpx", "python3-httpx")
    await run("/usr/bin/python3", "-I", "-c", _HTTPX, url, f"{directory}/large")
    assert len(backend.seen) == 24


async def _pieces() -> AsyncIterator[bytes]:
    for start in range(0, len(LARGE), 70_000):
        yield LARGE[start : start + 70_000]


async def check_aiohttp(url: str, backend: Backend, directory: Path) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(20):
            async with session.get(f"{url}/x") as answer:
                assert await answer.text() == digest(b"")
        for data, expect in ((LARGE, False), (_pieces(), False), (LARGE, True), (_pieces(), True)):
            async with session.post(f"{url}/events", data=data, expect100=expect) as answer:
                assert await answer.text() == digest(LARGE)
        async with session.head(f"{url}/x") as answer:
            assert (answer.headers["Content-Length"], await answer.read()) == ("64", b"")
        assert len(backend.seen) == 25


async def check_wrk_and_hey(url: str, backend: Backend, directory: Path) -> None:
    said = await run(program("wrk", "wrk"), "-t", "1", "-c", "16", "-d", "1s", f"{url}/x")
    assert "Non-2xx" not in said
    assert "Socket errors" not in said
    assert len(backend.seen) > 100
    body = ["-m", "POST", "-D", f"{directory}/large"]
    said = await run(program("hey", "hey"), "-n", "100", "-c", "5", *body, f"{url}/events")
    assert re.search(r"\[200\]\s+100 responses", said), said
    posted = [seen.body == LARGE for seen in backend.seen if seen.head.startswith(b"POST ")]
    assert posted == [True] * 100
    said = await run(program("hey", "hey"), "-n", "100", "-c", "5", "-m", "HEAD", f"{url}/x")
    assert re.search(r"\[200\]\s+100 responses", said), said


@pytest.mark.asyncio
async def test_clients_that_people_use() -> None:
    async with stand() as found:
        for check in (check_curl, check_httpx, check_aiohttp, check_wrk_and_hey):
            found[1].seen.clear()
            await check(*found)

"""Long bodies through the daemon while events go on: every byte arrives, little is kept, and nobody waits for them."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp.web
import pytest

from deploy.packages import program
from tests.harness.scene import Scene, scene

pytestmark = pytest.mark.asyncio

MIB = 2**20
PACE = 0.002
"""Seconds that the store takes for each piece: it is slower than what sends."""


class Store:
    """An HTTP server (aiohttp's) that reads bodies in pieces and answers with what it has seen; server-sent events."""

    def __init__(self) -> None:
        self.digests: list[str] = []
        self.copies = 0

    async def upload(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        digest, size = hashlib.sha256(), 0
        self.copies += request.headers["X-Crossfade-Role"] != "authority"
        async for piece in request.content.iter_chunked(MIB):
            digest.update(piece)
            size += len(piece)
            await asyncio.sleep(PACE)
        self.digests.append(digest.hexdigest())
        return aiohttp.web.json_response({"size": size, "sha256": digest.hexdigest()})

    async def ticks(self, request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        answer = aiohttp.web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for n in range(40):
            await answer.write(b"data: %d\n\n" % n)
            await asyncio.sleep(0.05)
        return answer

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Its port, while it listens."""
        app = aiohttp.web.Application(client_max_size=2**40)
        app.router.add_put("/uploads/{name}", self.upload)
        app.router.add_get("/ticks", self.ticks)
        runner = aiohttp.web.AppRunner(app)
        await runner.setup()
        site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


async def curl(*words: str) -> tuple[int, str]:
    """Its exit code and what it wrote."""
    command = [program("curl", "curl"), "--silent", "--show-error", "--max-time", "120", *words]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


def peak_mib(opened: Scene) -> float:
    """The largest resident memory that a worker has had."""
    found = 0
    for pid in opened.instance.pids("worker"):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        found = max(found, *(int(line.split()[1]) for line in lines if line.startswith("VmHWM")))
    return found / 1024


async def test_long_bodies_pass_while_events_go_on(tmp_path: Path, soak: bool) -> None:
    size = (2048 if soak else 128) * MIB
    source = tmp_path / "body"
    with source.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
    expected = hashlib.sha256(source.read_bytes()).hexdigest()
    store = Store()
    async with store.serving() as port:

        def configure(config: dict[str, Any]) -> None:
            config["backends"] |= {name: {"url": f"http://127.0.0.1:{port}"} for name in ("files-old", "files-new")}
            config["backends"]["files-old"]["connections"] = 1
            config["default"] = "files-old"
            config["routes"].append(
                {
                    "name": "uploads",
                    "match": {"path": "/uploads/*", "methods": ["PUT"]},
                    "old": "files-old",
                    "new": "files-new",
                    "stage": "dualwrite",
                    "stream": True,
                }
            )

        async with scene(configure, stage="split", weight=50, carry_over=False) as opened:
            url = f"http://127.0.0.1:{opened.instance.address.port}"
            before = peak_mib(opened)
            load = opened.load(rate=200.0)
            ticks = [asyncio.create_task(curl("-N", f"{url}/ticks")) for _ in range(8)]
            upload = ["--fail", "-H", "Expect:", "-T", str(source)]
            found = await asyncio.gather(
                curl(*upload, f"{url}/uploads/by-length"),
                curl(*upload, "-H", "Transfer-Encoding: chunked", f"{url}/uploads/by-chunks"),
            )
            assert [code for code, _ in found] == [0, 0], found
            for code, text in await asyncio.gather(*ticks):
                assert code == 0
                assert text.count("data:") == 40
            record = await load.stop()
            assert record.client_errors == 0
            assert store.digests == [expected] * 2
            assert store.copies == 0
            assert peak_mib(opened) - before < 32
            await opened.verify(record, sides="either")

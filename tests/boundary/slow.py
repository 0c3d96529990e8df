"""slowhttptest's attacks, clients at a steady pace, and a daemon that is quick to cut who is slow."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from time import monotonic
from typing import Final

from deploy.packages import program
from proxy.demo.children import Child, free_port
from tests.http.wire import Wire

ATTACKS: Final = {
    "slow heads": ["-H", "-i", "1"],
    "slow bodies": ["-B", "-i", "1", "-s", "8192"],
    "slow reading": ["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "400"],
}
PACE: Final = 0.005
"""Seconds from one healthy request of a connection to its next."""


def configuration(backend: int) -> dict[str, object]:
    """One worker with short times. backend: its port."""
    side = {"url": f"http://127.0.0.1:{backend}", "connections": 512}
    return {
        "version": 1,
        "listen": [f"127.0.0.1:{free_port()}"],
        "workers": 1,
        "state_dir": "state",
        "salt": "a salt for these tests",
        "backends": {"old": side, "new": side},
        "routes": [{"name": "events", "match": {"path": "/events", "methods": ["POST"]}}],
        "default": "old",
        "limits": {"head_timeout": "1s", "body_timeout": "1s", "keepalive_timeout": "2s"},
        "admin": {"tcp": "off"},
        "log": {"format": "text"},
    }


async def healthy(port: int, seconds: float) -> list[float]:
    """Four clients at a steady pace, all served; how long each answer took, from when it should have been asked."""
    taken: list[float] = []

    async def one() -> None:
        wire = await Wire.open(port)
        start = monotonic()
        for number in range(int(seconds / PACE)):
            due = start + number * PACE
            await asyncio.sleep(max(0.0, due - monotonic()))
            assert (await wire.ask(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "GET")).status == 200
            taken.append(monotonic() - due)
        wire.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(one())
    return taken


async def attack(kind: str, port: int, directory: Path, rate: int, count: int) -> str:
    """Run slowhttptest with so many connections, `rate` new ones a second, until none of them is open; what it said.

    It goes on for eight seconds after the last: slow readers must have been cut by then, on a busy machine too.
    """
    log = directory / f"{kind}.log"
    where = f"http://127.0.0.1:{port}/{'large' if kind == 'slow reading' else 'x'}"
    size = ["-c", str(count), "-r", str(rate), "-l", str(count // rate + 8), "-p", "5", "-u", where]
    child = Child(kind, [program("slowhttptest", "slowhttptest"), *ATTACKS[kind], *size], log)
    await child.ended(40)
    return re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace"))

"""Each kind of switch, done once: what a person, a service manager or bad luck does to a running instance."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import yaml

from benchmarks.lifecycle.figures import Span
from benchmarks.live.stand import Stand
from benchmarks.processes import BenchmarkFailed
from proxy.demo.admin import AdminDownError, Status, WorkerStatus

Switch = Callable[[Stand, int], Awaitable[int]]
"""Does it for the n-th time; how many connections it may end."""

_SECONDS: Final = 60.0
_LOOK: Final = 0.1
_MORE: Final = 1
"""Workers that come and go."""


async def reload(stand: Stand, number: int) -> int:
    """Another value of a live setting in the file, and the command."""
    document = _document(stand)
    document["routes"][0]["trigger"] = document["routes"][0]["trigger"] | {"mismatch_samples": 1000 + number}
    _write(stand, document)
    await _switched(stand, "reload")
    return 0


async def upgrade(stand: Stand, number: int) -> int:
    """The same code again: whatever it is, all processes are replaced."""
    del number
    await _switched(stand, "upgrade")
    return 0


async def count(stand: Stand, number: int) -> int:
    """One worker more, or one less."""
    document = _document(stand)
    before = len((await stand.admin.status()).workers)
    document["workers"] = before + _MORE if number % 2 == 0 else before - _MORE
    _write(stand, document)
    await _switched(stand, "reload")
    await stand.admin.until(lambda status: _serving(status) == document["workers"], _SECONDS, "the new workers")
    return 0


async def kill(stand: Stand, number: int) -> int:
    """kill -9 of a worker, by turns; its connections end with it."""
    status = await stand.admin.until(lambda status: _serving(status) == len(status.workers), _SECONDS, "all workers")
    worker = status.workers[number % len(status.workers)]
    excused = await _connections(stand, worker)
    os.kill(worker.pid, signal.SIGKILL)
    await stand.admin.until(lambda status: _has_another(status, worker), _SECONDS, "another worker")
    return excused


async def drain(stand: Stand, number: int) -> int:
    """SIGTERM; the next instance begins once this one has ended. Its sessions are told to go, its requests are not."""
    del number
    code = await stand.instance.stop()
    if code:
        raise BenchmarkFailed(f"a drain ended with {code}:\n{stand.instance.log.read_text()[-2000:]}")
    await stand.instance.start()
    return 0


SWITCHES: Final[dict[str, Switch]] = {
    "reloads": reload,
    "upgrades": upgrade,
    "kills": kill,
    "counts": count,
    "drains": drain,
}


async def timed(switch: Switch, stand: Stand, number: int) -> tuple[Span, int]:
    """When it was, and how many connections it may end."""
    began = time.perf_counter()
    excused = await switch(stand, number)
    return Span(began, time.perf_counter()), excused


async def _switched(stand: Stand, what: str) -> None:
    """Ask for it, and wait until it is done; raises BenchmarkFailed when it was refused or put back."""
    answer: dict[str, Any] = await stand.admin.ask("POST", f"/api/v1/{what}", {"reason": "a benchmark"})
    deadline = time.monotonic() + _SECONDS
    while answer.get("result") == "" and time.monotonic() < deadline:
        await asyncio.sleep(_LOOK)
        with suppress(AdminDownError):  # its supervisor is replaced as well
            answer = await stand.admin.ask("GET", "/api/v1/switch")
    if answer.get("result") not in ("done", "unchanged"):
        raise BenchmarkFailed(f"{what}: {answer}")


async def _connections(stand: Stand, worker: WorkerStatus) -> int:
    """How many clients a worker has at most: some come while it is asked."""
    found = await stand.admin.ask("GET", "/api/v1/status")
    return sum(int(each["clients"]) for each in found["workers"] if each["pid"] == worker.pid)


def _serving(status: Status) -> int:
    return sum(worker.alive and worker.epoch == status.epoch for worker in status.workers)


def _has_another(status: Status, worker: WorkerStatus) -> bool:
    another = next(each for each in status.workers if each.index == worker.index)
    return another.pid != worker.pid and another.alive and another.epoch == status.epoch


def _document(stand: Stand) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(stand.instance.config_path.read_text())
    return document


def _write(stand: Stand, document: dict[str, Any]) -> None:
    """As an editor does: a new file in the place of the old one."""
    path = stand.instance.config_path
    fresh = path.with_suffix(".new")
    fresh.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    fresh.replace(path)

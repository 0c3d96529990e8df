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
from benchmarks.live.backend import Backend
from benchmarks.live.stand import Stand
from benchmarks.processes import BenchmarkFailed
from proxy.demo.admin import AdminDownError, Status, WorkerStatus

Switch = Callable[[Stand[Backend], int], Awaitable[int]]
"""Does it for the n-th time; how many connections it may end."""

_SECONDS: Final = 60.0
_LOOK: Final = 0.1
_MORE: Final = 1
"""Workers that come and go."""


async def reload(stand: Stand[Backend], number: int) -> int:
    """Another value of a live setting in the file, and the command."""
    document = _document(stand)
    document["routes"][0]["trigger"] = document["routes"][0]["trigger"] | {"mismatch_samples": 1000 + number}
    _write(stand, document)
    await _reloaded(stand)
    return 0


async def upgrade(stand: Stand[Backend], number: int) -> int:
    """The same code again: whatever it is, all processes are replaced."""
    del number
    await _upgraded(stand)
    return 0


async def count(stand: Stand[Backend], number: int) -> int:
    """One worker more, or one less."""
    document = _document(stand)
    before = len((await stand.admin.status()).workers)
    document["workers"] = before + _MORE if number % 2 == 0 else before - _MORE
    _write(stand, document)
    await _reloaded(stand)
    await stand.admin.until(lambda status: _serving(status) == document["workers"], _SECONDS, "the new workers")
    return 0


async def kill(stand: Stand[Backend], number: int) -> int:
    """kill -9 of a worker, by turns; its connections end with it."""
    status = await stand.admin.until(lambda status: _serving(status) == len(status.workers), _SECONDS, "all workers")
    worker = status.workers[number % len(status.workers)]
    excused = await _connections(stand, worker)
    os.kill(worker.pid, signal.SIGKILL)
    await stand.admin.until(lambda status: _has_another(status, worker), _SECONDS, "another worker")
    return excused


async def drain(stand: Stand[Backend], number: int) -> int:
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


async def timed(switch: Switch, stand: Stand[Backend], number: int) -> tuple[Span, int]:
    """When it was, and how many connections it may end."""
    began = time.perf_counter()
    excused = await switch(stand, number)
    return Span(began, time.perf_counter()), excused


async def _reloaded(stand: Stand[Backend]) -> None:
    """Have the file applied, and wait until every worker goes by it; raises BenchmarkFailed when that does not come."""
    before = _last_switch(await stand.admin.ask("GET", "/api/v1/config"))
    asked = await stand.admin.ask("POST", "/api/v1/reload", {"reason": "a benchmark"})
    if not asked["begun"]:
        raise BenchmarkFailed(f"reload: {asked}")

    def is_over(served: dict[str, Any]) -> bool:
        return _last_switch(served) > before and served["switch"]["phase"] == "ended"

    served = await _when(stand, "config", is_over)
    if served["digest"] != asked["digest"] or served["workers"] < served["of"]:
        raise BenchmarkFailed(f"reload: {served}")


def _last_switch(served: dict[str, Any]) -> int:
    return int((served["switch"] or {}).get("number", 0))


async def _upgraded(stand: Stand[Backend]) -> None:
    """Have the code taken over, and wait for the end of that; raises BenchmarkFailed when it was put back."""
    await stand.admin.ask("POST", "/api/v1/upgrade", {"reason": "a benchmark"})
    answer = await _when(stand, "switch", lambda switch: switch.get("result") != "")
    if answer.get("result") != "done":
        raise BenchmarkFailed(f"upgrade: {answer}")


async def _when(stand: Stand[Backend], what: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What the admin API says of it once it is so. Its supervisor is replaced meanwhile, and does not answer."""
    found: dict[str, Any] = {}
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        with suppress(AdminDownError):
            found = await stand.admin.ask("GET", f"/api/v1/{what}")
            if is_so(found):
                return found
        await asyncio.sleep(_LOOK)
    raise BenchmarkFailed(f"{what}, after {_SECONDS:g} s: {found}")


async def _connections(stand: Stand[Backend], worker: WorkerStatus) -> int:
    """How many clients a worker has at most: some come while it is asked."""
    found = await stand.admin.ask("GET", "/api/v1/status")
    return sum(int(each["clients"]) for each in found["workers"] if each["pid"] == worker.pid)


def _serving(status: Status) -> int:
    return sum(worker.alive and worker.epoch == status.epoch for worker in status.workers)


def _has_another(status: Status, worker: WorkerStatus) -> bool:
    another = next(each for each in status.workers if each.index == worker.index)
    return another.pid != worker.pid and another.alive and another.epoch == status.epoch


def _document(stand: Stand[Backend]) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(stand.instance.config_path.read_text())
    return document


def _write(stand: Stand[Backend], document: dict[str, Any]) -> None:
    """As an editor does: a new file in the place of the old one."""
    path = stand.instance.config_path
    fresh = path.with_suffix(".new")
    fresh.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    fresh.replace(path)

"""Too much at once: memory stays within its bound, clients hear 503 or are served, nothing accepted is lost, and
everything is served again when it is over.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Any, Final, cast

import pytest

from proxy.demo.load import until_accepted, wait_until
from tests.harness.descriptors import no_descriptors
from tests.harness.scene import NEVER_REVERT, Scene, scene
from tests.http.wire import Wire

pytestmark = pytest.mark.asyncio

MIB: Final = 2**20
SLACK: Final = 32 * MIB
"""Beside what is counted: what the allocator does not give back, and the pieces that one read brings."""
NO_ROUTE: Final = b"GET /healthy HTTP/1.1\r\nHost: a\r\n\r\n"
"""Served by the proxy alone: 404."""
HEAD: Final = b"POST /api/v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"


def memory(pid: int, name: str) -> int:
    """VmRSS or VmHWM of a process, bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


class Holder(asyncio.Protocol):
    """A client that sends a part of a body and no more. Tells `answers` the status that it gets, 0 for a bare end."""

    def __init__(self, size: int, answers: Counter[int]) -> None:
        self._size = size
        self._answers = answers
        self._heard = b""
        self.transport = cast(asyncio.Transport, None)
        self.is_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(HEAD + bytes(self._size))

    def data_received(self, data: bytes) -> None:
        self._heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._answers[int(self._heard[9:12] or b"0")] += 1


async def hold(opened: Scene, count: int, size: int, answers: Counter[int]) -> list[Holder]:
    """So many clients with a part of a body, a hundred at a time."""
    loop, address, holders = asyncio.get_running_loop(), opened.instance.address, list[Holder]()
    for _ in range(count // 100):
        made = await asyncio.gather(
            *(loop.create_connection(lambda: Holder(size, answers), address.host, address.port) for _ in range(100))
        )
        holders += [holder for _, holder in made]
    return holders


async def asked(opened: Scene) -> int:
    """The status that a new client gets, which must be an answer in order."""
    wire = await Wire.open(opened.instance.address.port)
    answer = await wire.ask(NO_ROUTE, "GET")
    wire.close()
    if answer.status == 503:
        assert answer.headers["retry-after"] == "1"
    return answer.status


async def until_asked(opened: Scene, status: int, times: int) -> None:
    """Ask until the status was got so many times in a row."""
    row = 0
    async with asyncio.timeout(30):
        while row < times:
            row = row + 1 if await asked(opened) == status else 0


async def worker_shown(opened: Scene) -> dict[str, Any]:
    """The first worker in the status."""
    worker: dict[str, Any] = (await opened.admin.ask("GET", "/api/v1/status"))["workers"][0]
    return worker


async def test_thousands_of_unfinished_bodies(soak: bool) -> None:
    budget, count, size = 64 * MIB, 9_800 if soak else 2_400, 40_000

    def small(config: dict[str, Any]) -> None:
        config["workers"] = 1
        config["limits"] = {"memory": "64MiB", "body_timeout": "600s"}

    async with scene(small) as opened:
        (pid,) = opened.instance.pids("worker")
        load = opened.load(rate=100.0, patience=0.0)
        await until_accepted(load, 50)
        before = memory(pid, "VmRSS")
        answers = Counter[int]()
        holders = await hold(opened, count, size, answers)
        await wait_until(lambda: answers[503] > count // 4, 30, "clients that are refused")
        async with asyncio.timeout(10):  # workers tell of themselves four times a second
            while (await worker_shown(opened))["held_bytes"] <= budget * 9 // 10:
                await asyncio.sleep(0.05)
        more = asyncio.create_task(hold(opened, 1000, size, answers))
        await opened.admin.until(lambda status: not status.ready, 10, "not ready while more of them come")
        holders += await more
        assert {await asked(opened) for _ in range(20)} <= {404, 503}
        assert answers.keys() == {503}
        assert memory(pid, "VmHWM") - before < budget + SLACK
        for holder in holders:
            holder.transport.abort()
        await opened.admin.until(lambda status: status.ready, 10, "readiness")
        await until_asked(opened, 404, 20)
        accepted = load.record.accepted
        await until_accepted(load, accepted + 100)
        record = await load.stop()
        assert record.statuses.keys() <= {201, 503}
        assert record.retry_after == record.statuses[503]
        assert (await worker_shown(opened))["sheds"] is None
        await opened.verify(record)
        print(f"unfinished bodies: {(memory(pid, 'VmHWM') - before) / MIB:.0f} MiB more, {dict(answers)}")


async def test_a_stalled_backend_and_large_events(soak: bool) -> None:
    budget, connections = 16 * MIB, 150 if soak else 40

    def small(config: dict[str, Any]) -> None:
        config["workers"] = 1  # of two, one may have all of its clients waiting, refuse nobody, and so keep us ready
        config["limits"] = {"memory": "16MiB"}
        for backend in config["backends"].values():
            backend["response_timeout"] = "30s"
            del backend["health"]

    async with scene(small, stage="dualwrite", trigger=NEVER_REVERT) as opened:
        (pid,) = opened.instance.pids("worker")
        load = opened.load(
            rate=50.0, patience=0.0, pad=300_000, keys=2 * connections, connections=connections, timeout=90.0
        )  # its event may wait for one side and then for the other, 30 s each
        await until_accepted(load, 50)
        before = memory(pid, "VmRSS")
        for backend in (opened.old, opened.new):
            await backend.fault("stall")
        await wait_until(lambda: load.record.statuses[503] >= 50, 30, "50 refusals")
        await opened.admin.until(lambda status: not status.ready, 10, "not ready")
        for backend in (opened.old, opened.new):
            await backend.fault("none")
        await opened.admin.until(lambda status: status.ready, 20, "readiness")
        accepted = load.record.accepted
        await until_accepted(load, accepted + 50)
        record = await load.stop()
        assert record.statuses.keys() <= {201, 202, 503}, record.statuses
        assert record.retry_after == record.statuses[503]
        assert not record.failures, record.errors_text()
        more = memory(pid, "VmHWM") - before
        assert more < budget + SLACK
        await opened.verify(record)
        print(f"stalled: {more / MIB:.0f} MiB more, {dict(record.statuses)}")


def cpu_seconds(pid: int) -> float:
    """What a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_without_descriptors(soak: bool) -> None:
    def one(config: dict[str, Any]) -> None:
        config["workers"] = 1

    async with scene(one) as opened:
        (pid,) = opened.instance.pids("worker")
        load = opened.load(rate=100.0)
        await until_accepted(load, 50)
        with no_descriptors(pid):
            before = cpu_seconds(pid)
            statuses = Counter([await asked(opened) for _ in range(500 if soak else 40)])
            assert statuses.keys() <= {404, 503}
            assert statuses[503] > sum(statuses.values()) // 2  # a client that left makes room for the next
            await opened.admin.until(lambda status: not status.ready, 10, "not ready")
            waiting = [await Wire.open(opened.instance.address.port) for _ in range(40)]
            await asyncio.sleep(1.0)  # with clients that wait, and do not leave: how much does it try?
            assert cpu_seconds(pid) - before < 1.5
            accepted = load.record.accepted
            await until_accepted(load, accepted + 50)  # by the connections that are open
            for wire in waiting:
                wire.close()
        await until_asked(opened, 404, 20)
        await opened.admin.until(lambda status: status.ready, 10, "readiness")
        record = await load.stop()
        assert record.client_errors == 0, record.errors_text()
        assert (await opened.admin.ask("GET", "/api/v1/status"))["counters"]["refused_descriptors"] > 0
        await opened.verify(record)

"""Clients and backends of the cases with sessions, against each other and with the dual writer in between."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest

from benchmarks.peers import FILES, Proxy
from benchmarks.processes import BenchmarkFailed, free_ports, is_listening
from benchmarks.websocket import clients, cost, stand
from benchmarks.websocket.backend import Connection, Counts
from benchmarks.websocket.messages import KEYS, SIZE, Messages, id_of, new_run


def test_a_message_is_what_a_request_is_too() -> None:
    messages = Messages(new_run(), 7)
    made = [messages.make() for _ in range(KEYS)]
    fields = [json.loads(text) for _, text in made]
    assert {len(text) for _, text in made} == {SIZE}
    assert [one["context"]["id"] for one in fields] == [identity for identity, _ in made]
    assert [id_of(text) for _, text in made[:3]] == [identity for identity, _ in made[:3]]
    assert len({one["entity_id"] for one in fields}) == len({identity for identity, _ in made}) == KEYS


def test_no_two_clients_share_an_id() -> None:
    run = new_run()
    ids = {Messages(run, client).make()[0] for client in range(100)}
    assert len(ids | {Messages(new_run(), client).make()[0] for client in range(100)}) == 200


class Backends(list[Counts]):
    """Backends in this process. transports: of all of their connections."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[int] = []
        self.transports: list[list[asyncio.Transport]] = []


@asynccontextmanager
async def backends(count: int, *, ids: io.StringIO | None = None) -> AsyncIterator[Backends]:
    made = Backends()
    servers = []
    for _ in range(count):
        counts = Counts(ids)
        transports: list[asyncio.Transport] = []

        class Watched(Connection):
            def connection_made(
                self, transport: asyncio.BaseTransport, transports: list[asyncio.Transport] = transports
            ) -> None:
                transports.append(cast(asyncio.Transport, transport))
                super().connection_made(transport)

        server = await asyncio.get_running_loop().create_server(
            lambda counts=counts, connection=Watched: connection(counts),  # type: ignore[misc]
            "127.0.0.1",
            0,
        )
        servers.append(server)
        made.append(counts)
        made.ports.append(server.sockets[0].getsockname()[1])
        made.transports.append(transports)
    try:
        yield made
    finally:
        for server in servers:
            server.close()
        for transports in made.transports:
            for transport in transports:
                transport.abort()


@pytest.mark.asyncio
async def test_a_client_keeps_its_window_full() -> None:
    async with backends(1) as made:
        done, took = await clients.keep_window(made.ports[0], count=2, window=8, seconds=0.2)
        assert made[0].sessions == 2
        close(done)
    assert took >= 0.2
    assert made[0].messages == sum(client.sent for client in done) == sum(len(client.ids) for client in done)
    assert all(client.sent > 8 and len(client.latencies) == client.sent for client in done)


@pytest.mark.asyncio
async def test_no_more_than_the_window_is_on_its_way() -> None:
    async with backends(1) as made:
        load = asyncio.ensure_future(clients.keep_window(made.ports[0], count=1, window=3, seconds=0.6))
        while not made[0].messages:
            await asyncio.sleep(0)
        made.transports[0][0].pause_reading()
        await asyncio.sleep(0.5)
        seen = made[0].messages
        made.transports[0][0].resume_reading()
        (client,), _ = await load
        client.close()
    assert client.sent >= seen
    assert max(client.latencies) > 0.4
    assert sum(latency > 0.4 for latency in client.latencies) <= 3


@pytest.mark.asyncio
async def test_a_constant_rate_counts_lateness_from_when_a_message_was_due() -> None:
    ids = io.StringIO()
    async with backends(1, ids=ids) as made:
        load = asyncio.ensure_future(clients.keep_rate(made.ports[0], count=3, rate=500, seconds=0.4))
        while not made[0].messages:
            await asyncio.sleep(0)
        for transport in made.transports[0]:
            transport.pause_reading()
        await asyncio.sleep(0.2)
        for transport in made.transports[0]:
            transport.resume_reading()
        done, _ = await load
        close(done)
    acknowledged = [identity for client in done for identity in client.ids]
    assert sorted(ids.getvalue().split()) == sorted(acknowledged)
    assert len(set(acknowledged)) == 200
    assert max(latency for client in done for latency in client.latencies) > 0.15


def test_quantiles() -> None:
    assert clients.quantile([], 0.5) == 0.0
    assert clients.quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert clients.quantile([1.0, 2.0], 0.99) == 2.0


@pytest.fixture(scope="module")
def dual() -> ModuleType:
    """The peer, which is run as a script."""
    spec = importlib.util.spec_from_file_location("dual_websockets", FILES / "dual_websockets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def dual_writer(dual: ModuleType, ports: list[int]) -> AsyncIterator[int]:
    (port,) = free_ports(1)
    task = asyncio.ensure_future(dual.run(port, ports))
    try:
        while not await asyncio.to_thread(is_listening, port):
            pass
        yield port
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.asyncio
async def test_a_batch_has_one_ping_behind_it() -> None:
    async with backends(1) as made:
        done, _ = await clients.keep_batches(made.ports[0], count=2, size=8, seconds=0.1)
        sent = [client.sent for client in done]
        assert [len(client.ids) for client in done] == sent
        assert all(number and number % 8 == 0 for number in sent)
        assert made[0].messages == sum(sent)
        close(done)


@pytest.mark.asyncio
async def test_the_peer_gives_every_message_to_both(dual: ModuleType) -> None:
    async with backends(2) as made, dual_writer(dual, made.ports) as port:
        done, _ = await clients.keep_window(port, count=2, window=4, seconds=0.2)
        assert [one.messages for one in made] == [sum(client.sent for client in done)] * 2
        close(done)


@pytest.mark.asyncio
@pytest.mark.parametrize("silent", [0, 1])
async def test_the_peer_answers_a_ping_when_both_have(dual: ModuleType, silent: int) -> None:
    async with backends(2) as made, dual_writer(dual, made.ports) as port:
        (client,) = await clients.open_all(port, 1, lambda client, messages: None)
        while not all(one.sessions for one in made):
            await asyncio.sleep(0)
        made.transports[silent][0].pause_reading()
        client.send([0.0])
        while not made[1 - silent].messages:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        outstanding = client.outstanding
        made.transports[silent][0].resume_reading()
        await clients.all_acknowledged([client])
        close([client])
    assert outstanding == 1
    assert [one.messages for one in made] == [1, 1]


def close(done: list[clients.Client]) -> None:
    for client in done:
        client.close()


@pytest.fixture
def around(tmp_path: Path) -> Iterator[list[stand.SessionBackend]]:
    """Three backends, as processes."""
    made = [stand.SessionBackend(name, 0, tmp_path / name) for name in ("old", "new", "another")]
    yield made
    for one in made:
        one.started.stop()


def test_processes_of_clients_and_backends(around: list[stand.SessionBackend], tmp_path: Path) -> None:
    old = around[0]
    with stand.clients(old.port, "--connections", 3, core=0, log=tmp_path / "idle") as waiting:
        assert waiting.wait(20.0) == stand.Done(3, 0, 0.0, 0.0, 0.0, 0.0)
        assert old.sessions() == 3
    ids = tmp_path / "ids"
    arguments = ("--rate", 100, "--seconds", 0.2, "--ids", ids)
    with stand.clients(old.port, *arguments, core=0, log=tmp_path / "rate") as loading:
        assert loading.wait(20.0).messages == old.messages() == len(ids.read_text().split()) == 20


def test_clients_without_a_proxy_fail_the_run(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with (
        pytest.raises(BenchmarkFailed, match=r"(?s)clients ended with 1.*Connect call failed"),
        stand.clients(port, "--connections", 1, core=0, log=tmp_path / "log") as waiting,
    ):
        waiting.wait(20.0)


def proxy(backend: stand.SessionBackend, *, copies: bool) -> Proxy:
    """A backend in the place of a proxy."""
    return Proxy("p", backend.started, backend.port, share_new=0.0, copies=copies)


def measure(one: Proxy, around: list[stand.SessionBackend], directory: Path) -> object:
    old, new, _ = around
    return cost.measure(one, old, new, window=cost.Window(2), seconds=0.2, core=0, directory=directory).copied


def test_a_proxy_that_gives_messages_to_nobody_fails_the_run(
    around: list[stand.SessionBackend], tmp_path: Path
) -> None:
    with pytest.raises(BenchmarkFailed, match=r"0 of \d+ messages reached old"):
        measure(proxy(around[2], copies=False), around, tmp_path)


def test_a_proxy_that_does_not_copy_fails_the_run(around: list[stand.SessionBackend], tmp_path: Path) -> None:
    assert measure(proxy(around[0], copies=False), around, tmp_path) == 0.0
    with pytest.raises(BenchmarkFailed, match="reached both backends"):
        measure(proxy(around[0], copies=True), around, tmp_path)

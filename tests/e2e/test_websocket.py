"""Sessions through the real daemon: backends that restart, a weight that flips, workers that are killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection

from proxy.demo.backends import STREAM_PATH
from proxy.demo.children import free_port
from proxy.demo.load import wait_until
from proxy.demo.toy import ToyBackend
from tests.harness.certificates import Authority
from tests.harness.scene import NEVER_REVERT, Scene, scene
from tests.harness.sockets import clients_of
from tests.harness.talkers import Talkers, problems
from tests.http.wire import until
from tests.websocket.backends import AiohttpBackend, WebsocketsBackend, WsBackend

pytestmark = pytest.mark.asyncio

ROUTE: dict[str, Any] = {
    "match": {"path": STREAM_PATH},
    "event_id": ["json:/id"],
    "identities": [],
    "websocket": {"redeliver_window": "2s"},
    "trigger": NEVER_REVERT,
}


async def settled_stores(opened: Scene, talkers: Talkers) -> list[str]:
    """What is wrong once everything is delivered."""
    await opened.settled()
    found = []
    for backend in (opened.old, opened.new):
        found += problems(talkers.talks, backend.name, backend.stored())
    return found


async def test_dual_write_with_both_backends_up() -> None:
    async with scene(stage="dualwrite", **ROUTE) as opened:
        talkers = Talkers(opened.instance.address, sessions=4, rate=200)
        talkers.start()
        await asyncio.sleep(2)
        await talkers.stop()
        assert await settled_stores(opened, talkers) == []
        assert [talk.close_code for talk in talkers.talks] == [None] * 4
        assert all(talk.safe == len(talk.sent) == talk.answers > 50 for talk in talkers.talks)
        for backend in (opened.old, opened.new):
            rows = backend.stored()
            assert len(rows) == len({row.id for row in rows}) == sum(len(talk.sent) for talk in talkers.talks)


async def restarts(backends: tuple[ToyBackend, ...], over: asyncio.Event) -> None:
    """Kill a backend, now with, now without a goodbye, and start it again; the other one next."""
    n = 0
    while not over.is_set():
        backend = backends[n % 2]
        os.kill(backend.child.pid, signal.SIGKILL if n % 4 < 2 else signal.SIGTERM)
        await backend.stop()
        await asyncio.sleep(0.2)
        await backend.restart()
        n += 1
        await asyncio.sleep(0.3)


@pytest.mark.timeout(2400)
async def test_backends_that_restart_while_the_weight_flips(soak: bool) -> None:
    seconds, rate = 600 if soak else 15, 2000.0
    # A backend lives for a second and a half here. With a longer window nothing would ever be settled before the end.
    window = {"websocket": {"redeliver_window": "500ms"}}
    async with scene(stage="live", weight=50, **(ROUTE | window)) as opened:
        talkers = Talkers(opened.instance.address, sessions=10, rate=rate)
        talkers.start()
        over = asyncio.Event()
        restarting = asyncio.create_task(restarts((opened.old, opened.new), over))
        for n in range(seconds):
            await asyncio.sleep(1)
            await opened.admin.weight((10.0, 90.0)[n % 2])
        over.set()
        await restarting
        await talkers.stop()
        assert await settled_stores(opened, talkers) == []
        assert [talk.close_code for talk in talkers.talks] == [None] * 10
        assert sum(talk.safe for talk in talkers.talks) > seconds * rate / 2, "little was tried"


@pytest.mark.timeout(1200)
async def test_what_was_replied_to_is_in_both_stores(soak: bool) -> None:
    rule = {"message_id": "/id", "reply_id": "/stored"}
    seconds = 60 if soak else 5
    async with scene(stage="live", weight=50, **(ROUTE | {"websocket": {"receipt": "reply", "reply": rule}})) as opened:
        talkers = Talkers(opened.instance.address, sessions=10, rate=400, replies=True)
        talkers.start()
        over = asyncio.Event()
        restarting = asyncio.create_task(restarts((opened.old, opened.new), over))
        await asyncio.sleep(seconds)
        over.set()
        await restarting
        await talkers.stop()
        assert await settled_stores(opened, talkers) == []
        assert [talk.close_code for talk in talkers.talks] == [None] * 10
        assert sum(len(talk.replied) for talk in talkers.talks) > seconds * 400 / 10, "hardly anything was tried"


@pytest.mark.timeout(600)
async def test_killed_workers_take_their_own_clients_alone(soak: bool) -> None:
    async with scene(stage="dualwrite", **ROUTE) as opened:
        kept = 0
        for n in range(20 if soak else 2):
            talkers = Talkers(opened.instance.address, sessions=12, rate=400, name=f"r{n}s")
            talkers.start()
            await asyncio.sleep(1.5)
            os.kill(opened.instance.pids("worker")[0], signal.SIGKILL)
            await asyncio.sleep(1)
            await talkers.stop()
            kept += sum(talk.close_code is None for talk in talkers.talks)
            assert await settled_stores(opened, talkers) == []
            await opened.admin.until(lambda status: len(status.workers) == 2, 10, "two workers")
        assert kept > 0


async def flips(opened: Scene, over: asyncio.Event) -> None:
    """Turn the weight every second."""
    n = 0
    while not over.is_set():
        await opened.admin.weight((10.0, 90.0)[n % 2])
        n += 1
        await asyncio.sleep(1)


REPLYING = {"receipt": "reply", "reply": {"message_id": "/id", "reply_id": "/stored"}}


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("websocket", [{"redeliver_window": "500ms"}, REPLYING], ids=["pongs", "replies"])
async def test_workers_are_killed_while_backends_restart_and_the_weight_flips(
    soak: bool, websocket: dict[str, Any]
) -> None:
    rounds, rate, replies = 60 if soak else 3, 600.0, "reply" in websocket
    async with scene(stage="live", weight=50, **(ROUTE | {"websocket": websocket})) as opened:
        address, over = opened.instance.address, asyncio.Event()
        disturbing = [
            asyncio.create_task(restarts((opened.old, opened.new), over)),
            asyncio.create_task(flips(opened, over)),
        ]
        everybody = []
        for n in range(rounds):
            talkers = Talkers(address, sessions=12, rate=rate, replies=replies, name=f"r{n}s")
            talkers.start()
            await asyncio.sleep(2)
            victim = opened.instance.pids("worker")[n % 2]
            theirs = clients_of(victim, address.port)
            os.kill(victim, signal.SIGKILL)
            await asyncio.sleep(1)
            await talkers.stop()
            taken = {talk.key for talk in talkers.talks if talk.port in theirs}
            assert {talk.key for talk in talkers.talks if talk.close_code is not None} == taken
            everybody += talkers.talks
            await opened.admin.until(lambda status: all(worker.alive for worker in status.workers), 10, "two workers")
        over.set()
        await asyncio.gather(*disturbing)
        await opened.settled()
        for backend in (opened.old, opened.new):
            assert problems(everybody, backend.name, backend.stored()) == []
        assert {talk.close_code is None for talk in everybody} == {False, True}, "nobody was killed, or all were"
        assert sum(len(talk.promised) for talk in everybody) > rounds * rate, "hardly anything was tried"


async def test_a_killed_ledger_is_not_noticed(soak: bool) -> None:
    async with scene(stage="dualwrite", **ROUTE) as opened:
        talkers = Talkers(opened.instance.address, sessions=6, rate=200)
        talkers.start()
        for _ in range(10 if soak else 2):
            await asyncio.sleep(1)
            await wait_until(lambda: bool(opened.instance.pids("ledger")), 20, "a ledger in the place of the last one")
            os.kill(opened.instance.pids("ledger")[0], signal.SIGKILL)
        await asyncio.sleep(1)
        await talkers.stop()
        assert await settled_stores(opened, talkers) == []
        assert [talk.close_code for talk in talkers.talks] == [None] * 6


class Forgetful(WebsocketsBackend):
    """Answers every Ping, as its library does by itself; what it has received it loses with its connection."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.forgets = True

    async def _serve(self, connection: ServerConnection) -> None:
        if not self.forgets:
            await super()._serve(connection)
        else:
            await connection.wait_closed()


@pytest.mark.parametrize("killed", ["workers", "workers and ledger", "everything"])
async def test_what_a_backend_has_ponged_and_lost_is_sent_again_whoever_dies(killed: str) -> None:
    old, new = WebsocketsBackend("old"), Forgetful("new")

    def configure(config: dict[str, Any]) -> None:
        for backend in (old, new):
            config["backends"][backend.name] = {"url": f"http://127.0.0.1:{backend.port}"}

    await old.start()
    await new.start()
    route = ROUTE | {"websocket": {"redeliver_window": "30s"}}
    try:
        async with scene(configure, stage="dualwrite", **route) as opened:
            address = opened.instance.address
            sent = [json.dumps({"id": f"m{n}", "entity_id": "a", "n": n}) for n in range(5)]
            async with connect(f"ws://{address.host}:{address.port}{STREAM_PATH}") as client:
                for message in sent:
                    await client.send(message)
                await (await client.ping())
                assert new.got == []
                await asyncio.sleep(0.3)  # past the commit: it is on disk as delivered
                new.forgets = False
                await die(opened, killed)
                await wait_until(lambda: new.got == sent, 20, "all of it, in order")
        assert old.got[:5] == sent
    finally:
        await old.stop()
        await new.stop()


async def die(opened: Scene, killed: str) -> None:
    """End these by force at once; the instance starts again by itself, or is started."""
    launcher = opened.instance.launcher
    assert launcher is not None
    roles = {"workers": {"worker"}, "workers and ledger": {"worker", "ledger"}}.get(killed, set())
    everything = killed == "everything"
    for pid, role in opened.instance.processes().items():
        if role in roles or everything:
            os.kill(pid, signal.SIGKILL)
    if everything:
        os.kill(launcher.pid, signal.SIGKILL)
        await launcher.ended(10)
        await opened.instance.start()


async def test_tls_on_both_sides(tmp_path: Path) -> None:
    ca, port = Authority(tmp_path), free_port()
    pair = ca.issue("localhost")
    backends: list[WsBackend] = [WebsocketsBackend("old"), AiohttpBackend("new")]

    def configure(config: dict[str, Any]) -> None:
        config["listen"].append({"address": f"127.0.0.1:{port}", "tls": {"cert": pair.cert, "key": pair.key}})
        for name, backend in zip(("old", "new"), backends, strict=True):
            tls = {"ca": ca.file, "server_name": "localhost"}
            config["backends"][name] = {"url": f"https://127.0.0.1:{backend.port}", "tls": tls}

    for backend in backends:
        backend.replies = True
        await backend.start(ca.server(pair))
    try:
        async with (
            scene(configure, stage="dualwrite", **ROUTE) as opened,
            connect(f"wss://localhost:{port}{STREAM_PATH}", ssl=ca.client(), host="127.0.0.1") as client,
        ):
            for n in range(200):
                await client.send(f'{{"id": "m{n}"}}')
            assert [await client.recv() for _ in range(200)] == [f'old:{{"id": "m{n}"}}' for n in range(200)]
            await (await client.ping())
            await until(lambda: len(backends[1].got) == 200, "new has all")
            assert backends[0].got == backends[1].got
            backends[1].cut()
            await client.send('{"id": "last"}')
            await until(lambda: backends[1].got[-1] == '{"id": "last"}', "by the ledger")
            await client.close()
            assert client.close_code == 1000
            uri = f"wss://127.0.0.1:{port}{STREAM_PATH}"
            async with ClientSession() as session:
                async with session.ws_connect(uri, ssl=ca.client(), server_hostname="localhost") as other:
                    await other.send_str('{"id": "another library"}')
                    assert await other.receive_str(timeout=10) == 'old:{"id": "another library"}'
                assert other.close_code == 1000
            await opened.settled(least=202)
    finally:
        for backend in backends:
            await backend.stop()


def toward(backends: list[WsBackend]) -> Callable[[dict[str, Any]], None]:
    """The configuration with these backends, old and new."""

    def configure(config: dict[str, Any]) -> None:
        for backend in backends:
            config["backends"][backend.name] = {"url": f"http://127.0.0.1:{backend.port}"}

    return configure


async def test_a_session_that_new_refuses_holds_up_no_other() -> None:
    backends: list[WsBackend] = [WebsocketsBackend("old"), WebsocketsBackend("new")]

    for backend in backends:
        await backend.start()
    new = backends[1]
    new.refused_paths = ("denied",)
    try:
        async with scene(toward(backends), stage="dualwrite", **ROUTE) as opened:
            address = opened.instance.address
            uri = f"ws://{address.host}:{address.port}{STREAM_PATH}"
            async with connect(f"{uri}?denied") as denied, connect(uri) as welcome:
                for n in range(100):
                    await denied.send(f'{{"id": "d{n}", "entity_id": "d{n}"}}')
                await until(lambda: len(new.connections) == 1, "one of them is let in")
                await (await denied.ping())  # on disk: the client is told so all the same
                new.cut()
                for n in range(20):
                    await welcome.send(f'{{"id": "w{n}", "entity_id": "w{n}"}}')
                await until(lambda: len(new.got) >= 20, "the other one is served")
            new.refused_paths = ()
            await opened.settled(least=120)
            assert len(set(new.got)) == len(set(backends[0].got)) == 120
    finally:
        for backend in backends:
            await backend.stop()


async def test_a_copy_that_takes_nothing_for_a_while_has_everything_in_order() -> None:
    backends: list[WsBackend] = [WebsocketsBackend("old"), WebsocketsBackend("new")]

    for backend in backends:
        await backend.start()
    new = backends[1]
    try:
        async with scene(toward(backends), stage="dualwrite", **ROUTE) as opened:
            address = opened.instance.address
            async with connect(f"ws://{address.host}:{address.port}{STREAM_PATH}", compression=None) as client:
                await until(lambda: bool(new.connections), "connected")
                new.mute()
                sent = [f'{{"id": "m{n}", "entity_id": "k", "pad": "{"x" * 30_000}"}}' for n in range(300)]
                for message in sent:
                    await client.send(message)
                    await asyncio.sleep(0.002)
                await until(lambda: len(backends[0].got) == 300, "old has all")
                new.unmute()
                await until(lambda: len(set(new.got)) == 300, "so has new")
            assert list(dict.fromkeys(new.got)) == sent
    finally:
        for backend in backends:
            await backend.stop()

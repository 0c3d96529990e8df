"""A fanout route between a real data plane and a real ledger, and consumers that speak as Home Assistant's clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from config.model import Settings
from proxy.core.routing import Dials
from proxy.demo.instance import basic_config
from tests.harness.scene import NEVER_REVERT
from tests.http.wire import until
from tests.ledger.support import short_directory
from tests.worker.crossing import LEDGER, ROUTE, SALT, Crossing

TOKENS: Final = {"old": "token-of-old", "new": "token-of-new"}
DUAL: Final = Dials(0.0, "durable")
CHANGED: Final = ("state_changed",)


def changed(n: int, entity: str = "sensor.a", **more: Any) -> bytes:
    """A changed state as a source brings it."""
    state = {"entity_id": entity, "state": str(n), "attributes": {}, "last_updated": f"2026-01-01T00:00:00.{n:06d}"}
    data = {"entity_id": entity, "old_state": None, "new_state": state}
    return orjson.dumps(
        {
            "entity_id": entity,
            "event_type": "state_changed",
            "data": data,
            "origin": "LOCAL",
            "time_fired": state["last_updated"],
            "context": {"id": f"c{n}", "parent_id": None, "user_id": None},
        }
        | more
    )


class Consumer:
    """An ingestion service: connects, subscribes, keeps what it gets; by the `websockets` library, which also ponges.

    delay: seconds that it takes to process each event, with a queue as short as can be
    dies_of: the state that it dies of when it comes to process it; max_size: bytes of a message
    """

    def __init__(
        self, port: int, token: str, *, path: str = "/events", delay: float = 0.0, dies_of: str = "",
        max_size: int | None = 2**20,
    ) -> None:  # fmt: skip
        self.uri = f"ws://127.0.0.1:{port}{path}"
        self.token = token
        self.delay = delay
        self.dies_of = dies_of
        self.max_size = max_size
        self.events: list[dict[str, Any]] = []
        self.close_code = 0
        self._number = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._socket: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def socket(self) -> ClientConnection:
        assert self._socket is not None
        return self._socket

    async def connect(self, types: Sequence[str] | None = CHANGED) -> Consumer:
        """Connect, be let in, and subscribe to these types; None: to nothing."""
        queue = 1 if self.delay else 16
        self._number = 0
        self._answers.clear()
        self._socket = await connect(
            self.uri, ping_interval=None, close_timeout=1, max_queue=queue, max_size=self.max_size
        )
        assert orjson.loads(await self.socket.recv())["type"] == "auth_required"
        await self.say(type="auth", access_token=self.token)
        answer = orjson.loads(await self.socket.recv())
        if answer["type"] != "auth_ok":
            raise PermissionError(answer)
        self._reading = asyncio.create_task(self._read())
        for event_type in types or ():
            await self.ask("subscribe_events", **({"event_type": event_type} if event_type != "*" else {}))
        return self

    async def say(self, **message: Any) -> None:
        await self.socket.send(orjson.dumps(message).decode())

    async def ask(self, command: str, **more: Any) -> dict[str, Any]:
        """A command, and its answer."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self.say(id=self._number, type=command, **more)
        return await asyncio.wait_for(answer, 10)

    async def _read(self) -> None:
        socket = self.socket
        with suppress(ConnectionClosed):
            async for message in socket:
                said = orjson.loads(message)
                if said["type"] == "event":
                    await asyncio.sleep(self.delay)
                    if self.dies_of and said["event"]["data"]["new_state"]["state"] == self.dies_of:
                        socket.transport.abort()
                        break
                    self.events.append(said["event"])
                elif (answer := self._answers.pop(said["id"], None)) is not None:
                    answer.set_result(said)
        self.close_code = socket.close_code or 0

    async def kill(self) -> None:
        """It dies with all that it had not processed."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._socket is not None:
            self._socket.transport.abort()
            await self._socket.wait_closed()

    async def ended(self, seconds: float | None = 10.0) -> int:
        """Wait until it was disconnected; the close code."""
        assert self._reading is not None
        await asyncio.wait_for(asyncio.shield(self._reading), seconds)
        return self.close_code

    # what it has got

    def values_of(self, entity: str) -> list[str]:
        """The states of one entity, as they came."""
        of_it = [each["data"]["new_state"] for each in self.events if each["data"]["entity_id"] == entity]
        return [state["state"] for state in of_it]

    def values(self, entity: str = "sensor.a") -> list[int]:
        """The same, of one whose states are numbers."""
        return [*map(int, self.values_of(entity))]

    def distinct(self, entity: str = "sensor.a") -> list[int]:
        """Of one entity, each in the place where it came first."""
        return list(dict.fromkeys(self.values(entity)))

    async def has(self, n: int, entity: str = "sensor.a") -> None:
        """Wait until it has so many different ones."""
        await until(lambda: len(set(self.values(entity))) >= n, f"{n} events of {entity}")


class Service:
    """A consumer that connects again whenever it is disconnected."""

    def __init__(self, port: int, side: str, *, pause: float = 0.1, **settings: Any) -> None:
        self.consumer = Consumer(port, TOKENS[side], **({"path": "/api/websocket"} | settings))
        self.connects = 0
        self._pause = pause
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            with suppress(OSError, WebSocketException, TimeoutError):
                await self.consumer.connect()
                self.connects += 1
                await self.consumer.ended(None)
            await asyncio.sleep(self._pause)

    async def kill(self) -> None:
        """It dies, and is started again."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.consumer.kill()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        await self.kill()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.consumer.kill()


class FanRig(Crossing):
    """With consumers."""

    consumers_made: list[Consumer]

    def consumer(self, side: str, *, token: str = "", **settings: Any) -> Consumer:
        found = Consumer(self.port, token or TOKENS[side], **settings)
        self.consumers_made.append(found)
        return found

    async def post(self, numbers: Sequence[int], entity: str = "sensor.a") -> None:
        """Events of one entity, one after the other."""
        for n in numbers:
            answer = await self.ask(changed(n, entity), f"{entity}-{n}")
            assert answer.status == 202, answer

    async def side(self, name: str) -> dict[str, int]:
        """Its balance."""
        return {state: n for state, n in (await self.balance())[name].items() if n}

    async def side_is(self, name: str, **counts: int) -> None:
        """Wait until its balance is this one, which may be a moment behind what is on disk."""
        async with asyncio.timeout(10):
            while await self.side(name) != counts:
                await asyncio.sleep(0.01)

    async def counts(self, name: str, n: int) -> None:
        """Wait until the ledger has counted so many of something."""
        await until(lambda: self.counters[name] == n, f"{n} {name}")

    async def restart_ledger(self) -> None:
        """Kill it, with its consumers' connections, and start another one on what is on disk."""
        await self.kill_ledger()
        await self.start_ledger()
        await until(lambda: self.ledger.is_connected, "the ledger is connected")


def fanout_settings(
    directory: Path,
    *,
    route: Mapping[str, Any] | None = None,
    consumer: Mapping[str, Any] | None = None,
    backend: Mapping[str, Any] | None = None,
    ledger: Mapping[str, Any] | None = None,
    sides: Mapping[str, Any] | None = None,
) -> Settings:
    """Of one fanout route, with its state in a directory. consumer, backend: further settings of both; sides: of each,
    in the place of those.
    """
    backends = {
        name: {"consumer": {"token": token} | dict(consumer or {}), **(backend or {})} for name, token in TOKENS.items()
    } | dict(sides or {})
    own = {"name": ROUTE, "match": {"path": "/events", "methods": ("POST",)}, "key": "json:/entity_id"}
    return Settings.model_validate(
        {
            "version": 1,
            "salt": SALT,
            "state_dir": str(directory),
            "backends": backends,
            "routes": (own | {"ack": "accepted", "fanout": {}} | dict(route or {}),),
            "ledger": LEDGER | dict(ledger or {}),
        }
    )


@asynccontextmanager
async def fanning_out(
    *,
    route: Mapping[str, Any] | None = None,
    consumer: Mapping[str, Any] | None = None,
    backend: Mapping[str, Any] | None = None,
    ledger: Mapping[str, Any] | None = None,
    sides: Mapping[str, Any] | None = None,
) -> AsyncIterator[FanRig]:
    """All of it for the length of a block, in dual write. consumer, backend, sides: as in `fanout_settings`."""
    with short_directory() as directory:
        settings = fanout_settings(
            directory, route=route, consumer=consumer, backend=backend, ledger=ledger, sides=sides
        )
        rig = FanRig(directory, settings)
        rig.consumers_made = []
        await rig.start_ledger()
        await rig.start_worker()
        rig.turn(DUAL)
        try:
            yield rig
        finally:
            for each in rig.consumers_made:
                await each.kill()
            await rig.end_worker()
            if rig.keeper is not None:
                await rig.kill_ledger()


def fanout_config(url: str, token_file: str) -> dict[str, Any]:
    """Of a daemon whose source is a Home Assistant at this url."""
    route: dict[str, Any] = {"ack": "accepted", "stage": "dualwrite", "fanout": {}, "dedupe": "10m"}
    config = basic_config("http://127.0.0.1:1", "http://127.0.0.1:1", trigger=NEVER_REVERT, **route)
    config["routes"][0]["match"]["path"] = "/api/websocket"
    config["backends"] = {side: {"consumer": {"token": token}} for side, token in TOKENS.items()}
    own = {"url": url, "token_file": token_file, "snapshot": "initial"}
    config["sources"] = [{"name": "home", "route": "events", "retry_initial": "50ms", "home_assistant": own}]
    return config

"""Clients that talk over WebSocket, and know which of their messages they were promised."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from config.units import Address
from proxy.demo.backends import STREAM_PATH
from proxy.demo.store import Stored, digest_of

_PER_PING = 20


@dataclass
class Talk:
    """One session. sent: ids in their order; safe: so many of the first of them are covered by a Pong.

    replied: what was answered, where an answer is a promise
    """

    key: str
    port: int = 0
    """Of its own end."""
    sent: list[str] = field(default_factory=list)
    digests: dict[str, int] = field(default_factory=dict)
    safe: int = 0
    replied: set[str] = field(default_factory=set)
    answers: int = 0
    close_code: int | None = None
    """Set when the session ended before it was told to."""

    @property
    def promised(self) -> list[str]:
        """Ids that both sides must have."""
        return [id for n, id in enumerate(self.sent) if n < self.safe or id in self.replied]


class Talkers:
    """So many sessions that send `rate` messages a second together. Each has a key, or several in turn.

    replies: a backend's answer promises as much as a Pong, and there are no Pings; name: how their keys begin
    """

    def __init__(
        self, address: Address, *, sessions: int = 8, rate: float = 400.0, keys: int = 1, replies: bool = False,
        name: str = "s",
    ) -> None:  # fmt: skip
        self._replies = replies
        self._uri = f"ws://{address.host}:{address.port}{STREAM_PATH}"
        self._pause = sessions / rate
        self._keys = keys
        self._is_over = asyncio.Event()
        self.talks = [Talk(f"{name}{n}") for n in range(sessions)]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to talk."""
        self._tasks = [asyncio.create_task(self._talk(talk)) for talk in self.talks]

    async def stop(self) -> None:
        """End every session in order, and raise what one of them raised."""
        self._is_over.set()
        await asyncio.gather(*self._tasks)

    async def _talk(self, talk: Talk) -> None:
        async with connect(self._uri, ping_interval=None, open_timeout=20, close_timeout=20) as client:
            talk.port = client.local_address[1]
            hearing = asyncio.create_task(self._hear(client, talk))
            try:
                await self._send(client, talk)
            except ConnectionClosed:
                talk.close_code = client.close_code or 1006
            finally:
                await client.close()
                await hearing
            if talk.close_code is None and client.close_code == 1000:
                talk.safe = len(talk.sent)  # the closing handshake waits for what came before it

    async def _send(self, client: object, talk: Talk) -> None:
        assert hasattr(client, "send")
        assert hasattr(client, "ping")
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self._is_over.is_set():
            n = len(talk.sent)
            id = f"{talk.key}-{n:06}"
            body = json.dumps({"id": id, "entity_id": f"{talk.key}.{n % self._keys}", "n": n, "pad": "x" * 200})
            talk.sent.append(id)
            talk.digests[id] = digest_of(body.encode())
            await client.send(body)
            if not self._replies and n % _PER_PING == _PER_PING - 1:
                pong = await client.ping()
                pong.add_done_callback(lambda done, covered=n + 1: _covered(talk, done, covered))
            due += self._pause
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def _hear(self, client: object, talk: Talk) -> None:
        assert hasattr(client, "recv")
        try:
            while True:
                answer = await client.recv()
                talk.answers += 1
                if self._replies:
                    talk.replied.add(json.loads(answer)["stored"])
        except ConnectionClosed:
            pass


def _covered(talk: Talk, done: asyncio.Future[float], covered: int) -> None:
    if not done.cancelled() and done.exception() is None:
        talk.safe = max(talk.safe, covered)


def problems(talks: Iterable[Talk], name: str, rows: list[Stored], *, is_ordered: bool = True) -> list[str]:
    """What a store lacks of what was promised, has in another form, or stored in another order than it was sent."""
    first: dict[str, Stored] = {}
    for row in rows:
        first.setdefault(row.id, row)
    found = []
    for talk in talks:
        lost = [id for id in talk.promised if id not in first]
        if lost:
            found.append(f"{name}: {talk.key} lost {len(lost)} of {talk.safe}: {lost[:5]}")
        different = [id for id in talk.sent if id in first and first[id].digest != talk.digests[id]]
        if different:
            found.append(f"{name}: {talk.key} has others: {different[:5]}")
        places = [first[id].position for id in talk.sent if id in first]
        if is_ordered and places != sorted(places):
            at = next(i for i in range(1, len(places)) if places[i] < places[i - 1])
            found.append(f"{name}: {talk.key} is out of order at {at} of {len(places)}")
    return found

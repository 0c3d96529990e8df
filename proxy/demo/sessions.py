"""The demo's load over WebSocket: sessions that stay open, and the record of what they were promised.

A session has keys of its own and waits for nothing: a Ping stands behind each message, and its Pong promises everything
before it. A session that ends before its client ends it counts as a client error and is opened anew; what it was not
promised stays without a promise.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import deque
from typing import NamedTuple

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from config.units import Address
from proxy.demo.backends import STREAM_PATH
from proxy.demo.record import Promise, Record
from proxy.demo.store import digest_of
from proxy.load.requests import LOAD_HEADER, Messages
from proxy.load.target import plain
from proxy.load.wire import ENDED, GARBLED, REFUSED, RESET, TIMEOUT

_LATE = 1.0  # as of the load over HTTP
_OPEN_AGAIN = 0.1


class _Sent(NamedTuple):
    id: str
    key: str
    at: float


class Sessions:
    """Sends messages until `stop`; `record` grows meanwhile.

    rate: messages per second over all sessions; sessions: how many; keys: dealt out to them; seed: of the choice of
    keys; timeout: seconds for a handshake, and for the last Pong.
    """

    def __init__(
        self,
        address: Address,
        *,
        rate: float,
        sessions: int = 8,
        keys: int = 400,
        seed: int = 1,
        timeout: float = 20.0,
    ) -> None:
        self.record = Record()
        self.rate = rate
        self.count = sessions
        self._keys = [range(keys)[session::sessions] for session in range(sessions)]
        self._chosen = [random.Random(seed * 1_000 + session) for session in range(sessions)]
        self._messages = Messages(
            plain(address, STREAM_PATH), keys=keys, key_of=lambda _n, session: self._choose(session)
        )
        self._numbers = itertools.count()
        self._uri = f"ws://{plain(address).host}{STREAM_PATH}"
        self._timeout = timeout
        self._is_stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Open the sessions and begin."""
        self._tasks = [asyncio.create_task(self._stay(session)) for session in range(self.count)]

    async def stop(self) -> Record:
        """Send nothing new, wait for the last Pongs, close in order; the record."""
        self._is_stopping = True
        await asyncio.gather(*self._tasks)
        return self.record

    async def cancel(self) -> None:
        """End at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def check(self) -> None:
        """Raise what stopped a session's task, if something did."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def _choose(self, session: int) -> int:
        return self._chosen[session].choice(self._keys[session])

    async def _stay(self, session: int) -> None:
        """Keep one session open."""
        while not self._is_stopping:
            try:
                client = await connect(
                    self._uri,
                    additional_headers={LOAD_HEADER: "demo"},
                    compression=None,
                    ping_interval=None,
                    open_timeout=self._timeout,
                    close_timeout=self._timeout,
                    proxy=None,
                )
            except InvalidStatus as answer:
                self.record.statuses[answer.response.status_code] += 1
            except (OSError, InvalidHandshake) as error:
                self.record.failures[_kind_of(error)] += 1
            else:
                await self._use(client, session)
            if not self._is_stopping:
                await asyncio.sleep(_OPEN_AGAIN)

    async def _use(self, client: ClientConnection, session: int) -> None:
        """One connection, to its end."""
        hearing = asyncio.create_task(_hear(client))
        try:
            await self._talk(client, session)
        except ConnectionClosed:
            self.record.closed += 1
            self.record.failures[f"session closed ({client.close_code})"] += 1
        finally:
            await client.close()
            await hearing

    async def _talk(self, client: ClientConnection, session: int) -> None:
        """Send at the rate, until told to stop; raises ConnectionClosed."""
        pause = self.count / self.rate
        waiting: deque[_Sent] = deque()
        due = time.perf_counter() + pause * session / self.count
        while not self._is_stopping:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await self._send(client, session, waiting)
            due = max(due + pause, time.perf_counter() - _LATE)
        try:
            async with asyncio.timeout(self._timeout):
                await (await client.ping())
        except TimeoutError:
            self.record.failures[TIMEOUT] += 1

    async def _send(self, client: ClientConnection, session: int, waiting: deque[_Sent]) -> None:
        event = self._messages.make(next(self._numbers), session)
        sent = _Sent(event.id, event.key, time.perf_counter())
        self.record.digests[event.id] = digest_of(event.body)
        waiting.append(sent)
        await client.send(event.body, text=True)
        pong = asyncio.ensure_future(await client.ping())
        pong.add_done_callback(lambda done: self._promise(done, waiting, sent))

    def _promise(self, pong: asyncio.Future[float], waiting: deque[_Sent], last: _Sent) -> None:
        """Everything up to `last` is promised, if this is a Pong and not the end of the session."""
        if pong.cancelled() or pong.exception() is not None:
            return
        now = time.perf_counter()
        while waiting and waiting[0].at <= last.at:
            id, key, at = waiting.popleft()
            self.record.promises.append(Promise(id, key, "", 0, at, now, is_message=True))


def _kind_of(error: OSError | InvalidHandshake) -> str:
    """Why there is no session: as `proxy.load.wire.FAILURES` has it."""
    if isinstance(error, TimeoutError):
        return TIMEOUT
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return RESET
    if isinstance(error, OSError):
        return REFUSED
    return ENDED if isinstance(error.__cause__, EOFError) else GARBLED


async def _hear(client: ClientConnection) -> None:
    """Read what backends say, so that Pongs come through; nobody is told which message it answers."""
    try:
        async for _ in client:
            pass
    except ConnectionClosed:
        pass  # whoever sends next sees it

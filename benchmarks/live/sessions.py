"""Sessions that stay open, and the record of what they were promised: the demo's, at a fraction of its price.

The demo's clients are those of the `websockets` library, which nobody here has written. With 500 of them, who all come
back at once when their worker was killed, what the clients take is not there for the proxy on the same cores. So these
are `proxy.load`'s: a message with a Ping behind it, whose Pong promises it.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

from config.units import Address
from proxy.demo.backends import STREAM_PATH
from proxy.demo.record import Promise, Record
from proxy.demo.store import digest_of
from proxy.load.requests import LOAD_HEADER, Event, Messages
from proxy.load.sessions import HandshakeError, Session
from proxy.load.target import plain
from proxy.load.wire import GARBLED, REFUSED, TIMEOUT

_TICK: Final = 0.002
_OPEN_AGAIN: Final = 0.1
"""Seconds after a session's end, without jitter: as hard as clients can make it."""


class _Sent:
    """A message that is on its way; what a session tells of it."""

    __slots__ = ("_at", "_event", "_record")

    def __init__(self, event: Event, record: Record) -> None:
        self._event = event
        self._record = record
        self._at = time.perf_counter()

    def confirmed(self) -> None:
        """Its Pong is here."""
        event, now = self._event, time.perf_counter()
        self._record.promises.append(Promise(event.id, event.key, "", 0, self._at, now, is_message=True))

    def broke(self, kind: str, *, is_untouched: bool) -> None:
        """It has no promise; that its session was closed is counted once."""


class Sessions:
    """As `proxy.demo.sessions.Sessions`: sends messages until `stop`; `record` grows meanwhile.

    rate: messages per second, of all sessions in turn; one that is not open when its turn comes sends nothing.
    """

    def __init__(
        self, address: Address, *, rate: float, sessions: int, keys: int, seed: int, timeout: float = 20.0
    ) -> None:
        self.record = Record()
        self._rate = rate
        self._address = address
        self._keys = [range(keys)[session::sessions] for session in range(sessions)]
        self._chosen = [random.Random(seed * 1_000 + session) for session in range(sessions)]
        self._messages = Messages(
            plain(address, STREAM_PATH), keys=keys, headers=[f"{LOAD_HEADER}: demo"], key_of=self._choose
        )
        self._open: list[Session | None] = [None] * sessions
        self._over = [asyncio.Event() for _ in range(sessions)]
        """Set when a session was ended, by either."""
        self._timeout = timeout
        self._is_stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Open the sessions and begin."""
        self._tasks = [asyncio.create_task(self._stay(number)) for number in range(len(self._open))]
        self._tasks.append(asyncio.create_task(self._talk()))

    async def stop(self) -> Record:
        """Send nothing new, wait for the last Pongs, close in order; the record."""
        self._is_stopping = True
        for over in self._over:
            over.set()
        await asyncio.gather(*self._tasks)
        return self.record

    def check(self) -> None:
        """Raise what stopped a task, if something did."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def _choose(self, _: int, session: int) -> int:
        return self._chosen[session].choice(self._keys[session])

    async def _talk(self) -> None:
        """A message whenever one is due."""
        start, number, count = time.perf_counter(), 0, len(self._open)
        while not self._is_stopping:
            until = int((time.perf_counter() - start) * self._rate)
            for due in range(number, until):
                session = self._open[due % count]
                if session is None:
                    continue
                if not session.is_over:
                    event = self._messages.make(due, due % count)
                    self.record.digests[event.id] = digest_of(event.body)
                    session.send(_Sent(event, self.record), event.body)
                else:
                    self.record.unsent += 1
            number = until
            await asyncio.sleep(_TICK)

    async def _stay(self, number: int) -> None:
        """Keep one session open."""
        ended = 0.0
        while not self._is_stopping:
            try:
                ended = await self._once(number, ended)
            except HandshakeError as error:
                if error.status:
                    self.record.statuses[error.status] += 1
                else:
                    self.record.failures[error.kind] += 1
            except TimeoutError:
                self.record.failures[TIMEOUT] += 1
            except OSError:
                self.record.failures[REFUSED] += 1
            if not self._is_stopping:
                await asyncio.sleep(_OPEN_AGAIN)
        if ended:
            self.record.away.append(time.perf_counter() - ended)  # and it is not back

    async def _once(self, number: int, ended: float) -> float:
        """One session, to its end; when its target has ended it, or 0. ended: when the one before did, or 0.

        Raises OSError when there is none, a TimeoutError included.
        """
        over = self._over[number]
        async with asyncio.timeout(self._timeout):
            _, session = await asyncio.get_running_loop().create_connection(
                lambda: Session(self._messages.handshake(number), over.set), *self._address
            )
            try:
                await session.opened
            except asyncio.CancelledError:
                session.close()
                raise
        self._open[number] = session
        if ended:
            self.record.away.append(time.perf_counter() - ended)
        await over.wait()
        if session.is_over:
            over.clear()
            self._ended(session)
            return time.perf_counter()
        await self._finish(session)
        return 0.0

    def _ended(self, session: Session) -> None:
        """Its target has ended it: in order or not, or it has said what it may not."""
        if session.why == GARBLED:
            self.record.failures[GARBLED] += 1
        else:
            self.record.closed += 1
            self.record.failures[f"session closed ({session.close_code})"] += 1

    async def _finish(self, session: Session) -> None:
        """Wait for its last Pongs and close it."""
        deadline = time.perf_counter() + self._timeout
        while session.outstanding and not session.is_over:
            if time.perf_counter() > deadline:
                self.record.failures[TIMEOUT] += 1
                break
            await asyncio.sleep(_TICK)
        session.close()

"""One source as the worker that has it runs it: connect, talk, admit, connect again.

connect --> Conversation --> Admission --> route
   ^             |               |
   +-- back-off -+ lost          +--> Progress: what was accepted, for the supervisor
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from time import time_ns
from typing import Final

from websockets.exceptions import ConnectionClosed, WebSocketException

from config.sources import HomeAssistantSource, Source
from config.units import parse_source
from proxy.control.credentials import credential
from proxy.control.link import RunSource, SourceProgress, SourceStats
from proxy.core.known_states import KnownStates
from proxy.http.route import EventRoute
from proxy.http.service import Service
from proxy.http.values import json_value
from proxy.ledger.backoff import Backoff
from proxy.net.live_context import BadTls
from proxy.sources.admission import LANES, Admission
from proxy.sources.connection import CLOSE_WAIT, Connection, opened, why_lost
from proxy.sources.event import Broken, Conversation, Denied, SourceEvent
from proxy.sources.home_assistant import HomeAssistant
from proxy.sources.lane import Lane
from proxy.sources.plain import PlainServer
from proxy.sources.progress import Progress
from proxy.sources.share import Share

log = logging.getLogger(__name__)

DENIED_WAIT: Final = 600.0
"""Seconds until a credential that was refused is tried again; a changed one is at once."""
LOOK_EVERY: Final = 5.0
"""Seconds between two looks whether it has changed, and from one that is starting to its next snapshot."""
_CREDENTIAL_WAIT: Final = 5.0
"""Seconds that reading a credential may take."""
_AT_ONCE: Final = 50
"""Events of one message that are made and put in one iteration of the loop: a snapshot has thousands."""
CONNECTING: Final = "connecting"
CONNECTED: Final = "connected"
UNHEALTHY: Final = "unhealthy"


class RunningSource:
    """A source under one lease. share: what events may wait in; count: of things by the source's name and theirs."""

    def __init__(
        self,
        settings: Source,
        route: EventRoute,
        service: Service,
        lease: RunSource,
        share: Share,
        count: Callable[[str, str], None],
    ) -> None:
        self._settings = settings
        self._service = service
        self._counts = count
        self.generation = lease.generation
        tells_first = settings.home_assistant is not None and settings.home_assistant.snapshot == "initial"
        self._known = KnownStates(lease.states, is_established=lease.is_established, tells_first=tells_first)
        self._progress = Progress(
            lease.states, is_established=lease.is_established, had_connection=lease.had_connection
        )
        self._backoff = Backoff(settings.retry_initial, settings.retry_max)
        start = start_of(settings, route)
        self._admission = Admission(
            [Lane(service, start) for _ in range(LANES)],
            share,
            json_value(parse_source(route.settings.key).name),
            Backoff(min(settings.retry_initial, 0.1), min(settings.retry_max, 2.0)),
            settings.unaccepted,
            lambda: service.plane.ids.make(time_ns()),
            self._count,
        )
        self._state = CONNECTING
        self._connected_at = 0.0
        self._trouble = ""
        self._connection: Connection | None = None
        self._is_stopping = False
        self._has_message = False
        """One was read, and not all of its events are admitted."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        self._admission.start()
        self._task = asyncio.create_task(self._run(), name=f"source {self._settings.name}")

    async def stop(self, wait: float) -> None:
        """Read no more. What was read has `wait` seconds to be accepted, and then the server as many to be told so."""
        until = asyncio.get_running_loop().time() + wait
        await self._read_no_more(wait)
        await self._admission.close(max(until - asyncio.get_running_loop().time(), 0.0))
        await self._disconnect(min(wait, CLOSE_WAIT))

    async def _read_no_more(self, wait: float) -> None:
        """A message that is in hand is gone through before: its server may not have it any more."""
        self._is_stopping = True
        if self._task is None:
            return
        if self._has_message:
            await asyncio.wait({self._task}, timeout=wait)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _count(self, name: str) -> None:
        self._counts(self._settings.name, name)

    def stats(self) -> SourceStats:
        """How it is."""
        trouble = self._trouble or self._admission.trouble
        return SourceStats(self._settings.name, self.generation, self._state, trouble, self._admission.unaccepted)

    def report(self, *, is_whole: bool) -> SourceProgress | None:
        """What was accepted since this was asked last, or ever; None when that is nothing."""
        return self._progress.take(self._settings.name, self.generation, is_whole=is_whole)

    # connecting

    async def _run(self) -> None:
        failures, secret = 0, ""
        while not self._is_stopping:
            try:
                secret = await self._credential()
                await self._connect(secret)
                return
            except Denied as error:
                await self._wait_for_another(secret, str(error))
                continue
            except (Broken, OSError, WebSocketException, BadTls) as error:
                failures = 1 if self._has_stood() else failures + 1
                self._failed(why_lost(error), is_news=failures == 1)
            except Exception:  # nothing that a server sends may end its source for good
                failures += 1
                log.exception("source %s", self._settings.name)
                self._failed("an error of our own, see the log", is_news=False)
            await asyncio.sleep(self._backoff.delay(max(failures, 1)))

    def _has_stood(self) -> bool:
        """Was it connected for so long that its end is another trouble than the one before?"""
        now = asyncio.get_running_loop().time()
        return self._state == CONNECTED and now - self._connected_at > self._settings.retry_max

    def _failed(self, why: str, *, is_news: bool) -> None:
        log.log(logging.WARNING if is_news else logging.DEBUG, "source %s: %s", self._settings.name, why)
        self._count("disconnects" if self._state == CONNECTED else "failed_connects")
        self._state, self._trouble = UNHEALTHY, why

    async def _connect(self, secret: str) -> None:
        """One connection, from its beginning to its end, which is an exception, or our own stop."""
        connection = self._connection = await opened(self._settings, secret)
        try:
            await self._talk(connection, self._conversation(secret))
        finally:
            if not self._is_stopping:
                await self._disconnect(CLOSE_WAIT)

    async def _disconnect(self, wait: float) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close(wait)

    async def _credential(self) -> str:
        """Read anew each time, as its file may have another."""
        kind = self._settings.kind
        if isinstance(kind, HomeAssistantSource):
            given, path, what = kind.token, kind.token_file, "token_file"
        else:
            given, path, what = kind.authorization, kind.authorization_file, "authorization_file"
        if path is None:
            return given or ""
        try:
            async with asyncio.timeout(_CREDENTIAL_WAIT):
                return await credential(path)
        except TimeoutError:
            raise Broken(f"its {what} cannot be read in time") from None
        except (OSError, ValueError) as error:
            raise Broken(f"its {what} cannot be read: {getattr(error, 'strerror', None) or 'no text'}") from None

    async def _wait_for_another(self, refused: str, why: str) -> None:
        """Said once. Until then nothing is sent: servers ban who tries too often."""
        log.error("source %s: %s; tried again with another one, or in %d s", self._settings.name, why, DENIED_WAIT)
        self._count("denied")
        self._state, self._trouble = UNHEALTHY, why
        loop = asyncio.get_running_loop()
        until = loop.time() + DENIED_WAIT
        while loop.time() < until:
            await asyncio.sleep(LOOK_EVERY)
            with suppress(Broken):
                if await self._credential() != refused:
                    return

    def _conversation(self, secret: str) -> Conversation:
        kind = self._settings.kind
        if isinstance(kind, HomeAssistantSource):
            return HomeAssistant(kind, secret, self._known, self._count, lambda: datetime.now(UTC))
        return PlainServer(kind, self._count)

    # talking

    async def _talk(self, connection: Connection, conversation: Conversation) -> None:
        waking = asyncio.create_task(_wake(connection, conversation))
        try:
            await self._enter(connection, conversation)
            while not self._is_stopping:
                self._note(conversation)
                await self._take(connection, conversation)
        finally:
            waking.cancel()
            await asyncio.gather(waking, return_exceptions=True)

    async def _enter(self, connection: Connection, conversation: Conversation) -> None:
        """Until events come. Raises Broken where that takes too long, though its Pongs may come in time."""
        wait = self._settings.open_timeout
        try:
            async with asyncio.timeout(wait):
                await connection.send(conversation.outbox)
                while not conversation.is_ready:
                    await self._take(connection, conversation)
        except TimeoutError:
            raise Broken(f"it has not let us in for {wait:g} s") from None

    async def _take(self, connection: Connection, conversation: Conversation) -> None:
        """One more message."""
        message = await self._receive(connection, conversation)
        self._has_message = True
        try:
            await self._admit(conversation.take(message), connection)
        finally:
            self._has_message = False
        if self._known.is_established and not self._progress.is_established:
            self._progress.establish(self._known.versions)
        await connection.send(conversation.outbox)

    async def _admit(self, events: Iterable[SourceEvent | None], connection: Connection) -> None:
        for number, event in enumerate(events, 1):
            if event is None:
                await asyncio.sleep(0)
                continue
            self._is_read(connection)
            await self._admission.put(event, self._accepting(event, connection))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _is_read(self, connection: Connection) -> None:
        """Raises Broken when it reads none of what we owe it: that would be kept without bound."""
        if connection.owed > self._settings.unaccepted:
            raise Broken(f"it has not read {connection.owed} acknowledgements")

    def _note(self, conversation: Conversation) -> None:
        """What status says of it."""
        self._trouble = conversation.trouble
        if conversation.is_ready and self._state != CONNECTED:
            self._state, self._connected_at = CONNECTED, asyncio.get_running_loop().time()
            self._count("connects")
            if self._progress.had_connection:
                self._count("gaps")
            self._progress.connected()
            log.info("source %s: connected", self._settings.name)

    async def _receive(self, connection: Connection, conversation: Conversation) -> bytes:
        """The next message. Raises Broken when there is none, and no answer to the question whether it is there."""
        silence, is_asked = self._settings.ping_interval, False
        while True:
            try:
                async with asyncio.timeout(silence):
                    return await connection.receive()
            except TimeoutError:
                if is_asked:
                    raise Broken(f"nothing came of it for {2 * silence:g} s") from None
            is_asked = conversation.ping()
            if is_asked:
                await connection.send(conversation.outbox)
            else:
                await connection.ping(silence)

    def _accepting(self, event: SourceEvent, connection: Connection) -> Callable[[], None]:
        """What is to be done once an event that was read just now is accepted."""
        order = self._progress.read(event)

        def accepted() -> None:
            self._progress.accepted(event, order)
            if event.acknowledgement and connection is self._connection:
                connection.acknowledge(event.acknowledgement)
            elif event.acknowledgement:
                self._count("unacknowledgeable")  # its connection is gone: the server sends it again

        return accepted


def start_of(settings: Source, route: EventRoute) -> bytes:
    """Request line and headers of its events."""
    match = route.settings.match
    return (
        f"POST {settings.path or match.path} HTTP/1.1\r\nHost: {match.host or 'crossfade'}\r\n"
        "User-Agent: crossfade\r\nContent-Type: application/json\r\n"
    ).encode()


async def _wake(connection: Connection, conversation: Conversation) -> None:
    with suppress(ConnectionClosed):
        while True:
            await asyncio.sleep(LOOK_EVERY)
            conversation.wake()
            await connection.send(conversation.outbox)

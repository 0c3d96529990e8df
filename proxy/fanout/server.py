"""All consumers of an instance, in the ledger's process: who they are, what they say, which feed is whose.

consumer ══ worker (Relay) ══ fanout.sock ══ FanOut: Admission --> Commands --subscriptions--> Feed <--deliver-- ledger
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import apsw
from websockets.asyncio.server import Server, ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosed

from config.model import Settings
from proxy.control.link import ConsumerStats
from proxy.core.breaker import BreakerTrouble
from proxy.core.event import UNFIT, UNFIT_STATUS, Attempt, Event, Outcome
from proxy.core.template import Unfit
from proxy.fanout.admission import AUTH_WAIT, Admission
from proxy.fanout.commands import ROUTE_HEADER, Broken, Commands, auth_ok
from proxy.fanout.feed import Feed
from proxy.fanout.home_event import home_event
from proxy.fanout.told import Told
from proxy.ledger.server import bind

log = logging.getLogger(__name__)

MOST: Final = 256
"""Connections at a time, of all consumers."""
MAX_MESSAGE: Final = 64 * 1024
"""Bytes: consumers send commands alone."""
_CLOSE_WAIT: Final = 2.0
_PING_EVERY: Final = 20.0
"""Seconds, on connections that nothing is fed to: one that is gone is found by its TCP."""
_CHECKPOINT_EVERY: Final = 1.0
_UNSUPPORTED: Final = 1003
_TRY_LATER: Final = 1013
_CLOSE_SECONDS: Final = 0.25
"""How long consumers have to answer that they are closed."""
_GOING_AWAY: Final = 1001
_quiet: Final = logging.getLogger(f"{__name__}.connections")


class _Fed(NamedTuple):
    """A fanout route. version: of Home Assistant; feeds: (old, new)."""

    version: str
    feeds: tuple[Feed, Feed]


class FanOut:
    """path: of what consumers were told; arrived: gets the name of a backend to which deliveries are possible again."""

    def __init__(self, settings: Settings, path: Path, arrived: Callable[[str], None]) -> None:
        self.counters: Counter[str] = Counter()
        self._max_decoded = settings.limits.max_decoded_size
        self._told = Told(path)
        self._routes: dict[str, _Fed] = {}
        self._server: Server | None = None
        self._admission = Admission(self._count)
        self._open = 0
        self._checkpoint_at = 0.0
        self._checkpointing: asyncio.Future[bool] | None = None
        for route in settings.routes:
            if route.fanout is not None:
                old, new = [self._feed(settings, name, route.name, arrived) for name in (route.old, route.new)]
                self._routes[route.name] = _Fed(route.fanout.ha_version, (old, new))
        _quiet.setLevel(logging.WARNING)  # each connection and each lost one would be a line

    def _feed(self, settings: Settings, name: str, route: str, arrived: Callable[[str], None]) -> Feed:
        backend = settings.backends[name]
        assert backend.consumer is not None
        return Feed(name, route, backend.consumer, backend.response_timeout, self._told, arrived, self._count)

    def _count(self, name: str, more: int = 1) -> None:
        self.counters[f"consumers_{name}"] += more

    # the ledger's side

    async def start(self, path: Path) -> None:
        """Take consumers' connections from workers at `path`."""
        self._server = await unix_serve(
            self._serve,
            sock=bind(path),
            compression=None,
            max_size=MAX_MESSAGE,
            max_queue=4,
            open_timeout=AUTH_WAIT,
            close_timeout=_CLOSE_WAIT,
            ping_interval=_PING_EVERY,
            ping_timeout=None,  # a slow one is cut by its feed, if at all
            server_header="crossfade",
            logger=_quiet,
        )

    async def deliver(self, event: Event, attempt: Attempt) -> Outcome:
        """One attempt. Never raises for what a consumer does."""
        made = home_event(event, attempt.seq, self._max_decoded)
        if isinstance(made, Unfit):
            return Outcome(UNFIT, UNFIT_STATUS, made.reason)
        return await self._routes[event.route].feeds[attempt.side].deliver(made)

    def begin_record(self, next_seq: int) -> None:
        """Deliveries may come; the record goes on with this place."""
        try:
            self._told.begin_record(next_seq)
        except apsw.Error as error:
            log.warning("states that consumers were told cannot be put in the order of the record: %s", error)

    def forget_gone(self, settled: Mapping[str, int]) -> None:
        """Drop what is kept of entities that are gone. settled: by route, before which place nothing is delivered."""
        for route in self._routes.keys() & settled.keys():
            try:
                self._told.forget_gone(route, settled[route])
            except apsw.Error as error:
                log.warning("states of route %s that are gone cannot be forgotten: %s", route, error)

    def stats(self, now: float) -> list[ConsumerStats]:
        """How each consumer is."""
        return [feed.stats(now) for route in self._routes.values() for feed in route.feeds]

    def breakers(self, now: float) -> dict[str, str]:
        """Of each consumer, by its name: open while nobody is there."""
        return {feed.name: feed.breaker(now) for route in self._routes.values() for feed in route.feeds}

    def troubles(self, now: float) -> dict[str, BreakerTrouble]:
        """Why these are open, by the consumer's name."""
        feeds = [feed for route in self._routes.values() for feed in route.feeds]
        return {feed.name: feed.trouble(now) for feed in feeds if feed.breaker(now) != "closed"}

    def check_times(self, now: float) -> None:
        """Every 100 ms."""
        for route in self._routes.values():
            for feed in route.feeds:
                feed.check_time(now)
        self._look_at_log(now)

    def _look_at_log(self, now: float) -> None:
        running = self._checkpointing
        if running is None and now >= self._checkpoint_at:
            self._checkpoint_at = now + _CHECKPOINT_EVERY
            self._checkpointing = asyncio.get_running_loop().run_in_executor(None, self._copy_log)
        elif running is not None and running.done():
            self._checkpointing = None
            if running.result():
                self._end_log()

    def _copy_log(self) -> bool:
        try:
            return self._told.checkpoint()
        except apsw.Error as error:
            log.warning("what consumers were told could not be brought into its file: %s", error)
            return False

    def _end_log(self) -> None:
        try:
            self._told.end_log()
        except apsw.Error as error:
            log.warning("the log of what consumers were told could not begin anew: %s", error)

    async def close(self) -> None:
        """Close every connection; deliveries on their way fail."""
        for route in self._routes.values():
            for feed in route.feeds:
                await feed.close()
        if self._server is not None:
            await self._closed(self._server)
        if self._checkpointing is not None:
            await self._checkpointing
        self._told.close()

    @staticmethod
    async def _closed(server: Server) -> None:
        """Consumers are told, and cut soon after: one that does not read must not keep the next ledger waiting."""
        connections = list(server.all_connections)  # those that are closing already, too
        server.close(code=_GOING_AWAY)
        ended = asyncio.ensure_future(server.wait_closed())
        await asyncio.wait((ended,), timeout=_CLOSE_SECONDS)
        if not ended.done():
            log.warning("consumers do not answer that they are closed: their connections are cut")
            for each in connections:
                each.transport.abort()
        await ended

    # the consumers' side

    async def _serve(self, socket: ServerConnection) -> None:
        route = self._routes.get(socket.request.headers.get(ROUTE_HEADER, "") if socket.request is not None else "")
        try:
            feed = await self._admission.feed_of(socket, *route) if route is not None else None
            if route is None or (feed is not None and self._open >= MOST):
                self._count("turned_away")
                await socket.close(_TRY_LATER, "no room for another connection")
            elif feed is not None:
                await self._let_in(socket, feed, route.version)
        except ConnectionClosed:
            pass

    async def _let_in(self, socket: ServerConnection, feed: Feed, version: str) -> None:
        self._open += 1
        try:
            await socket.send(auth_ok(version), text=True)
            await self._converse(socket, feed, version)
        finally:
            self._open -= 1

    async def _converse(self, socket: ServerConnection, feed: Feed, version: str) -> None:
        commands = Commands(version, lambda: self._states(feed.route))
        why, is_lost = "its connection was lost", True
        try:
            async for message in socket:
                before = set(commands.subscriptions)
                for answer in commands.take(message):
                    if not commands.subscriptions:
                        feed.left(socket, "it has unsubscribed", is_lost=False)
                    await socket.send(answer, text=True)
                if commands.subscriptions.keys() - before:
                    feed.subscribed(socket, commands)  # behind the answer that says so
        except Broken as error:
            self._count("broken")
            why, is_lost = f"it sent {error}", False
            log.warning("consumer %s is cut off: %s", feed.name, why)
            await socket.close(_UNSUPPORTED, str(error))
        finally:
            self._count("unknown_commands", commands.unknown)
            feed.left(socket, why, is_lost=is_lost)

    def _states(self, route: str) -> list[bytes]:
        try:
            return self._told.states(route)
        except apsw.Error:
            log.exception("the states of route %s cannot be read", route)
            return []


def fan_out_of(settings: Settings, path: Path, arrived: Callable[[str], None]) -> FanOut | None:
    """Of the fanout routes, if there are any."""
    return FanOut(settings, path, arrived) if any(route.fanout is not None for route in settings.routes) else None

"""One consumer's feed: what the ledger delivers to it goes out on the connection that subscribed last.

    ledger --deliver--> Feed --give--> FedConnection --events, Ping--> consumer
                                            | <-- Pong: told.received, then DELIVERED
    what was received less than `redeliver_window` before a connection's last Pong --> first on the next one

While no connection is fed a delivery ends as UNREACHABLE: it costs no attempt, and the ledger keeps what is pending,
which is the consumer's cursor. A Pong proves receipt, not processing: hence the window. The ledger lets one event of a
key out at a time, so the order of a key is the ledger's.

What is sent again may be what the consumer dies of: `blame.py` says how that is found out. Of what it dies of before
its Pong the ledger makes a dead letter, as of every event that fails by itself; what it dies of behind its Pong is on
record as delivered, hence it is given up here, counted, and named in the log.

A consumer that subscribes to several types says so in several messages. An event of a type that it has not subscribed
to waits until it has said nothing for `SETTLE` seconds; only then is it refused, as one that it does not want.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Final

import apsw
from websockets.asyncio.server import ServerConnection

from config.fanout import Consumer
from proxy.control.link import ConsumerStats
from proxy.core.breaker import BreakerTrouble
from proxy.core.event import REFUSED, Outcome
from proxy.fanout.blame import TRIES, Blame
from proxy.fanout.commands import Commands
from proxy.fanout.fed import AWAY, FedConnection
from proxy.fanout.home_event import HomeEvent
from proxy.fanout.told import Told

log = logging.getLogger(__name__)

_FORGET_EVERY: Final = 1.0
"""Seconds between two looks for what need not be kept any more."""
_REPLACED: Final = 1008
_NAMED: Final = 10
"""Ids of events in one line of the log."""


class Feed:
    """name: of the backend; route: whose events it gets; timeout: seconds for a Pong

    arrived: hears the name when deliveries become possible; count: so many more of something
    """

    def __init__(
        self,
        name: str,
        route: str,
        settings: Consumer,
        timeout: float,
        told: Told,
        arrived: Callable[[str], None],
        count: Callable[[str, int], None],
    ) -> None:
        self.name = name
        self.route = route
        self.settings = settings
        self.told = told
        self.blame = Blame()
        self._timeout = timeout
        self._arrived = arrived
        self._count = count
        self._fed: FedConnection | None = None
        self._away_since = monotonic()
        self._received = 0
        self._forget_at = 0.0
        self._failing: set[str] = set()
        """What did not work the last time: the same is not said again."""
        self._closing: set[asyncio.Task[None]] = set()

    # the ledger's side

    async def deliver(self, event: HomeEvent) -> Outcome:
        """One attempt."""
        fed = self._fed
        if fed is None:
            return AWAY
        if await fed.wants(event.type):
            return await fed.give(event)
        if fed is not self._fed:
            return AWAY
        self._count("unsubscribed", 1)
        return Outcome(REFUSED, 0, f"it has not subscribed to events of type {event.type}")

    def breaker(self, now: float) -> str:
        """As of any backend: open once nobody was there for longer than an answer may take."""
        return "open" if self._fed is None and now - self._away_since > self._timeout else "closed"

    def trouble(self, now: float) -> BreakerTrouble:
        """Why that is open."""
        return BreakerTrouble(AWAY.reason, 0, round(now - self._away_since, 3))

    def stats(self, now: float) -> ConsumerStats:
        """Whether it is connected, and what it has had."""
        fed = self._fed
        since = now - fed.began_at if fed is not None else self._away_since - now
        return ConsumerStats(self.name, fed is not None, round(abs(since), 3), self._received)

    # the consumer's side

    def subscribed(self, socket: ServerConnection, commands: Commands) -> None:
        """A connection has a subscription more: it is the one that is fed from now on."""
        fed = self._fed
        if fed is not None and fed.socket is socket:
            fed.subscribed_at = monotonic()
            return
        if fed is not None:
            log.warning("another connection of consumer %s subscribed: the one before it is closed", self.name)
            self._count("replaced", 1)
            self._end(fed, "another connection subscribed", is_lost=False)
            self._close(fed.socket, _REPLACED, "another connection of this consumer subscribed")
        self._fed = FedConnection(self, socket, commands)
        log.info("consumer %s is fed", self.name)
        asyncio.get_running_loop().call_soon(self._arrived, self.name)  # after what the one before it lost

    def left(self, socket: ServerConnection, why: str, *, is_lost: bool = True) -> None:
        """A connection is gone, or, where it is not lost, has no subscription any more."""
        fed = self._fed
        if fed is not None and fed.socket is socket:
            self._end(fed, why, is_lost=is_lost)
            log.info("consumer %s is not fed any more: %s", self.name, why)

    def _end(self, fed: FedConnection, why: str, *, is_lost: bool) -> None:
        self._fed, self._away_since = None, monotonic()
        if not fed.is_resending:
            self._forget(fed)
        has_failed = fed.end(why, is_lost=is_lost)
        if is_lost and not has_failed and fed.has_sent:
            self._note(lambda: self._look_for_cause(fed), 0)

    def _look_for_cause(self, fed: FedConnection) -> None:
        """May it have died of what is kept? Raises apsw.Error."""
        if fed.is_one_alone:
            self.told.died_of_first(self.name)
        first, last, _ = self.told.span(self.name)
        self.blame.lost(again=0 < first <= fed.kept_until, any_kept=last > 0)

    def _close(self, socket: ServerConnection, code: int, why: str) -> None:
        task = asyncio.create_task(socket.close(code, why))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    # receipts and time

    def received(self, events: Sequence[HomeEvent]) -> None:
        """The consumer has these."""
        keeps = self.settings.redeliver_window > 0
        self._received += len(events)
        self._note(lambda: self.told.received(self.name, self.route, events, monotonic(), keeps=keeps), len(events))

    def received_again(self, numbers: Sequence[int]) -> None:
        """It has these kept events once more."""
        self._count("sent_again", len(numbers))
        self._note(lambda: self.told.received_again(numbers, monotonic()), len(numbers))

    async def read_kept(self, send: Callable[[], Awaitable[None]]) -> None:
        """Send kept events again. Where they cannot be read, as from a damaged file, the feed goes on without them."""
        try:
            self._give_up()
            await send()
        except apsw.Error as error:
            self._failed("unread", 1, "what is to be sent to consumer %s again cannot be read: %s", error)
        else:
            self._failing.discard("unread")

    def _give_up(self) -> None:
        """Forget what it has died of again and again."""
        given_up = self.told.give_up(self.name, TRIES)
        if given_up:
            self._count("given_up", len(given_up))
            log.error(
                "consumer %s lost its connection %d times after one event alone, which it is not sent again: %s; "
                "the record has it as delivered, and `proxyctl ledger replay` can send it once more",
                self.name,
                TRIES,
                ", ".join(given_up[:_NAMED]),
            )

    def _forget(self, fed: FedConnection) -> None:
        """What had been received for the window when the last Pong came: who is silent since may be dead since."""
        self._note(lambda: self.told.forget(self.name, fed.ponged_at - self.settings.redeliver_window), 0)

    def _note(self, write: Callable[[], None], events: int) -> None:
        """Write to the file. Where that fails, as on a full disk, the feed goes on, and what is not noted counts."""
        try:
            write()
        except apsw.Error as error:
            self._failed("unwritten", events, "what consumer %s has received cannot be noted: %s", error)
        else:
            self._failing.discard("unwritten")

    def _failed(self, name: str, n: int, message: str, error: apsw.Error) -> None:
        self._count(name, n)
        if name not in self._failing:
            log.error(message, self.name, error)
        self._failing.add(name)

    def check_time(self, now: float) -> None:
        """Every 100 ms: cut who does not answer, ask who was sent nothing, forget what has been processed."""
        fed = self._fed
        if fed is None:
            return
        quiet = now - fed.heard_at
        if fed.awaited and quiet > self._timeout:
            self.left(fed.socket, f"no Pong within {self._timeout:g} s")
            fed.socket.transport.abort()
        elif not fed.awaited and quiet > self.settings.ping_interval:
            fed.ask()
        elif now >= self._forget_at and not fed.is_resending:
            self._forget_at = now + _FORGET_EVERY
            self._forget(fed)

    async def close(self) -> None:
        """No more deliveries; those on their way fail."""
        if self._fed is not None:
            self._end(self._fed, "closing", is_lost=False)
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

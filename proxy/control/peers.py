"""The supervisor's end of the control links: who is there, what routing each has applied, questions to the ledger.

A new registration gets the routing at once, so a worker that was restarted, or one that outlived the last
supervisor, needs nothing else to be right.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import msgspec

from proxy.control.link import (
    AnsweredPairs,
    Applied,
    Ask,
    BackendHealth,
    BackendRecovered,
    CheckerStats,
    Drain,
    FromSupervisor,
    LedgerStats,
    ProposeSettings,
    Register,
    Reply,
    RouteSpread,
    SetFaults,
    SetLogLevel,
    SetRouting,
    SetSettings,
    SourceProgress,
    SourceStopped,
    Spans,
    ToSupervisor,
    WorkerStats,
    known,
    to_supervisor,
)
from proxy.control.link_client import LENGTH_BYTES, MAX_MESSAGE, MAX_UNSENT, pack
from proxy.core.drill import Fault
from proxy.core.errors import CrossfadeError
from proxy.core.routing import Routing

log = logging.getLogger(__name__)

LEDGER_FIRST_WAIT: Final = 1.0
"""Seconds that workers wait for the ledger to apply a routing before them: no rollback hangs on a ledger."""
ANSWER_WAIT: Final = 5.0
"""Seconds that the ledger has for an answer."""


class LedgerUnavailable(CrossfadeError):
    """There is no ledger process, or it did not answer in time."""


class LedgerRefused(CrossfadeError):
    """The ledger answered that it cannot do what was asked."""


class Listener(Protocol):
    """Is told what the peers do and say."""

    def peer_joined(self, peer: Peer) -> None:
        """A process registered."""

    def peer_left(self, peer: Peer) -> None:
        """Its connection ended."""

    def worker_said(self, peer: Peer, stats: WorkerStats) -> None:
        """A worker's figures."""

    def worker_spread(self, peer: Peer, spread: RouteSpread) -> None:
        """Where a route's events lay lately."""

    def source_progressed(self, peer: Peer, progress: SourceProgress) -> None:
        """How far a source is that runs there."""

    def source_stopped(self, peer: Peer, stopped: SourceStopped) -> None:
        """A source does not run there any more."""

    def spans_said(self, peer: Peer, spans: Spans) -> None:
        """What a worker or the ledger tells of traces."""

    def ledger_said(self, peer: Peer, stats: LedgerStats) -> None:
        """The ledger's figures."""

    def checker_said(self, peer: Peer, stats: CheckerStats) -> None:
        """The live checker's figures."""

    def settings_proposed(self, peer: Peer, proposal: ProposeSettings) -> None:
        """Somebody read the changed file, and waits for what is decided."""


class Peer:
    """One registered process. applied: the epoch that it says it uses, 0 before.

    heard_at: when it said something last, monotonic seconds; it reports every 250 ms.
    """

    def __init__(self, register: Register, writer: asyncio.StreamWriter, now: float) -> None:
        self.kind = register.kind
        self.index = register.index
        self.pid = register.pid
        self.life = register.life
        self.since = register.since
        self.configuration = register.configuration
        self.applied = 0
        self.heard_at = now
        self._writer = writer

    def send(self, message: FromSupervisor) -> None:
        """Send; a peer that does not read is cut off, and gets everything anew when it comes back."""
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT:
            log.warning("%s %d does not read what we send: closing its link", self.kind, self.index)
            self._writer.transport.abort()
            return
        self._writer.write(pack(message))

    def close(self) -> None:
        """End the connection."""
        self._writer.close()


class Peers:
    """All control links. workers: how many are expected; clock: monotonic seconds."""

    def __init__(self, workers: int, listener: Listener, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._expected = workers
        self._listener = listener
        self._clock = clock
        self._routing: Routing | None = None
        self._ledger_routing: Routing | None = None
        self._health: BackendHealth | None = None
        self._settings: SetSettings | None = None
        self._drain: Drain | None = None
        self._faults: dict[str, tuple[Fault, float]] | None = None
        """By route, with when it ends, on the clock; None before anybody said that there are none."""
        self._levels: dict[str, tuple[str, float]] = {}
        """By kind of process, the log level that it is to have meanwhile, and until when, on the clock."""
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._news = asyncio.Event()
        self._numbers = itertools.count(1)
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self.workers: dict[int, Peer] = {}
        """Who has the place of each index."""
        self.parting: list[Peer] = []
        """Workers that another one has taken the place of, or that nobody expects any more. They have clients still."""
        self.ledger: Peer | None = None
        self.checker: Peer | None = None
        self.garbage = 0
        """Connections closed because they did not speak the link's protocol."""

    async def start(self, listener: socket.socket) -> None:
        """Serve on a listening Unix socket."""
        self._server = await asyncio.start_unix_server(self._converse, sock=listener)

    def stop_listening(self) -> None:
        """Nobody new: a successor's processes must not register here."""
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        """Close every link."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._connections):
            writer.close()
        while self._connections:
            await self._next_news()
        if self._server is not None:
            await self._server.wait_closed()

    def set_routing(self, routing: Routing) -> None:
        """Give everybody, present and future, this routing."""
        self._give_ledger(routing)
        self._give_others(routing)

    async def set_routing_ledger_first(self, routing: Routing) -> bool:
        """The same, but workers get it when the ledger has applied it; false when it did not within the wait.

        When buckets become old's again, the ledger marks them first, so that no event goes to old before
        the deferred ones of its bucket.
        """
        self._give_ledger(routing)
        is_applied = True
        try:
            async with asyncio.timeout(LEDGER_FIRST_WAIT):
                while self.ledger is None or self.ledger.applied < routing.epoch:
                    await self._next_news()
        except TimeoutError:
            is_applied = False
        self._give_others(routing)
        return is_applied

    def _give_ledger(self, routing: Routing) -> None:
        self._ledger_routing = routing
        if self.ledger is not None:
            self.ledger.send(SetRouting(routing))

    def _give_others(self, routing: Routing) -> None:
        self._routing = routing
        for peer in (*self._all_workers(), *([self.checker] if self.checker is not None else [])):
            peer.send(SetRouting(routing))

    def set_health(self, healthy: dict[str, bool], endpoints: dict[str, dict[str, bool]] | None = None) -> None:
        """Give everybody, present and future, what the probes found. endpoints: by backend, then by address."""
        self._health = BackendHealth(dict(healthy), endpoints or {})
        for peer in self._everybody():
            peer.send(self._health)

    def set_settings(self, settings: SetSettings) -> None:
        """Give workers, present and future, other live keys, where their settings are some that may be followed."""
        self._settings = settings
        for peer in self._all_workers():
            self._give_settings(peer)

    def _give_settings(self, peer: Peer) -> None:
        if self._settings is not None and peer.configuration in self._settings.instead_of:
            peer.send(self._settings)

    def drain(self, deliver_for: float = 0.0) -> None:
        """Tell workers and the ledger, present and future, that the instance is about to stop."""
        self._drain = Drain(deliver_for)
        for peer in (*self._all_workers(), *([self.ledger] if self.ledger is not None else [])):
            peer.send(self._drain)

    def serving(self, configuration: str) -> int:
        """How many workers go by these settings."""
        return sum(peer.configuration == configuration for peer in self.workers.values())

    def set_faults(self, faults: dict[str, Fault]) -> None:
        """Give workers and the ledger, present and future, what drills do to copies."""
        now = self._clock()
        self._faults = {route: (each, now + each.seconds) for route, each in faults.items()}
        for peer in (*self._all_workers(), *([self.ledger] if self.ledger is not None else [])):
            peer.send(SetFaults(faults))

    def set_log_level(self, kinds: Iterable[str], level: str, seconds: float) -> int:
        """Let processes of these kinds, present and future, log at a level for a while; how many are told now."""
        until = self._clock() + seconds
        self._levels |= dict.fromkeys(kinds, (level, until))
        told = [peer for peer in self._everybody() if peer.kind in kinds]
        for peer in told:
            peer.send(SetLogLevel(level, seconds))
        return len(told)

    def backends_recovered(self, backends: list[str]) -> None:
        """Tell the workers that backends take deliveries again."""
        for peer in self._all_workers():
            peer.send(BackendRecovered(backends))

    def applied(self, epoch: int) -> int:
        """How many workers use this epoch or a later one."""
        return sum(peer.applied >= epoch for peer in self.workers.values())

    async def wait_applied(self, epoch: int, timeout: float) -> int:
        """Wait until every expected worker uses the epoch; how many do when the time (seconds) is over."""
        try:
            async with asyncio.timeout(timeout):
                while self.applied(epoch) < self._expected:
                    await self._next_news()
        except TimeoutError:
            log.warning(
                "epoch %d: %d of %d workers applied it in %g s", epoch, self.applied(epoch), self._expected, timeout
            )
        return self.applied(epoch)

    async def wait_empty(self, timeout: float) -> bool:
        """Wait until nobody is connected; false when the time (seconds) is over first."""
        try:
            async with asyncio.timeout(timeout):
                while self._everybody():
                    await self._next_news()
        except TimeoutError:
            return False
        return True

    async def ask(self, op: str, args: dict[str, Any], timeout: float = ANSWER_WAIT) -> Any:
        """Ask the ledger; its result. Raises LedgerUnavailable or LedgerRefused."""
        if self.ledger is None:
            raise LedgerUnavailable("the ledger process is not connected; the launcher restarts it")
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._questions[number] = answer
        try:
            self.ledger.send(Ask(number, op, args))
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise LedgerUnavailable(f"the ledger did not answer within {timeout:g} s") from None
        finally:
            del self._questions[number]

    def _everybody(self) -> list[Peer]:
        return [*self._all_workers(), *(each for each in (self.ledger, self.checker) if each is not None)]

    def _all_workers(self) -> list[Peer]:
        return [*self.workers.values(), *self.parting]

    async def _next_news(self) -> None:
        await self._news.wait()

    def _tell(self) -> None:
        """Wake whoever waits for something to change."""
        self._news.set()
        self._news = asyncio.Event()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        peer: Peer | None = None
        try:
            peer = self._join(await _receive(reader), writer)
            while True:
                self._take(peer, await _receive(reader))
        except (asyncio.IncompleteReadError, OSError):
            log.info("a control link ended", extra={"peer": f"{peer.kind} {peer.index}" if peer else "unknown"})
        except msgspec.DecodeError as error:
            self.garbage += 1
            log.warning("garbage on a control link, closing it: %s", error)
        finally:
            self._connections.discard(writer)
            writer.close()
            if peer is not None:
                self._leave(peer)
            self._tell()

    def _join(self, message: ToSupervisor, writer: asyncio.StreamWriter) -> Peer:
        if not isinstance(message, Register):
            raise msgspec.DecodeError(f"{type(message).__name__} before Register")
        peer = Peer(message, writer, self._clock())
        before: Peer | None
        if peer.kind == "worker" and peer.index >= 0:
            before = self._join_worker(peer)
        elif peer.kind == "ledger":
            before, self.ledger = self.ledger, peer
        elif peer.kind == "checker":
            before, self.checker = self.checker, peer
        elif peer.kind == "loader":
            return peer
        else:
            raise msgspec.DecodeError(f"nobody expects {peer.kind} {peer.index}")
        if before is not None:
            self._part(before)
        self._listener.peer_joined(peer)
        if peer.kind == "worker":
            self._give_settings(peer)  # before the routing: an epoch stands for the settings, too
        routing = self._ledger_routing if peer.kind == "ledger" else self._routing
        if routing is not None:
            peer.send(SetRouting(routing))
        if self._health is not None:
            peer.send(self._health)
        if self._faults is not None and peer.kind != "checker":
            peer.send(_left(self._faults, self._clock()))  # none, too: one of an earlier supervisor's ends
        if self._drain is not None and peer.kind != "checker":
            peer.send(self._drain)
        level, until = self._levels.get(peer.kind, ("", 0.0))
        if level and until > self._clock():
            peer.send(SetLogLevel(level, until - self._clock()))
        self._tell()
        return peer

    def _join_worker(self, peer: Peer) -> Peer | None:
        """Give it its place, unless a later one has it; the same worker's earlier link, if it had one."""
        before = next((each for each in self._all_workers() if each.life == peer.life), None)
        if before is not None:
            self._remove_worker(before)
        holder = self.workers.get(peer.index)
        if peer.index >= self._expected or (holder is not None and holder.since > peer.since):
            self.parting.append(peer)
        else:
            if holder is not None:
                self.parting.append(holder)
            self.workers[peer.index] = peer
        return before

    def _remove_worker(self, peer: Peer) -> bool:
        """Take it out; who was there before it has the place again, if it is there still. False when it was not in."""
        if peer in self.parting:
            self.parting.remove(peer)
            return True
        if self.workers.get(peer.index) is not peer:
            return False
        del self.workers[peer.index]
        others = [each for each in self.parting if each.index == peer.index and peer.index < self._expected]
        if others:
            heir = max(others, key=lambda each: each.since)
            self.parting.remove(heir)
            self.workers[peer.index] = heir
            self._listener.peer_joined(heir)
        return True

    def _leave(self, peer: Peer) -> None:
        if peer.kind == "worker":
            if not self._remove_worker(peer):
                return
        elif self.ledger is peer:
            self.ledger = None
        elif self.checker is peer:
            self.checker = None
        else:
            return  # a newer life took its place, and we parted then
        self._part(peer)

    def _part(self, peer: Peer) -> None:
        peer.close()
        if peer.kind == "ledger":
            for answer in self._questions.values():
                if not answer.done():
                    answer.set_exception(LedgerUnavailable("the ledger process ended before it answered"))
        self._listener.peer_left(peer)

    def _take(self, peer: Peer, message: ToSupervisor) -> None:
        peer.heard_at = self._clock()
        match message:
            case Applied(epoch):
                peer.applied = epoch
                self._tell()
            case WorkerStats() if peer.kind == "worker":
                if peer.configuration != message.configuration:
                    peer.configuration = message.configuration
                    self._tell()
                self._listener.worker_said(peer, message)
            case RouteSpread() if peer.kind == "worker":
                self._listener.worker_spread(peer, message)
            case AnsweredPairs() if peer.kind == "worker":
                if self.checker is not None:
                    self.checker.send(message)
            case Spans() if peer.kind in ("worker", "ledger"):
                self._listener.spans_said(peer, message)
            case SourceProgress() if peer.kind == "worker":
                self._listener.source_progressed(peer, message)
            case SourceStopped() if peer.kind == "worker":
                self._listener.source_stopped(peer, message)
            case CheckerStats() if peer.kind == "checker":
                self._listener.checker_said(peer, message)
            case LedgerStats() if peer.kind == "ledger":
                self._listener.ledger_said(peer, message)
            case ProposeSettings() if peer.kind == "loader":
                self._listener.settings_proposed(peer, message)
            case Reply() if peer.kind == "ledger":
                self._settle(message)
            case _:
                raise msgspec.DecodeError(f"{type(message).__name__} from a {peer.kind}")

    def _settle(self, reply: Reply) -> None:
        answer = self._questions.get(reply.id)
        if answer is None or answer.done():
            return  # asked too long ago: nobody waits for it any more
        if reply.error:
            answer.set_exception(LedgerRefused(reply.error))
        else:
            answer.set_result(reply.result)


async def _receive(reader: asyncio.StreamReader) -> ToSupervisor:
    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
    if length > MAX_MESSAGE:
        raise msgspec.DecodeError(f"announced message of {length} bytes")
    message: ToSupervisor | None = known(to_supervisor, await reader.readexactly(length))
    return message if message is not None else await _receive(reader)


def _left(faults: dict[str, tuple[Fault, float]], now: float) -> SetFaults:
    """The faults that have not ended, with the seconds that are left of them."""
    left = {route: (each, until - now) for route, (each, until) in faults.items() if until > now}
    return SetFaults({route: msgspec.structs.replace(each, seconds=seconds) for route, (each, seconds) in left.items()})

"""The supervisor: control plane of one instance. `python -m proxy.control.supervisor`, started by the launcher.

                     +--------------------------------------------- admin API, /metrics, /readyz
                     v                                                  |
    store --watch--> Supervisor --SetRouting--> workers, ledger         |
      ^                  ^                          |                   v
      +---- changes <----+--- guard <--- tally <----+ stats      audit, tokens

Workers and ledger go on without it; a new one takes up state, epoch and counters where this one left them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import uvloop

from proxy.control import switch_state
from proxy.control.admin import AdminServer
from proxy.control.audit import Audit
from proxy.control.changes import Changes
from proxy.control.completeness import Completeness
from proxy.control.configuration import Configuration
from proxy.control.drills import Drills
from proxy.control.duty import Duty, relief_of
from proxy.control.figures_file import FiguresFile
from proxy.control.file_store import FileStore
from proxy.control.freezes import Freezes
from proxy.control.guard import Guard
from proxy.control.handlers import Handlers
from proxy.control.hooks import Hooks
from proxy.control.inherit import EXIT_REFUSED, RELIEVED, Inherited, say_refusal, stop_requested
from proxy.control.instance import Instance, launcher
from proxy.control.link import (
    STATS_INTERVAL,
    CheckerStats,
    LedgerStats,
    ProposeSettings,
    RouteSpread,
    SetSettings,
    SourceProgress,
    SourceStopped,
    Spans,
    WorkerStats,
)
from proxy.control.logs import setup_logging
from proxy.control.notifier import Notifier
from proxy.control.peers import Peer, Peers
from proxy.control.probes import Probes
from proxy.control.recorder import Recorder
from proxy.control.reloads import Reloads
from proxy.control.rollouts import Rollouts
from proxy.control.snapshot import newest, snapshot
from proxy.control.sockets import listen_unix
from proxy.control.source_leases import SourceLeases
from proxy.control.span_export import SpanExport, encoder_of
from proxy.control.state import LiveState
from proxy.control.streams import Streams
from proxy.control.tally import Tally
from proxy.control.tokens import Tokens
from proxy.control.version import VERSION
from proxy.core.choose import plan, takes_back
from proxy.core.errors import RefuseToStart
from proxy.core.loop_lag import LoopLag
from proxy.ledger.marks import Marks

log = logging.getLogger(__name__)

SAVE_EVERY: Final = 5.0
"""Seconds between two saves of the counters."""
ORPHAN_GRACE: Final = 5.0
"""Seconds beyond `stop_grace` that an orphaned supervisor waits for the others."""


class Supervisor:
    """Puts the parts together and runs them. Raises RefuseToStart for files that are not ours.

    clock: monotonic seconds; wall: seconds since 1970.
    """

    def __init__(
        self,
        inherited: Inherited,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        settings, places = inherited.settings, inherited.places
        self._inherited = inherited
        self._clock = clock
        audit = Audit(places.audit, wall)
        self._store = FileStore(places.routing, floor=audit.last_epoch())
        self._tally = Tally(places.control_socket.parent / "counters", inherited.started_ns)
        self._peers = Peers(settings.workers, self, clock=clock)
        freezes = Freezes(places.freezes, wall)
        self._notifier = Notifier(
            settings.notifications, settings.instance or socket.gethostname(), self._tally.own, clock=clock, wall=wall
        )
        audit.listeners.append(self._notifier.take)
        self._traces = self._span_export()
        drills = Drills(audit, self._peers, self._tally.own, clock=clock, wall=wall, epoch=lambda: self.instance.epoch)
        file = Path(os.path.abspath(inherited.config_path))  # without following links: they are turned
        configuration = Configuration(places.configuration, settings, file, wall, inherited.started_ns / 1e9)
        changes = Changes(settings, self._store, audit, self._peers, self._tally, freezes, drills, clock=clock)
        self.instance = Instance(
            settings=settings,
            config_path=file,
            configuration=configuration,
            changes=changes,
            freezes=freezes,
            drills=drills,
            audit=audit,
            tokens=Tokens(places.tokens),
            peers=self._peers,
            tally=self._tally,
            probes=Probes(settings, self._peers.set_health),
            marks=Marks(inherited.marks_fd),
            started_ns=inherited.started_ns,
            clock=clock,
            wall=wall,
            ask_launcher=launcher(inherited.launcher_pid),
            figures_path=places.figures,
            receivers=self._notifier.health,
        )
        if self._traces is not None:
            self.instance.traces_trouble = self._traces.why
        self.instance.sources = SourceLeases(
            settings.sources,
            self._peers,
            audit,
            places.sources,
            self._tally.own,
            workers=settings.workers,
            clock=clock,
            epoch=lambda: self.instance.epoch,
            is_draining=lambda: self.instance.draining,
        )
        self._completeness = Completeness(self.instance.routes, self._tally, wall)
        self._guard = Guard(
            settings, changes, self._tally, self.instance.probes, drills, self.instance.rollouts, wall=wall
        )
        self._rollouts = Rollouts(self.instance, places.rollouts)
        self.recorder = Recorder(self.instance, FiguresFile(places.figures))
        self._reloads = Reloads(self.instance)
        self._hooks = Hooks(self.instance, self._rollouts, places.hooks)
        self._streams = Streams(lambda: snapshot(self.instance, self._rollouts), partial(newest, audit))
        audit.listeners.append(self._streams.written)
        handlers = Handlers(self.instance, self._rollouts, self._hooks, self._reloads, self._streams)
        self.admin = AdminServer(self.instance, handlers.table())
        self._tasks: list[asyncio.Task[None]] = []
        self._telling: list[asyncio.Task[None]] = []
        """Beside the others, for they have a moment more when everything stops."""
        self._said_ready = False
        self._failing: set[str] = set()
        """Backends to which the ledger makes no deliveries now."""

    def _span_export(self) -> SpanExport | None:
        settings = self._inherited.settings
        if settings.tracing is None:
            return None
        encoder = encoder_of(settings, settings.instance or socket.gethostname(), VERSION)
        return SpanExport(settings.tracing, encoder, self._tally.own, clock=self._clock)

    # --- life ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin everything; raises RefuseToStart."""
        places = self._inherited.places
        # First all that may refuse, so that a refusal has changed nothing that others see.
        self.admin.bind(places.admin_socket)
        configuration = self.instance.configuration
        state = await self.instance.changes.reconcile(configuration)
        configuration.serve()
        switch = switch_state.read(places.switch)
        if switch is not None and (switch.kind, switch.phase) == ("reload", "putting-back"):
            configuration.put_back(switch.reason)
        self._note(state)
        self.recorder.start()
        self._peers.set_settings(
            SetSettings(configuration.digest, configuration.instead_of, pickle.dumps(self.instance.settings))
        )
        self._peers.set_routing(state.routing)
        self._peers.set_faults({})  # a drill ends with the supervisor that knew of it
        await self._peers.start(listen_unix(places.control_socket))
        await self.admin.serve()
        self._tasks = [
            asyncio.create_task(self._follow_state()),
            asyncio.create_task(self._save_counters()),
            asyncio.create_task(self.recorder.run()),
            asyncio.create_task(self._rollouts.run()),
            asyncio.create_task(self.instance.availability.run()),
            asyncio.create_task(self.instance.sources.run()),
            asyncio.create_task(self._reloads.watch()),
            asyncio.create_task(self._follow_file()),
            asyncio.create_task(self.instance.switches.run()),
            asyncio.create_task(self._watch_loop()),
            *await self.instance.probes.start(),
        ]
        self._telling = self._notifier.start()
        if self._traces is not None:
            self._telling.append(self._traces.start())
        log.info("supervisor serves", extra={"epoch": self.instance.epoch, "admin": self.admin.tcp or "unix alone"})

    async def close(self) -> None:
        """Stop everything; the counters are saved last."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._reloads.close()
        await self._guard.settle()
        await self.instance.drills.close()
        await self._rollouts.close()
        await self.instance.baselines.close()
        self.instance.availability.save()
        self._streams.close()
        await self.admin.close()
        await self.instance.probes.close()
        await self._peers.close()
        await self.instance.sources.close()
        await self.recorder.close()
        await self._notifier.close()
        if self._traces is not None:
            await self._traces.close()
        self._tally.save()
        self._store.close()
        self.instance.audit.close()

    async def run(self, serving: Callable[[], object] = bool) -> str:
        """Serve until told to stop; why. serving: called when the API is there.

        An orphan stays until workers and ledger are gone, so that they are seen to end.
        """
        loop = asyncio.get_running_loop()
        stopping = asyncio.create_task(stop_requested(self._inherited, relief_of("supervisor")))
        loop.add_signal_handler(signal.SIGUSR1, self._drain)
        try:
            await self.start()
            serving()
            # None of the others ever ends by itself: if one does, it is with an error that must be seen.
            others = (*self._tasks, *self._telling)
            await asyncio.wait((stopping, *others), return_when=asyncio.FIRST_COMPLETED)
            for task in others:
                if task.done():
                    task.result()
            why = stopping.result()
            if why != RELIEVED:
                self._drain()
            log.info("stopping: %s", why)
            if why == "the launcher died":
                self._peers.stop_listening()
                await self._peers.wait_empty(self._inherited.settings.stop_grace + ORPHAN_GRACE)
            return why
        finally:
            stopping.cancel()
            await self.close()

    def _drain(self) -> None:
        self.instance.draining = True
        self._peers.drain(self._inherited.settings.stop_grace if self.instance.until_empty else 0.0)

    async def _follow_file(self) -> None:
        """Positions that the file has moved; then there is nothing to do."""
        await self.instance.changes.follow_file(self.instance.configuration)
        await asyncio.Event().wait()

    # --- what the peers do and say -------------------------------------------------------------------------

    def peer_joined(self, peer: Peer) -> None:
        """A process registered."""
        log.info("%s %d joined", peer.kind, peer.index, extra={"peer": peer.pid})
        if peer.kind == "ledger":
            self._tally.ledger_joined(peer.life)
        elif peer.kind == "worker":
            self._tally.joined(peer.index, peer.life, has_place=self._peers.workers.get(peer.index) is peer)

    def peer_left(self, peer: Peer) -> None:
        """Its link ended."""
        was_replaced = peer.kind == "worker" and peer.index in self._peers.workers
        level = logging.INFO if self.instance.draining or was_replaced else logging.WARNING
        log.log(level, "%s %d left", peer.kind, peer.index, extra={"peer": peer.pid})
        if peer.kind == "ledger":
            self._tally.ledger_left()
            self._failing.clear()  # a new ledger says nothing of what the last one waited for
        elif peer.kind == "worker":
            self._tally.left(peer.index, peer.life)
        elif peer.kind == "checker":
            self._tally.checker = None

    def worker_said(self, peer: Peer, stats: WorkerStats) -> None:
        """A worker's figures: count them, judge the routes."""
        now = self._clock()
        slot = self._tally.slot(peer.index, peer.life)
        if self._completeness.heard(peer.index, slot.latest if slot is not None else None, stats):
            self._tally.save()
        self._tally.take(peer.index, stats, now, peer.life)
        self.instance.sources.heard(peer, stats.sources)
        self._guard.look(self.instance.state, now)
        self._say_ready()

    def worker_spread(self, peer: Peer, spread: RouteSpread) -> None:
        """Where a route's events lay, and whether they went where they were to."""
        route, state, now = self.instance.routes.get(spread.route), self.instance.state, self._clock()
        if route is None:
            return
        self.instance.spreads.take(peer.index, spread, now)
        if state is not None and spread.epoch == state.revision:
            wanted = plan(state.routes[spread.route].dials, carry_over=route.carry_over)
            wrong = self.instance.splits.take(peer.index, spread, wanted, now)
            if wrong:
                self._tally.own["misplaced_events"] += wrong
                log.error("%d events went to the wrong side", wrong, extra={"route": route.name, "worker": peer.index})

    def source_progressed(self, peer: Peer, progress: SourceProgress) -> None:
        """How far a source is."""
        self.instance.sources.progress(peer, progress)

    def source_stopped(self, peer: Peer, stopped: SourceStopped) -> None:
        """Another worker may have it."""
        self.instance.sources.stopped(peer, stopped)

    def spans_said(self, _peer: Peer, spans: Spans) -> None:
        """What is told of traces."""
        if self._traces is not None:
            self._traces.take(spans.spans, spans.dropped)

    def ledger_said(self, _peer: Peer, stats: LedgerStats) -> None:
        """The ledger's figures."""
        self._tally.take_ledger(stats)
        failing = {side.backend for side in stats.sides if not side.is_open}
        recovered = sorted(self._failing - failing)
        self._failing = failing
        if recovered:
            self._peers.backends_recovered(recovered)
        self._say_ready()

    def checker_said(self, _peer: Peer, stats: CheckerStats) -> None:
        """The live checker's figures: judge the routes by them."""
        self._tally.checker = stats
        now = self._clock()
        self._tally.checks, self._tally.answers, self._tally.checked_at = stats.checks, stats.answers, now
        self._guard.look(self.instance.state, now)

    def settings_proposed(self, peer: Peer, proposal: ProposeSettings) -> None:
        """The file was read again."""
        self._reloads.proposed(peer, proposal)

    def _say_ready(self) -> None:
        """Tell the launcher once that traffic may come, and where the admin API is."""
        if self._said_ready or self.instance.not_ready():
            return
        self._said_ready = True
        os.write(self._inherited.ready_fd, f"ready {self.admin.tcp}".rstrip().encode() + b"\n")

    # --- work in the background ----------------------------------------------------------------------------

    async def _follow_state(self) -> None:
        """Hand each new state to everybody."""
        async for state in self._store.watch():
            if state == self.instance.state:
                continue
            back = self._taken_back(self.instance.state, state)
            self._note(state)
            if not back:
                self._peers.set_routing(state.routing)
            elif not await self._peers.set_routing_ledger_first(state.routing):
                self._tally.own["routings_before_ledger"] += 1
                log.warning(
                    "the ledger did not apply epoch %d in time: deferred events of %s may reach old after later ones",
                    state.revision,
                    ", ".join(back),
                )

    def _taken_back(self, before: LiveState | None, after: LiveState) -> list[str]:
        """Routes of which deferred events are to be delivered now."""
        if before is None:
            return []
        return [
            name
            for name, route in self.instance.routes.items()
            if route.carry_over and takes_back(before.routes[name].dials, after.routes[name].dials)
        ]

    def _note(self, state: LiveState) -> None:
        self.instance.take(state)
        self._completeness.take(state)
        self._streams.changed()

    async def _save_counters(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY)
            self._tally.save()

    async def _watch_loop(self) -> None:
        """How late this loop is: real time, whatever the clock is."""
        lag = LoopLag()
        while True:
            lag.expect(time.monotonic() + STATS_INTERVAL)
            await asyncio.sleep(STATS_INTERVAL)
            self.instance.loop_lag = lag.ran(time.monotonic())


async def _main(inherited: Inherited, serving: Callable[[], None]) -> str:
    return await Supervisor(inherited).run(serving)


def main() -> int:
    """Run the supervisor; its exit code."""
    try:
        inherited = Inherited.from_environment()
        setup_logging(inherited.settings.log, "supervisor")
        duty = Duty(inherited, "supervisor")
        return duty.run(lambda inherited: uvloop.run(_main(inherited, duty.serving)))
    except RefuseToStart as refusal:
        log.error("refusing to start: %s", refusal)
        say_refusal(refusal)
        return EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main())

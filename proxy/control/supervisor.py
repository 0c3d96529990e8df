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
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

import uvloop

from proxy.control.admin import AdminServer
from proxy.control.audit import Audit
from proxy.control.changes import Changes
from proxy.control.completeness import Completeness
from proxy.control.file_store import FileStore
from proxy.control.guard import Guard
from proxy.control.handlers import Handlers
from proxy.control.inherit import EXIT_REFUSED, Inherited, say_refusal, stop_requested
from proxy.control.instance import Instance, ask_launcher_to_stop
from proxy.control.link import CheckerStats, LedgerStats, RouteSpread, WorkerStats
from proxy.control.logs import setup_logging
from proxy.control.peers import Peer, Peers
from proxy.control.probes import Probes
from proxy.control.rollouts import Rollouts
from proxy.control.sockets import listen_unix
from proxy.control.state import LiveState
from proxy.control.tally import Tally
from proxy.control.tokens import Tokens
from proxy.core.choose import takes_back
from proxy.core.errors import RefuseToStart
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
        changes = Changes(settings, self._store, audit, self._peers, self._tally, clock=clock)
        self.instance = Instance(
            settings=settings,
            config_path=inherited.config_path.resolve(),
            changes=changes,
            audit=audit,
            tokens=Tokens(places.tokens),
            peers=self._peers,
            tally=self._tally,
            probes=Probes(settings, self._peers.set_health),
            marks=Marks(inherited.marks_fd),
            started_ns=inherited.started_ns,
            clock=clock,
            wall=wall,
            stop=ask_launcher_to_stop(inherited.launcher_pid),
        )
        self._completeness = Completeness(self.instance.routes, self._tally, wall)
        self._guard = Guard(settings, changes, self._tally, self.instance.probes)
        self._rollouts = Rollouts(self.instance, places.rollouts)
        self.admin = AdminServer(self.instance, Handlers(self.instance, self._rollouts).table())
        self._tasks: list[asyncio.Task[None]] = []
        self._said_ready = False
        self._failing: set[str] = set()
        """Backends to which the ledger makes no deliveries now."""

    # --- life ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin everything; raises RefuseToStart."""
        places = self._inherited.places
        # First all that may refuse, so that a refusal has changed nothing that others see.
        self.admin.bind(places.admin_socket)
        state = await self.instance.changes.reconcile()
        self._note(state)
        self._peers.set_routing(state.routing)
        await self._peers.start(listen_unix(places.control_socket))
        await self.admin.serve()
        self._tasks = [
            asyncio.create_task(self._follow_state()),
            asyncio.create_task(self._save_counters()),
            asyncio.create_task(self._rollouts.run()),
            *await self.instance.probes.start(),
        ]
        log.info("supervisor serves", extra={"epoch": self.instance.epoch, "admin": self.admin.tcp or "unix alone"})

    async def close(self) -> None:
        """Stop everything; the counters are saved last."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._guard.settle()
        await self.admin.close()
        await self.instance.probes.close()
        await self._peers.close()
        self._save()

    async def run(self) -> None:
        """Serve until told to stop. An orphan stays until workers and ledger are gone, so that they are seen to end."""
        loop = asyncio.get_running_loop()
        stopping = asyncio.create_task(stop_requested(self._inherited))
        loop.add_signal_handler(signal.SIGUSR1, self._drain)
        try:
            await self.start()
            # None of the others ever ends by itself: if one does, it is with an error that must be seen.
            await asyncio.wait((stopping, *self._tasks), return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done():
                    task.result()
            why = stopping.result()
            self._drain()
            log.info("stopping: %s", why)
            if why == "the launcher died":
                self._peers.stop_listening()
                await self._peers.wait_empty(self._inherited.settings.stop_grace + ORPHAN_GRACE)
        finally:
            stopping.cancel()
            await self.close()

    def _drain(self) -> None:
        self.instance.draining = True

    # --- what the peers do and say -------------------------------------------------------------------------

    def peer_joined(self, peer: Peer) -> None:
        """A process registered."""
        log.info("%s %d joined", peer.kind, peer.index, extra={"peer": peer.pid})
        if peer.kind == "ledger":
            self._tally.ledger_joined(peer.life)
        elif peer.kind == "worker":
            self._tally.joined(peer.index, peer.life)

    def peer_left(self, peer: Peer) -> None:
        """Its link ended."""
        level = logging.INFO if self.instance.draining else logging.WARNING
        log.log(level, "%s %d left", peer.kind, peer.index, extra={"peer": peer.pid})
        if peer.kind == "ledger":
            self._tally.ledger_left()
            self._failing.clear()  # a new ledger says nothing of what the last one waited for
        elif peer.kind == "worker":
            self._tally.left(peer.index)

    def worker_said(self, peer: Peer, stats: WorkerStats) -> None:
        """A worker's figures: count them, judge the routes."""
        now = self._clock()
        slot = self._tally.slot(peer.index)
        if self._completeness.heard(peer.index, slot.latest if slot is not None else None, stats):
            self._save()
        self._tally.take(peer.index, stats, now)
        self._guard.look(self.instance.state, now)
        self._say_ready()

    def worker_spread(self, peer: Peer, spread: RouteSpread) -> None:
        """Where a route's events lay."""
        if spread.route in self.instance.routes:
            self.instance.spreads.take(peer.index, spread, self._clock())

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
        self._tally.checks, self._tally.answers = stats.checks, stats.answers
        self._guard.look(self.instance.state, self._clock())

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

    async def _save_counters(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY)
            self._save()

    def _save(self) -> None:
        try:
            self._tally.save()
        except OSError as error:
            self._tally.own["counters_not_saved"] += 1
            log.warning("the counters could not be saved: %s", error)


async def _main(inherited: Inherited) -> None:
    await Supervisor(inherited).run()


def main() -> int:
    """Run the supervisor; its exit code."""
    try:
        inherited = Inherited.from_environment()
        setup_logging(inherited.settings.log, "supervisor")
        uvloop.run(_main(inherited))
    except RefuseToStart as refusal:
        log.error("refusing to start: %s", refusal)
        say_refusal(refusal)
        return EXIT_REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())

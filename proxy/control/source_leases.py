"""Which worker runs which source: exactly one at a time, and another one when that has stopped or is dead.

    nobody --> written, then RunSource --> runs --> SourceStopped ----------> nobody
                                            |  \\--> its process is gone ----> nobody
                                            |\\--> it says nothing for HANG seconds: its process is ended
                                            \\--> its link ended: it may still run, so it is waited for

A lease is in `sources.json` before its worker hears of it, so that a supervisor which comes later knows of whom to ask
whether it has ended. It has no time limit: workers go on without a supervisor, and so do sources. What was accepted of
a source's states is in the same file, written once in a second, for the worker that has the source next.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from config.sources import Source
from proxy.control import processes
from proxy.control.audit import Audit, Entry
from proxy.control.changes import OWN_ACTOR
from proxy.control.files import write_whole
from proxy.control.link import RunSource, SourceProgress, SourceStats, SourceStopped, StopSource
from proxy.control.peers import Peer, Peers
from proxy.core.errors import RefuseToStart

log = logging.getLogger(__name__)

LEASES_SCHEMA: Final = 1
LOOK_EVERY: Final = 0.25
"""Seconds."""
SAVE_EVERY: Final = 1.0
"""Seconds between two writes of what was accepted."""
FIRST_WAIT: Final = 3.0
"""Seconds that a supervisor which knows no lease of a source waits for workers that may run it."""
HANG: Final = 30.0
"""Seconds for which a worker that has a source may say nothing, over a link that stands, or be stopped by a signal."""
_STEP: Final = 1.0
"""Seconds that one look counts for at most: who did not look for longer hears nobody, either."""
_SILENCE: Final = 3.0
"""Seconds without a report after which a worker is leased nothing."""


class Lease(msgspec.Struct, forbid_unknown_fields=True):
    """One source. generation: of its last lease, rising; worker, life, pid, started: who has it; is_over: nobody.

    started: when that process was, as `proxy.control.processes` says; states, is_established, had_connection: as in
    `RunSource`.
    """

    generation: int = 0
    worker: int = -1
    life: str = ""
    pid: int = 0
    started: int = 0
    is_over: bool = True
    is_established: bool = False
    had_connection: bool = False
    states: dict[str, str] = {}


class _File(msgspec.Struct, forbid_unknown_fields=True):
    schema: int
    sources: dict[str, Lease]


class SourceLeases:
    """The leases of an instance. clock: monotonic; is_draining: nothing is begun any more; counts: by name.

    Raises RefuseToStart for a file that is not ours.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        peers: Peers,
        audit: Audit,
        path: Path,
        counts: Counter[str],
        *,
        workers: int,
        clock: Callable[[], float],
        epoch: Callable[[], int],
        is_draining: Callable[[], bool],
        started: Callable[[int], int] = processes.started,
        is_stopped: Callable[[int], bool] = processes.is_stopped,
        end: Callable[[int], None] = processes.end,
    ) -> None:
        self._routes = {source.name: source.route for source in sources}
        self._peers = peers
        self._audit = audit
        self._path = path
        self._counts = counts
        self._workers = workers
        self._clock = clock
        self._epoch = epoch
        self._is_draining = is_draining
        self._started = started
        self._is_stopped = is_stopped
        self._end = end
        self._looked_at = clock()
        self._hanging: dict[str, float] = {}
        """Seconds, by the life of a worker that does nothing."""
        self._leases = _read(path)
        self._writer = ThreadPoolExecutor(1, "sources")
        """Of writes alone, as that of the audit trail: one that hangs is nobody else's."""
        self._told: dict[str, Peer] = {}
        self._heard: set[str] = set()
        """Lives of workers that have said which sources they run."""
        self._leaving: set[str] = set()
        """Lives of workers that have stopped one by themselves: they end."""
        self._is_changed = False
        self._began_at = clock()
        self._saved_at = clock()
        self._news = asyncio.Event()
        self.trouble = ""
        """Why nothing can be leased, or empty."""

    @property
    def names(self) -> list[str]:
        """Of all sources."""
        return [*self._routes]

    def of(self, name: str) -> Lease:
        """The last lease of a source."""
        return self._leases.get(name) or Lease()

    # what workers say

    def heard(self, peer: Peer, sources: Sequence[SourceStats]) -> None:
        """These run there."""
        if peer.life not in self._heard:
            self._heard.add(peer.life)
            self._news.set()
        for each in sources:
            lease = self.of(each.name)
            if each.generation == lease.generation and peer.life == lease.life:
                continue
            if each.generation > lease.generation and self._is_free(lease):
                if self._give(each.name, lease, peer, each.generation):  # the file was lost, and it runs
                    self._told[each.name] = peer
            else:
                peer.send(StopSource(each.name, each.generation))

    def progress(self, peer: Peer, said: SourceProgress) -> None:
        """What was accepted under a lease."""
        lease = self.of(said.name)
        if said.generation != lease.generation or peer.life != lease.life:
            return
        if said.is_whole:
            lease.states = {}
        for name, version in said.states.items():
            if version is None:
                lease.states.pop(name, None)
            else:
                lease.states[name] = version
        lease.is_established |= said.is_established
        lease.had_connection |= said.had_connection
        self._is_changed = True

    def stopped(self, peer: Peer, said: SourceStopped) -> None:
        """A lease is over."""
        lease = self.of(said.name)
        if said.generation == lease.generation and peer.life == lease.life:
            lease.is_over = self._is_changed = True
            self._leaving.add(peer.life)
            self._news.set()

    # what is done

    async def run(self) -> None:
        """Look at all of them for ever."""
        await self.forget_removed()
        while self._routes:
            await self.look()
            self._news.clear()
            try:
                async with asyncio.timeout(LOOK_EVERY):
                    await self._news.wait()
            except TimeoutError:
                continue
        await asyncio.Event().wait()

    async def forget_removed(self) -> None:
        """Forget sources that are not configured any more, but for those that an earlier worker still runs."""
        removed = [name for name, lease in self._leases.items() if name not in self._routes and self._is_free(lease)]
        for name in removed:
            del self._leases[name]
            log.warning("source %s is not configured any more: what it has told is forgotten", name)
        if removed:
            await self._save()

    async def look(self) -> None:
        """Lease what nobody has, end who hangs, and write what is new."""
        now = self._clock()
        step, self._looked_at = min(now - self._looked_at, _STEP), now
        for lease in {self.of(name).life: self.of(name) for name in self._routes}.values():
            self._watch(lease, step)
        for name in self._routes:
            lease = self.of(name)
            holder = self._peers.workers.get(lease.worker)
            if not lease.is_over and holder is not None and holder.life == lease.life:
                self._tell(name, holder)
            elif self._is_free(lease):
                await self._lease(name, lease)
        if self._is_changed and self._clock() - self._saved_at >= SAVE_EVERY:
            await self._save()

    async def close(self) -> None:
        """Write what is new, the last time."""
        if self._is_changed:
            await self._save()
        self._writer.shutdown(wait=False)

    def _watch(self, lease: Lease, step: float) -> None:
        """End a worker that hangs: it would keep its source for ever, and might go on with it at any time.

        One whose link has ended is left alone unless it is stopped: it may be well, and just not reach us.
        """
        if lease.is_over or not self._hangs(lease):
            self._hanging.pop(lease.life, None)
            return
        self._hanging[lease.life] = self._hanging.get(lease.life, 0.0) + step
        if self._hanging[lease.life] >= HANG and self._started(lease.pid) == lease.started:
            del self._hanging[lease.life]
            log.error("worker %d has a source and has done nothing for %g s: it is ended", lease.worker, HANG)
            self._counts["workers_ended"] += 1
            try:
                self._end(lease.pid)
            except OSError as error:
                log.error("worker %d cannot be ended: %s", lease.worker, error.strerror or error)

    def _hangs(self, lease: Lease) -> bool:
        holder = self._peers.workers.get(lease.worker)
        if holder is None or holder.life != lease.life:
            return self._is_stopped(lease.pid) and self._started(lease.pid) == lease.started
        return self._clock() - holder.heard_at > _SILENCE

    def _is_free(self, lease: Lease) -> bool:
        if lease.is_over:
            return True
        started = self._started(lease.pid)
        return started == processes.GONE or started not in (lease.started, processes.UNKNOWN)

    async def _lease(self, name: str, lease: Lease) -> None:
        peer = self._candidate(lease)
        if peer is None:
            return
        why = f"worker {lease.worker} {'has stopped' if lease.is_over else 'is dead'}"
        before = msgspec.structs.replace(lease)
        if not self._give(name, lease, peer, lease.generation + 1):
            return
        if not await self._save():
            self._leases[name] = msgspec.structs.replace(before, generation=lease.generation)  # nobody has heard of it
            return
        has_moved = self._told.pop(name, None) is not None
        self._tell(name, peer)
        log.info("source %s is leased to worker %d", name, peer.index, extra={"generation": lease.generation})
        if has_moved:
            self._counts["sources_moved"] += 1
            await self._write_down(name, peer, why)

    def _candidate(self, lease: Lease) -> Peer | None:
        """The worker with the fewest sources that serves; None while there is none, or one may have it already."""
        now, workers = self._clock(), self._peers.workers
        if self._is_draining() or any(peer.life not in self._heard for peer in workers.values()):
            return None
        if not lease.generation and len(workers) < self._workers and now - self._began_at < FIRST_WAIT:
            return None
        loads = Counter(each.worker for each in self._leases.values() if not each.is_over)
        fit = [peer for peer in workers.values() if peer.applied and now - peer.heard_at < _SILENCE]
        fit = [peer for peer in fit if peer.life not in self._leaving]
        return min(fit, key=lambda peer: (loads[peer.index], peer.index), default=None)

    def _give(self, name: str, lease: Lease, peer: Peer, generation: int) -> bool:
        """False where that process cannot be looked at: its end would be seen too early."""
        started = self._started(peer.pid)
        if started == processes.UNKNOWN:
            return False
        lease.generation, lease.is_over = generation, False
        lease.worker, lease.life, lease.pid = peer.index, peer.life, peer.pid
        lease.started = started
        self._leases[name] = lease
        self._is_changed = True
        return True

    def _tell(self, name: str, peer: Peer) -> None:
        """Once for each connection; a worker that runs it already goes on."""
        if self._told.get(name) is peer:
            return
        lease = self._leases[name]
        run = RunSource(name, lease.generation, lease.is_established, lease.had_connection, lease.states)
        peer.send(run)
        self._told[name] = peer

    async def _write_down(self, name: str, peer: Peer, why: str) -> None:
        epoch = self._epoch()
        evidence = {"source": name, "worker": peer.index, "generation": self._leases[name].generation}
        try:
            await self._audit.write(
                Entry("", epoch, epoch, OWN_ACTOR, "source-moved", self._routes[name], reason=why, evidence=evidence)
            )
        except OSError as error:
            log.warning("the audit trail cannot be written: %s", error)

    async def _save(self) -> bool:
        data = msgspec.json.encode(_File(LEASES_SCHEMA, self._leases))
        self._is_changed, self._saved_at = False, self._clock()
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, write_whole, self._path, data)
        except asyncio.CancelledError:
            self._is_changed = True  # it may be written or not: what is written next comes behind it
            raise
        except OSError as error:
            self._is_changed = True
            self._counts["sources_not_saved"] += 1
            trouble = f"{self._path.name} cannot be written: {error.strerror or error}"
            if trouble != self.trouble:
                log.warning("%s", trouble)
            self.trouble = trouble
            return False
        self.trouble = ""
        return True


def _read(path: Path) -> dict[str, Lease]:
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise RefuseToStart(f"{path} cannot be read: {error}; move it away to begin all sources anew") from None
    if content.schema != LEASES_SCHEMA:
        raise RefuseToStart(f"{path} has schema {content.schema}, this version reads {LEASES_SCHEMA}")
    return content.sources

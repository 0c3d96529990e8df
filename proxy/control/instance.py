"""One instance as its supervisor knows it: the parts that the admin API and the metrics look at."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from config.model import Route, Settings
from proxy.control.audit import Audit
from proxy.control.availability import Availability
from proxy.control.baselines import Baselines
from proxy.control.changes import APPLY_WAIT, Changes
from proxy.control.configuration import Configuration
from proxy.control.drills import Drills
from proxy.control.freezes import Freezes
from proxy.control.hook_limit import HookLimits
from proxy.control.inherit import places_of
from proxy.control.logs import LogLevel
from proxy.control.peers import Peer, Peers
from proxy.control.probes import Probes
from proxy.control.source_leases import SourceLeases
from proxy.control.splits import Splits
from proxy.control.spreads import Spreads
from proxy.control.state import LiveState
from proxy.control.switches import Switches
from proxy.control.tally import Tally
from proxy.control.tokens import Tokens
from proxy.control.views import ReceiverView
from proxy.core.rollout import Rollout
from proxy.ledger.marks import FAILED, LOW_DISK, Marks

SILENCE: Final = 3.0
"""Seconds without a report, four of which are due each second, after which a process counts as hanging."""


@dataclass
class Instance:
    """The parts. clock: monotonic seconds; wall: seconds since 1970; ask_launcher: sends it a signal.

    changed_at: when the live state came, scraped_at: when somebody read the metrics last, on the clock.
    figures_path: of past figures; figures_trouble: why they are not kept at the moment, or empty.
    """

    settings: Settings
    config_path: Path
    configuration: Configuration
    changes: Changes
    freezes: Freezes
    drills: Drills
    audit: Audit
    tokens: Tokens
    peers: Peers
    tally: Tally
    probes: Probes
    marks: Marks
    started_ns: int
    clock: Callable[[], float]
    wall: Callable[[], float]
    ask_launcher: Callable[[signal.Signals], None]
    figures_path: Path
    state: LiveState | None = None
    changed_at: float = 0.0
    scraped_at: float | None = None
    draining: bool = False
    until_empty: bool = False
    """What is pending is to be delivered before the ledger ends."""
    figures_trouble: str = ""
    spreads: Spreads = field(default_factory=Spreads)
    splits: Splits = field(default_factory=Splits)
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    """The last rollout of each route that had one."""
    routes: dict[str, Route] = field(init=False)
    baselines: Baselines = field(init=False)
    availability: Availability = field(init=False)
    hook_limits: HookLimits = field(init=False)
    receivers: Callable[[], list[ReceiverView]] = list
    """How it stands with those that are told of changes."""
    sources: SourceLeases = field(init=False)
    """Set by the supervisor, whose peers they need."""
    switches: Switches = field(init=False)
    crew_path: Path = field(init=False)
    """Of what the launcher says of processes that died."""
    began: tuple[float, float] = field(default_factory=lambda: (time.time(), time.monotonic()))
    """When this was made, by the wall clock and by the monotonic one."""
    log_level: LogLevel = field(init=False)
    """This process's own."""
    loop_lag: float = 0.0
    """Seconds that the supervisor's loop was late by lately, at most."""
    traces_trouble: Callable[[], str] = str
    """Why traces cannot be sent, or empty."""
    hooks_trouble: Callable[[], str] = str
    """Why what hooks get is not acted on, or empty."""

    def __post_init__(self) -> None:
        self.log_level = LogLevel(self.settings.log)
        places, clock, wall = places_of(self.settings), self.clock, self.wall
        self.baselines = Baselines(
            places.baselines, self.tally, self.audit, clock=clock, wall=wall, gates=self.settings.gates
        )
        self.availability = Availability(
            places.availability, self.started_ns, lambda: not self.not_ready(), self.tally.own, clock=clock, wall=wall
        )
        self.switches = Switches(
            places.switch,
            self.audit,
            self.tally.own,
            self.ask_launcher,
            lambda: self.epoch,
            self.configuration.has_told,
            self.configuration.ended,
        )
        self.crew_path = places.crew
        self.hook_limits = HookLimits(self.tally.own, clock)
        self.routes = {route.name: route for route in self.settings.routes}

    def take(self, state: LiveState) -> None:
        """This is the live state from now on."""
        self.state, self.changed_at = state, self.clock()

    @property
    def epoch(self) -> int:
        """The present epoch; 0 before there is one."""
        return self.state.revision if self.state is not None else 0

    def stop(self) -> None:
        """Ask the launcher to stop everything."""
        self.ask_launcher(signal.SIGTERM)

    def not_ready(self) -> list[str]:
        """Why traffic should not come now; empty when it may."""
        reasons = []
        if self.draining:
            reasons.append("draining")
        if self.state is None:
            reasons.append("there is no live routing yet")
        # Workers that are just about to apply a change serve well meanwhile: readiness must not flicker for it.
        epoch = 1 if self.clock() - self.changed_at < APPLY_WAIT else self.epoch
        applied, wanted = self.peers.applied(epoch), self.settings.workers
        # One process after the other is replaced, and the rest serve: whoever sends clients need not hear of it.
        is_switching = applied > 0 and (switch := self.switches.state) is not None and switch.runs
        if applied < wanted and not is_switching:
            reasons.append(f"{applied} of {wanted} workers have applied epoch {self.epoch}")
        ledger = self.peers.ledger
        if ledger is None and not is_switching:
            reasons.append("the ledger is not connected")
        elif ledger is not None and self._hangs(ledger):
            reasons.append(_hanging("the ledger", ledger))
        hanging = self.hanging_workers()
        if hanging and len(hanging) == applied:
            reasons += hanging  # as of those that shed
        sheds = self.shedding()
        if sheds and len(sheds) == applied:
            # One that does not takes the clients that the others leave waiting, so all of them must.
            reasons += sheds
        if self.marks.flag(LOW_DISK):
            reasons.append("low disk: new events get 503 until there is room")
        if self.marks.flag(FAILED):
            reasons.append("the ledger failed and is restarting")
        return reasons

    def hanging_workers(self) -> list[str]:
        """Which workers say nothing any more: their clients wait. The others take those that come."""
        found = sorted(self.peers.workers.items())
        return [_hanging(f"worker {index}", worker) for index, worker in found if self._hangs(worker)]

    def _hangs(self, peer: Peer) -> bool:
        """Not while this process has stood still itself: what others said meanwhile may not be read yet."""
        return self.clock() - peer.heard_at > SILENCE and self.loop_lag < SILENCE

    def shedding(self) -> list[str]:
        """Which workers turn requests or clients away, and why."""
        return [f"worker {index} sheds: {stats.sheds}" for index, stats in self.tally.present() if stats.sheds]


def _hanging(name: str, peer: Peer) -> str:
    return f"{name} (process {peer.pid}) hangs: it has said nothing for {SILENCE:g} s"


def launcher(pid: int) -> Callable[[signal.Signals], None]:
    """The `ask_launcher` of an instance. One that died is nobody's parent, so no stranger gets the signal."""

    def ask(number: signal.Signals) -> None:
        if os.getppid() == pid:
            os.kill(pid, number)

    return ask

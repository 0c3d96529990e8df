"""One instance as its supervisor knows it: the parts that the admin API and the metrics look at."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from config.model import Route, Settings
from proxy.control.audit import Audit
from proxy.control.changes import APPLY_WAIT, Changes
from proxy.control.peers import Peers
from proxy.control.probes import Probes
from proxy.control.spreads import Spreads
from proxy.control.state import LiveState
from proxy.control.tally import Tally
from proxy.control.tokens import Tokens
from proxy.core.rollout import Rollout
from proxy.ledger.marks import FAILED, LOW_DISK, Marks


def _version() -> str:
    try:
        return version("crossfade")
    except PackageNotFoundError:  # run from an unpacked source tree
        return "unreleased"


VERSION: Final = _version()
SILENCE: Final = 3.0
"""Seconds without a report, four of which are due each second, after which a process counts as hanging."""


@dataclass
class Instance:
    """The parts. clock: monotonic seconds; wall: seconds since 1970; stop: asks the launcher to stop everything.

    changed_at: when the live state came, on the clock.
    """

    settings: Settings
    config_path: Path
    changes: Changes
    audit: Audit
    tokens: Tokens
    peers: Peers
    tally: Tally
    probes: Probes
    marks: Marks
    started_ns: int
    clock: Callable[[], float]
    wall: Callable[[], float]
    stop: Callable[[], None]
    state: LiveState | None = None
    changed_at: float = 0.0
    draining: bool = False
    spreads: Spreads = field(default_factory=Spreads)
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    """The last rollout of each route that had one."""
    routes: dict[str, Route] = field(init=False)

    def __post_init__(self) -> None:
        self.routes = {route.name: route for route in self.settings.routes}

    def take(self, state: LiveState) -> None:
        """This is the live state from now on."""
        self.state, self.changed_at = state, self.clock()

    @property
    def epoch(self) -> int:
        """The present epoch; 0 before there is one."""
        return self.state.revision if self.state is not None else 0

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
        if applied < wanted:
            reasons.append(f"{applied} of {wanted} workers have applied epoch {self.epoch}")
        ledger = self.peers.ledger
        if ledger is None:
            reasons.append("the ledger is not connected")
        elif self.clock() - ledger.heard_at > SILENCE:
            reasons.append(f"the ledger (process {ledger.pid}) hangs: it has said nothing for {SILENCE:g} s")
        sheds = self.shedding()
        if sheds and len(sheds) == applied:
            # One that does not takes the clients that the others leave waiting, so all of them must.
            reasons += sheds
        if self.marks.flag(LOW_DISK):
            reasons.append("low disk: new events get 503 until there is room")
        if self.marks.flag(FAILED):
            reasons.append("the ledger failed and is restarting")
        return reasons

    def shedding(self) -> list[str]:
        """Which workers turn requests or clients away, and why."""
        return [f"worker {index} sheds: {stats.sheds}" for index, stats in self.tally.present() if stats.sheds]


def ask_launcher_to_stop(launcher_pid: int) -> Callable[[], None]:
    """The `stop` of an instance. A launcher that died is nobody's parent, so no stranger gets the signal."""

    def stop() -> None:
        if os.getppid() == launcher_pid:
            os.kill(launcher_pid, signal.SIGTERM)

    return stop

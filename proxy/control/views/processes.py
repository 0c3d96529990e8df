"""The instance's processes: what they are, and what is done with them."""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.control.doctor.finding import Finding


class WorkerView(msgspec.Struct):
    """One worker. Figures of one that is not alive are its last.

    sessions: open WebSocket sessions, which are clients, too; held_bytes of budget_bytes: what clients make it hold,
    of its share of limits.memory; sheds: why it turns requests or clients away at the moment, null when it does not.
    """

    index: int
    pid: int
    epoch: int
    in_flight: int
    clients: int
    sessions: int
    rss_bytes: int
    alive: bool
    restarts: int
    held_bytes: int
    budget_bytes: int
    sheds: str | None


class ProcessView(msgspec.Struct):
    """A process in a switch. state: waits, starts, done, failed, put-back (its predecessor serves again) or kept."""

    name: str
    state: str
    pid: int
    reason: str


class SwitchView(msgspec.Struct):
    """The replacement of processes that runs, or ran last; number 0 where there was none.

    kind: upgrade or reload; phase: checking, replacing, watching, launcher, putting-back or ended; result: empty while
    it runs, else done, refused, put-back or failed; detail: what it shows of itself.
    """

    number: int
    kind: str
    phase: str
    result: str
    reason: str
    began_at: str | None
    ended_at: str | None
    version_before: str
    version_after: str
    processes: list[ProcessView]
    detail: dict[str, Any]
    dry_run: bool


class DeathsView(msgspec.Struct):
    """A process that has died. died: how often since the instance started; last_end: how, the last time.

    crash_loop: it dies soon after each start, and waits longer each time; short_lives: how often in a row.
    """

    name: str
    died: int
    crash_loop: bool
    short_lives: int
    last_end: str


class SessionsView(msgspec.Struct):
    """WebSocket sessions of all routes. open: at the moment; the others: messages so far.

    from_client: each an event; to_client: of the side that answers; dropped: of one that does not.
    """

    open: int
    from_client: int
    to_client: int
    dropped: int


class LedgerView(msgspec.Struct):
    """The ledger process; balanced: every side's owed is the sum of its states. Until it has told of itself, and while
    it is away, nothing is known, and every figure is null.
    """

    alive: bool
    pid: int
    pending: int | None = None
    deferred: int | None = None
    dead: int | None = None
    balanced: bool | None = None
    segments: int | None = None
    bytes_on_disk: int | None = None
    disk_free: int | None = None
    low_disk: bool | None = None
    gaps: int | None = None
    commit_p99_s: float | None = None
    receipts: int | None = None


class Diagnosis(msgspec.Struct):
    """What the doctor found. result: the worst state of a finding, ok, warn or fail."""

    result: str
    version: str
    findings: list[Finding]


class LogLevelSet(msgspec.Struct):
    """The log level that processes have meanwhile. told: how many heard of it; until: null for the configured one."""

    level: str
    process: str
    told: int
    until: str | None
    dry_run: bool


class Draining(msgspec.Struct):
    """The instance is on its way out."""

    draining: bool
    dry_run: bool

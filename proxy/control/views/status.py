"""Everything at a glance."""

from __future__ import annotations

import msgspec

from proxy.control.views.checks import AnswersView, CheckView
from proxy.control.views.configuration import ServedView
from proxy.control.views.processes import DeathsView, LedgerView, SessionsView, SwitchView, WorkerView
from proxy.control.views.rollouts import RolloutView
from proxy.control.views.routing import RouteView
from proxy.control.views.surroundings import CertificateView, DependencyView, ReceiverView, SourceView


class AvailabilityView(msgspec.Struct):
    """How much of the time clients could be served. observed_s: seconds; down_s: of these; ratio: 0-1, null before
    anything was seen.
    """

    observed_s: float
    down_s: float
    ratio: float | None


class Status(msgspec.Struct):
    """Everything at a glance. not_ready: why /readyz says no.

    default: the backend that gets what fits no route, null when that is answered with 404; passed_through: how much;
    sessions: null when no route takes any; scraped_s: seconds since somebody read the metrics, null when nobody did;
    switch: the last replacement of processes, null before there was one; deaths: of processes that have died.
    """

    version: str
    epoch: int
    started_at: str
    ready: bool
    not_ready: list[str]
    draining: bool
    routes: list[RouteView]
    default: str | None
    passed_through: int
    workers: list[WorkerView]
    switch: SwitchView | None
    deaths: list[DeathsView]
    sessions: SessionsView | None
    ledger: LedgerView
    consistency: list[CheckView]
    answers: list[AnswersView]
    sources: list[SourceView]
    dependencies: list[DependencyView]
    certificates: list[CertificateView]
    availability: AvailabilityView
    scraped_s: float | None
    notifications: list[ReceiverView]
    configuration: ServedView
    counters: dict[str, int]
    warnings: list[str]


class Lately(msgspec.Struct):
    """One side of a route over the last two seconds or three; null without an answer in that time."""

    rate: float
    error_rate: float | None
    p50: float | None
    p99: float | None


class Snapshot(msgspec.Struct):
    """What a stream tells again and again. lately: by route and side; rollouts: by route, the last one it had."""

    at: str
    status: Status
    lately: dict[str, dict[str, Lately]]
    rollouts: dict[str, RolloutView]


class Health(msgspec.Struct):
    """The supervisor answers."""

    status: str


class Readiness(msgspec.Struct):
    """May traffic come? reasons: why not."""

    ready: bool
    reasons: list[str]

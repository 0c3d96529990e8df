"""The instance itself: its processes, its connections, its breakers, its disk."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from deploy.grafana.parts import BACKEND, INSTANCE, Query, frame, lines, state


def internals() -> dashboard.Dashboard:
    """The dashboard for whoever runs Crossfade."""
    made = frame("internals", "Crossfade: internals", "Processes, connections, breakers, and the record on disk.")
    _processes(made.with_row(dashboard.Row("Processes")))
    _connections(made.with_row(dashboard.Row("Pools and clients")))
    _backends(made.with_row(dashboard.Row("Breakers and health")))
    _record(made.with_row(dashboard.Row("Record and notifications")))
    return made


def _processes(made: dashboard.Dashboard) -> None:
    for panel in (
        lines(
            "Loop lag",
            "The most that an event loop ran late by in the last 15 s: a process without time, or one that is blocked.",
            "s",
            Query(f"crossfade_loop_lag_seconds{{{INSTANCE}}}", "{{instance}} {{process}}"),
        ),
        lines(
            "Resident memory",
            "Of each process.",
            "bytes",
            Query(f"crossfade_resident_memory_bytes{{{INSTANCE}}}", "{{instance}} {{process}}"),
        ),
        lines(
            "Epoch",
            "The routing that is live, and the one that each process goes by; 0 while it is away.",
            "short",
            Query(f"crossfade_routing_epoch{{{INSTANCE}}}", "{{instance}} live"),
            Query(f"crossfade_applied_epoch{{{INSTANCE}}}", "{{instance}} {{process}}"),
            steps=True,
        ),
        lines(
            "Deaths and switches",
            "Processes that died in five minutes, and upgrades and reloads that ended, by what came of them.",
            "short",
            Query(f"increase(crossfade_process_deaths_total{{{INSTANCE}}}[5m])", "{{instance}} {{process}} died"),
            Query(f"increase(crossfade_switches_total{{{INSTANCE}}}[5m])", "{{instance}} {{kind}} {{result}}"),
        ),
        lines(
            "Memory held for clients",
            "What clients make a worker hold, and its share of limits.memory.",
            "bytes",
            Query(f"crossfade_memory_held_bytes{{{INSTANCE}}}", "{{instance}} {{worker}}"),
            Query(f"crossfade_memory_budget_bytes{{{INSTANCE}}}", "{{instance}} {{worker}} budget"),
        ),
        lines(
            "Turned away",
            "Requests or clients that got 503 before anything was sent, by cause.",
            "reqps",
            Query(f"sum by (cause) (rate(crossfade_requests_shed_total{{{INSTANCE}}}[$__rate_interval]))", "{{cause}}"),
        ),
        lines(
            "What else is counted",
            "The ten names that rise most.",
            "cps",
            Query(
                f"topk(10, sum by (name) (rate(crossfade_counts_total{{{INSTANCE}}}[$__rate_interval])))", "{{name}}"
            ),
        ),
    ):
        made.with_panel(panel)


def _connections(made: dashboard.Dashboard) -> None:
    for panel in (
        lines(
            "Connections to backends",
            "Open ones, of all workers.",
            "short",
            Query(f"crossfade_upstream_connections{{{BACKEND}}}", "{{instance}} to {{backend}}"),
        ),
        lines(
            "Events on their way to an endpoint",
            "Sent and not answered.",
            "short",
            Query(f"crossfade_endpoint_outstanding_events{{{BACKEND}}}", "{{instance}} {{backend}} {{endpoint}}"),
        ),
        lines(
            "Clients",
            "Open connections, WebSocket sessions among them, and events that are not answered yet.",
            "short",
            Query(f"sum by (instance) (crossfade_client_connections{{{INSTANCE}}})", "{{instance}} connections"),
            Query(f"sum by (instance) (crossfade_websocket_connections{{{INSTANCE}}})", "{{instance}} sessions"),
            Query(f"sum by (instance) (crossfade_events_in_flight{{{INSTANCE}}})", "{{instance}} in flight"),
        ),
    ):
        made.with_panel(panel)


def _backends(made: dashboard.Dashboard) -> None:
    for panel in (
        state(
            "Breaker",
            "The worst of all workers and the ledger: 0 closed, 1 half-open, 2 open.",
            Query(f"max by (backend) (crossfade_breaker_state{{{BACKEND}}})", "{{backend}}"),
            width=8,
        ),
        state(
            "Health",
            "What the health probe says: 1 healthy, 0 not.",
            Query(f"min by (backend) (crossfade_backend_healthy{{{BACKEND}}})", "{{backend}}"),
            width=8,
        ),
        state(
            "Endpoints",
            "The worst of all workers: 0 up, 1 left out, 2 unhealthy.",
            Query(f"max by (backend, endpoint) (crossfade_endpoint_state{{{BACKEND}}})", "{{backend}} {{endpoint}}"),
            width=8,
        ),
    ):
        made.with_panel(panel)


def _record(made: dashboard.Dashboard) -> None:
    for panel in (
        lines(
            "Disk",
            "Size of the record, and what is free where it lies.",
            "bytes",
            Query(f"crossfade_ledger_disk_bytes{{{INSTANCE}}}", "{{instance}} record"),
            Query(f"crossfade_ledger_disk_free_bytes{{{INSTANCE}}}", "{{instance}} free"),
        ),
        lines(
            "Commits",
            "p99 of the latest commits: what an answer waits for at worst.",
            "s",
            Query(f"crossfade_ledger_commit_p99_seconds{{{INSTANCE}}}", "{{instance}}"),
        ),
        lines(
            "Gaps and reserve",
            "Coverage gaps so far; 1 while the reserve of the disk is in use and new events get 503.",
            "short",
            Query(f"crossfade_ledger_gaps{{{INSTANCE}}}", "{{instance}} gaps"),
            Query(f"crossfade_ledger_low_disk{{{INSTANCE}}}", "{{instance}} low disk"),
            steps=True,
        ),
        lines(
            "Notifications",
            "Entries that wait for a receiver; 1 while it cannot be told.",
            "short",
            Query(f"crossfade_notifications_waiting{{{INSTANCE}}}", "{{instance}} {{receiver}} waiting"),
            Query(f"crossfade_notifications_failing{{{INSTANCE}}}", "{{instance}} {{receiver}} failing"),
            width=12,
            steps=True,
        ),
        lines(
            "Ids in dedupe windows",
            "Event ids that are remembered.",
            "short",
            Query(f"crossfade_dedupe_ids{{{INSTANCE}}}", "{{instance}} {{route}}"),
            width=12,
        ),
    ):
        made.with_panel(panel)

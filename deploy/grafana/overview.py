"""Who answers, and how well: rate, errors and duration of each backend in each role, one backend beside the other."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from deploy.grafana.parts import BOTH, INSTANCE, ROUTE, WIDTH, Query, beside, frame, lines, state, value

_BY = "sum by (route, role)"
_BUCKETS = f"sum by (le, route, role) (rate(crossfade_request_duration_seconds_bucket{{{BOTH}}}[$__rate_interval]))"


def overview() -> dashboard.Dashboard:
    """The dashboard to begin with."""
    made = frame("overview", "Crossfade: overview", "Who answers, and what each side's answers are like.")
    _at_a_glance(made.with_row(dashboard.Row("At a glance")))
    _weight(made.with_row(dashboard.Row("Weight")))
    _red(made.with_row(dashboard.Row("Rate, errors, duration")))
    return made


def _at_a_glance(made: dashboard.Dashboard) -> None:
    down, seen = f"crossfade_down_seconds{{{INSTANCE}}}", f"crossfade_observed_seconds{{{INSTANCE}}}"
    for panel in (
        value("Ready", "Instances whose /readyz says yes.", "short", _now(f"sum(crossfade_ready{{{INSTANCE}}})")),
        value(
            "Events",
            "Events that were answered or promised.",
            "reqps",
            _now(f"sum(rate(crossfade_events_accepted_total{{{ROUTE}}}[$__rate_interval]))"),
        ),
        value(
            "Latched",
            "Routes that a revert keeps at 0 until a person re-arms them.",
            "short",
            _now(f"count(max by (route) (crossfade_latched{{{ROUTE}}}) == 1) or vector(0)"),
        ),
        value(
            "Pending",
            "Events that some backend is still owed.",
            "short",
            _now(f"sum(crossfade_ledger_pending_events{{{BOTH}}})"),
        ),
        value(
            "Lost copies",
            "Best effort copies that were lost; durable ones never are.",
            "short",
            _now(f"sum(crossfade_copies_lost_total{{{INSTANCE}}})"),
        ),
        value(
            "Could be served",
            "Share of the time in which clients could be served, of all that was looked at.",
            "percentunit",
            _now(f"1 - sum({down}) / sum({seen})"),
        ),
    ):
        made.with_panel(panel)


def _weight(made: dashboard.Dashboard) -> None:
    made.with_panel(
        lines(
            "Weight",
            "Share of the keys that new answers for: as it is set, and as it was in the last ten seconds.",
            "percentunit",
            Query(f"crossfade_weight_target_ratio{{{ROUTE}}}", "{{instance}} {{route}} target"),
            Query(f"crossfade_weight_observed_ratio{{{ROUTE}}}", "{{instance}} {{route}} observed"),
            width=12,
            steps=True,
        )
    )
    made.with_panel(
        state(
            "Verdict",
            "What the guard thinks of new: the word that is 1.",
            Query(f"crossfade_verdict{{{ROUTE}}} == 1", "{{instance}} {{route}} {{verdict}}"),
        )
    )


def _red(made: dashboard.Dashboard) -> None:
    every = f"{_BY} (rate(crossfade_requests_total{{{BOTH}}}[$__rate_interval]))"
    failed = f'{_BY} (rate(crossfade_requests_total{{{BOTH}, code_class=~"5xx|error"}}[$__rate_interval]))'
    made.with_panel(
        beside(
            lines(
                "Rate: $backend",
                "Answers and failures, by role.",
                "reqps",
                Query(every, "{{route}} {{role}}"),
                width=WIDTH,
            )
        )
    )
    made.with_panel(
        beside(
            lines(
                "Errors: $backend",
                "Share of 5xx and of no answer at all, by role.",
                "percentunit",
                Query(f"{failed} / ({every} > 0)", "{{route}} {{role}}"),
                width=WIDTH,
            )
        )
    )
    made.with_panel(
        beside(
            lines(
                "Duration: $backend",
                "From sending an event to the end of the answer, by role.",
                "s",
                *(
                    Query(f"histogram_quantile({quantile}, {_BUCKETS})", f"{{{{route}}}} {{{{role}}}} {name}")
                    for quantile, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
                ),
                width=WIDTH,
            )
        )
    )


def _now(expr: str) -> Query:
    return Query(expr, "", now=True)

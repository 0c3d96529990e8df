"""How far the migration is: the rollout, what it goes by, what the stores hold, and what each side is still owed."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from deploy.grafana.parts import BACKEND, BOTH, INSTANCE, ROUTE, Query, frame, lines, state


def migration() -> dashboard.Dashboard:
    """The dashboard of a rollout."""
    made = frame("migration", "Crossfade: migration", "The rollout, its verdicts, the stores compared, and the ledger.")
    _rollout(made.with_row(dashboard.Row("Rollout")))
    _stores(made.with_row(dashboard.Row("What the stores hold")))
    _ledger(made.with_row(dashboard.Row("Ledger")))
    return made


def _rollout(made: dashboard.Dashboard) -> None:
    for panel in (
        state(
            "Rollout",
            "Phase of the last staged plan; nothing before the first one.",
            Query(f"crossfade_rollout_phase{{{ROUTE}}} == 1", "{{instance}} {{route}} {{phase}}"),
        ),
        state(
            "Verdict",
            "What the guard thinks of new: the word that is 1.",
            Query(f"crossfade_verdict{{{ROUTE}}} == 1", "{{instance}} {{route}} {{verdict}}"),
        ),
        lines(
            "Weight",
            "Share of the keys that new answers for, as it is set and as it was.",
            "percentunit",
            Query(f"crossfade_weight_target_ratio{{{ROUTE}}}", "{{instance}} {{route}} target"),
            Query(f"crossfade_weight_observed_ratio{{{ROUTE}}}", "{{instance}} {{route}} observed"),
            steps=True,
        ),
        lines(
            "Step",
            "The step that the plan moves to or is at, of so many.",
            "short",
            Query(f"crossfade_rollout_step{{{ROUTE}}}", "{{instance}} {{route}} step"),
            Query(f"crossfade_rollout_steps{{{ROUTE}}}", "{{instance}} {{route}} of"),
            steps=True,
        ),
        lines(
            "Reverts, latches, freezes",
            "Reverts so far by what caused them; 1 while a route is latched, or frozen.",
            "short",
            Query(f"sum by (reason) (crossfade_reverts_total{{{INSTANCE}}})", "reverts: {{reason}}"),
            Query(f"crossfade_latched{{{ROUTE}}}", "{{instance}} {{route}} latched"),
            Query(f"crossfade_frozen{{{ROUTE}}}", "{{instance}} {{route}} frozen"),
            steps=True,
        ),
        lines(
            "Gates",
            "Answers of gates so far, and that there was none.",
            "short",
            Query(f"sum by (gate, outcome) (crossfade_gate_answers_total{{{INSTANCE}}})", "{{gate}} {{outcome}}"),
            steps=True,
        ),
    ):
        made.with_panel(panel)


def _stores(made: dashboard.Dashboard) -> None:
    for panel in (
        lines(
            "Mismatches by class",
            "Identities held against a side so far. Lost: acknowledged, and not in the store.",
            "short",
            Query(f"sum by (routes, class) (crossfade_mismatches_total{{{INSTANCE}}})", "{{routes}} {{class}}"),
            steps=True,
        ),
        lines(
            "Judged by class",
            "Identities a second, in every class.",
            "cps",
            Query(
                f"sum by (routes, class) (rate(crossfade_judged_events_total{{{INSTANCE}}}[$__rate_interval]))",
                "{{routes}} {{class}}",
            ),
        ),
        lines(
            "Mismatches of what was judged",
            "Share of what was judged within an hour and says something of a side.",
            "percentunit",
            Query(
                f"sum by (routes) (increase(crossfade_mismatches_total{{{INSTANCE}}}[1h]))"
                f" / (sum by (routes) (increase(crossfade_checked_events_total{{{INSTANCE}}}[1h])) > 0)",
                "{{routes}}",
            ),
        ),
        lines(
            "Behind",
            "Age of the first window that is not judged.",
            "s",
            Query(f"crossfade_check_behind_seconds{{{INSTANCE}}}", "{{instance}} {{routes}}"),
            width=12,
        ),
        lines(
            "Windows that wait",
            "Late: should be judged and could not be. Pending: something in them is still owed.",
            "short",
            Query(f"crossfade_check_late_windows{{{INSTANCE}}}", "{{instance}} {{routes}} late"),
            Query(f"crossfade_check_pending_windows{{{INSTANCE}}}", "{{instance}} {{routes}} pending"),
            width=12,
            steps=True,
        ),
    ):
        made.with_panel(panel)


def _ledger(made: dashboard.Dashboard) -> None:
    for panel in (
        lines(
            "Age",
            "How long the oldest event has waited for a backend.",
            "s",
            Query(f"crossfade_ledger_oldest_age_seconds{{{BOTH}}}", "{{instance}} {{route}} for {{backend}}"),
        ),
        lines(
            "Depth",
            "Events that wait for a backend.",
            "short",
            Query(f"crossfade_ledger_pending_events{{{BOTH}}}", "{{instance}} {{route}} for {{backend}}"),
        ),
        lines(
            "Owed and delivered",
            "Events a second. Where more is owed than delivered the depth grows.",
            "cps",
            Query(
                f"sum by (backend) (rate(crossfade_events_owed_total{{{BACKEND}}}[$__rate_interval]))",
                "owed to {{backend}}",
            ),
            Query(
                f"sum by (backend) (rate(crossfade_events_delivered_total{{{BACKEND}}}[$__rate_interval]))",
                "delivered to {{backend}}",
            ),
        ),
        lines(
            "Dead letters",
            "Events that a backend has failed on for good.",
            "short",
            Query(f"crossfade_ledger_dead_events{{{BOTH}}}", "{{instance}} {{route}} at {{backend}}"),
            steps=True,
        ),
        lines(
            "Kept for a rollback",
            "Deferred: what new answered in a split, for old.",
            "short",
            Query(f"crossfade_ledger_deferred_events{{{BOTH}}}", "{{instance}} {{route}} for {{backend}}"),
        ),
        lines(
            "Buckets with a backlog",
            "Of 10,000: keys whose live events queue behind older ones.",
            "short",
            Query(f"crossfade_ledger_marked_buckets{{{BOTH}}}", "{{instance}} {{route}} for {{backend}}"),
        ),
    ):
        made.with_panel(panel)

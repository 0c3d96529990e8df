"""The audit trail: history, and why the last revert happened."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from proxy.cli.instances import on_each
from proxy.cli.options import Commands
from proxy.cli.output import age, clean, count, percent, position, seconds, table, words
from proxy.cli.values import at_least_one

if TYPE_CHECKING:
    from proxy.cli.client import Json

_CLASSES = {"error": "without an answer"}
_ENTRY = ["at", "epoch", "who", "did", "route", "before", "after", "reason"]


def add(commands: Commands) -> None:
    """Add history and why to the parser."""
    parser = commands.add(
        "history", "who changed what, newest first", run=history, example="history --limit 10\nhistory --route events"
    )
    parser.add_argument("--route", metavar="R", help="this route alone")
    parser.add_argument("--limit", type=at_least_one, default=50, metavar="N", help="at most so many (default: 50)")
    parser = commands.add(
        "why", "why a route was reverted the last time", run=why, example="why\nwhy --route events -o json"
    )
    parser.add_argument("--route", metavar="R", help="name of the route; needed when there is more than one")


def history(args: argparse.Namespace) -> int:
    """`history`."""
    query = {"limit": args.limit, "route": args.route}
    return on_each(args, lambda admin: admin.get("/api/v1/history", **query), render_history)


def why(args: argparse.Namespace) -> int:
    """`why`."""
    return on_each(args, lambda admin: admin.get("/api/v1/why", route=args.route), render_why)


def render_history(answer: Json) -> str:
    """One line per change."""
    entries = answer.get("entries", [])
    if not entries:
        return "nothing was changed yet"
    return "\n".join(
        table(
            _ENTRY,
            [
                [
                    entry.get("at"),
                    entry.get("epoch"),
                    entry.get("actor"),
                    entry.get("action"),
                    entry.get("route"),
                    _dials(entry.get("before")),
                    _dials(entry.get("after")),
                    entry.get("reason"),
                ]
                for entry in entries
            ],
        )
    )


def _dials(value: object) -> str:
    return position(value) if isinstance(value, dict) and "weight" in value else words(value or None)


def render_why(answer: Json) -> str:
    """The account of the last revert, which says whether it is latched, and its evidence."""
    evidence = (answer.get("entry") or {}).get("evidence") or {}
    return "\n".join([clean(answer.get("text")), *(f"  {line}" for line in _evidence(evidence))])


def _evidence(evidence: Json) -> list[str]:
    """What the trigger saw, a line for each figure; what this version does not know as it is."""
    rest = dict(evidence)
    lines = []
    if "trigger" in rest:
        workers = rest.pop("workers", None)
        lines.append(f"trigger: {clean(rest.pop('trigger'))}{f', in worker {words(workers)}' if workers else ''}")
    if "weight" in rest:
        lines.append(f"weight then: {percent(rest.pop('weight'))}")
    window = rest.pop("window_seconds", None)
    sides = [name for name in ("old", "new") if isinstance(rest.get(name), dict)]
    lines += [_side(name, rest.pop(name), window) for name in sides]
    return lines + [f"{clean(name)}: {words(value)}" for name, value in rest.items()]


def _side(name: str, figures: Json, window: float | None) -> str:
    """`new (shop-b): 1,204 answers in the 10 s before, 1,200 2xx, 4 5xx, p99 5.6 ms`."""
    classes: dict[str, int] = figures.get("code_classes") or {}
    total = sum(classes.values())
    before = "" if window is None else f" in the {age(window)} before"
    parts = [f"{name} ({clean(figures.get('backend'))}): {count(total) if total else 'no'} answers{before}"]
    parts += [f"{count(number)} {_CLASSES.get(each, clean(each))}" for each, number in classes.items()]
    if total:
        parts.append(f"p99 {seconds(figures.get('p99'))}")
    return ", ".join(parts)

"""The audit trail: history, and why the last revert happened."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from proxy.cli.evidence import detected, facts
from proxy.cli.instances import on_each
from proxy.cli.options import Commands
from proxy.cli.output import age, clean, position, seconds, table, words
from proxy.cli.values import at_least_one

if TYPE_CHECKING:
    from proxy.cli.client import Json

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
    return "\n".join([clean(answer.get("text")), *(f"  {line}" for line in [*_lasted(answer), *_evidence(evidence)])])


def _lasted(answer: Json) -> list[str]:
    """`detected after 1.50 s at most, applied by ...`; nothing of what is not known."""
    detect, recover = answer.get("seconds_to_detect"), answer.get("seconds_to_recover")
    parts = [] if detect is None else [f"detected after {detected(answer.get('entry'), detect)}"]
    parts += [] if recover is None else [f"applied by every worker {_span(recover)} after the decision"]
    return [", ".join(parts)] if parts else []


def _span(value: float) -> str:
    return seconds(value) if value < 60 else age(value)


def _evidence(evidence: Json) -> list[str]:
    """What the trigger saw, a line for each figure."""
    return [f"{name}: {said}" for name, said in facts(evidence)]

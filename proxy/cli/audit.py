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
    """The account of the last revert: what it went by, what was changed before it and since, and what is to be done."""
    entry = answer.get("entry") or {}
    lines = [*_lasted(answer), *_evidence(entry.get("evidence") or {}), *_changes(answer.get("changes") or [], entry)]
    lines += [f"{name}: {clean(answer[name])}" for name in ("now", "next") if answer.get(name)]
    return "\n".join([clean(answer.get("text")), *(f"  {line}" for line in lines)])


def _changes(changes: list[Json], revert: Json) -> list[str]:
    """`before: 2026-01-31T12:00:00Z alice set-weight, live 25 % to live 50 % (reason)`, oldest first."""
    lines = []
    for entry in reversed(changes):
        when = "before" if entry.get("epoch", 0) < revert.get("epoch", 0) else "since"
        turn = f"{_dials(entry.get('before'))} to {_dials(entry.get('after'))}"
        reason = f" ({clean(entry['reason'])})" if entry.get("reason") else ""
        lines.append(f"{when}: {clean(entry.get('at'))} {words(entry.get('actor'))} {words(entry.get('action'))}, ")
        lines[-1] += turn + reason
    return lines


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

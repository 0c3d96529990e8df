"""decommission --check: what still depends on old, before it is switched off."""

from __future__ import annotations

import argparse
from math import ceil
from typing import TYPE_CHECKING

from proxy.cli.failure import FAILED, OK, Failure
from proxy.cli.instances import on_each, worst
from proxy.cli.options import Commands
from proxy.cli.output import age, bold, clean, count, red, wrapped
from proxy.cli.values import duration

if TYPE_CHECKING:
    from proxy.cli.client import Admin, Json


def add(commands: Commands) -> None:
    """Add decommission to the parser."""
    parser = commands.add(
        "decommission",
        "say what still depends on old, and what to do about it; 0 only when nothing does",
        run=decommission,
        example="decommission --check\ndecommission --check --route events --quiet 1h\ndecommission --check -o json",
    )
    parser.add_argument(
        "--check", action="store_true", required=True, help="only look; old itself is switched off by whoever runs it"
    )
    parser.add_argument("--route", metavar="R", help="old of this route alone; without it all that needs any old")
    parser.add_argument(
        "--quiet", type=duration, default=60.0, metavar="T", help="time without an event to old (default: 1m)"
    )


def decommission(args: argparse.Namespace) -> int:
    """`decommission --check`: 0 when nothing depends on old, at any of the instances; else 1."""
    clear: list[bool] = []

    def ask(admin: Admin) -> Json:
        answer = admin.get("/api/v1/decommission", route=args.route, quiet=ceil(args.quiet))
        clear.append(answer["clear"])
        return answer

    try:
        on_each(args, ask, render)
    except Failure as failure:
        if not all(clear):  # of those that answered, one needs old: that is known, whoever else is away
            failure.code = worst((FAILED, failure.code))
        raise
    return OK if all(clear) else FAILED


def render(answer: Json) -> str:
    """The verdict, what depends on old with its remedy, and when old was sent its last event."""
    found = answer["dependents"]
    if found:
        things = "1 thing depends" if len(found) == 1 else f"{count(len(found))} things depend"
        lines = [red(f"no: {things} on old")]
    else:
        lines = [bold("yes: nothing depends on old, it can be switched off")]
    lines.append("")
    width = max((len(each["kind"]) for each in found), default=0)
    for each in found:
        route = f"{clean(each['route'])}: " if each["route"] else ""
        lines += wrapped(f"{each['kind']:<{width}}  ", f"{route}{clean(each['detail'])}")
        lines += wrapped(" " * (width + 2), f"-> {clean(each['remedy'])}")
    lines += [_last(each) for each in answer["last_events"]]
    return "\n".join(lines)


def _last(each: Json) -> str:
    start = f"last event to {clean(each['backend'])} of route {clean(each['route'])}: "
    if each["at"] is not None:
        return f"{start}{clean(each['at'])}, {age(each['ago_s'])} ago"
    if each["since"] is None:
        return f"{start}not known, figures are kept every ten seconds"
    return f"{start}none since {clean(each['since'])}, when the figures begin"

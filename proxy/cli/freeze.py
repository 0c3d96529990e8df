"""freeze: for a time no change of the routing but back."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from proxy.cli.instances import on_each
from proxy.cli.options import Commands, change_options
from proxy.cli.output import clean
from proxy.cli.routing import change_body
from proxy.cli.values import duration

if TYPE_CHECKING:
    from proxy.cli.client import Admin, Json


def add(commands: Commands) -> None:
    """Add freeze to the parser."""
    parser = commands.add(
        "freeze",
        "allow no change of the routing but back for a time: rollback and reverts go on working",
        run=freeze,
        example="freeze --for 2h --reason 'release of billing'\nfreeze --off --route events",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--for", type=duration, dest="seconds", metavar="T", help="so long, at most 30d; it ends by itself"
    )
    what.add_argument("--off", action="store_true", help="end it now")
    parser.add_argument("--route", metavar="R", help="this route alone; all without it")
    change_options(parser, route=False)


def freeze(args: argparse.Namespace) -> int:
    """`freeze`."""
    return on_each(args, lambda admin: _freeze(admin, args), render)


def _freeze(admin: Admin, args: argparse.Namespace) -> Json:
    values = {} if args.route is None else {"route": args.route}
    if not args.off:
        values["seconds"] = args.seconds
    return admin.change("DELETE" if args.off else "PUT", "/api/v1/freeze", change_body(args, **values), args.if_epoch)


def render(answer: Json) -> str:
    """A change of freezes for people: a line for each route."""
    lines = [_line(each) for each in answer["routes"]]
    if answer.get("dry_run"):
        lines.append("dry run: nothing was changed")
    return "\n".join(lines + [f"note: {clean(note)}" for note in answer.get("notes", [])])


def _line(each: Json) -> str:
    route, after = clean(each["route"]), each["after"]
    if after is None:
        return f"{route}: frozen no longer" if each["changed"] else f"{route}: was not frozen"
    return f"{route}: frozen{'' if each['changed'] else ' already'} {frozen_text(after)}"


def frozen_text(freeze: Json) -> str:
    """`until 2026-01-31T14:00:00.000Z by ann@host: release`."""
    reason = f": {clean(freeze['reason'])}" if freeze.get("reason") else ""
    return f"until {clean(freeze.get('until'))} by {clean(freeze.get('actor'))}{reason}"

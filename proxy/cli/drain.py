"""drain: the graceful end of an instance."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from proxy.cli.confirm import confirm, confirm_options
from proxy.cli.failure import TIMEOUT, Failure
from proxy.cli.instances import on_each
from proxy.cli.options import Commands, change_options
from proxy.cli.output import clean
from proxy.cli.routing import change_body
from proxy.cli.waiting import POLL, Clock, look

if TYPE_CHECKING:
    from proxy.cli.client import Admin, Json


def add(commands: Commands) -> None:
    """Add drain to the parser."""
    parser = commands.add(
        "drain",
        "stop taking new events, finish what is in flight, flush the ledger and exit",
        run=drain,
        example="drain --wait --timeout 1m\ndrain --yes --reason 'kernel update'",
    )
    parser.add_argument(
        "--until-empty",
        action="store_true",
        help="let the ledger deliver what is pending first, for `stop_grace` at most; without it that stays owed, and "
        "the next start delivers it",
    )
    change_options(parser, route=False, wait="the instance has stopped")
    confirm_options(parser)


def drain(args: argparse.Namespace) -> int:
    """`drain`."""
    confirm(args, "drain: the instance stops taking events and exits.")
    return on_each(args, lambda admin: stop(admin, args), render)


def stop(admin: Admin, args: argparse.Namespace, clock: Clock | None = None) -> Json:
    """Ask for the drain; with --wait until the admin API is gone, which is the last thing to go."""
    more = {"until_empty": True} if args.until_empty else {}
    answer = admin.change("POST", "/api/v1/drain", change_body(args, **more), args.if_epoch)
    stopped = False
    if args.wait and not args.dry_run:
        clock = clock or Clock()
        end = clock.now() + args.timeout
        while look(admin) is not None:
            if clock.now() >= end:
                raise Failure(TIMEOUT, f"{admin.address} has not stopped after {args.timeout:g} s")
            clock.sleep(POLL)
        stopped = True
    return answer | {"admin": admin.address, "dry_run": args.dry_run, "stopped": stopped}


def render(answer: Json) -> str:
    """What drain did."""
    where = clean(answer["admin"])
    if answer["dry_run"]:
        return f"dry run: {where} would drain and stop"
    if answer["stopped"]:
        return f"{where} has stopped"
    return f"{where} is draining and stops when what is in flight is done\nnext: proxyctl status -w"

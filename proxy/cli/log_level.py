"""log-level: let processes log more, or less, for a while."""

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

LEVELS = ("debug", "info", "warning", "error")
PROCESSES = ("all", "worker", "ledger", "supervisor", "checker")


def add(commands: Commands) -> None:
    """Add log-level to the parser."""
    parser = commands.add(
        "log-level",
        "log more, or less, for a while: it falls back by itself",
        run=log_level,
        example="log-level debug --process worker --for 10m\nlog-level --off",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("level", nargs="?", choices=LEVELS, help="least level that is written")
    what.add_argument("--off", action="store_true", help="the configured level again, now")
    parser.add_argument("--process", choices=PROCESSES, default="all", help="of these processes alone (default: all)")
    parser.add_argument(
        "--for", type=duration, dest="seconds", default=600.0, metavar="T", help="so long, at most 1d (default: 10m)"
    )
    change_options(parser, route=False)


def log_level(args: argparse.Namespace) -> int:
    """`log-level`."""
    return on_each(args, lambda admin: _set(admin, args), render)


def _set(admin: Admin, args: argparse.Namespace) -> Json:
    level = None if args.off else args.level
    body = change_body(args, level=level, process=args.process, seconds=args.seconds)
    return admin.change("PUT", "/api/v1/log-level", body, args.if_epoch)


def render(answer: Json) -> str:
    """What was set, for people."""
    of = "all processes" if answer["process"] == "all" else clean(answer["process"])
    until = f" until {clean(answer['until'])}" if answer.get("until") else ", as configured"
    told = "dry run: nothing was changed" if answer["dry_run"] else f"{answer['told']} processes are told"
    return f"log level {clean(answer['level'])} of {of}{until}\n{told}"

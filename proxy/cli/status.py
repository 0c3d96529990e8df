"""status: one look, a watch, or a wait until the instance is at rest."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from proxy.cli.failure import FAILED, OK, TIMEOUT, UNREACHABLE, USAGE, Failure
from proxy.cli.instances import Act, admins, at_once, on_each
from proxy.cli.options import Commands, timeout_option
from proxy.cli.output import clean, emit, encode
from proxy.cli.top import is_watched, live
from proxy.cli.waiting import Clock, unsettled, until

if TYPE_CHECKING:
    from proxy.cli.client import Admin, Json

REDRAW = 1.0
"""Seconds."""
_HOME_AND_CLEAR = "\x1b[H\x1b[2J"


def add(commands: Commands) -> None:
    """Add status to the parser."""
    parser = commands.add(
        "status",
        "show weights, both sides, the ledger and the workers",
        run=status,
        example="status -w\nstatus --wait --timeout 5m\nstatus -o json --route events\nstatus --ready",
    )
    parser.add_argument("--route", metavar="R", help="this route alone")
    parser.add_argument("--ready", action="store_true", help="say only whether clients can be served; exit 1 when not")
    parser.add_argument("-w", "--watch", action="store_true", help="again every second, until Ctrl-C; see top")
    parser.add_argument(
        "--wait", action="store_true", help="return when every worker has applied the epoch and nothing is pending"
    )
    timeout_option(parser, 1800.0)


def status(args: argparse.Namespace) -> int:
    """`status`."""
    if args.ready:
        if args.watch or args.wait or args.route:
            raise Failure(
                USAGE, "--ready is of the whole instance, at this moment: without --watch, --wait and --route"
            )
        return on_each(args, _ready, lambda found: f"{clean(found['admin'])} is ready")
    if args.watch and not args.wait and args.output == "text" and is_watched():
        return live(args)
    if args.watch:
        return watch(args)
    return on_each(args, lambda admin: _status(admin, args), _render)


def _status(admin: Admin, args: argparse.Namespace) -> Json:
    found = until(admin, unsettled, args.timeout) if args.wait else admin.get("/api/v1/status")
    return _only(found, args.route) | {"admin": admin.address}


def _ready(admin: Admin) -> Json:
    """For health checks of containers. Raises Failure with the reasons."""
    found = admin.get("/api/v1/status")
    if not found["ready"]:
        reasons = [clean(reason) for reason in found["not_ready"]]
        raise Failure(FAILED, f"not ready: {'; '.join(reasons)}", not_ready=found["not_ready"])
    return {"admin": admin.address, "ready": True}


def _only(found: Json, route: str | None) -> Json:
    """The status with one route alone; Failure when there is no such route."""
    if route is None:
        return found
    routes = [entry for entry in found.get("routes", []) if entry.get("name") == route]
    if not routes:
        names = ", ".join(str(entry.get("name")) for entry in found.get("routes", []))
        raise Failure(USAGE, f"there is no route {route!r}; routes are {names or 'none'}")
    return found | {"routes": routes}


def _render(found: Json) -> str:
    from proxy.cli.status_view import render  # only text needs it

    return render(found)


def watch(args: argparse.Namespace, clock: Clock | None = None) -> int:
    """Show the status once a second; with --wait until the instance is at rest, else until Ctrl-C.

    An instance that goes away later is reported and looked for again; one of several also when it was away at first.
    Raises Failure when none was ever reached.
    """
    clock = clock or Clock()
    found = admins(args)
    end = clock.now() + args.timeout
    try:
        shown = _first_look(found, args)
        while True:
            _draw(args, shown)
            missing = [word for status in shown for word in status["missing"]]
            if args.wait and not missing:
                return OK
            if args.wait and clock.now() >= end:
                raise Failure(TIMEOUT, f"not there after {args.timeout:g} s: {'; '.join(missing)}", missing=missing)
            clock.sleep(REDRAW)
            shown = _look(found, lambda admin: _status_or_away(admin, args))
    except KeyboardInterrupt:
        return OK


def _first_look(found: list[Admin], args: argparse.Namespace) -> list[Json]:
    """The first frame; Failure when there is nothing to show."""
    if len(found) == 1:
        return [_status_now(found[0], args)]
    shown = _look(found, lambda admin: _status_or_away(admin, args))
    if all("away" in each for each in shown):
        lines = "\n".join(f"{each['admin']}: {each['away']}" for each in shown)
        raise Failure(UNREACHABLE, f"none of {len(found)} instances could be reached\n{lines}")
    return shown


def _look(found: list[Admin], act: Act) -> list[Json]:
    """One look at every instance, at the same time; Failure of the first that is not merely away."""
    if len(found) == 1:
        return [act(found[0])]
    shown = []
    for _, came in at_once(found, act):
        if isinstance(came, Failure):
            raise came
        shown.append(came)
    return shown


def _status_now(admin: Admin, args: argparse.Namespace) -> Json:
    found = admin.get("/api/v1/status")
    return _only(found, args.route) | {"admin": admin.address, "missing": unsettled(found)}


def _status_or_away(admin: Admin, args: argparse.Namespace) -> Json:
    try:
        return _status_now(admin, args)
    except Failure as failure:
        if failure.code not in (UNREACHABLE, TIMEOUT):
            raise
        return {"admin": admin.address, "away": failure.message, "missing": [failure.message]}


def _draw(args: argparse.Namespace, shown: list[Json]) -> None:
    """One frame: over the last one on a terminal, else below it; one JSON object per line and instance."""
    if args.output != "text":
        for found in shown:
            print(encode(args.output, {name: value for name, value in found.items() if name != "missing"}), flush=True)
        return
    text = "\n\n".join(f"{clean(s['admin'])}: {s['away']}" if "away" in s else _render(s) for s in shown)
    if sys.stdout.isatty():
        print(f"{_HOME_AND_CLEAR}{text}", flush=True)
    else:
        emit("text", f"{text}\n", str)

"""validate: one list of everything that has to hold before old is let go, or after a rollback."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from proxy.cli import criteria
from proxy.cli.criteria import AREAS, END_TO_END, INTEGRITY, Criterion, Limits
from proxy.cli.failure import FAILED, OK, USAGE, Failure
from proxy.cli.instances import admins
from proxy.cli.options import Commands
from proxy.cli.output import bold, clean, emit, red, wrapped
from proxy.cli.routing import one_route
from proxy.cli.values import duration, moment, share
from proxy.cli.verify import ask_checker, nanoseconds, which_check

if TYPE_CHECKING:
    from proxy.cli.client import Admin

Json = dict[str, Any]
_HOLDS = {True: "ok", False: "FAILED", None: "NOT KNOWN"}
MOST_LOST = 1000
"""Lost events that are looked through for old's."""


def add(commands: Commands) -> None:
    """Add validate to the parser."""
    parser = commands.add(
        "validate",
        "check everything that has to hold before old is let go, with evidence; 0 only when all holds",
        run=validate,
        example="validate\nvalidate --since 24h --p99 200ms\nvalidate --after-rollback\n"
        "validate --without end-to-end -o json",
    )
    which_check(parser)
    parser.add_argument(
        "--after-rollback", action="store_true", help="old answers everything, as it used to, and has everything"
    )
    parser.add_argument(
        "--since", type=moment, metavar="T", help="compare stores from then on: 1h (ago, the default), or a time"
    )
    parser.add_argument(
        "--without", action="append", default=[], choices=AREAS, metavar="AREA", help=f"leave out: {', '.join(AREAS)}"
    )
    limits = parser.add_argument_group("limits")
    for name, kind, default, what in (
        ("--error-rate", share, "0.1%%", "failed events"),
        ("--p99", duration, "500ms", "slowest answers"),
        ("--slower", share, "10%%", "p95 above old's, or its baseline's"),
        ("--pending-age", duration, "5s", "oldest event that waits to be delivered"),
        ("--scraped", duration, "2m", "since the metrics were read"),
        ("--availability", share, "99.9%%", "time in which clients could be served, at least"),
    ):
        limits.add_argument(name, type=kind, metavar="X", help=f"{what} (default: {default})")


def validate(args: argparse.Namespace) -> int:
    """`validate`: 0 when every criterion holds, 1 when one does not, or is not known."""
    found = admins(args)
    if len(found) != 1:
        raise Failure(USAGE, "validate looks at one instance: name it with --admin")
    admin = found[0]
    status = admin.get("/api/v1/status")
    route = one_route(status, args.route)
    limits = _limits(admin, args, route["name"])
    listed = _after_rollback(args, route, status, limits) if args.after_rollback else _all(args, route, status, limits)
    kept = [each for each in listed if each.area not in args.without]
    if not kept:
        raise Failure(USAGE, "with all areas left out there is nothing to validate")
    answer = {
        "route": route["name"],
        "result": "pass" if all(each.holds for each in kept) else "fail",
        "epoch": status["epoch"],
        "weight": route["weight_target"],
        "after_rollback": args.after_rollback,
        "left_out": sorted(set(args.without)),
        "criteria": [each._asdict() for each in kept],
    }
    emit(args.output, answer, render)
    return OK if answer["result"] == "pass" else FAILED


def _all(args: argparse.Namespace, route: Json, status: Json, limits: Limits) -> list[Criterion]:
    found = [
        criteria.at_the_end(route),
        *criteria.performance(route, limits),
        *criteria.integrity(route, status, limits),
        *criteria.health(route, status),
        *criteria.monitoring(status, limits),
    ]
    if INTEGRITY not in args.without:
        answer = _asked(args, route, {"do": "verify", "full": True})
        found += [criteria.verified(answer), *criteria.complete(answer)]
    if END_TO_END not in args.without:
        found.append(criteria.probed(_asked(args, route, {"do": "probe"})))
    return sorted(found, key=lambda each: AREAS.index(each.area))


def _after_rollback(args: argparse.Namespace, route: Json, status: Json, limits: Limits) -> list[Criterion]:
    found = criteria.rolled_back(route, status, limits)
    if INTEGRITY not in args.without:
        what = {"do": "diff", "full": True, "class": "lost,unrecorded", "by": "old", "top": MOST_LOST}
        found.append(criteria.nothing_lost_by_old(_asked(args, route, what)))
    return sorted(found, key=lambda each: AREAS.index(each.area))


def _asked(args: argparse.Namespace, route: Json, request: Json) -> Json | str:
    """What the checker says, or why it says nothing."""
    span = {} if request["do"] == "probe" else {"from_ns": nanoseconds(args.since)}
    try:
        return ask_checker({"config": args.config, "route": route["name"]} | request | span)
    except Failure as failure:
        return "; ".join([failure.message, *failure.lines[:1], *failure.hint.splitlines()[:1]])


def _limits(admin: Admin, args: argparse.Namespace, route: str) -> Limits:
    """Those that were given; by how much latencies may differ in any case is the route's."""
    given = {name: value for name in Limits._fields if (value := getattr(args, name, None)) is not None}
    settings = next(each for each in admin.get("/api/v1/routes")["routes"] if each["name"] == route)
    return Limits(**{"slower_by": settings["trigger"]["slower_by"]} | given)


def render(answer: Json) -> str:
    """The verdict, then each criterion with what was seen and what is wanted."""
    wrong = [each for each in answer["criteria"] if not each["holds"]]
    total = len(answer["criteria"])
    said = f"{answer['result']}: {total - len(wrong)} of {total} criteria hold for route {answer['route']}"
    lines = [bold(said) if answer["result"] == "pass" else red(said)]
    if answer["left_out"]:
        lines.append(f"left out: {', '.join(answer['left_out'])}")
    marks, areas = (max(map(len, each)) for each in (_HOLDS.values(), AREAS))
    lines.append("")
    for each in answer["criteria"]:
        start = f"{_HOLDS[each['holds']]:<{marks}}  {each['area']:<{areas}}  "
        lines += wrapped(start, clean(f"{each['name']}: {each['seen']} (wanted: {each['wanted']})"))
    return "\n".join(lines)

"""record-baseline: what old's answers are like, kept to hold later figures against."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from proxy.cli.failure import FAILED, TIMEOUT, UNREACHABLE, Failure
from proxy.cli.instances import on_each
from proxy.cli.options import Commands, change_options
from proxy.cli.output import age, bold, clean, count, rate, seconds, share
from proxy.cli.routing import change_body, route_path
from proxy.cli.values import duration
from proxy.cli.waiting import Clock

if TYPE_CHECKING:
    from proxy.cli.client import Admin

Json = dict[str, Any]
LOOK = 0.5
"""Seconds from one look to the next."""
DEFAULT = 300.0


def add(commands: Commands) -> None:
    """Add record-baseline to the parser."""
    parser = commands.add(
        "record-baseline",
        "record what old's answers are like: rate, errors, p50, p95, p99",
        run=record,
        example="record-baseline --for 5m --reason 'before the migration'\nrecord-baseline --show",
    )
    parser.add_argument(
        "--for", dest="seconds", type=duration, default=DEFAULT, metavar="T", help="from now on (default: 5m)"
    )
    parser.add_argument("--show", action="store_true", help="record nothing: show the last one")
    change_options(parser, wait="it is recorded (otherwise it goes on by itself)")


def record(args: argparse.Namespace) -> int:
    """`record-baseline`: 0 when it has begun, or with --wait when it is kept."""
    if args.show:
        return on_each(args, lambda admin: admin.get(route_path(args.route, "baseline")), render)
    return on_each(args, lambda admin: _record(admin, args, Clock()), render)


def _record(admin: Admin, args: argparse.Namespace, clock: Clock) -> Json:
    path = route_path(args.route, "baseline")
    found: Json = admin.change("POST", path, change_body(args, seconds=args.seconds), args.if_epoch)
    before = found["baseline"]
    if args.wait and not args.dry_run:
        found = _wait(admin, path, found, args.timeout + args.seconds, clock)
        if found["trouble"] or found["baseline"] in (None, before):
            said = clean(found["trouble"] or "the supervisor was restarted meanwhile")
            raise Failure(FAILED, f"no baseline was kept: {said}", baseline=found)
    return found


def _wait(admin: Admin, path: str, found: Json, timeout: float, clock: Clock) -> Json:
    """Until nothing is being recorded; a supervisor that is away comes back. Raises Failure: exit 4 in the end."""
    end = clock.now() + timeout
    while found["left_s"] is not None:
        if clock.now() >= end:
            raise Failure(TIMEOUT, f"not recorded after {timeout:g} s", baseline=found)
        clock.sleep(min(LOOK, max(found["left_s"], 0.05)))
        try:
            found = admin.get(path)
        except Failure as failure:
            if failure.code != UNREACHABLE:
                raise
    return found


def render(found: Json) -> str:
    """The last baseline, and what is being recorded."""
    route, kept = clean(found["route"]), found["baseline"]
    lines = []
    if found["left_s"] is not None:
        lines.append(f"{route}: recording for another {age(found['left_s'])}; see proxyctl record-baseline --show")
    if found["trouble"]:
        lines.append(f"{route}: the last recording kept nothing: {clean(found['trouble'])}")
    if kept is not None:
        lines.append(bold(f"{route}: old's answers over {age(kept['seconds'])} until {clean(kept['recorded_at'])}"))
        quantiles = ", ".join(f"{name} {seconds(kept[name])}" for name in ("p50", "p95", "p99"))
        errors = share(kept["error_rate"])
        lines.append(f"  {count(kept['answers'])} answers, {rate(kept['rate'])}, errors {errors}, {quantiles}")
        lines += [f"  {_resource(each)}" for each in kept.get("resources", ())]
    return "\n".join(lines) or f"{route}: no baseline was recorded"


def _resource(found: Json) -> str:
    """What one query of a soak gave meanwhile."""
    value = f"not known: {clean(found['trouble'])}" if found["value"] is None else f"{found['value']:.6g}"
    return f"{clean(found['name'])} of gate {clean(found['gate'])}: {value}"

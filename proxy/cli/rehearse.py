"""rehearse: a rollback as a drill, timed, and back again; or a fault of new's, see `proxy.cli.fault_drill`.

    weight 25 --> 0 on every worker --> old answers for a while --> 25 on every worker

It goes the way that a real rollback goes. Whoever ends it in the middle leaves everything with old, and is told so.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from proxy.cli.failure import BLOCKED, CONFLICT, FAILED, OK, USAGE, Failure
from proxy.cli.freeze import frozen_text
from proxy.cli.gradual import failure_of_old
from proxy.cli.instances import admins
from proxy.cli.options import Commands, change_options
from proxy.cli.output import bold, clean, count, emit, percent, red, table
from proxy.cli.routing import change_body, one_route, route_path
from proxy.cli.values import duration
from proxy.cli.waiting import Clock, behind, until

if TYPE_CHECKING:
    from proxy.cli.client import Admin

Json = dict[str, Any]
FAULTS = ("errors", "dead", "slow")
"""As in `proxy.core.drill`."""
HOLD = 10.0
"""Seconds for which old answers everything."""
LOOK = 0.5
APPLIED = 30.0
"""Seconds that workers may take to apply a change."""


def add(commands: Commands) -> None:
    """Add rehearse to the parser."""
    parser = commands.add(
        "rehearse",
        "roll back as a drill, or let copies to new fail as one: weight 0, and back to the weight before; timed",
        run=rehearse,
        example="rehearse --reason 'monthly drill'\nrehearse --hold 1m -o json\nrehearse --fault dead --for 1m",
    )
    parser.add_argument(
        "--hold",
        type=duration,
        default=HOLD,
        metavar="T",
        help=f"old answers everything so long; a fault goes on so long once it was noticed (default: {HOLD:g}s)",
    )
    group = parser.add_argument_group("a fault")
    group.add_argument(
        "--fault",
        choices=FAULTS,
        help="let copies to new fail at the proxy and see what the guard does; no client feels it, nothing is lost",
    )
    group.add_argument(
        "--for", type=duration, dest="seconds", metavar="T", help="it ends by itself then (default: 1m, at most 5m)"
    )
    group.add_argument(
        "--delay", type=duration, metavar="T", help="that slow copies are held back (default: 1s, at most 10s)"
    )
    group.add_argument("--end", action="store_true", help="end the fault that somebody else has begun, and no more")
    change_options(parser)


def rehearse(args: argparse.Namespace) -> int:
    """`rehearse`: 0 when old answered and the weight is back, 1 when old did not do well."""
    found = admins(args)
    if len(found) != 1:
        raise Failure(USAGE, "a drill is of one instance: name it with --admin")
    if args.fault is not None or args.end:
        from proxy.cli import fault_drill

        return fault_drill.rehearse(found[0], args)
    if args.seconds is not None or args.delay is not None:
        raise Failure(USAGE, "--for and --delay belong to --fault", hint="see proxyctl rehearse --help")
    report = drill(found[0], args, Clock())
    emit(args.output, report, render)
    return FAILED if report["result"] == "fail" else OK


def drill(admin: Admin, args: argparse.Namespace, clock: Clock) -> Json:
    """Do it; what came of it. Raises Failure: exit 2 when there is nothing to roll back, 5 for who came between, 7 for
    a freeze.
    """
    status = admin.get("/api/v1/status")
    route = one_route(status, args.route)
    name, weight, rollout = route["name"], route["weight_target"], route.get("rollout")
    if weight == 0:
        raise Failure(USAGE, f"the weight of {clean(name)} is 0 %: there is nothing to roll back")
    if route.get("frozen"):
        said = f"{clean(name)} is frozen {frozen_text(route['frozen'])}: a drill could not come back"
        raise Failure(
            BLOCKED, said, hint=f"it ends by itself; to end it now: proxyctl freeze --off --route {clean(name)}"
        )
    if rollout is not None and rollout["phase"] not in ("done", "reverted", "aborted", "paused"):
        raise Failure(USAGE, f"a rollout of {clean(name)} is {clean(rollout['phase'])}", hint="proxyctl rollout pause")
    if route["copy"] != "durable":
        said = f"copies of {clean(name)} are {clean(route['copy'])}: new would never get what old answers in a drill"
        raise Failure(BLOCKED, said, hint=f"proxyctl stage live --weight {weight:g} --route {clean(name)}")
    if route.get("old_incomplete_since"):
        said = f"old is incomplete since {clean(route['old_incomplete_since'])}: a rollback would leave that out"
        raise Failure(BLOCKED, said, hint="proxyctl verify; then: proxyctl backfill --from new --to old")
    report = {"route": name, "weight": weight, "hold_s": args.hold}
    if args.dry_run:
        return report | {"result": "dry-run"}
    args.reason = f"rehearsal{f': {args.reason}' if args.reason else ''}"
    epoch = status["epoch"] if args.if_epoch is None else args.if_epoch  # who is faster is not undone
    down: Json | None = None
    try:
        down = turn(admin, args, "POST", name, "rollback", {}, epoch, clock)
        trouble = _watch(admin, name, down["epoch"], args.hold, clock)
        up = turn(admin, args, "PUT", name, "weight", {"weight": weight}, down["epoch"], clock)
    except (Failure, KeyboardInterrupt) as error:
        left = f"the weight of {clean(name)} may be 0 % now; back: proxyctl set-weight {weight:g}"
        if isinstance(error, Failure) and error.code in (CONFLICT, BLOCKED, USAGE) and down is None:
            raise  # nothing was done
        if isinstance(error, Failure):
            raise Failure(error.code, f"{error.message}; {left}", hint=error.hint) from None
        print(left, flush=True)
        raise
    return report | {
        "result": "fail" if trouble else "pass",
        "trouble": trouble,
        "down": down,
        "up": up,
    }


def turn(
    admin: Admin,
    args: argparse.Namespace,
    method: str,
    route: str,
    what: str,
    values: Json,
    epoch: int | None,
    clock: Clock,
) -> Json:
    """One change, and until every worker has it: its epoch, seconds, and how many workers."""
    begun = clock.now()
    changed = admin.change(method, route_path(route, what), change_body(args, **values), epoch)
    until(admin, lambda status: behind(status, changed["epoch"]), APPLIED, clock=clock)
    applied = changed.get("applied") or {}
    all_at_once = applied.get("workers") == applied.get("of")
    seconds = applied["seconds"] if all_at_once and applied else clock.now() - begun
    return {"epoch": changed["epoch"], "seconds": round(seconds, 3), "workers": applied.get("of", 0)}


def _watch(admin: Admin, name: str, epoch: int, hold: float, clock: Clock) -> str:
    """Look at old for so long, or until something is wrong with it; what that is. Raises Failure for another change
    meanwhile.
    """
    end = clock.now() + hold
    trouble = ""
    while clock.now() < end and not trouble:
        clock.sleep(min(LOOK, end - clock.now()))
        status = admin.get("/api/v1/status")
        if status["epoch"] != epoch:
            raise Failure(CONFLICT, f"the routing was changed meanwhile: epoch {status['epoch']}, not {epoch}")
        trouble = failure_of_old(one_route(status, name))
    return trouble


def render(report: Json) -> str:
    """What was done and how long it took."""
    route, weight = clean(report["route"]), percent(report["weight"])
    if report["result"] == "dry-run":
        said = f"{route}: would go from {weight} to 0 % for {report['hold_s']:g} s and back"
        return f"{said}\ndry run: nothing was changed"
    passed = report["result"] == "pass"
    head = f"{route}: rolled back from {weight} and came back"
    lines = [bold(f"pass: {head}") if passed else red(f"fail: {head}, but {clean(report['trouble'])}")]
    rows = [
        [what, f"{report[key]['seconds']:.3f} s", f"{count(report[key]['workers'])} workers", report[key]["epoch"]]
        for what, key in (("weight 0 everywhere after", "down"), (f"{weight} everywhere after", "up"))
    ]
    return "\n".join([*lines, *table(["", "took", "of", "epoch"], rows, "  ")])

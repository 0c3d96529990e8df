"""rehearse --fault: copies to new fail at the proxy for a while, timed; and then everything as it was before.

    copies fail --> the guard sees it --> it reverts, where the weight is above 0 --> the fault ends
    --> new has got all that it was owed meanwhile --> the weight is what it was

The fault ends by itself: whoever ends the command in the middle leaves none behind, but the weight where the guard put
it.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from proxy.cli.failure import FAILED, OK, USAGE, Failure
from proxy.cli.output import bold, clean, count, emit, percent, red, table
from proxy.cli.rehearse import APPLIED, LOOK, turn
from proxy.cli.routing import change_body, one_route, route_path
from proxy.cli.waiting import Clock, until

if TYPE_CHECKING:
    from proxy.cli.client import Admin

Json = dict[str, Any]
SECONDS = 60.0
DELAY = 1.0
DELIVERED_WITHIN = 300.0
"""Seconds that new has to get what it was owed meanwhile."""


def rehearse(admin: Admin, args: argparse.Namespace) -> int:
    """`rehearse --fault` and `--end`: 0 when the guard saw it and everything is as before, else 1."""
    if args.end:
        return _end_of_another(admin, args)
    if args.delay is not None and args.fault != "slow":
        raise Failure(USAGE, "--delay belongs to --fault slow", hint="see proxyctl rehearse --help")
    report = drill(admin, args, Clock())
    emit(args.output, report, render)
    return FAILED if report["result"] == "fail" else OK


def _end_of_another(admin: Admin, args: argparse.Namespace) -> int:
    if args.fault is not None or args.seconds is not None or args.delay is not None:
        raise Failure(USAGE, "--end begins nothing: it takes no --fault", hint="see proxyctl rehearse --help")
    route = one_route(admin.get("/api/v1/status"), args.route)["name"]
    found = admin.change("DELETE", route_path(route, "drill"), change_body(args), args.if_epoch)
    emit(args.output, found, _render_end)
    return OK


def drill(admin: Admin, args: argparse.Namespace, clock: Clock) -> Json:
    """Do it; what came of it. Raises Failure: as the instance refuses it, exit 5 for who came between, 4 when new does
    not get what it is owed.
    """
    status = until(admin, _unknown, APPLIED, clock=clock)
    before = one_route(status, args.route)
    name, weight = before["name"], before["weight_target"]
    args.reason = f"rehearsal{f': {args.reason}' if args.reason else ''}"
    epoch = status["epoch"] if args.if_epoch is None else args.if_epoch  # who is faster is not undone
    values = {"fault": args.fault, "seconds": SECONDS if args.seconds is None else args.seconds}
    if args.fault == "slow":
        values["delay"] = DELAY if args.delay is None else args.delay
    path = route_path(name, "drill")
    if weight > 0 and not args.dry_run:
        admin.change("POST", path, change_body(args, **values) | {"dry_run": True}, epoch)  # said before, if it can be
        said = f"the guard will take the weight of {clean(name)} from {percent(weight)} to 0; it is restored afterwards"
        print(f"proxyctl: {said}", file=sys.stderr, flush=True)
    begun = admin.change("POST", path, change_body(args, **values), epoch)
    report = {"route": name, "weight": weight, "hold_s": args.hold} | values
    if args.dry_run:
        return report | {"result": "dry-run"}
    try:
        seen = _watch(admin, name, weight, args.hold, clock)
        since = clock.now()
        ended, events = _end(admin, args, before, clock)
        delivered = _delivered(admin, before, since, clock)
        up = _back(admin, args, name, weight, seen["reverted_epoch"], clock)
    except (Failure, KeyboardInterrupt) as error:
        left = _left(admin, args, name, weight)
        if isinstance(error, Failure):
            raise Failure(error.code, f"{error.message}; {left}", hint=error.hint) from None
        print(left, flush=True)
        raise
    is_as_wanted = seen["noticed_s"] is not None and (weight == 0 or up is not None)
    is_whole = not delivered["lost"] and not delivered["dead"]
    return report | {
        "result": "pass" if is_as_wanted and is_whole else "fail",
        "began_at": begun["began_at"],
        "ended_at": ended["ended_at"],
        "events": events,
        "noticed_s": seen["noticed_s"],
        "cause": seen["cause"],
        "revert": _revert(admin, name, seen["reverted_epoch"]),
        "delivered": delivered,
        "up": up,
    }


def _watch(admin: Admin, name: str, weight: float, hold: float, clock: Clock) -> Json:
    """Look at the drill until it ends, or `hold` seconds after the guard has done what it does; how it was then."""
    held_until: float | None = None
    while True:
        clock.sleep(LOOK)
        found = admin.get(route_path(name, "drill"))
        is_seen = found["noticed_s"] is not None and (weight == 0 or found["reverted_epoch"] is not None)
        if is_seen and held_until is None:
            held_until = clock.now() + hold
        if found["ended_at"] is not None or (held_until is not None and clock.now() >= held_until):
            return found


def _end(admin: Admin, args: argparse.Namespace, before: Json, clock: Clock) -> tuple[Json, int]:
    """End it, and wait until what it failed was told of; the drill, and how many events came during it.

    Raises Failure (4).
    """
    name = before["name"]
    admin.change("DELETE", route_path(name, "drill"), change_body(args))
    after = one_route(until(admin, lambda status: _running(one_route(status, name)), APPLIED, clock=clock), name)
    return admin.get(route_path(name, "drill")), after["accepted_total"] - before["accepted_total"]


def _unknown(status: Json) -> list[str]:
    return ["the ledger has not told of itself"] if status["ledger"]["pending"] is None else []


def _running(route: Json) -> list[str]:
    return ["the drill is not over"] if route.get("drill") else []


def _delivered(admin: Admin, before: Json, ended: float, clock: Clock) -> Json:
    """Wait until new has what it was owed during the drill; in how many seconds since that ended, and what became of
    it. Raises Failure (4).
    """
    name = before["name"]

    def missing(status: Json) -> list[str]:
        new, since = one_route(status, name)["sides"]["new"], clock.now() - ended
        ledger = new["ledger"]
        if ledger is None:
            return ["the ledger has not told of itself"]
        # While events come some are always under way: what is older than the end is what the drill has left.
        is_left = ledger["pending"] > _ledger(before)["pending"] and ledger["oldest_age_s"] > since
        words = [f"{count(ledger['pending'])} events wait for new"] if is_left else []
        return words + ([f"the breaker of new is {clean(new['breaker'])}"] if new["breaker"] == "open" else [])

    after = _ledger(one_route(until(admin, missing, DELIVERED_WITHIN, clock=clock), name))
    states = {state: after[state] - _ledger(before)[state] for state in ("owed", "delivered", "lost", "dead")}
    return {"seconds": round(clock.now() - ended, 3), "pending": after["pending"]} | states


def _ledger(route: Json) -> Json:
    found: Json = route["sides"]["new"]["ledger"]
    return found


def _back(
    admin: Admin, args: argparse.Namespace, name: str, weight: float, reverted: int | None, clock: Clock
) -> Json | None:
    """Re-arm and restore the weight after a revert; None without one. Raises Failure (5) for a change meanwhile."""
    if reverted is None:
        return None
    rearmed = turn(admin, args, "POST", name, "rearm", {}, reverted, clock)
    return turn(admin, args, "PUT", name, "weight", {"weight": weight}, rearmed["epoch"], clock)


def _left(admin: Admin, args: argparse.Namespace, name: str, weight: float) -> str:
    """End the fault if that can be done from here; what is left."""
    with contextlib.suppress(Failure):
        admin.change("DELETE", route_path(name, "drill"), change_body(args))
    said = "the fault ends by itself"
    if weight > 0:
        route = f"--route {clean(name)}"
        said += f"; where the guard has reverted, the weight of {clean(name)} stays at 0 % and latched; "
        said += f"to go on: proxyctl rearm {route}, then proxyctl set-weight {weight:g} {route}"
    return said


def _revert(admin: Admin, name: str, epoch: int | None) -> Json | None:
    """The guard's revert, with its times; None without one."""
    if epoch is None:
        return None
    why = admin.get(f"/api/v1/why?route={name}")
    times = {key: why.get(f"seconds_to_{key}") for key in ("detect", "recover")}
    return {"epoch": epoch} | times


def render(report: Json) -> str:
    """What was done, what the guard made of it, and how long each took."""
    route, weight, fault = clean(report["route"]), percent(report["weight"]), clean(report["fault"])
    if report["result"] == "dry-run":
        then = f"; the guard would take the weight from {weight} to 0, and it would be restored" * (
            report["weight"] > 0
        )
        said = f"{route}: copies to new would fail ({fault}) for {report['seconds']:g} s at most{then}"
        return f"{said}\ndry run: nothing was changed"
    head = f"{route}: copies to new failed ({fault}), and everything is as before"
    lines = [bold(f"pass: {head}") if report["result"] == "pass" else red(f"fail: {head}, but {_trouble(report)}")]
    delivered, revert, up = report["delivered"], report["revert"], report["up"]
    rows = [["the fault began", clean(report["began_at"]), ""]]
    if report["noticed_s"] is not None:
        rows.append(["the guard saw it after", f"{report['noticed_s']:.3f} s", clean(report["cause"])])
    if revert is not None:
        rows.append(["it reverted after", _time(revert["detect"]), f"epoch {revert['epoch']}"])
        rows.append(["weight 0 everywhere after", _time(revert["recover"]), "of that"])
    rows.append(["the fault ended", clean(report["ended_at"]), ""])
    got = f"{count(delivered['delivered'])} delivered since it began, lost {count(delivered['lost'])}"
    rows.append(["new had everything after", f"{delivered['seconds']:.3f} s", got])
    if up is not None:
        rows.append([f"{weight} everywhere after", f"{up['seconds']:.3f} s", f"epoch {up['epoch']}"])
    return "\n".join([*lines, *table(["", "took, or when", ""], rows, "  ")])


def _trouble(report: Json) -> str:
    """Why it is no pass."""
    delivered = report["delivered"]
    if delivered["lost"] or delivered["dead"]:
        return f"new lost {count(delivered['lost'])} events, and {count(delivered['dead'])} are dead letters"
    if report["noticed_s"] is None and not report["events"]:
        return "no event came meanwhile, so there was nothing for the guard to see"
    if report["noticed_s"] is None:
        return f"the guard did not see it in {report['seconds']:g} s"
    return "the guard saw it and did not revert"


def _time(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f} s"


def _render_end(found: Json) -> str:
    """The end of somebody else's."""
    if found["dry_run"]:
        return f"{clean(found['route'])}: the fault would end\ndry run: nothing was changed"
    return f"{clean(found['route'])}: the fault {'is ending' if found['running'] else 'has ended already'}"

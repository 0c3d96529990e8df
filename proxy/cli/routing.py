"""The two dials: set-weight, stage, rollback, restore, rearm."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from proxy.cli.failure import USAGE, Failure
from proxy.cli.instances import on_each
from proxy.cli.options import Commands, change_options
from proxy.cli.output import age, clean, count, percent, position, rate, seconds, share
from proxy.cli.values import at_least_one, duration, steps, weight
from proxy.cli.waiting import behind, look, until

if TYPE_CHECKING:
    from proxy.cli.client import Admin, Json

STAGES = ("off", "shadow", "dualwrite", "live", "split", "rampdown", "complete")
"""As `proxy.core.routing` has them; a test holds the two together. Importing that one costs msgspec."""
_APPLIED = "every worker has applied it"


def add(commands: Commands) -> None:
    """Add set-weight, stage, rollback, restore and rearm to the parser."""
    parser = commands.add(
        "set-weight",
        "set the percent of keys whose authority is new; copy stays as it is",
        run=set_weight,
        example="set-weight 25 --route events --reason canary\nset-weight 50 --if-epoch 7 --wait",
    )
    parser.add_argument("percent", type=weight, metavar="PERCENT", help="0 to 100, two decimals")
    change_options(parser, wait=_APPLIED)
    parser = commands.add(
        "stage",
        "set both dials to a named position",
        run=stage,
        example="stage dualwrite\nstage live --weight 10 --reason 'first real traffic'",
    )
    parser.add_argument("stage", choices=STAGES, metavar="NAME", help=", ".join(STAGES))
    parser.add_argument("--weight", type=weight, metavar="PERCENT", help="for live and split; else the present one")
    change_options(parser, wait=_APPLIED)
    _add_rollback(commands)
    parser = commands.add(
        "restore",
        "set both dials as they were at an earlier epoch",
        run=restore,
        example="restore --epoch 7 --dry-run\nrestore --epoch 7 --route events --reason 'it was well then'",
    )
    parser.add_argument(
        "--epoch", type=at_least_one, required=True, metavar="N", help="an epoch that proxyctl history shows"
    )
    change_options(parser, wait=_APPLIED)
    add_rearm(commands)


def add_rearm(commands: Commands) -> None:
    """Add rearm, which stands beside the dials and among what concerns a staged plan."""
    parser = commands.add(
        "rearm",
        "lift the latch that a revert has set",
        run=rearm,
        example="rearm --route events --reason 'new is repaired'\nrollout rearm --route events",
    )
    change_options(parser, wait=_APPLIED)


def _add_rollback(commands: Commands) -> None:
    parser = commands.add(
        "rollback",
        "set the weight to 0 at once, or step by step; never asks",
        run=rollback,
        example="rollback --route events --reason 'wrong totals'\nrollback --gradual --steps 50,25,0 --hold 30s",
    )
    parser.add_argument(
        "--gradual", action="store_true", help="go down in steps; at the first failure of new to 0 at once (exit 3)"
    )
    parser.add_argument(
        "--steps", type=steps, metavar="W,W,...,0", help="weights of --gradual (default: 75,50,25,10,0)"
    )
    parser.add_argument("--hold", type=duration, metavar="T", help="stay on each step of --gradual (default: 1m)")
    change_options(parser, wait=_APPLIED)


def set_weight(args: argparse.Namespace) -> int:
    """`set-weight PERCENT`."""
    return on_each(args, lambda admin: change_dials(admin, args, "PUT", "weight", weight=args.percent), render_change)


def stage(args: argparse.Namespace) -> int:
    """`stage NAME`."""
    values = {"stage": args.stage} | ({} if args.weight is None else {"weight": args.weight})
    return on_each(args, lambda admin: change_dials(admin, args, "PUT", "stage", **values), render_change)


def rollback(args: argparse.Namespace) -> int:
    """`rollback`, at once or gradual."""
    if args.gradual:
        from proxy.cli.gradual import rollback_gradually

        return rollback_gradually(args)
    if args.steps or args.hold is not None:
        raise Failure(USAGE, "--steps and --hold belong to --gradual", hint="see proxyctl rollback --help")
    return on_each(args, lambda admin: change_dials(admin, args, "POST", "rollback"), render_change)


def restore(args: argparse.Namespace) -> int:
    """`restore --epoch N`."""
    return on_each(args, lambda admin: change_dials(admin, args, "POST", "restore", epoch=args.epoch), render_change)


def rearm(args: argparse.Namespace) -> int:
    """`rearm` and `rollout rearm`."""
    return on_each(args, lambda admin: change_dials(admin, args, "POST", "rearm"), render_change)


def change_body(args: argparse.Namespace, **values: Any) -> Json:
    """A change's body: its values, and the reason and dry_run that every change may carry."""
    if args.reason:
        values["reason"] = args.reason
    if args.dry_run:
        values["dry_run"] = True
    return values


def one_route(status: Json, name: str | None) -> Json:
    """A route of a status; without a name the only one. Raises Failure when there is none, or are several."""
    routes: dict[str, Json] = {route["name"]: route for route in status["routes"]}
    if name is None and len(routes) == 1:
        return next(iter(routes.values()))
    if name is None or name not in routes:
        said = f"there is no route {name!r}" if name is not None else "there are several routes"
        raise Failure(USAGE, f"{said}: {', '.join(routes)}", hint="name one with --route")
    return routes[name]


def route_path(route: str | None, what: str) -> str:
    """Path of a change of a route; `-` is the only one."""
    return f"/api/v1/routes/{quote(route or '-', safe='')}/{what}"


def change_dials(admin: Admin, args: argparse.Namespace, method: str, what: str, **values: Any) -> Json:
    """Change a route, wait if asked to; the API's answer with `observed` beside it."""
    answer = admin.change(method, route_path(args.route, what), change_body(args, **values), args.if_epoch)
    if args.dry_run:
        return answer
    status: Json | None
    if args.wait:
        status = until(admin, lambda status: behind(status, answer["epoch"]), args.timeout)
        answer["applied"] = _all_applied(answer, status)
    else:
        status = look(admin)
    return answer | {"observed": observed(status or {}, answer["route"])}


def _all_applied(answer: Json, status: Json) -> Json:
    """What --wait has seen: the API's own time when that was complete, else no time."""
    workers = len(status.get("workers", []))
    applied: Json = answer.get("applied") or {}
    complete = applied.get("workers") == applied.get("of") == workers
    return applied if complete else {"workers": workers, "of": workers, "seconds": None}


def observed(status: Json, route: str) -> Json | None:
    """Weight that a route's events really had lately: percent, and its 95 % interval."""
    for entry in status.get("routes", []):
        if entry.get("name") == route:
            return {"weight": entry.get("weight_observed"), "interval": entry.get("weight_observed_interval")}
    return None


def observed_text(weight: float | None, interval: list[float] | None) -> str:
    """`24.7 % (23.9 to 25.6 %)`, or that there were no events."""
    if weight is None:
        return "none, no events"
    return percent(weight) + (f" ({interval[0]:.4g} to {interval[1]:.4g} %)" if interval else "")


def render_change(answer: Json) -> str:
    """A change for people: before and after, epoch, who has applied it, notes, what next."""
    before, after = answer["before"], answer["after"]
    copy = clean(after.get("copy"))
    if before.get("copy") != after.get("copy"):
        copy = f"{clean(before.get('copy'))} -> {copy}"
    lines = [f"{clean(answer['route'])}: {position(before)} -> {position(after)}, copy {copy}"]
    if answer.get("dry_run"):
        lines += moves_lines(answer)
        lines.append(f"dry run: nothing was changed, epoch {answer['previous_epoch']}")
    elif not answer.get("changed"):
        lines.append(f"it was so already, epoch {answer['epoch']}")
    else:
        lines.append(
            f"epoch {answer['previous_epoch']} -> {answer['epoch']}, {_applied_text(answer.get('applied') or {})}"
        )
    if answer.get("observed"):
        seen = answer["observed"]
        lines.append(
            f"weight target {percent(after.get('weight'))}, "
            f"observed in the last 10 s {observed_text(seen['weight'], seen['interval'])}"
        )
    lines += [f"note: {clean(note)}" for note in answer.get("notes", [])]
    if answer.get("next"):
        lines.append(f"next: {clean(answer['next'])}")
    return "\n".join(lines)


def moves_lines(answer: Json) -> list[str]:
    """What a dry run would move, and over which time that was seen; keys are an estimate."""
    moves = answer.get("moves")
    if not moves or not moves["all_rate"]:
        return ["keys and events/s: not known, no event was seen in the last minutes"]

    def per_second(value: float) -> str:
        return rate(value).removesuffix("/s")

    lines = []
    if moves["buckets_percent"]:
        part = moves["rate"] / moves["all_rate"]
        lines.append(
            f"would move to {clean(moves['to'])}: {keys_text(moves['keys'])} of {keys_text(moves['all_keys'])} keys, "
            f"{per_second(moves['rate'])} of {per_second(moves['all_rate'])} events/s ({share(part)})"
        )
    else:
        all_keys = keys_text(moves["all_keys"])
        lines.append(f"would move no key; {all_keys} keys, {per_second(moves['all_rate'])} events/s")
    sides = moves["sides"]
    changes = [f"{name} {rate(each['before'])} -> {rate(each['after'])}" for name, each in sides.items()]
    lines.append(f"events to each side: {', '.join(changes)}")
    lines.append(f"seen in the last {age(moves['window_seconds'])}; keys are estimated, with their 95 % interval")
    return lines


def keys_text(keys: Json) -> str:
    """`about 250 (243-262)`, `17` where the interval is a point, `more than 20,000,000`."""
    if keys["is_least"]:
        return f"more than {count(keys['low'])}"
    if keys["low"] == keys["high"]:
        return count(keys["estimate"])
    return f"about {count(keys['estimate'])} ({count(keys['low'])}-{count(keys['high'])})"


def _applied_text(applied: Json) -> str:
    took = applied.get("seconds")
    so_far = "" if applied.get("workers") == applied.get("of") else " so far"
    in_time = "" if took is None else f" in {seconds(took)}"
    return f"applied on {count(applied.get('workers'))} of {count(applied.get('of'))} workers{so_far}{in_time}"

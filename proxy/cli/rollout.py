"""rollout: the staged plan of a route."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from proxy.cli.failure import FAILED, ROLLED_BACK, TIMEOUT, UNREACHABLE, USAGE, Failure
from proxy.cli.instances import on_each
from proxy.cli.options import Commands, change_options
from proxy.cli.output import age, clean, count, percent, table
from proxy.cli.routing import add_rearm, change_body, route_path
from proxy.cli.values import at_least_one, at_least_zero, duration, weight
from proxy.cli.waiting import Clock, behind, until

if TYPE_CHECKING:
    from proxy.cli.client import Admin, Json

LOOK = 0.5
"""Seconds from one look to the next."""
WEIGHTS = (10.0, 25.0, 50.0, 75.0, 90.0, 100.0)
HOLD = 300.0
"""As `config.rollout` has them; a test holds the two together. Importing that one costs pydantic."""
_PHASES = {"done": "done", "reverted": "REVERTED", "aborted": "aborted"}


def add(commands: Commands) -> None:
    """Add rollout and what is beneath it to the parser."""
    rollout = commands.group(
        "rollout",
        "the staged plan of a route",
        example="rollout plan -f rollout.yaml\nrollout start -f rollout.yaml --wait --timeout 2h\nrollout status",
    )
    _add_start(rollout)
    parser = rollout.add("status", "how far it is", run=status, example="rollout status --route events")
    parser.add_argument("--route", metavar="R", help="name of the route; needed when there is more than one")
    for name, summary in (
        ("pause", "stay at this weight"),
        ("resume", "go on from where it was paused"),
        ("promote", "go to the next step at once"),
        ("abort", "end it, and weight 0"),
    ):
        parser = rollout.add(name, summary, run=act, example=f"rollout {name} --route events --reason 'looked at it'")
        parser.set_defaults(what=name)
        change_options(parser, wait="every worker has applied it")
    add_rearm(rollout)


def _add_start(rollout: Commands) -> None:
    for name, summary, run in (
        ("plan", "say what a plan would do and how long it would take, and begin nothing", plan),
        ("start", "begin a staged plan", start),
    ):
        parser = rollout.add(
            name,
            summary,
            run=run,
            example=f"rollout {name} -f rollout.yaml\nrollout {name} --steps 10,50,100 --hold 5m --samples 500",
        )
        parser.add_argument("-f", "--file", metavar="FILE", help="the plan; the options below are one, too")
        parser.add_argument("--steps", type=_weights, metavar="W,W,...", help="weights (default: 10,25,50,75,90,100)")
        parser.add_argument("--increment", type=weight, metavar="P", help="weights of so many percent each up to 100")
        parser.add_argument("--hold", type=duration, metavar="T", help="time at each weight (default: 5m)")
        parser.add_argument("--samples", type=at_least_zero, metavar="N", help="answers of new that each step takes")
        parser.add_argument("--manual", action="store_true", help="a person promotes each step")
        parser.add_argument("--from-step", type=at_least_one, default=1, metavar="N", help="begin there (default: 1)")
        if name == "start":
            change_options(parser, wait="the plan is over")
        else:
            parser.add_argument("--route", metavar="R", help="name of the route; needed when there is more than one")
            parser.set_defaults(reason=None, if_epoch=None, dry_run=True, wait=False)


def plan(args: argparse.Namespace) -> int:
    """`rollout plan`: a start that is none."""
    return start(args)


def start(args: argparse.Namespace) -> int:
    """`rollout start`."""
    request = _request(args) | {"from_step": args.from_step}
    return on_each(args, lambda admin: _start(admin, args, request), render)


def status(args: argparse.Namespace) -> int:
    """`rollout status`."""
    return on_each(args, lambda admin: admin.get(route_path(args.route, "rollout")), render)


def act(args: argparse.Namespace) -> int:
    """`rollout pause`, `resume`, `promote` and `abort`."""
    return on_each(args, lambda admin: _act(admin, args), render)


def _act(admin: Admin, args: argparse.Namespace) -> Json:
    path = route_path(args.route, "rollout")
    found = admin.change("POST", f"{path}/{args.what}", change_body(args), args.if_epoch)
    if args.wait and not args.dry_run:
        until(admin, lambda status: _on_its_way(_look(admin, path), status), args.timeout)
        found = admin.get(path)
        if found["phase"] == "reverted" or (found["phase"] == "paused" and args.what in ("resume", "promote")):
            code = ROLLED_BACK if found["phase"] == "reverted" else FAILED
            raise Failure(code, f"the rollout is {found['phase']}: {clean(found['reason'])}", rollout=found)
    return found


def _on_its_way(found: Json | None, status: Json) -> list[str]:
    """What a promoted, resumed or aborted rollout has set in motion and is not done yet."""
    if found is None:
        return ["nothing is known of the rollout"]
    is_moving = found["phase"] in ("moving", "applying")
    moving = [f"the weight is on its way: {clean(found['reason'])}"] if is_moving else []
    return moving + behind(status, status.get("epoch", 0))


def _look(admin: Admin, path: str) -> Json | None:
    """The rollout; None while the supervisor is away, for it comes back."""
    try:
        return admin.get(path)
    except Failure as failure:
        if failure.code != UNREACHABLE:
            raise
        return None


def _start(admin: Admin, args: argparse.Namespace, request: Json) -> Json:
    path = route_path(args.route, "rollout")
    found = admin.change("POST", path, change_body(args, **request), args.if_epoch)
    if args.wait and not args.dry_run:
        found = wait_until_over(admin, path, args.timeout, Clock())
    return found


def wait_until_over(admin: Admin, path: str, timeout: float, clock: Clock) -> Json:
    """The rollout when it is over. Raises Failure: exit 3 when it was reverted, 1 when aborted, 4 after the timeout."""
    end = clock.now() + timeout
    found = admin.get(path)
    while True:
        found = _look(admin, path) or found
        if found["phase"] == "done":
            return found
        if found["phase"] in _PHASES:
            code = ROLLED_BACK if found["phase"] == "reverted" else FAILED
            said = f"the rollout was {found['phase']}: {clean(found['reason'])}"
            raise Failure(code, said, hint=f"see proxyctl why --route {found['route']}", rollout=found)
        if clock.now() >= end:
            raise Failure(TIMEOUT, f"not over after {timeout:g} s; {_where(found)}", rollout=found)
        clock.sleep(LOOK)


def _request(args: argparse.Namespace) -> Json:
    """The plan as the admin API takes it. Raises Failure for a file that is wrong."""
    options = (args.steps, args.increment, args.hold, args.samples, args.manual or None)
    if args.file is not None:
        if any(option is not None for option in options):
            raise Failure(USAGE, "-f is a whole plan: leave --steps, --increment, --hold, --samples and --manual out")
        return _read(args.file)
    if args.steps is not None and args.increment is not None:
        raise Failure(USAGE, "--steps and --increment are two ways to say the same: give one")
    weights = args.steps or (_rising(args.increment) if args.increment is not None else WEIGHTS)
    hold, samples = HOLD if args.hold is None else args.hold, args.samples or 0
    steps = [{"weight": each, "hold": hold, "samples": samples} for each in weights]
    return {"steps": steps, "auto_promote": not args.manual}


def _read(file: str) -> Json:
    from config.errors import ConfigErrors
    from config.rollout import load_plan
    from proxy.cli.local import invalid

    try:
        return load_plan(file).as_request()
    except OSError as error:
        raise Failure(USAGE, f"cannot read {file}: {error.strerror}") from None
    except ConfigErrors as errors:
        raise invalid(file, errors) from None


def _weights(text: str) -> list[float]:
    found = [weight(part) for part in text.split(",")]
    if any(after <= before for before, after in zip([0.0, *found], found, strict=False)):
        raise argparse.ArgumentTypeError(f"weights rise from above 0, not {text}")
    return found


def _rising(increment: float) -> list[float]:
    if not 0.01 <= increment <= 100:
        raise Failure(USAGE, f"--increment is from 0.01 to 100, not {increment:g}")
    found: list[float] = []
    while (weight := round(increment * (len(found) + 1), 2)) < 100:
        found.append(weight)
    return [*found, 100.0]


def render(found: Json) -> str:
    """A rollout for people: where it is, what it waits for, and its steps."""
    lines = [f"{clean(found['route'])}: {_where(found)}"]
    if found.get("dry_run"):
        lines[0] = f"{clean(found['route'])}: would begin at step {found['step']} of {len(found['steps'])}"
    elif found["reason"]:
        lines.append(f"  {clean(found['reason'])}")
    rows = []
    for number, step in enumerate(found["steps"], 1):
        took = step.get("predicted_s")
        rows.append(
            [
                f"{number}{' <' if number == found['step'] and not found.get('dry_run') else ''}",
                percent(step["weight"]),
                age(step["hold_s"]),
                count(step["samples"]),
                "never: no events" if took is None else age(took),
            ]
        )
    lines += table(["step", "weight", "hold", "samples", "predicted"], rows, "  ")
    lines += [f"note: {clean(note)}" for note in found.get("notes", [])]
    if found.get("dry_run"):
        times = [step.get("predicted_s") for step in found["steps"][found["step"] - 1 :]]
        total: Any = None if None in times else sum(times)
        lines.append(f"  {age(total)} in all, at this rate" if total is not None else "  never ends: no events come")
        lines.append("dry run: nothing was begun")
    elif not found["auto_promote"]:
        lines.append("  each step is promoted by a person: proxyctl rollout promote")
    return "\n".join(lines)


def _where(found: Json) -> str:
    phase = clean(found["phase"])
    if phase in _PHASES:
        return f"rollout {_PHASES[phase]} at step {found['step']} of {len(found['steps'])}"
    weight = percent(found["steps"][found["step"] - 1]["weight"])
    return f"{phase} at step {found['step']} of {len(found['steps'])}, {weight}, for {age(found['held_s'])}"

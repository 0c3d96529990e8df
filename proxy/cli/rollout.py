"""rollout: the staged plan of a route."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from proxy.cli.failure import FAILED, ROLLED_BACK, TIMEOUT, UNREACHABLE, USAGE, Failure
from proxy.cli.instances import on_each
from proxy.cli.options import Commands, change_options
from proxy.cli.output import age, clean, count, percent, seconds, table
from proxy.cli.routing import add_rearm, change_body, route_path
from proxy.cli.values import at_least_one, at_least_zero, duration, weight
from proxy.cli.waiting import Clock, behind, until

if TYPE_CHECKING:
    from config.rollout import ReadPlan
    from proxy.cli.client import Admin, Json

LOOK = 0.5
"""Seconds from one look to the next."""
WEIGHTS = (10.0, 25.0, 50.0, 75.0, 90.0, 100.0)
HOLD = 300.0
ANALYSIS = 300.0
KEEP_OLD = 3600.0
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
        parser.add_argument(
            "-f",
            "--file",
            metavar="FILE",
            help="the plan; the options below are one, too; without all: the route's own",
        )
        parser.add_argument("--steps", type=_weights, metavar="W,W,...", help="weights (default: 10,25,50,75,90,100)")
        parser.add_argument("--increment", type=weight, metavar="P", help="weights of so many percent each up to 100")
        parser.add_argument("--hold", type=duration, metavar="T", help="time at each weight (default: 5m)")
        parser.add_argument("--samples", type=at_least_zero, metavar="N", help="answers of new that each step takes")
        parser.add_argument(
            "--analysis",
            type=duration,
            metavar="T",
            help="first, time at 0 %% in which copies are judged",
        )
        parser.add_argument(
            "--blue-green", action="store_true", help="from 0 to 100 %% at once, after an --analysis (default: 5m)"
        )
        parser.add_argument(
            "--keep-old", type=duration, metavar="T", help="with --blue-green: time at 100 %% (default: 1h)"
        )
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
    request, read = _request(args)
    request |= {"from_step": args.from_step}
    return on_each(args, lambda admin: _start(admin, args, request, read), render)


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
    is_moving = found["phase"] in ("preparing", "moving", "applying", "reverting")
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


def _start(admin: Admin, args: argparse.Namespace, request: Json, read: ReadPlan | None) -> Json:
    path = route_path(args.route, "rollout")
    try:
        found = admin.change("POST", path, change_body(args, **request), args.if_epoch)
    except Failure as failure:
        raise _placed(failure, args.file, read) from None
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


def _request(args: argparse.Namespace) -> tuple[Json, ReadPlan | None]:
    """The plan as the admin API takes it, and the file if it is from one. Raises Failure for a file that is wrong."""
    _check_options(args)
    if args.file is not None:
        read = _read(args.file)
        return read.plan.as_request(), read
    if not any(_options(args)):
        return {}, None  # the plan of the configuration
    hold, samples = HOLD if args.hold is None else args.hold, args.samples or 0
    weights = args.steps or (_rising(args.increment) if args.increment is not None else WEIGHTS)
    stops = [(each, hold) for each in weights]
    if args.blue_green:
        stops = [(100.0, KEEP_OLD if args.keep_old is None else args.keep_old)]
    analysis = ANALYSIS if args.blue_green and args.analysis is None else args.analysis
    if analysis is not None:
        stops.insert(0, (0.0, analysis))
    steps = [{"weight": weight, "hold": hold, "samples": samples} for weight, hold in stops]
    return {"steps": steps, "auto_promote": not args.manual}, None


def _check_options(args: argparse.Namespace) -> None:
    """Raises Failure for those that do not go together."""
    plain = (args.steps, args.increment, args.hold)
    if args.file is not None and any(_options(args)):
        raise Failure(USAGE, "-f is a whole plan: of the other options it takes --from-step alone")
    if args.steps is not None and args.increment is not None:
        raise Failure(USAGE, "--steps and --increment are two ways to say the same: give one")
    if args.blue_green and any(option is not None for option in plain):
        raise Failure(USAGE, "--blue-green goes from 0 to 100 % at once: leave --steps, --increment and --hold out")
    if args.keep_old is not None and not args.blue_green:
        raise Failure(USAGE, "--keep-old belongs to --blue-green")


def _options(args: argparse.Namespace) -> list[bool]:
    """Which options that make a plan were given."""
    given = (args.steps, args.increment, args.hold, args.samples, args.analysis, args.keep_old)
    return [*(option is not None for option in given), args.blue_green, args.manual]


def _placed(failure: Failure, file: str, read: ReadPlan | None) -> Failure:
    """A refusal that names a place in the plan, with the line of the file."""
    problem = failure.details.get("problem")
    at = problem.get("at") if isinstance(problem, dict) else None
    if read is None or not isinstance(at, list):
        return failure
    from config.errors import ConfigErrors
    from proxy.cli.local import invalid

    return invalid(file, ConfigErrors.at(file, [read.wrong_at(tuple(at), str(failure))]))


def _read(file: str) -> ReadPlan:
    from config.errors import ConfigErrors
    from config.rollout import load_plan
    from proxy.cli.local import invalid

    try:
        return load_plan(file)
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
    else:
        lines += [f"  {clean(found['reason'])}"] if found["reason"] else []
        lines += [f"  {resume_text(found['route'])}"] if found["phase"] == "paused" else []
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
    limits = [f"{name} {seconds(limit)}" for name, limit in (found.get("latency") or {}).items() if limit is not None]
    if limits:
        lines.append(f"  each step takes of new at most: {', '.join(limits)}")
    lines += [f"  {clean(line)}" for line in _gates(found)]
    lines += [f"note: {clean(note)}" for note in found.get("notes", [])]
    if found.get("dry_run"):
        times = [step.get("predicted_s") for step in found["steps"][found["step"] - 1 :]]
        total: Any = None if None in times else sum(times)
        lines.append(f"  {age(total)} in all, at this rate" if total is not None else "  never ends: no events come")
        lines.append("dry run: nothing was begun")
    elif not found["auto_promote"]:
        lines.append("  each step is promoted by a person: proxyctl rollout promote")
    return "\n".join(lines)


def _gates(found: Json) -> list[str]:
    """Which gates a plan asks, and what those of the present step said last."""
    lines = []
    for number, step in enumerate(found["steps"], 1):
        named = [f"{key} {', '.join(step[key])}" for key in ("before", "gates", "after") if step.get(key)]
        if named:
            lines.append(f"step {number}: {'; '.join(named)}")
    if found.get("on_revert"):
        lines.append(f"on a revert: {', '.join(found['on_revert'])}")
    for gate in found.get("gates", []):
        if f"gate {gate['name']}: " in found["reason"]:
            continue  # it is what the rollout waits for
        said = f" ({gate['text']})" if gate["text"] else ""
        lines.append(f"gate {gate['name']}: {gate['answer']}{said}")
    return lines


def _where(found: Json) -> str:
    phase = clean(found["phase"])
    if phase in _PHASES:
        return f"rollout {_PHASES[phase]} at step {found['step']} of {len(found['steps'])}"
    at = f"step {found['step']} of {len(found['steps'])}, {percent(found['steps'][found['step'] - 1]['weight'])}"
    if phase == "paused":
        return f"paused{paused_text(found)} at {at}, which had held for {age(found['held_s'])}"
    return f"{phase} at {at}, for {age(found['held_s'])}"


def paused_text(found: Json) -> str:
    """` by ann@host since 2026-01-31T12:00:00.000Z`; empty where that is not known."""
    if not found.get("paused_by"):
        return ""
    return f" by {clean(found['paused_by'])} since {clean(found.get('paused_at'))}"


def resume_text(route: object) -> str:
    """What lets a paused one go on."""
    return f"to go on: proxyctl rollout resume --route {clean(route)}"

"""reload: the configuration file is read again, and what it changes is shown and applied."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from proxy.cli.failure import BLOCKED, FAILED, TIMEOUT, UNREACHABLE, USAGE, Failure
from proxy.cli.instances import on_each
from proxy.cli.options import Commands, change_options
from proxy.cli.output import clean, red, table
from proxy.cli.routing import change_body
from proxy.cli.waiting import POLL, Clock

if TYPE_CHECKING:
    from proxy.cli.client import Admin, Json

_KINDS = {
    "live": "no connection is touched",
    "startup": "new workers take over",
    "fixed": "cannot change",
}


def add(commands: Commands) -> None:
    """Add reload to the parser."""
    parser = commands.add(
        "reload",
        "read the configuration file again, show what is different, and apply it",
        run=reload,
        example="reload --dry-run\nreload --wait --reason 'slower disks'",
    )
    change_options(parser, route=False, wait="it is served by every worker")
    parser.add_argument(
        "--leave-owed",
        action="store_true",
        help="also where something is owed to a route that goes: that is delivered for as long as this instance runs, "
        "and after that once the file has the route again",
    )


def reload(args: argparse.Namespace) -> int:
    """`reload`."""
    return on_each(args, lambda admin: apply(admin, args), render)


def apply(admin: Admin, args: argparse.Namespace, clock: Clock | None = None) -> Json:
    """Have the file looked at; with --wait until what it holds is served, or is not after all."""
    more = {"leave_owed": True} if args.leave_owed else {}
    before = _last_switch(admin.get("/api/v1/config")) if args.wait else 0
    try:
        answer = admin.change("POST", "/api/v1/reload", change_body(args, **more), args.if_epoch)
    except Failure as failure:
        raise _with_errors(failure) from None
    if answer["refused"]:
        refused = [clean(each) for each in answer["refused"]]
        lines = [*changed(answer["changes"]), *(f"refused: {each}" for each in refused)]
        raise Failure(
            BLOCKED,
            "the configuration of before is served on",
            hint="change the file, or what stands against it, and reload again",
            lines=lines,
            reload=answer,
        )
    if args.wait and answer["begun"]:
        _wait(admin, answer["digest"], before, args.timeout, clock or Clock())
        return answer | {"served": True}
    return answer | {"served": False}


def _wait(admin: Admin, digest: str, before: int, timeout: float, clock: Clock) -> None:
    """Until every worker goes by it. The supervisor is replaced meanwhile, and does not answer for a moment."""
    end = clock.now() + timeout
    missing = "the supervisor does not answer"
    while True:
        try:
            served = admin.get("/api/v1/config")
        except Failure as failure:
            if failure.code not in (UNREACHABLE, TIMEOUT, FAILED):
                raise
        else:
            switch = served.get("switch") or {}
            is_ours = _last_switch(served) > before
            if is_ours and switch.get("result") in ("refused", "put-back", "failed"):
                raise Failure(FAILED, f"it was not applied ({switch['result']}): {clean(switch.get('reason'))}")
            is_over = is_ours and switch.get("phase") == "ended"
            if served["digest"] == digest and served["workers"] >= served["of"] and is_over:
                return
            missing = (
                f"{served['workers']} of {served['of']} workers go by it, {clean(switch.get('phase') or 'waiting')}"
            )
        if clock.now() >= end:
            raise Failure(TIMEOUT, f"it is not served by everybody after {timeout:g} s: {missing}")
        clock.sleep(POLL)


def _last_switch(served: Json) -> int:
    number: int = (served.get("switch") or {}).get("number", 0)
    return number


def _with_errors(failure: Failure) -> Failure:
    """Everything that is wrong with the file, line by line, as `check` has it; exit 2."""
    problem = failure.details.get("problem")
    errors = problem.get("errors") if isinstance(problem, dict) else None
    if not errors:
        return failure
    return Failure(USAGE, failure.message, lines=[_error(each) for each in errors], errors=errors)


def _error(each: Json) -> str:
    place = f"{each['path']}:{each['line']}:{each['column']}" if each["line"] else each["path"]
    meant = f" (did you mean '{each['suggestion']}'?)" if each["suggestion"] else ""
    return f"{clean(place)}: {clean(each['message'] + meant)}"


def render(answer: Json) -> str:
    """What a reload did, or would do."""
    if not answer["changes"]:
        return f"{clean(answer['file'])}: nothing is different"
    lines = changed(answer["changes"])
    if answer["dry_run"]:
        return "\n".join([*lines, "dry run: nothing was changed", "next: proxyctl reload --wait"])
    if answer["served"]:
        return "\n".join([*lines, "it is served by every worker", "next: proxyctl status"])
    return "\n".join([*lines, "it is being applied", "next: proxyctl status -w"])


def changed(changes: list[Json]) -> list[str]:
    """A line for each key."""
    rows = [[e["key"], e["before"], "->", e["after"], f"{e['kind']}: {_KINDS.get(e['kind'], '')}"] for e in changes]
    return table(["key", "before", "", "after", "applied"], rows)


def trouble_lines(trouble: Json) -> list[str]:
    """Why the file as it is now is not served, for the status."""
    since = clean(trouble.get("since"))
    errors, refused = trouble.get("errors") or [], trouble.get("refused") or []
    if errors:
        count = f"{len(errors)} error{'s' * (len(errors) != 1)}"
        head = f"configuration: the file has {count} since {since}; serving the one of before"
        return [red(head), *(red(f"  {_error(each)}") for each in errors[:5])]
    return [
        red(f"configuration: the file is not served since {since}; serving the one of before"),
        *(red(f"  {clean(each)}") for each in refused[:5]),
    ]

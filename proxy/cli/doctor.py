"""doctor: what may be wrong around an instance, and what to change."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from proxy.cli.failure import FAILED, OK, UNREACHABLE, USAGE, Failure
from proxy.cli.instances import on_each
from proxy.cli.options import Commands
from proxy.cli.output import bold, clean, emit, red, wrapped

if TYPE_CHECKING:
    from proxy.cli.client import Admin

Json = dict[str, Any]
_MARKS = {"ok": "ok", "warn": "WARN", "fail": "FAIL"}
_WORST = ("fail", "warn", "ok")


def add(commands: Commands) -> None:
    """Add doctor to the parser."""
    parser = commands.add(
        "doctor",
        "look at clocks, disk, ledger, backends, stores and more, and say what to change",
        run=doctor,
        example="doctor\ndoctor crossfade.yaml\ndoctor --all -o json",
    )
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="a configuration, looked at from here; without it a running instance"
    )
    parser.add_argument("--all", action="store_true", help="list what is as it should be, too")


def doctor(args: argparse.Namespace) -> int:
    """`doctor`: 0 when nothing fails, 1 when something does."""
    if args.file is None:
        results: list[str] = []

        def ask(admin: Admin) -> Json:
            answer = _asked(admin)
            results.append(answer["result"])
            return answer

        code = on_each(args, ask, lambda answer: render(answer, all_of_it=args.all))
        return FAILED if "fail" in results else code
    if args.admin:
        raise Failure(USAGE, "either FILE or --admin: a file is looked at from here, an instance looks itself")
    answer = _looked_at(args.file)
    emit(args.output, answer, lambda found: render(found, all_of_it=args.all))
    return FAILED if answer["result"] == "fail" else OK


def _asked(admin: Admin) -> Json:
    """What an instance says."""
    try:
        answer = admin.get("/api/v1/doctor")
    except Failure as failure:
        if failure.code == UNREACHABLE:
            hint = "to look at a configuration without a running instance: proxyctl doctor FILE"
            raise Failure(failure.code, failure.message, hint=hint) from None
        raise
    _add_skew(answer)
    return answer | {"admin": admin.address}


def _add_skew(answer: Json) -> None:
    """This command beside the instance."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("crossfade")
    except PackageNotFoundError:
        return
    if own != answer["version"]:
        advice = "use the proxyctl of that version: others may not know what it says"
        seen = f"{own}, the instance is {answer['version']}"
        skew = {"area": "instance", "name": "proxyctl", "state": "warn", "seen": seen, "advice": advice}
        answer["findings"].append(skew)
        answer["result"] = _worst(answer["findings"])


def _looked_at(file: str) -> Json:
    """What a process of ours finds that loads the configuration."""
    command = [sys.executable, "-P", "-m", "proxy.control.doctor", file]
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    try:
        answer: Json = json.loads(done.stdout)
    except ValueError:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        raise Failure(FAILED, f"the doctor broke off: {said[0]}") from None
    if "error" in answer:
        number = len(answer["error"])
        raise Failure(USAGE, f"{file} has {number} error{'' if number == 1 else 's'}", lines=answer["error"])
    return {"result": _worst(answer["findings"]), "file": file, "findings": answer["findings"]}


def _worst(findings: list[Json]) -> str:
    states = {each["state"] for each in findings}
    return next((each for each in _WORST if each in states), "ok")


def _count(answer: Json, state: str) -> int:
    return sum(each["state"] == state for each in answer["findings"])


def render(answer: Json, *, all_of_it: bool) -> str:
    """The result, then each finding with what was seen and what to change."""
    total, failing, warned = len(answer["findings"]), _count(answer, "fail"), _count(answer, "warn")
    said = f"{answer['result']}: {total} looked at, {failing} fail, {warned} to be looked after"
    lines = [red(said) if failing else bold(said)]
    area = ""
    for each in answer["findings"]:
        if each["state"] == "ok" and not all_of_it:
            continue
        if each["area"] != area:
            area = each["area"]
            lines += ["", bold(clean(area))]
        text = clean(f"{each['name']}: {each['seen']}")
        part = wrapped(f"  {_MARKS.get(each['state'], '?'):<5}", text)
        lines += [red(line) for line in part] if each["state"] == "fail" else part
        if each["advice"]:
            lines += wrapped("        -> ", clean(each["advice"]))
    if not all_of_it and total > failing + warned:
        lines += ["", f"{total - failing - warned} are as they should be: --all lists them"]
    return "\n".join(lines)

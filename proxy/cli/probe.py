"""probe: one marked event through the proxy, until both stores show it, by a process of the consistency checker."""

from __future__ import annotations

import argparse
from typing import Any

from proxy.cli.failure import FAILED, OK
from proxy.cli.options import Commands, output_option
from proxy.cli.output import bold, clean, emit, red, table
from proxy.cli.verify import ask_checker, which_check

Json = dict[str, Any]


def add(commands: Commands) -> None:
    """Add probe to the parser."""
    parser = commands.add(
        "probe",
        "one marked event through the proxy into both stores, and what has to happen on its way",
        run=probe,
        example="probe\nprobe --route events -o json",
        shared=False,
    )
    which_check(parser)
    output_option(parser, "-o", "--output")


def probe(args: argparse.Namespace) -> int:
    """`probe`: 0 when all was as it should be, 1 when something was not, and what."""
    answer = ask_checker({"do": "probe", "config": args.config, "route": args.route})
    emit(args.output, answer, render_probe)
    return OK if answer["result"] == "pass" else FAILED


def render_probe(answer: Json) -> str:
    """The verdict, and each step with its seconds."""
    text = f"{answer['result']}: {clean(answer['id'])}, sent {clean(answer['sent'])}"
    lines = [bold(text) if answer["result"] == "pass" else red(text)]
    rows = [[step["name"], _seconds(step), step["error"] or _remark(step)] for step in answer["steps"]]
    return "\n".join([*lines, *table(["step", "after", ""], rows)])


def _seconds(step: Json) -> str:
    return "-" if step["seconds"] is None else f"{step['seconds']:.3f} s"


def _remark(step: Json) -> str:
    return "not owed there" if step["skipped"] else "as it should be"

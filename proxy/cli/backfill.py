"""backfill: copy into one side's store what it lacks of the other's history, by a process of the checker."""

from __future__ import annotations

import argparse

from proxy.cli.failure import FAILED, OK, USAGE, Failure
from proxy.cli.options import Commands, output_option
from proxy.cli.output import bold, clean, count, emit, red
from proxy.cli.values import moment
from proxy.cli.verify import Json, ask_checker, nanoseconds, which_check

SIDES = ("old", "new")


def add(commands: Commands) -> None:
    """Add backfill to the parser."""
    parser = commands.add(
        "backfill",
        "copy into one store what it lacks of the other one's history",
        run=backfill,
        example="backfill --from old --to new --since 30d --rate 2000\n"
        "backfill --from old --to new --since 2026-01-01T00:00:00Z --until 2026-02-01T00:00:00Z --dry-run",
        shared=False,
    )
    which_check(parser)
    parser.add_argument("--from", dest="source", choices=SIDES, required=True, help="whose rows are copied")
    parser.add_argument("--to", dest="target", choices=SIDES, required=True, help="where they are written")
    parser.add_argument("--since", type=moment, required=True, metavar="T", help="30d (ago), or a time")
    parser.add_argument("--until", type=moment, metavar="T", help="default: now")
    parser.add_argument("--rate", type=_rate, default=1000.0, metavar="N", help="rows/s, 0: no bound (default: 1000)")
    parser.add_argument("--restart", action="store_true", help="from the beginning, not where an earlier one ended")
    parser.add_argument("--dry-run", action="store_true", help="say what would be written")
    output_option(parser, "-o", "--output")


def backfill(args: argparse.Namespace) -> int:
    """`backfill`: 0 when it came to its end, 1 when it has to go on later."""
    if args.source == args.target:
        raise Failure(USAGE, f"--from and --to are both {args.source}")
    answer = ask_checker(
        {
            "do": "backfill",
            "config": args.config,
            "route": args.route,
            "source": args.source,
            "target": args.target,
            "from_ns": nanoseconds(args.since),
            "to_ns": nanoseconds(args.until),
            "rate": args.rate,
            "restart": args.restart,
            "dry_run": args.dry_run,
        }
    )
    emit(args.output, answer, render)
    return OK if answer["result"] == "done" else FAILED


def render(answer: Json) -> str:
    """What was copied, and what to do when it is not at its end."""
    is_dry = answer["dry_run"]
    done = f"{count(answer['written'])} of {count(answer['read'])} rows {'would be ' if is_dry else ''}written"
    head = f"{answer['result']}: {done} from {clean(answer['source'])} to {clean(answer['target'])}"
    lines = [bold(head) if answer["result"] == "done" else red(head)]
    lines.append(f"span        {clean(answer['from'])} to {clean(answer['to'])}, {clean(answer['record'])}")
    if answer["resumed_at"]:
        lines.append(
            f"resumed     at {clean(answer['resumed_at'])}, where an earlier run had ended; its rows are counted"
        )
    if answer["waiting"]:
        lines.append(f"waiting     {count(answer['waiting'])} rows are left to the ledger, which still owes them")
    if left_out := answer.get("left_out_s"):
        lines.append(f"left out    what is younger than {left_out:g} s; the same command gets it later")
    if answer["error"]:
        lines.append(red(f"{clean(answer['error'])}"))
        lines.append(f"done until  {clean(answer['done_until'])}; the same command goes on from there")
    return "\n".join(lines)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate < 1e9:
        raise argparse.ArgumentTypeError(f"must be a number of rows per second, 0 for no bound, not {text}")
    return rate

"""verify, diff, suggest: compare what both stores hold, and the record, by a process of the consistency checker."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from proxy.cli.failure import FAILED, OK, USAGE, Failure
from proxy.cli.local import DEFAULT_FILE
from proxy.cli.options import Commands, output_option
from proxy.cli.output import emit
from proxy.cli.values import at_least_one, moment
from proxy.cli.verify_view import render_diff, render_suggest, render_verify

Json = dict[str, Any]


def add(commands: Commands) -> None:
    """Add verify, diff and suggest to the parser."""
    parser = commands.add(
        "verify",
        "compare what both stores hold, and the ledger if the instance runs",
        run=verify,
        example="verify\nverify --since 24h --top 50\n"
        "verify --from 2026-01-31T12:00:00Z --to 2026-01-31T13:00:00Z -o json\nverify --since 1h --repair --dry-run\n"
        "verify --live --since 24h --html report.html",
        shared=False,
    )
    _what(parser)
    parser.add_argument(
        "--repair", action="store_true", help="write what one store lacks and the other has; overwrites nothing"
    )
    parser.add_argument(
        "--without-ledger", action="store_true", help="repair also when no instance says what each side is owed"
    )
    parser.add_argument("--dry-run", action="store_true", help="with --repair: say what would be written")
    _already(parser)
    parser.add_argument(
        "--top", type=at_least_one, default=20, metavar="N", help="findings and fields to list (default: 20)"
    )
    output_option(parser, "-o", "--output")
    parser = commands.add(
        "diff",
        "events of which both stores say something else, side by side",
        run=diff,
        example="diff\ndiff --class different --field /body/temperature --top 5\n"
        "diff --since 24h --class lost,unrecorded -o json",
        shared=False,
    )
    _what(parser)
    parser.add_argument("--class", dest="kind", metavar="C", help="of this class alone, or of several: lost,unrecorded")
    parser.add_argument("--field", metavar="POINTER", help="that differ there or beneath, such as /body/temperature")
    _already(parser)
    parser.add_argument("--top", type=at_least_one, default=10, metavar="N", help="events to show (default: 10)")
    output_option(parser, "-o", "--output")
    parser = commands.add(
        "suggest",
        "rules that would let pass what looks like noise; none is applied",
        run=suggest,
        example="suggest\nsuggest --since 24h -o json",
        shared=False,
    )
    _what(parser)
    parser.add_argument("--top", type=at_least_one, default=20, metavar="N", help="rules to show (default: 20)")
    output_option(parser, "-o", "--output")


def _what(parser: argparse.ArgumentParser) -> None:
    """Which stores, and what of them."""
    which_check(parser)
    span = parser.add_argument_group("span of event time")
    first = span.add_mutually_exclusive_group()
    first.add_argument("--since", type=moment, metavar="T", help="until now since: 1h (ago, the default), or a time")
    first.add_argument("--from", dest="start", type=moment, metavar="T", help="ISO time or Unix seconds")
    span.add_argument("--to", dest="end", type=moment, metavar="T", help="with --from; default: now")
    parser.add_argument(
        "--full", action="store_true", help="read every row, also where counts and sums of both stores agree"
    )


def _already(parser: argparse.ArgumentParser) -> None:
    """What is not read anew, and where else it is told."""
    parser.add_argument("--live", action="store_true", help="read no store: tell what the live checker has found")
    parser.add_argument("--html", metavar="FILE", help="write it as a page with plots, too")


def which_check(parser: argparse.ArgumentParser) -> None:
    """Options that say which stores are meant."""
    parser.add_argument("--config", default=DEFAULT_FILE, metavar="FILE", help=f"default: {DEFAULT_FILE}")
    parser.add_argument("--route", metavar="R", help="name of the route; needed when several can be checked")


def verify(args: argparse.Namespace) -> int:
    """`verify`: 0 when all is well, 1 when something differs, could not be read, or nothing was there."""
    if (args.dry_run or args.without_ledger) and not args.repair:
        raise Failure(USAGE, "--dry-run and --without-ledger are about --repair: verify alone changes nothing")
    if args.live and (args.repair or args.full):
        raise Failure(USAGE, "--live tells what was found already: it neither reads nor repairs")
    asked = {"repair": args.repair, "dry_run": args.dry_run, "two_way": args.without_ledger, "live": args.live}
    answer = ask_checker(_request("verify", args) | asked)
    emit(args.output, answer, render_verify)
    _keep_page(args.html, answer)
    return OK if answer["result"] == "pass" else FAILED


def diff(args: argparse.Namespace) -> int:
    """`diff`: 0 when nothing of the kind was found and all could be read, else 1."""
    if args.field is not None and not args.field.startswith(("/", "(")):
        raise Failure(USAGE, f"--field {args.field} is no JSON pointer", hint=f"--field /{args.field}")
    if args.live and args.full:
        raise Failure(USAGE, "--live tells what was found already: it reads no rows")
    answer = ask_checker(_request("diff", args) | {"class": args.kind, "field": args.field, "live": args.live})
    emit(args.output, answer, render_diff)
    _keep_page(args.html, answer)
    return FAILED if answer["findings"] or answer["inconclusive"] else OK


def suggest(args: argparse.Namespace) -> int:
    """`suggest`: 0, also when there is nothing to suggest; 1 when something could not be read."""
    answer = ask_checker(_request("suggest", args))
    emit(args.output, answer, render_suggest)
    return FAILED if answer["inconclusive"] else OK


def _keep_page(file: str | None, answer: Json) -> None:
    """The answer as a page; who names no file gets none."""
    if file is None:
        return
    from proxy.report.check import page_of  # costs as much as the rest of a command
    from proxy.report.page import html

    try:
        Path(file).write_text(html(page_of(answer)), encoding="utf-8")
    except OSError as error:
        raise Failure(FAILED, f"{file} cannot be written: {error.strerror}") from None


def _request(do: str, args: argparse.Namespace) -> Json:
    if args.end is not None and args.start is None:
        raise Failure(USAGE, "--to needs --from", hint=f"see proxyctl {do} --help")
    return {
        "do": do,
        "config": args.config,
        "route": args.route,
        "from_ns": nanoseconds(args.start or args.since),
        "to_ns": nanoseconds(args.end),
        "full": args.full,
        "top": args.top,
    }


def ask_checker(request: Json) -> Json:
    """Run the checker for one request; its answer. Raises Failure with what it says is wrong."""
    command = [sys.executable, "-P", "-m", "consistency", json.dumps(request)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise Failure(FAILED, f"the checker ended with {done.returncode} and without an answer")
    answer: Json = json.loads(done.stdout)
    error = answer.get("error")
    if isinstance(error, dict):  # what kept a backfill from its end, or a probe from its stores, is text
        raise Failure(USAGE, error["message"], hint=error["hint"], lines=error["lines"])
    return answer


def nanoseconds(text: str | None) -> int | None:
    """A point in time of the command line, as `values.moment` gives it, in nanoseconds since 1970."""
    if text is None:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", text):
        whole, _, fraction = text.partition(".")
        return int(whole) * 10**9 + int(fraction[:9].ljust(9, "0"))
    from datetime import UTC, datetime

    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Failure(USAGE, f"{text} is no time") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return round(at.timestamp() * 1e6) * 1000

"""report: what happened to a route in some time, for whoever was not there: as Markdown, or as a page with plots."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.cli.failure import FAILED, OK, USAGE, Failure
from proxy.cli.instances import admins
from proxy.cli.options import FORMATS, Commands
from proxy.cli.output import clean, emit
from proxy.cli.values import at_least_one, moment

if TYPE_CHECKING:
    from proxy.cli.client import Admin
    from proxy.report.page import Page

Json = dict[str, Any]
KINDS = (".md", ".html")
POINTS = 120
PAGE = 1000
MOST_PAGES = 20
"""Of the audit trail, all routes together; what is older is said not to be known."""
BUSY_TRIES, BUSY_WAIT = 15, 1.0
"""How often, and after how many seconds, the figures are asked for while somebody else reads them."""


def add(commands: Commands) -> None:
    """Add report to the parser."""
    parser = commands.add(
        "report",
        "what happened to a route in some time, with figures and the audit trail",
        run=report,
        example="report\nreport --since 24h -o incident.html\n"
        "report --route events --from 2026-01-31T12:00:00Z --to 2026-01-31T13:00:00Z -f incident.md\n"
        "report --since 2h -o json",
        several=False,
        files=KINDS,
    )
    parser.add_argument("--route", metavar="R", help="name of the route; needed when there is more than one")
    span = parser.add_argument_group("span")
    first = span.add_mutually_exclusive_group()
    first.add_argument("--since", type=moment, metavar="T", help="until now since: 1h (ago, the default), or a time")
    first.add_argument("--from", dest="start", type=moment, metavar="T", help="ISO time or Unix seconds")
    span.add_argument("--to", dest="end", type=moment, metavar="T", help="with --from; default: now")
    parser.add_argument("-f", "--file", metavar="FILE", help="write it there, .md or .html, and not to stdout")
    parser.add_argument(
        "--top", type=at_least_one, default=10, metavar="N", help="differences to show (default: 10, at most 1000)"
    )


def report(args: argparse.Namespace) -> int:
    """`report`: 0 when it is written, also of the worst."""
    from datetime import UTC, datetime

    from proxy.cli.incident import iso
    from proxy.cli.verify import nanoseconds

    file = _file(args)
    if args.end is not None and args.start is None:
        raise Failure(USAGE, "--to needs --from", hint="see proxyctl report --help")
    now = datetime.now(UTC).timestamp()
    until = now if args.end is None else (nanoseconds(args.end) or 0) / 1e9
    named = nanoseconds(args.start or args.since)
    since = until - 3600 if named is None else named / 1e9
    if since >= until:
        raise Failure(USAGE, "the report would end before it begins", hint="--from has to be before --to, or now")
    admin, *others = admins(args)
    if others:
        raise Failure(USAGE, "a report is of one instance", hint="name one --admin")
    span = tuple(iso(datetime.fromtimestamp(each, UTC)) for each in (since, until))
    gathered = gather(admin, args.route, span[0], span[1], args.top) | {
        "made_at": iso(datetime.fromtimestamp(now, UTC))
    }
    if file is None:
        emit(args.output, gathered, lambda value: _written(value, ".md").rstrip("\n"))
        return OK
    try:
        file.write_text(_written(gathered, file.suffix), encoding="utf-8")
    except OSError as error:
        raise Failure(FAILED, f"{file} cannot be written: {error.strerror}") from None
    said = {"file": str(file), "route": gathered["route"], "since": span[0], "until": span[1]}
    emit(args.output if args.output in FORMATS else "text", said, lambda value: f"written to {clean(value['file'])}")
    return OK


def _file(args: argparse.Namespace) -> Path | None:
    """Where it is to be written: --file, or what -o names."""
    names = [name for name in (args.file, None if args.output in FORMATS else args.output) if name is not None]
    if len(names) > 1:
        raise Failure(USAGE, f"one file, please: {names[0]} or {names[1]}")
    if not names:
        return None
    file = Path(names[0])
    if file.suffix not in KINDS:
        raise Failure(
            USAGE, f"{file} ends neither in .md nor in .html", hint="the end of its name says what it becomes"
        )
    return file


def _written(gathered: Json, kind: str) -> str:
    from proxy.cli.incident import page_of
    from proxy.report.markdown import markdown

    try:
        page = page_of(gathered)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Failure(
            FAILED,
            f"what the instance says cannot be understood ({type(error).__name__}: {clean(error)})",
            hint="is it of another version? proxyctl report -o json shows what it said",
        ) from None
    return markdown(page) if kind == ".md" else _html(page)


def _html(page: Page) -> str:
    from proxy.report.page import html  # costs as much as the rest of a command
    from proxy.report.plots import drawn

    return html(drawn(page))


# --- what is asked -----------------------------------------------------------------------------------------


def gather(admin: Admin, route: str | None, since: str, until: str, top: int) -> Json:
    """Everything that the report is made of. since, until: as the API takes them. Raises Failure.

    What cannot be had is null, and says why beside it.
    """
    status = admin.get("/api/v1/status")
    state = _route(status, route)
    name = str(state["name"])
    entries, is_cut = _entries(admin, since, until)
    figures, figures_error = _asked(
        admin, f"/api/v1/routes/{_quoted(name)}/figures", since=since, until=until, points=POINTS
    )
    differences: Json | None = None
    differences_error = "No live checker compares what the two sides of this route store (consistency)."
    if any(name in each.get("routes", []) for each in status.get("consistency") or []):
        differences, differences_error = _asked(
            admin, "/api/v1/consistency/diff", route=name, since=since, until=until, live="true", limit=min(top, 1000)
        )
    instance = {key: status.get(key) for key in ("version", "started_at", "epoch", "ready", "warnings")}
    return {
        "route": name,
        "since": since,
        "until": until,
        "instance": instance,
        "state": state,
        "ledger": status.get("ledger") or {},
        "entries": [each for each in entries if each.get("route") in (name, "", None)],
        "entries_cut": is_cut,
        "entries_since": str(entries[0].get("at")) if is_cut else since,
        "figures": figures,
        "figures_error": figures_error,
        "differences": differences,
        "differences_error": differences_error,
    }


def _route(status: Json, name: str | None) -> Json:
    routes: list[Json] = status.get("routes") or []
    found = [each for each in routes if name in (None, each.get("name"))]
    if len(found) == 1:
        return found[0]
    names = ", ".join(clean(each.get("name")) for each in routes)
    if not found:
        raise Failure(FAILED, f"there is no route {clean(name)}; routes are {names or 'none'}")
    raise Failure(USAGE, f"which route? one of {names}", hint="proxyctl report --route R")


def _entries(admin: Admin, since: str, until: str) -> tuple[list[Json], bool]:
    """The audit trail of a span, oldest first, and whether it begins before what was read."""
    entries: list[Json] = []
    for _ in range(MOST_PAGES):
        query = {"since": since, "until": until, "limit": PAGE, "offset": len(entries)}
        page = admin.get("/api/v1/history", **query)["entries"]
        entries += page
        if len(page) < PAGE:
            return entries[::-1], False
    return entries[::-1], True


def _asked(admin: Admin, path: str, **query: object) -> tuple[Json | None, str]:
    from time import sleep

    for left in reversed(range(BUSY_TRIES)):
        try:
            return admin.get(path, **query), ""
        except Failure as failure:
            if failure.details.get("status") != 429 or not left:
                return None, failure.message
        sleep(BUSY_WAIT)
    raise AssertionError("the last try returns")


def _quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")

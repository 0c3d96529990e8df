"""load: a load test of the proxy, or of any target that speaks HTTP or WebSocket."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, Any

from proxy.cli.failure import FAILED, OK, UNREACHABLE, USAGE, Failure
from proxy.cli.instances import admins
from proxy.cli.options import Commands
from proxy.cli.output import emit
from proxy.cli.values import at_least_one, duration, rate, share

if TYPE_CHECKING:
    from proxy.load.requests import Messages, Requests
    from proxy.load.run import Plan
    from proxy.load.stores import Store
    from proxy.load.summary import Summary, Threshold
    from proxy.load.target import Target
    from proxy.load.template import Template

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]*[\x21-\x7e\x80-\xff]?[\t\x20-\x7e\x80-\xff]*")
_WORD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HANDSHAKE = ("connection", "upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions")
_DEFAULT_SECONDS = 10.0
_EXAMPLES = """
load --rate 500/s --duration 30s --p99 100ms --max-errors 0.1%
load http://127.0.0.1:8080/api/v1/events --rate 17/min --duration 10m
load ws://127.0.0.1:8080/api/v1/stream --rate 500/s --connections 20
load --count 10000 --concurrency 8 --template event.json -o json
load --rate 50/s --side new --name canary
load http://127.0.0.1:8080 --count 100 --store old=toy:/tmp/old.db --store new=toy:/tmp/new.db
"""
_TEMPLATES = """
placeholders of templates, headers and paths, filled in anew for each event:
  {{id}} unique, {{key}} one of --keys names, {{n}} number from 0, {{time}} ISO 8601, {{random}} 10.00 to 99.99
--rate is an open loop: events leave when they are due whatever the answers do, and latency counts from then.
It counts as kept when all were sent, the last one at most 0.5 s and 1 % of the run's time late; else exit 1.
The summary says what was reached when that is less than 95 %.
ws:// and wss://, or a route of sessions: events are messages, --connections is the number of sessions, headers are the
handshake's, and a message is accepted when the Pong to a Ping behind it is here. A session that the target closes fails
what it had on the way ("closed") and is opened anew."""


def add(commands: Commands) -> None:
    """Add load to the parser."""
    parser = commands.add("load", "send events and judge the answers", run=load, example=_EXAMPLES, several=False)
    parser.epilog = f"{parser.epilog}\n{_TEMPLATES}"
    parser.add_argument("url", nargs="?", metavar="URL", help="http(s):// or ws(s)://; without it the admin API says")
    parser.add_argument("--route", metavar="R", help="route to load; needed when there is more than one")
    pace = parser.add_argument_group("pace: --rate, or --concurrency with --count or --duration")
    pace.add_argument("--rate", type=rate, metavar="R", help="constant rate: 5000/s, 17/min (open loop)")
    pace.add_argument("--count", type=at_least_one, metavar="N", help="end after N events")
    pace.add_argument(
        "--duration", type=duration, metavar="T", help="end after this time (default: 10s without --count)"
    )
    pace.add_argument("--concurrency", type=at_least_one, metavar="C", help="events at a time, as fast as answered")
    pace.add_argument("--connections", type=at_least_one, metavar="C", help="of an open loop (64), or sessions")
    pace.add_argument("--timeout", type=duration, default=20.0, metavar="T", help="longest wait for an answer (20s)")
    _add_event(parser)
    judged = parser.add_argument_group("thresholds: exit 1 when one is missed")
    judged.add_argument("--max-errors", type=share, metavar="S", help="share of events not accepted, such as 0.1%%")
    for name in ("p50", "p90", "p95", "p99", "max"):
        judged.add_argument(f"--{name}", type=duration, metavar="T", help=f"{name} latency at most this")
    stores = parser.add_argument_group("stores")
    stores.add_argument(
        "--store", action="append", default=[], metavar="NAME=toy:FILE", help="ask a toy backend's store; repeatable"
    )
    stores.add_argument(
        "--settle", type=duration, default=5.0, metavar="T", help="time the stores have to catch up (5s)"
    )


def _add_event(parser: argparse.ArgumentParser) -> None:
    event = parser.add_argument_group("events")
    event.add_argument(
        "--template", metavar="FILE", help="body, JSON or any text (default: a state change of 290 bytes)"
    )
    event.add_argument("--keys", type=at_least_one, default=10_000, metavar="N", help="different keys (default: 10000)")
    event.add_argument("-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", help="repeatable")
    event.add_argument("--method", choices=("POST", "PUT", "PATCH", "DELETE"), help="default: POST, or the route's")
    event.add_argument(
        "--name", default="proxyctl", metavar="NAME", help="value of X-Crossfade-Load (default: proxyctl)"
    )
    event.add_argument("--side", choices=("old", "new"), help="force this side, as the override of the route allows")
    event.add_argument(
        "--side-header",
        metavar="NAME",
        help="header of --side (default: the route's override, asked of the instance, which must be that of the URL)",
    )
    event.add_argument("--ca", metavar="FILE", help="certificates to believe (default: the system's)")


def load(args: argparse.Namespace) -> int:
    """`load`."""
    import uvloop

    from proxy.cli.load_view import Live, render
    from proxy.core.errors import CrossfadeError
    from proxy.load.generator import UnreachableError
    from proxy.load.template import BadTemplate

    try:
        plan = _plan(args)
        live = Live(sys.stdout if args.output == "text" else sys.stderr)
        try:
            summary = uvloop.run(_run(plan, live))
        finally:
            live.end()
    except BadTemplate as error:
        raise Failure(USAGE, str(error), hint="see proxyctl load --help for the placeholders") from None
    except UnreachableError as error:
        raise Failure(UNREACHABLE, str(error)) from None
    except CrossfadeError as error:
        if isinstance(error, Failure):
            raise
        raise Failure(FAILED, str(error)) from None
    emit(args.output, summary.as_dict(), render)
    problems = _problems(summary)
    if problems:
        raise Failure(FAILED, "; ".join(problems))
    return OK


async def _run(plan: Plan, live: Any) -> Summary:
    from proxy.load.run import Run

    return await Run(plan, live.show)()


def _problems(summary: Summary) -> list[str]:
    from proxy.cli.load_view import missed_text

    found = [missed_text(each._asdict()) for each in summary.missed()]
    if problem := summary.rate_problem():
        found.append(problem)
    found += summary.store_problems()
    if not summary.is_ok and not found:
        found.append("no event was accepted")
    return found


def _plan(args: argparse.Namespace) -> Plan:
    from proxy.load.generator import CONNECTIONS
    from proxy.load.run import Plan

    if args.rate is not None and args.concurrency is not None:
        raise Failure(USAGE, "--rate is an open loop and --concurrency a closed one: give one of them")
    if args.rate is None and args.count is None and args.concurrency is None and args.duration is None:
        raise Failure(USAGE, "how much? --rate R, or --count N", hint="see proxyctl load --help")
    if args.rate is None and args.connections is not None:
        raise Failure(USAGE, "--connections goes with --rate; a closed loop has --concurrency of them")
    seconds = args.duration if args.duration is not None or args.count is not None else _DEFAULT_SECONDS
    target, requests = _requests(args)
    return Plan(
        target=target,
        requests=requests,
        connections=(args.connections or CONNECTIONS) if args.rate is not None else args.concurrency or 1,
        timeout=args.timeout,
        rate=args.rate,
        count=args.count,
        seconds=seconds,
        thresholds=_thresholds(args),
        stores=_stores(args.store),
        settle=args.settle,
        side=args.side,
    )


def _thresholds(args: argparse.Namespace) -> tuple[Threshold, ...]:
    from proxy.load.summary import LONGEST, MAX_ERRORS, QUANTILES, Threshold

    limits = {MAX_ERRORS: args.max_errors} | {name: getattr(args, name) for name in (*QUANTILES, LONGEST)}
    return tuple(Threshold(name, limit) for name, limit in limits.items() if limit is not None)


def _stores(texts: list[str]) -> list[Store]:
    found: list[Store] = []
    for text in texts:
        name, _, place = text.partition("=")
        kind, _, file = place.partition(":")
        if not name or kind != "toy" or not file:
            raise Failure(USAGE, f"expected a store such as old=toy:/tmp/old.db, not {text}")
        from pathlib import Path

        from proxy.demo.store import ToyStore

        found.append(ToyStore(name, Path(file)))
    return found


def _requests(args: argparse.Namespace) -> tuple[Target, Requests | Messages]:
    from proxy.cli.load_route import ask_route, check_own, force, target_of, with_key
    from proxy.load.requests import LOAD_HEADER, Messages, Requests

    needs_route = args.url is None or (args.side is not None and args.side_header is None)
    instance = ask_route(admins(args), args.route) if needs_route else None
    target = target_of(instance) if args.url is None and instance is not None else _target(args)
    if args.url is not None and instance is not None:
        check_own(target, instance)
    headers: list[str] = []
    body = _template(args.template)
    if target.is_session:
        _check_session(args, body)
    if instance is not None and args.url is None:
        headers, body = with_key(instance.route, body)
    if not _WORD.fullmatch(args.name):
        raise Failure(USAGE, f"--name is one word of letters, digits and -_. and the like, not {args.name!r}")
    mark = f"{LOAD_HEADER}: {args.name}"
    headers += [mark] if target.is_session else ["X-Event-Id: {{id}}", mark, f"Content-Type: {_content_type(body)}"]
    forcing: list[str] = []
    if args.side is not None:
        forcing, target = force(args.side, args.side_header, instance, target)
    for line in args.header:
        if not _HEADER.fullmatch(line):
            raise Failure(USAGE, f"expected a header such as 'X-Tenant: 7', not {line!r}")
    given = {line.partition(":")[0].lower() for line in args.header}
    for line in forcing:
        if line.partition(":")[0].lower() in given:
            raise Failure(USAGE, f"--header {line.partition(':')[0]} would replace what forces --side {args.side}")
    headers = [line for line in headers if line.partition(":")[0].lower() not in given] + forcing + args.header
    if target.is_session:
        return target, Messages(target, body, keys=args.keys, headers=headers)
    method = args.method or (instance.method if instance is not None and args.url is None else "POST")
    return target, Requests(target, body, keys=args.keys, headers=headers, method=method)


def _check_session(args: argparse.Namespace, body: Template | None) -> None:
    """Failure for what makes no sense with a session."""
    if args.method is not None:
        raise Failure(USAGE, "--method is of requests: a message has none, and the handshake of a session is a GET")
    for line in args.header:
        name = line.partition(":")[0]
        if name.lower() in _HANDSHAKE:
            raise Failure(USAGE, f"--header {name} is the handshake's own")
    if args.store and body is not None and "id" not in body.names:
        raise Failure(USAGE, "--store looks for ids, and a message has its id in its body alone: give it an {{id}}")


def _target(args: argparse.Namespace) -> Target:
    from config.units import UnitError
    from proxy.load.target import parse_target

    try:
        return parse_target(args.url, ca=args.ca)
    except UnitError as error:
        raise Failure(USAGE, str(error), hint=f"did you mean {error.suggestion}?" if error.suggestion else "") from None
    except OSError as error:
        raise Failure(USAGE, f"cannot use {args.ca}: {error.strerror or error}") from None


def _template(file: str | None) -> Template | None:
    from proxy.load.template import looks_like_json, parse_body

    if file is None:
        return None
    try:
        with open(file, "rb") as stream:
            content = stream.read()
    except OSError as error:
        raise Failure(USAGE, f"cannot read {file}: {error.strerror}") from None
    return parse_body(content, file, is_json=file.endswith(".json") or looks_like_json(content))


def _content_type(body: Template | None) -> str:
    return "application/json" if body is None or body.is_json else "text/plain; charset=utf-8"

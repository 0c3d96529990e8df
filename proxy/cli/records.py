"""The durable record: ledger status, ls, show, replay; dead letters: dead ls, requeue, discard."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from proxy.cli.confirm import confirm, confirm_options
from proxy.cli.failure import USAGE, Failure
from proxy.cli.instances import on_each
from proxy.cli.options import Commands, change_options
from proxy.cli.output import age, clean, count, red, table, words
from proxy.cli.routing import change_body
from proxy.cli.values import at_least_one, at_least_zero, moment
from proxy.cli.waiting import unsettled, until

if TYPE_CHECKING:
    from proxy.cli.client import Admin, Json

SIDES = ("old", "new")
STATES = ("pending", "deferred", "delivered", "refused", "dead", "discarded", "lost", "released")
"""As `proxy.core.owed` has them; a test holds the two together."""
_EVENT = ["seq", "id", "route", "key", "accepted", "old", "new", "request"]
_REPLAYED = "everything pending was delivered"


def add(commands: Commands) -> None:
    """Add ledger and dead to the parser."""
    ledger = commands.group(
        "ledger", "the durable record of every event", example="ledger ls --state pending --side new"
    )
    ledger.add("status", "the balance of each side", run=ledger_status, example="ledger status")
    parser = ledger.add(
        "ls",
        "list events",
        run=ledger_ls,
        example="ledger ls --side new --state pending --since 1h\nledger ls --limit 10",
    )
    _filters(parser)
    parser.add_argument("--state", choices=STATES, metavar="S", help=", ".join(STATES))
    parser.add_argument("--since", type=moment, metavar="T", help="accepted since: 1h (ago), ISO time or Unix seconds")
    parser.add_argument("--after-seq", type=at_least_zero, metavar="SEQ", help="go on after this number")
    parser = ledger.add(
        "show", "everything known about one event", run=ledger_show, example="ledger show 0196f0c2-order-17"
    )
    parser.add_argument("id", metavar="ID", help="event id")
    parser = ledger.add(
        "replay",
        "deliver again what a restored backend is missing (needs ledger.retain_bodies)",
        run=ledger_replay,
        example="ledger replay --since 2026-01-31T12:00:00Z --to new --reason 'restored from backup' --wait",
    )
    parser.add_argument("--since", type=moment, metavar="T", required=True, help="1h (ago), ISO time or Unix seconds")
    parser.add_argument("--to", choices=SIDES, required=True, dest="side", help="side to deliver to")
    change_options(parser, wait=_REPLAYED)
    _add_dead(commands)


def _add_dead(commands: Commands) -> None:
    dead = commands.group("dead", "dead letters: events that a side failed on for good", example="dead requeue --all")
    parser = dead.add("ls", "list dead letters", run=dead_ls, example="dead ls --side new")
    _filters(parser)
    parser = dead.add(
        "requeue",
        "deliver dead letters again",
        run=dead_requeue,
        example="dead requeue ID ID\ndead requeue --all --side new",
    )
    _selection(parser)
    change_options(parser, wait=_REPLAYED)
    parser = dead.add(
        "discard",
        "settle dead letters without delivering them",
        run=dead_discard,
        example="dead discard ID --reason 'test event'\ndead discard --all --side new --yes",
    )
    _selection(parser)
    change_options(parser, wait="every worker has applied it and nothing is pending")
    confirm_options(parser)


def _filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--route", metavar="R", help="this route alone")
    parser.add_argument("--side", choices=SIDES, help="this side alone")
    parser.add_argument("--limit", type=at_least_one, default=100, metavar="N", help="at most so many (default: 100)")


def _selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID", help="event ids")
    parser.add_argument("--all", action="store_true", help="all dead letters, of --side and --route when given")
    parser.add_argument("--side", choices=SIDES, help="this side alone")


def ledger_status(args: argparse.Namespace) -> int:
    """`ledger status`."""
    return on_each(args, lambda admin: admin.get("/api/v1/ledger"), render_ledger)


def ledger_ls(args: argparse.Namespace) -> int:
    """`ledger ls`."""
    query = {name: getattr(args, name) for name in ("route", "side", "state", "since", "after_seq", "limit")}
    return on_each(args, lambda admin: admin.get("/api/v1/ledger/events", **query), render_events)


def ledger_show(args: argparse.Namespace) -> int:
    """`ledger show ID`."""
    path = f"/api/v1/ledger/events/{quote(args.id, safe='')}"
    return on_each(args, lambda admin: admin.get(path), render_receipts)


def ledger_replay(args: argparse.Namespace) -> int:
    """`ledger replay`."""
    values = {"since": args.since, "side": args.side} | ({"route": args.route} if args.route else {})
    return on_each(args, lambda admin: _change(admin, args, "/api/v1/ledger/replay", values), render_moved)


def dead_ls(args: argparse.Namespace) -> int:
    """`dead ls`."""
    query = {"route": args.route, "side": args.side, "limit": args.limit}
    return on_each(args, lambda admin: admin.get("/api/v1/dead", **query), render_events)


def dead_requeue(args: argparse.Namespace) -> int:
    """`dead requeue`."""
    values = _selected(args)
    return on_each(args, lambda admin: _change(admin, args, "/api/v1/dead/requeue", values), render_moved)


def dead_discard(args: argparse.Namespace) -> int:
    """`dead discard`."""
    values = _selected(args)
    what = "all dead letters that match" if args.all else f"{len(args.ids)} dead letters"
    confirm(args, f"discard {what}? They will not be delivered any more.")
    return on_each(args, lambda admin: _change(admin, args, "/api/v1/dead/discard", values), render_moved)


def _selected(args: argparse.Namespace) -> Json:
    if bool(args.ids) == args.all:
        raise Failure(USAGE, "name event ids, or --all", hint="see what there is: proxyctl dead ls")
    chosen: Json = {"all": True} if args.all else {"ids": args.ids}
    return chosen | {name: getattr(args, name) for name in ("side", "route") if getattr(args, name)}


def _change(admin: Admin, args: argparse.Namespace, path: str, values: dict[str, Any]) -> Json:
    """A change of the record; its answer with `next` and `dry_run` beside it."""
    answer = admin.change("POST", path, change_body(args, **values), args.if_epoch)
    if args.wait and not args.dry_run:
        until(admin, unsettled, args.timeout)
    following = path.rsplit("/", 1)[1]
    suggestion = "proxyctl ledger status" if following == "discard" or args.wait else "proxyctl status --wait"
    return answer | {"dry_run": args.dry_run, "action": following, "next": suggestion}


def render_moved(answer: Json) -> str:
    """What a replay, requeue or discard did."""
    done = {"replay": "pending again", "requeue": "pending again", "discard": "discarded"}[answer["action"]]
    before = "delivered" if answer["action"] == "replay" else "dead"
    number = answer.get("replayed", answer.get("moved"))
    would = "dry run, nothing was changed: " if answer.get("dry_run") else ""
    lines = [f"{would}{count(number)} events: {before} -> {done}"]
    if answer.get("without_body"):
        lines.append(f"note: {count(answer['without_body'])} more have no body any more and cannot be delivered again")
    lines.append(f"next: {answer['next']}")
    return "\n".join(lines)


def render_ledger(answer: Json) -> str:
    """The balance of each side, and gaps."""
    header = ["route", "side", "backend", "owed", *STATES, "oldest", "buckets"]
    rows = []
    for side in answer.get("sides", []):
        balance = side.get("balance", side)
        rows.append(
            [
                side.get("route"),
                _side_name(side.get("side")),
                side.get("backend"),
                *(count(balance.get(name)) for name in ("owed", *STATES)),
                age(side.get("oldest_pending_age")) if balance.get("pending") else "-",
                count(side.get("marked")),
            ]
        )
    lines = table(header, rows)
    balanced = "balanced" if answer.get("balanced") else red("NOT BALANCED: owed is not the sum of the states")
    lines.append(f"{balanced}, {count(answer.get('segments'))} segments")
    for side in answer.get("sides", []):
        if side.get("paused"):
            where = f"{_side_name(side.get('side'))} of {clean(side.get('route'))}"
            lines.append(red(f"{where} is paused: {clean(side['paused'])}"))
    lines += [red(f"coverage gap: {words(gap)}") for gap in answer.get("gaps", [])]
    return "\n".join(lines)


def _side_name(side: object) -> str:
    return SIDES[side] if isinstance(side, int) and side in (0, 1) else clean(side)


def render_events(answer: Json) -> str:
    """Receipts as a table, one line each."""
    events = answer.get("events", [])
    if not events:
        return "no events"
    rows = [
        [
            receipt.get("seq"),
            receipt.get("id"),
            receipt.get("route"),
            _short(receipt.get("key")),
            receipt.get("accepted_at"),
            _state(receipt, "old"),
            _state(receipt, "new"),
            _short(f"{receipt.get('method')} {receipt.get('target')}"),
        ]
        for receipt in events
    ]
    lines = table(_EVENT, rows)
    if answer.get("next_after_seq") is not None:
        lines.append(f"there are more: --after-seq {answer['next_after_seq']}")
    return "\n".join(lines)


def _state(receipt: Json, side: str) -> str:
    """`delivered 201`, `pending 503 x4`, with * at the authority; `-` where it is not owed."""
    owed = receipt.get(side)
    if not owed:
        return "-"
    status = f" {owed['status']}" if owed.get("status") else ""
    if owed.get("reason"):
        status = f" {owed['reason']}"
    attempts = f" x{owed['attempts']}" if (owed.get("attempts") or 0) > 1 else ""
    star = "*" if receipt.get("authority") == side else ""
    return f"{owed.get('state')}{status}{attempts}{star}"


def _short(text: object, width: int = 40) -> str:
    line = clean(text)
    return line if len(line) <= width else f"{line[: width - 3]}..."


def render_receipts(answer: Json) -> str:
    """Every field of every receipt of one id."""
    return "\n\n".join(
        "\n".join(f"{clean(name):<12} {words(value)}" for name, value in receipt.items())
        for receipt in answer.get("receipts", [])
    )

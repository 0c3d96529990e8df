"""Tokens for the admin API over TCP: token create, ls, revoke."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

from proxy.cli.instances import on_each
from proxy.cli.options import Commands, change_options
from proxy.cli.output import clean, table
from proxy.cli.routing import change_body

if TYPE_CHECKING:
    from proxy.cli.client import Admin, Json

ROLES = ("viewer", "operator", "hook")


def add(commands: Commands) -> None:
    """Add token to the parser."""
    tokens = commands.group("token", "tokens for the admin API over TCP", example="token create ci --role operator")
    parser = tokens.add(
        "create",
        "make a token; stdout is the token alone, for $(...); it is shown this once",
        run=create,
        example="token create grafana --role viewer\ntoken create ci --role operator --reason deploys",
    )
    parser.add_argument("name", metavar="NAME", help="who or what it is for")
    parser.add_argument(
        "--role",
        choices=ROLES,
        required=True,
        help="viewer reads, operator changes too, hook may post alerts and nothing else",
    )
    change_options(parser, route=False)
    tokens.add("ls", "list tokens", run=ls, example="token ls")
    parser = tokens.add("revoke", "make a token worthless", run=revoke, example="token revoke grafana")
    parser.add_argument("name", metavar="NAME", help="as in token ls")
    change_options(parser, route=False)


def create(args: argparse.Namespace) -> int:
    """`token create NAME`."""

    def act(admin: Admin) -> Json:
        body = change_body(args, name=args.name, role=args.role)
        return admin.change("POST", "/api/v1/tokens", body, args.if_epoch)

    return on_each(args, act, render_created)


def ls(args: argparse.Namespace) -> int:
    """`token ls`."""
    return on_each(args, lambda admin: admin.get("/api/v1/tokens"), render_tokens)


def revoke(args: argparse.Namespace) -> int:
    """`token revoke NAME`."""

    def act(admin: Admin) -> Json:
        path = f"/api/v1/tokens/{quote(args.name, safe='')}"
        answer = admin.change("DELETE", path, change_body(args), args.if_epoch)
        return answer | {"name": args.name, "dry_run": args.dry_run}

    return on_each(args, act, render_revoked)


def render_created(answer: Json) -> str:
    """The token on stdout; what to do with it on stderr, so that a shell can capture the token alone."""
    if not answer.get("token"):
        return f"dry run: no token was made for {clean(answer.get('name'))}"
    print(
        f"token of {clean(answer.get('name'))}, {clean(answer.get('role'))}; it is shown this once\n"
        "next: export PROXYCTL_TOKEN=...",
        file=sys.stderr,
    )
    return clean(answer["token"])


def render_tokens(answer: Json) -> str:
    """Names and roles; the tokens themselves are not stored."""
    rows = [[token.get("name"), token.get("role"), token.get("created_at")] for token in answer.get("tokens", [])]
    return "\n".join(table(["name", "role", "created"], rows)) if rows else "no tokens: only the Unix socket may change"


def render_revoked(answer: Json) -> str:
    """What revoke did."""
    return f"{'dry run: would revoke' if answer['dry_run'] else 'revoked'} the token {clean(answer['name'])}"

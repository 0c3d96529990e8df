"""Where the admin API is and which token it gets.

    address   --admin (repeatable) or --context, PROXYCTL_ADMIN, the current context, ./crossfade-state/admin.sock,
              http://127.0.0.1:9900
    token     (TCP alone) --token, --token-file, that of --context, PROXYCTL_TOKEN, PROXYCTL_TOKEN_FILE, that of the
              current context

Only the two defaults stand in for each other: an address that somebody gave is used or reported, never
replaced, because the other address may be another instance. For the same reason a state directory here
whose instance does not run means that one, and no other; and a context's token goes to its addresses alone.
"""

from __future__ import annotations

import argparse
import os
from typing import NamedTuple
from urllib.parse import urlsplit

from proxy.cli.failure import USAGE, Failure

DEFAULT_SOCKET = "unix:crossfade-state/admin.sock"
DEFAULT_URL = "http://127.0.0.1:9900"
DEFAULT_PORT = 9900


class Endpoint(NamedTuple):
    """scheme: unix, http or https. target: socket path or host name. port: 0 for a socket."""

    scheme: str
    target: str
    port: int
    text: str


class Target(NamedTuple):
    """One instance: the endpoints to try in this order, and the token, which a Unix socket has no use for."""

    endpoints: tuple[Endpoint, ...]
    token: str | None


def parse(text: str) -> Endpoint:
    """Read `unix:PATH`, `http://host[:port]` or `https://host[:port]`; Failure (exit 2) for anything else."""
    if text.startswith("unix:") and len(text) > len("unix:"):
        return Endpoint("unix", text.removeprefix("unix:"), 0, text)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _bad(text) from None
    plain = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise _bad(text)
    return Endpoint(parts.scheme, parts.hostname, port or DEFAULT_PORT, text.rstrip("/"))


def _bad(text: str) -> Failure:
    return Failure(USAGE, f"expected an admin endpoint such as {DEFAULT_URL} or {DEFAULT_SOCKET}, not {text!r}")


def targets(args: argparse.Namespace) -> list[Target]:
    """The instances that a command is meant for, at least one."""
    given, token_file = _named(args)
    token = _token(args, token_file)
    if given:
        return [Target((parse(text),), token) for text in dict.fromkeys(given)]
    socket = DEFAULT_SOCKET.removeprefix("unix:")
    if os.path.isdir(os.path.dirname(socket)) and not os.path.exists(socket):
        return [Target((parse(DEFAULT_SOCKET),), token)]
    return [Target((parse(DEFAULT_SOCKET), parse(DEFAULT_URL)), token)]


def _named(args: argparse.Namespace) -> tuple[list[str], str]:
    """The addresses that somebody gave, and the token file that belongs to them."""
    if args.context is not None:
        if args.admin:
            raise Failure(USAGE, "--admin and --context both say where to go; give one of them")
        from proxy.cli.context_file import chosen

        return list((context := chosen(args.context)).admin), context.token_file
    given = args.admin or os.environ.get("PROXYCTL_ADMIN", "").replace(",", " ").split()
    if given:
        return given, ""
    from proxy.cli.context_file import load

    contexts = load()
    current = contexts.every.get(contexts.current)
    return (list(current.admin), current.token_file) if current is not None else ([], "")


def _token(args: argparse.Namespace, of_context: str) -> str | None:
    if args.token is not None:
        return _checked(args.token, "--token")
    path = args.token_file or (of_context if args.context is not None else "")
    if not path and "PROXYCTL_TOKEN" in os.environ:
        return _checked(os.environ["PROXYCTL_TOKEN"], "PROXYCTL_TOKEN")
    path = path or os.environ.get("PROXYCTL_TOKEN_FILE") or of_context
    return _checked(_read(path, "token file"), path) if path else None


def _checked(token: str, origin: str) -> str:
    """The token without white space around it; never part of a message."""
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise Failure(USAGE, f"the token from {origin} is empty or has characters that no token has")
    return token


def _read(path: str, what: str) -> str:
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise Failure(USAGE, f"cannot read the {what} {path}: {reason}") from None

"""Names for the instances that somebody works with: context set, use, ls, rm."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from proxy.cli.failure import OK, USAGE, Failure
from proxy.cli.options import Commands
from proxy.cli.output import clean, emit, table

if TYPE_CHECKING:
    from proxy.cli.client import Json
    from proxy.cli.context_file import Contexts


def add(commands: Commands) -> None:
    """Add context to the parser."""
    contexts = commands.group(
        "context",
        "names for instances, in a file: the current one is used when neither --admin nor PROXYCTL_ADMIN is given",
        example="context set staging --admin https://10.0.0.1:9900 --token-file ~/staging.token\ncontext use staging",
    )
    parser = contexts.add(
        "set",
        "make a context, or replace one, from --admin (repeatable) and --token-file",
        run=set_,
        example="context set here --admin unix:/srv/crossfade/crossfade-state/admin.sock\n"
        "context set pair --admin https://10.0.0.1:9900 --admin https://10.0.0.2:9900 --token-file pair.token",
    )
    parser.add_argument("name", metavar="NAME", help="letters, digits and . _ -")
    parser = contexts.add("use", "make a context the current one", run=use, example="context use staging")
    parser.add_argument("name", metavar="NAME", help="as in context ls")
    contexts.add("ls", "list the contexts", run=ls, example="context ls")
    parser = contexts.add("rm", "remove a context", run=rm, example="context rm staging")
    parser.add_argument("name", metavar="NAME", help="as in context ls")


def set_(args: argparse.Namespace) -> int:
    """`context set NAME`."""
    from proxy.cli.context_file import NAME, Context, Contexts, change

    _check_options(args)
    if not NAME.fullmatch(args.name):
        raise Failure(USAGE, f"a context's name has letters, digits and . _ - (at most 64), not {args.name!r}")
    if not args.admin:
        raise Failure(USAGE, "where is it? add --admin URL, once for each instance")
    if args.token is not None:
        raise Failure(USAGE, "a context keeps where the token is, not the token: use --token-file FILE")
    file = os.path.abspath(os.path.expanduser(args.token_file)) if args.token_file else ""
    if not (file + "".join(args.admin)).isprintable():
        raise Failure(USAGE, "an address or a path has characters that cannot be printed")
    context = Context(tuple(dict.fromkeys(_absolute(text) for text in args.admin)), file)
    _done(args, change(lambda before: Contexts(before.current, before.every | {args.name: context})), args.name)
    return OK


def use(args: argparse.Namespace) -> int:
    """`context use NAME`."""
    from proxy.cli.context_file import Contexts, change, look_up

    _check_options(args)

    def turn(before: Contexts) -> Contexts:
        look_up(before, args.name)
        return Contexts(args.name, before.every)

    _done(args, change(turn), args.name)
    return OK


def ls(args: argparse.Namespace) -> int:
    """`context ls`."""
    from proxy.cli.context_file import load

    emit(args.output, _shown(load()), render)
    return OK


def rm(args: argparse.Namespace) -> int:
    """`context rm NAME`."""
    from proxy.cli.context_file import Contexts, change, look_up

    _check_options(args)

    def without(before: Contexts) -> Contexts:
        look_up(before, args.name)
        every = {name: context for name, context in before.every.items() if name != args.name}
        return Contexts("" if before.current == args.name else before.current, every)

    _done(args, change(without), args.name)
    return OK


def _check_options(args: argparse.Namespace) -> None:
    if args.context is not None:
        raise Failure(USAGE, f"--context does not choose what context changes; it is {args.name!r} here")


def _absolute(text: str) -> str:
    """An address that means the same from everywhere; Failure (exit 2) for one that is none."""
    from proxy.cli.endpoints import parse

    endpoint = parse(text)
    return f"unix:{os.path.abspath(os.path.expanduser(endpoint.target))}" if endpoint.scheme == "unix" else text


def _shown(contexts: Contexts) -> Json:
    from proxy.cli.context_file import path

    listed = [
        {"name": name, "admin": list(each.admin), "token_file": each.token_file or None}
        for name, each in contexts.every.items()
    ]
    return {"file": path(), "current": contexts.current or None, "contexts": listed}


def _done(args: argparse.Namespace, contexts: Contexts, name: str) -> None:
    answer = _shown(contexts)
    if name in contexts.every and contexts.current != name:
        answer["next"] = f"proxyctl context use {name}"
    emit(args.output, answer, render)


def render(answer: Json) -> str:
    """A line for each context; the current one has a star."""
    rows = [
        ["*" if each["name"] == answer["current"] else " ", each["name"], ", ".join(each["admin"]), each["token_file"]]
        for each in answer["contexts"]
    ]
    lines = table(["", "name", "admin", "token file"], rows) if rows else [f"no contexts in {clean(answer['file'])}"]
    if "next" in answer:
        lines.append(f"next: {answer['next']}")
    return "\n".join(lines)

"""The parser's building blocks: commands with an example each, and the options that they share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from proxy.cli.failure import USAGE, Failure
from proxy.cli.values import at_least_zero, duration

Handler = Callable[[argparse.Namespace], int]
FORMATS = ("text", "json", "yaml")
LEVELS = 3
"""Global options are taken after `proxyctl`, after a command and after its subcommand."""


class Parser(argparse.ArgumentParser):
    """Leaves the way out to `main`, so that a usage error can be JSON too."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise the usage error as a Failure with exit code 2."""
        raise Failure(USAGE, message, hint=f"see {self.prog} --help")


class Commands:
    """The commands of one level. level: 1 for `proxyctl X`, 2 for `proxyctl X Y`."""

    def __init__(self, parser: argparse.ArgumentParser, level: int) -> None:
        self._level = level
        self._children = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)

    def add(
        self,
        name: str,
        summary: str,
        *,
        run: Handler,
        example: str,
        shared: bool = True,
        several: bool = True,
        files: Sequence[str] = (),
    ) -> argparse.ArgumentParser:
        """A command. example: command lines without `proxyctl`. shared: whether it takes --admin, --token and -o.

        several: whether it acts on all instances of several --admin; files: ends of names that -o takes, too.
        """
        parser: argparse.ArgumentParser = self._children.add_parser(
            name, help=summary, description=_sentence(summary), epilog=examples(example)
        )
        parser.set_defaults(run=run)
        if shared:
            shared_options(parser, self._level, several=several, files=files)
        return parser

    def group(self, name: str, summary: str, *, example: str) -> Commands:
        """A command that has subcommands."""
        parser: argparse.ArgumentParser = self._children.add_parser(
            name, help=summary, description=_sentence(summary), epilog=examples(example)
        )
        shared_options(parser, self._level)
        return Commands(parser, self._level + 1)


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


def examples(lines: str) -> str:
    """The end of a help page."""
    return "examples:\n" + "\n".join(f"  proxyctl {line.strip()}" for line in lines.strip().splitlines())


def shared_options(
    parser: argparse.ArgumentParser, level: int, *, several: bool = True, files: Sequence[str] = ()
) -> None:
    """--admin, --context, --token, --token-file and -o.

    Without defaults of their own, because argparse would overwrite what stands before the command with them.
    """
    group = parser.add_argument_group("instance and output")
    group.add_argument(
        "--admin",
        action="append",
        dest=f"admin_{level}",
        default=argparse.SUPPRESS,
        metavar="URL|unix:PATH",
        help="admin endpoint; give it several times to act on several instances"
        if several
        else "admin endpoint; one at most",
    )
    group.add_argument(
        "--context", default=argparse.SUPPRESS, metavar="NAME", help="a named instance (see proxyctl context)"
    )
    group.add_argument("--token", default=argparse.SUPPRESS, help="bearer token (better: PROXYCTL_TOKEN)")
    group.add_argument("--token-file", default=argparse.SUPPRESS, metavar="FILE", help="file that holds the token")
    if files:
        _output_or_file(group, files)
    else:
        output_option(group, "-o", "--output")


def _output_or_file(parser: argparse._ActionsContainer, files: Sequence[str]) -> None:
    """-o text|json|yaml, or a file whose name ends in one of these."""
    known = f"{', '.join(FORMATS)}, or a file that ends in {' or '.join(files)}"

    def form_or_file(text: str) -> str:
        if text in FORMATS or text.endswith(tuple(files)):
            return text
        raise argparse.ArgumentTypeError(f"expected {known}, not {text}")

    parser.add_argument(
        "-o", "--output", type=form_or_file, default=argparse.SUPPRESS, metavar="FILE", help=f"{known} (default: text)"
    )


def output_option(parser: argparse._ActionsContainer, *names: str) -> None:
    """-o text|json|yaml."""
    parser.add_argument(
        *names, dest="output", choices=FORMATS, default=argparse.SUPPRESS, help="form of the output (default: text)"
    )


def change_options(parser: argparse.ArgumentParser, *, route: bool = True, wait: str = "") -> None:
    """What every change takes. wait: what --wait waits for; without it the command has no --wait."""
    group = parser.add_argument_group("change")
    if route:
        group.add_argument("--route", metavar="R", help="name of the route; needed when there is more than one")
    group.add_argument("--reason", metavar="TEXT", help="kept in the audit trail")
    group.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    group.add_argument("--if-epoch", type=at_least_zero, metavar="N", help="only if this is the epoch; else exit 5")
    if wait:
        group.add_argument("--wait", action="store_true", help=f"return when {wait}; else exit 4")
        timeout_option(group, 30.0)


def timeout_option(parser: argparse._ActionsContainer, default: float) -> None:
    """--timeout of a wait; default in seconds."""
    shown = f"{default / 60:g}m" if default >= 60 else f"{default:g}s"
    parser.add_argument(
        "--timeout", type=duration, default=default, metavar="T", help=f"longest wait (default: {shown})"
    )


def settle(args: argparse.Namespace) -> argparse.Namespace:
    """Gather the global options from wherever they stood."""
    args.admin = [text for level in range(LEVELS) for text in getattr(args, f"admin_{level}", [])]
    for name, default in (("output", "text"), ("token", None), ("token_file", None), ("context", None)):
        if not hasattr(args, name):
            setattr(args, name, default)
    return args

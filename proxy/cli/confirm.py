"""The question before something that cannot be taken back. Only on a terminal: a script is not asked."""

from __future__ import annotations

import argparse
import sys

from proxy.cli.failure import FAILED, Failure


def confirm_options(parser: argparse.ArgumentParser) -> None:
    """--yes."""
    parser.add_argument("--yes", action="store_true", help="do not ask on a terminal")


def confirm(args: argparse.Namespace, question: str) -> None:
    """Ask, unless --yes, --dry-run or no terminal; Failure (exit 1) when the answer is no."""
    if args.yes or args.dry_run or not sys.stdin.isatty():
        return
    print(f"{question} Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure(FAILED, "nothing was changed")

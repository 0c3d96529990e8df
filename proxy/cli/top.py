"""top: rates, errors and latencies of both sides, live. Also what `status -w` shows on a terminal."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from proxy.cli.failure import OK, TIMEOUT, UNREACHABLE, USAGE, Failure
from proxy.cli.instances import admins, at_once
from proxy.cli.options import Commands
from proxy.cli.output import clean, encode

if TYPE_CHECKING:
    from proxy.cli.client import Admin, Json

EVERY = 1.0
"""Seconds."""
SORTS = ("name", "rate", "errors", "p99", "pending")
LOOK_AT_KEYS = 0.1
"""Seconds until a key is seen at the latest."""


def add(commands: Commands) -> None:
    """Add top to the parser."""
    parser = commands.add(
        "top",
        "watch both sides of all routes; on a terminal with keys: q ends, r is the next route, s sorts otherwise",
        run=top,
        example="top\ntop --sort p99\ntop --route events --count 60 -o json",
    )
    parser.add_argument("--route", metavar="R", help="this route alone")
    parser.add_argument("--sort", choices=SORTS, default=SORTS[0], help=f"routes by this (default: {SORTS[0]})")
    parser.add_argument("--count", type=int, metavar="N", help="end after so many looks; without it with q or Ctrl-C")


def top(args: argparse.Namespace) -> int:
    """`top`: a table on a terminal, elsewhere a line for each route and look, or a JSON object for each instance."""
    if args.output == "text" and is_watched():
        return live(args, sort=args.sort, count=args.count)
    return _plain(args)


def is_watched() -> bool:
    """Does somebody sit in front of it, with keys?"""
    return sys.stdin.isatty() and sys.stdout.isatty()


class Looking:
    """Asks all instances again and again, beside whoever shows it: one that hangs must not hold up the keys.

    One that goes away is shown as away, and looked for again; only that none was ever there is a failure.
    """

    def __init__(self, found: list[Admin], route: str | None) -> None:
        self._found = found
        self._route = route
        self.looks = 0
        self.shown: list[Json] = []
        self.failure: Failure | None = None

    def once(self) -> list[Json]:
        """One look at every instance, at the same time. Raises Failure."""
        came = at_once(self._found, lambda admin: admin.get("/api/v1/status"))
        shown = [self._of(admin, each) for admin, each in came]
        if not self.looks and all("away" in each for each in shown):
            lines = "\n".join(f"{each['admin']}: {each['away']}" for each in shown)
            raise Failure(UNREACHABLE, f"no instance could be reached\n{lines}")
        self.shown, self.looks = shown, self.looks + 1
        return shown

    def _of(self, admin: Admin, came: Json | Failure) -> Json:
        if isinstance(came, Failure):
            if came.code not in (UNREACHABLE, TIMEOUT):
                raise came
            return {"admin": admin.address, "away": came.message.partition("\n")[0]}
        names = [route.get("name") for route in came.get("routes", [])]
        if self._route is not None and self._route not in names:
            raise Failure(
                USAGE, f"there is no route {self._route!r}; routes are {', '.join(map(str, names)) or 'none'}"
            )
        return came | {"admin": admin.address}

    def begin(self) -> None:
        """Go on in a thread that ends with this process."""
        from threading import Thread  # who shows one frame needs none

        Thread(target=self._go_on, daemon=True).start()

    def _go_on(self) -> None:
        while self.failure is None:
            time.sleep(EVERY)
            try:
                self.once()
            except Failure as failure:
                self.failure = failure


def live(args: argparse.Namespace, *, sort: str = SORTS[0], count: int | None = None) -> int:
    """The table on a terminal, until q, Ctrl-C or `count` looks."""
    from proxy.cli.keys import Keys
    from proxy.cli.top_view import View, screen

    looking = Looking(admins(args), args.route)
    view = View(route=args.route, sort=sort)
    view.take(looking.once())
    seen = looking.looks
    looking.begin()
    try:
        with Keys() as keys, screen() as show:
            show(view)
            while count is None or looking.looks < count:
                key = keys.next(LOOK_AT_KEYS)
                if key in ("q", "\x1b"):
                    break
                if looking.failure is not None:
                    raise looking.failure
                is_new = looking.looks != seen
                if is_new:
                    seen = looking.looks
                    view.take(looking.shown)
                if view.press(key) or is_new:
                    show(view)
    except KeyboardInterrupt:
        pass
    return OK


def _plain(args: argparse.Namespace) -> int:
    looking = Looking(admins(args), args.route)
    try:
        while True:
            shown = looking.once()
            for each in shown:
                _print(args, each, several=len(shown) > 1)
            if args.count is not None and looking.looks >= args.count:
                return OK
            time.sleep(EVERY)
    except KeyboardInterrupt:
        return OK


def _print(args: argparse.Namespace, status: Json, *, several: bool) -> None:
    if args.output != "text":
        print(encode(args.output, status), flush=True)
        return
    from proxy.cli.top_rows import lines

    at = f"{clean(status['admin'])} " if several else ""
    for line in lines(status, args.route, args.sort):
        print(f"{time.strftime('%H:%M:%S')} {at}{line}", flush=True)

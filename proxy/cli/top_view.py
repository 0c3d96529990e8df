"""The table that top shows on a terminal.

    crossfade at unix:crossfade-state/admin.sock: ready, epoch 7, 2 of 2 workers
    events live  weight 25 % (24.7 % seen)  old ───────●──── new
      side  rate    ▁▂▃   errors  p50  p95  p99  pending  oldest  dead

What a narrow terminal has no room for is left out, the least telling first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from proxy.cli.output import clean
from proxy.cli.top import SORTS
from proxy.cli.top_rows import SIDES, cells, foot, head, routes, troubles, weight

Json = dict[str, Any]
HISTORY = 30
"""Looks of which the rates are drawn."""
_BARS = " ▁▂▃▄▅▆▇█"
_COLUMNS = ("side", "backend", "rate", "trend", "errors", "p50", "p95", "p99", "pending", "oldest", "dead", "state")
_LEFT_OUT = {100: {"trend"}, 86: {"p50", "dead"}, 70: {"backend", "oldest"}, 52: {"p95", "pending"}, 40: {"state"}}
"""Below so many columns of the terminal, what there is no room for."""
_FADER = 21


class View:
    """What is shown: the last look, and what keys have chosen. route: None for all."""

    def __init__(self, route: str | None = None, sort: str = SORTS[0]) -> None:
        self.route = route
        self.sort = sort
        self._is_fixed = route is not None
        self._shown: list[Json] = []
        self._rates: dict[tuple[str, str, str], deque[float]] = {}

    def take(self, shown: list[Json]) -> None:
        """A look at all instances."""
        self._shown = shown
        for status in shown:
            for route in status.get("routes", []):
                for name, side in (route.get("sides") or {}).items():
                    key = status["admin"], str(route.get("name")), name
                    self._rates.setdefault(key, deque(maxlen=HISTORY)).append(side.get("rate") or 0.0)

    def press(self, key: str) -> bool:
        """A key was pressed; does it change what is shown?"""
        if key == "s":
            self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
        elif key == "r" and not self._is_fixed:
            names = sorted({str(route.get("name")) for status in self._shown for route in status.get("routes", [])})
            order = [None, *names]
            self.route = order[(order.index(self.route) + 1) % len(order)] if self.route in order else None
        else:
            return False
        return True

    def render(self, width: int) -> RenderableType:
        """The whole of it for a terminal of so many columns."""
        parts: list[RenderableType] = []
        for status in self._shown:
            parts.append(_head(status))
            for route in routes(status, self.route, self.sort):
                parts += [Text(""), _title(route, width), self._sides(status, route, width)]
            parts += [Text(""), *map(_foot, foot(status))]
        only = f"route {self.route}" if self.route else "all routes"
        keys = f"q quit  s sort: {self.sort}" + ("" if self._is_fixed else f"  r route: {only}")
        return Group(*parts, Text(keys, style="dim", no_wrap=True, overflow="ellipsis"))

    def _sides(self, status: Json, route: Json, width: int) -> Table:
        without = {name for least, names in _LEFT_OUT.items() if width < least for name in names}
        columns = [name for name in _COLUMNS if name not in without]
        table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
        for name in columns:
            is_figure = name not in ("side", "backend", "trend", "state")
            table.add_column(name, justify="right" if is_figure else "left", no_wrap=True, overflow="ellipsis")
        for name in SIDES:
            side = (route.get("sides") or {}).get(name)
            if side is not None:
                found = cells(side) | {"side": f"  {name}", "backend": clean(side.get("backend"))}
                found["trend"] = _bars(self._rates.get((status["admin"], str(route.get("name")), name), ()))
                table.add_row(*(found[column] for column in columns), style="red" if found["state"] else None)
        return table


def _head(status: Json) -> Text:
    said = head(status)
    is_well = said.startswith("ready")
    text = Text(f"crossfade at {clean(status['admin'])}: ", style="bold", no_wrap=True, overflow="ellipsis")
    return text.append(said, style="bold" if is_well else "bold red")


def _foot(said: str) -> Text:
    is_well = not said.startswith(("warning", "ledger DOWN", "ledger NOT"))
    return Text(said, style="" if is_well else "red", no_wrap=True, overflow="ellipsis")


def _title(route: Json, width: int) -> Text:
    text = Text(f"{clean(route.get('name'))}  {clean(route.get('stage'))}  ", style="bold", no_wrap=True)
    for trouble in troubles(route):  # first, for the end of a line may be cut off
        text.append(f"{trouble}  ", style="bold red" if trouble.isupper() or "fail" in trouble else "yellow")
    text.append(weight(route), style="not bold")
    if width >= 70:
        text.append(f"  old {_fader(route.get('weight_target') or 0.0)} new", style="not bold cyan")
    text.overflow = "ellipsis"
    return text


def _fader(weight: float) -> str:
    at = round(max(0.0, min(100.0, weight)) / 100 * (_FADER - 1))
    return "─" * at + "●" + "─" * (_FADER - 1 - at)


def _bars(rates: Any) -> str:
    most = max(rates, default=0.0)
    return "".join(_BARS[round(rate / most * (len(_BARS) - 1))] if most else _BARS[0] for rate in rates)


@contextmanager
def screen() -> Iterator[Callable[[View], None]]:
    """A screen of its own, which is gone afterwards; what shows a view on it."""
    console = Console()
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="ellipsis") as shown:
        yield lambda view: shown.update(view.render(console.width), refresh=True)

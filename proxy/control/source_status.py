"""What is said of each source: what its worker reports, and what all workers together have counted of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from config.sources import Source
from proxy.control.link import SourceStats
from proxy.control.tally import Window
from proxy.control.views import SourceView

if TYPE_CHECKING:
    from proxy.control.instance import Instance

WAITING: Final = "waiting"
CONNECTED: Final = "connected"
PREFIX: Final = "source:"
"""Of the workers' counters of a source: `source:NAME:WHAT`."""
UNREADABLE: Final = ("unreadable", "unknown")


def sources(instance: Instance, window: Window, totals: Mapping[str, int]) -> list[SourceView]:
    """Those of the configuration, in its order. totals: counters of all workers."""
    present = {
        (each.name, each.generation): (index, each)
        for index, stats in instance.tally.present()
        for each in stats.sources
    }
    found = {name: present.get((name, instance.sources.of(name).generation)) for name in instance.sources.names}
    return [_source(instance, source, found[source.name], window, totals) for source in instance.settings.sources]


def troubles(views: list[SourceView]) -> list[str]:
    """What a person should know of them."""
    return [f"source {each.name} is {each.state}: {each.trouble}" for each in views if each.trouble is not None]


def _source(
    instance: Instance,
    source: Source,
    found: tuple[int, SourceStats] | None,
    window: Window,
    totals: Mapping[str, int],
) -> SourceView:
    counted = {name: totals.get(f"{PREFIX}{source.name}:{name}", 0) for name in _COUNTED}
    rate = window.sums.counters[f"{PREFIX}{source.name}:accepted"] / window.seconds if window.seconds > 0 else 0.0
    index, stats = found if found is not None else (None, None)
    trouble = stats.trouble if stats is not None else instance.sources.trouble or "no worker runs it yet"
    return SourceView(
        name=source.name,
        kind="home_assistant" if source.home_assistant is not None else "websocket",
        route=source.route,
        state=stats.state if stats is not None else WAITING,
        trouble=trouble or None,
        worker=index,
        rate=round(rate, 2),
        unaccepted=stats.unaccepted if stats is not None else 0,
        unreadable=sum(totals.get(f"{PREFIX}{source.name}:{name}", 0) for name in UNREADABLE),
        **counted,
    )


_COUNTED: Final = ("accepted", "recovered", "refused", "repeated", "retried", "gaps")

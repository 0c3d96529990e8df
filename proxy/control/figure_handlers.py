"""The operation that tells past figures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeVar

from config.model import Route
from proxy.control import views
from proxy.control.admin import Call
from proxy.control.audit import iso
from proxy.control.figures import Figures, SideFigures
from proxy.control.figures_file import BREATH, EVERY, Unreadable, read
from proxy.control.instance import Instance
from proxy.control.problems import Problem
from proxy.control.tally import wilson
from proxy.control.threads import begin
from proxy.core.event import NEW, OLD, SIDES

T = TypeVar("T")
MOST_POINTS: Final = 1000
READ_WAIT: Final = 15.0
"""Seconds until who asks is told that the disk does not answer."""
_SPAN: Final = 3600.0


class OneReader:
    """Reads past figures in a thread, one at a time: more of them would slow changes down."""

    def __init__(self) -> None:
        self._reading: Future[Any] | None = None
        """The last one, which may be under way after the one who asked is gone."""

    async def read(self, work: Callable[[], T]) -> T:
        """What the work gives; raises Problem while another one is under way, and when the disk has no answer."""
        if self._reading is not None and not self._reading.done():
            raise Problem(429, "somebody else reads past figures: one at a time", retry_after=1)
        future = self._reading = begin("figures-reader", work)
        try:
            async with asyncio.timeout(READ_WAIT):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise Problem(503, f"the past figures were not read within {READ_WAIT:g} s") from None
        except Unreadable as error:
            raise Problem(503, f"the past figures cannot be read: {error}") from None


class FigureHandlers:
    """route: finds a route by the name of a call, or raises Problem."""

    def __init__(self, instance: Instance, route: Callable[[str], Route], reader: OneReader) -> None:
        self._instance = instance
        self._route = route
        self._reader = reader

    async def figures(self, call: Call) -> views.FiguresView:
        """What was counted in a span, in at most so many points, and all of it together."""
        name, now = self._route(call.path["route"]).name, self._instance.wall()
        asked_until, asked_since = call.moment("until"), call.moment("since")
        until = now if asked_until is None else asked_until
        since = until - _SPAN if asked_since is None else asked_since
        if not 0 <= since < until:
            raise Problem(422, "since must be before until")
        points = call.integer("points", 200, 1, MOST_POINTS)
        path = self._instance.figures_path
        return await self._reader.read(lambda: _told(path, name, since, until, points, now))


def _told(path: Path, route: str, since: float, until: float, points: int, now: float) -> views.FiguresView:
    """Read, added up, and as they are answered: all that takes time. Raises Unreadable."""
    found = read(path, route, since, until, points, now)
    total: Figures | None = None
    told: list[views.FiguresPoint] = []
    for start, each in found.rows:
        total = each if total is None else total.merged(each)
        told.append(_point(start, each))
        time.sleep(BREATH)
    return views.FiguresView(
        route=route,
        since=iso(since),
        until=iso(until),
        began=iso(found.began) if found.began is not None else None,
        step_s=found.width,
        finest_s=EVERY,
        points=told,
        total=_point(found.rows[0][0], total) if total is not None else None,
    )


def _point(start: int, figures: Figures) -> views.FiguresPoint:
    chosen = [side.chosen for side in figures.sides]
    observed = wilson(chosen[NEW], sum(chosen))
    return views.FiguresPoint(
        at=iso(start),
        seconds=round(figures.seconds, 3),
        epoch=figures.epoch,
        weight_target=figures.weight,
        weight_observed=observed.weight if observed is not None else None,
        verdict=figures.verdict or None,
        accepted=figures.accepted,
        rate=round(figures.accepted / figures.seconds, 3) if figures.seconds > 0 else 0.0,
        sides={SIDES[side]: _side(figures.sides[side]) for side in (OLD, NEW)},
        mismatches=figures.mismatches,
        sessions=figures.sessions,
    )


def _side(figures: SideFigures) -> views.FiguresOfSide:
    sketch = figures.sketch
    quantiles = [round(sketch.quantile(q), 6) if sketch.buckets else None for q in (0.5, 0.95, 0.99)]
    return views.FiguresOfSide(
        answers=figures.answers,
        failed=figures.failed,
        error_rate=round(figures.failed / figures.answers, 6) if figures.answers else None,
        p50=quantiles[0],
        p95=quantiles[1],
        p99=quantiles[2],
        body_bytes=figures.body_bytes,
        pending=figures.pending,
        oldest_age_s=round(figures.oldest_age, 3) if figures.oldest_age is not None else None,
    )

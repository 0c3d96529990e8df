"""How much of the last 30 days clients could be served: looked at once a second, kept over restarts.

A second is down while the instance is not ready. So is the time between two instances, from the last look of the one to
the first of the other. While the supervisor alone is away workers serve on, and that time counts as neither.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from proxy.control.files import write_whole

log = logging.getLogger(__name__)

LOOK: Final = 1.0
"""Seconds between looks."""
SAVE_EVERY: Final = 5
"""Looks between two saves, and so the seconds that a kill takes away at most."""
DAY: Final = 86_400.0
DAYS: Final = 30
"""That are kept."""
MOST_ELAPSED: Final = 5.0
"""Seconds that one look adds at most: while this process stood still, nobody looked."""


class Day(msgspec.Struct):
    """observed: seconds that were looked at, with those between instances; down: of these."""

    observed: float = 0.0
    down: float = 0.0


class Kept(msgspec.Struct):
    """days: by number since 1970; seen: when the last look was, seconds since 1970; instance: number of the one that
    looked.
    """

    days: dict[int, Day] = {}
    seen: float = 0.0
    instance: int = 0


class Availability:
    """path: of the file that keeps it; instance: a number of its own for each start of the launcher; is_ready: whether
    clients can be served now; own: counts what could not be kept; clock: monotonic seconds; wall: seconds since 1970.

    A file that cannot be read is begun anew, which is logged.
    """

    def __init__(
        self,
        path: Path,
        instance: int,
        is_ready: Callable[[], bool],
        own: Counter[str],
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._path = path
        self._is_ready = is_ready
        self._own = own
        self._is_failing = False
        self._clock = clock
        self._wall = wall
        self._looked: float | None = None
        self._kept = _read(path)
        self._has_served = self._kept.instance != 0
        """Before it was ready for the first time ever nobody was let down."""
        if self._kept.instance not in (0, instance):
            gap = wall() - self._kept.seen
            if 0 < gap < DAYS * DAY:  # otherwise a clock was set
                self._add(gap, is_down=True)
        self._kept.instance = instance

    @property
    def observed(self) -> float:
        """Seconds."""
        return sum(day.observed for day in self._kept.days.values())

    @property
    def down(self) -> float:
        """Seconds of these in which clients could not be served."""
        return sum(day.down for day in self._kept.days.values())

    @property
    def ratio(self) -> float | None:
        """0-1; None before anything was seen."""
        return 1 - self.down / self.observed if self.observed > 0 else None

    async def run(self) -> None:
        """Look for ever."""
        looks = 0
        while True:
            self.look()
            if looks % SAVE_EVERY == 0:
                self.save()
            looks += 1
            await asyncio.sleep(LOOK)

    def look(self) -> None:
        """Look once."""
        now, is_ready = self._clock(), self._is_ready()
        self._has_served = self._has_served or is_ready
        elapsed = 0.0 if self._looked is None else min(now - self._looked, MOST_ELAPSED)
        self._looked = now
        if self._has_served:
            self._add(elapsed, is_down=not is_ready)
            self._kept.seen = self._wall()

    def _add(self, seconds: float, *, is_down: bool) -> None:
        """These seconds are of today; days that are too long ago, or to come, are left out."""
        today = int(self._wall() // DAY)
        days = self._kept.days
        for number in [each for each in days if not today - DAYS < each <= today]:
            del days[number]
        day = days.setdefault(today, Day())
        day.observed += seconds
        day.down += seconds if is_down else 0.0

    def save(self) -> None:
        """Keep it; what cannot be kept is logged, and kept later."""
        if not self._has_served:
            return
        try:
            write_whole(self._path, msgspec.json.encode(self._kept), durable=False)
        except OSError as error:
            self._own["availability_not_kept"] += 1
            if not self._is_failing:  # every five seconds the same
                log.warning("the availability could not be kept: %s", error)
            self._is_failing = True
        else:
            self._is_failing = False


def _read(path: Path) -> Kept:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return Kept()
    except (OSError, msgspec.DecodeError) as error:
        log.warning("%s cannot be read (%s): begun anew", path, error)
        return Kept()

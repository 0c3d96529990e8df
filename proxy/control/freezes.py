"""Which routes are frozen: `freezes.json` in the state directory, so that a freeze outlasts the supervisor.

A freeze ends by itself, by the wall clock; what has ended is left out when the file is written next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from proxy.control.audit import iso
from proxy.control.files import write_whole
from proxy.core.errors import Frozen, RefuseToStart
from proxy.core.freeze import Freeze, is_way_back


class Freezes:
    """The freezes of an instance. path: of the file that keeps them; wall: seconds since 1970.

    Raises RefuseToStart for a file that cannot be read.
    """

    def __init__(self, path: Path, wall: Callable[[], float]) -> None:
        self._path = path
        self._wall = wall
        self._freezes = _read(path)

    def of(self, route: str) -> Freeze | None:
        """The freeze that holds a route now."""
        found = self._freezes.get(route)
        return found if found is not None and found.holds(self._wall()) else None

    def refusal(self, route: str) -> str:
        """Why its routing does not change now; empty when it may."""
        found = self.of(route)
        return "" if found is None else said(route, found)

    def allow(self, route: str, action: str, *, is_lower: bool = False) -> None:
        """Raises Frozen where a freeze stands against this action. is_lower: the weight would be less."""
        refusal = self.refusal(route)
        if refusal and not is_way_back(action, is_lower=is_lower):
            raise Frozen(f"{refusal}; a rollback is allowed", route)

    async def put(self, changed: dict[str, Freeze | None]) -> None:
        """These are the freezes of these routes from now on, None for none; durable when this returns.

        Whoever calls it is alone (`Changes.one_at_a_time`). Raises OSError; everything is as before then.
        """
        wanted: dict[str, Freeze | None] = {**self._freezes, **changed}
        now = self._wall()
        kept = {route: each for route, each in wanted.items() if each is not None and each.holds(now)}
        await asyncio.to_thread(write_whole, self._path, msgspec.json.encode(kept))
        self._freezes = kept


def said(route: str, freeze: Freeze) -> str:
    """A freeze in words."""
    reason = f": {freeze.reason}" if freeze.reason else ""
    return f"{route} is frozen until {iso(freeze.until)} by {freeze.actor}{reason}"


def _read(path: Path) -> dict[str, Freeze]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Freeze])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise RefuseToStart(f"{path} cannot be read: {error}; move it away to end all freezes") from None

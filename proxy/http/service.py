"""What all client connections of a worker share: settings, parsers, the data plane, and who is there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from config.model import Limits
from proxy.http.forwarded import Trust
from proxy.http.head import FORWARDING, HeadParser

if TYPE_CHECKING:
    from proxy.http.downstream import Client
    from proxy.http.plane import DataPlane

_LOOKS: Final = 512
"""Clients whose time is checked in one loop iteration, at most."""
_CUTS: Final = 16
"""Clients cut in one loop iteration, at most; each costs a few system calls, now and when it is closed."""
_BREATH: Final = 0.001
"""Seconds until the next of these iterations: others have most of the time in between."""


class Service:
    """What all client connections of a worker share."""

    __slots__ = (
        "budget",
        "clients",
        "is_stopping",
        "limits",
        "loop",
        "max_event_size",
        "max_head_size",
        "most_clients",
        "others",
        "parser",
        "plane",
        "trust",
        "trusting_parser",
        "_unchecked",
    )

    def __init__(
        self,
        plane: DataPlane,
        limits: Limits,
        wanted: frozenset[bytes],
        loop: asyncio.AbstractEventLoop,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self.plane = plane
        self.budget = plane.budget
        self.limits = limits
        self.max_event_size = limits.max_event_size
        self.max_head_size = limits.max_head_size
        self.parser = HeadParser(wanted, limits.max_headers, limits.max_target_size)
        self.trust = Trust(trusted_proxies) if trusted_proxies else None
        self.trusting_parser = HeadParser(wanted | FORWARDING, limits.max_headers, limits.max_target_size)
        """For connections of hops that are believed."""
        self.loop = loop
        self.clients: set[Client] = set()
        self.most_clients = limits.max_connections
        self.others = 0
        """Connections that speak another protocol by now."""
        self.is_stopping = False
        self._unchecked: list[Client] = []

    def has_room(self, coming: int = 0) -> bool:
        """May one more client come? coming: clients that were accepted and are not here yet."""
        return len(self.clients) + self.others + coming < self.most_clients and self.budget.takes_connections

    def check_times(self, now: float) -> None:
        """Once a second: cut clients that are too slow or idle for too long, a few of them in a loop iteration.

        Thousands that came together run out of time together. To cut 10,000 of them in one go, and to close them in
        another a second later, kept everybody else waiting for 150 and 115 ms; now no iteration takes longer than 3 ms.
        """
        if not self._unchecked:
            self._unchecked = list(self.clients)
            self._check_some(now)

    def _check_some(self, now: float) -> None:
        left, cuts = self._unchecked, 0
        for _ in range(min(_LOOKS, len(left))):
            client = left.pop()
            client.look_unread()
            cuts += client.check_time(now)
            if cuts == _CUTS:
                break
        if left:
            self.loop.call_later(_BREATH, self._check_some, now)

    def last_call(self) -> None:
        """Every connection ends with its next answer, which says so."""
        self.is_stopping = True
        for client in self.clients:
            client.last_call()

    def stop(self) -> None:
        """Close idle connections now and busy ones after their answer."""
        self.last_call()
        for client in tuple(self.clients):
            client.stop()

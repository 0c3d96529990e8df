"""What all client connections of a worker share: settings, parsers, the data plane, and who is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
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
        "is_draining",
        "is_ending",
        "is_stopping",
        "leaving",
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
        self.is_draining = False
        """Each connection ends with its next answer, which says so; new ones are still taken."""
        self.is_ending = False
        """No connection goes on here after its present answer, whether that says so or not."""
        self.is_stopping = False
        """No session is begun any more."""
        self.leaving: Callable[[Client], None] | None = None
        """Called with each client that could go on elsewhere then, while the worker hands them to another one."""
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

    def drain(self) -> None:
        """Every connection ends with its next answer, which says so."""
        self.is_draining = self.is_ending = True
        for client in self.clients:
            client.last_call()

    def part(self, leaving: Callable[[Client], None]) -> None:
        """From now on clients leave when they are between two requests, and `leaving` has them then, frozen."""
        self.is_ending = True
        self.leaving = leaving

    def last_call(self) -> None:
        """As in a drain; no session is begun any more, and nobody leaves."""
        self.is_stopping = True
        self.leaving = None
        self.drain()

    def stop(self) -> None:
        """Close idle connections now and busy ones after their answer."""
        self.last_call()
        for client in tuple(self.clients):
            client.stop()

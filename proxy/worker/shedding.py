"""Is this worker turning requests or clients away at the moment, and why?

Said for a second after the last one, so that what looks at it four times a second does not flicker.
"""

from __future__ import annotations

from typing import Final

from proxy.http.plane import DataPlane
from proxy.http.service import Service

HOLD: Final = 1.0
"""Seconds."""
_MEMORY: Final = ("refused_memory", "refused_bodies")
_DESCRIPTORS: Final = ("refused_descriptors", "accept_failures")
_CLIENTS: Final = ("refused_connections",)


class Shedding:
    """Looks at one worker's budget and counters; to be asked whenever its figures are reported."""

    def __init__(self, plane: DataPlane, service: Service) -> None:
        self._plane = plane
        self._service = service
        self._seen: dict[str, int] = {}
        self._why = ""
        self._until = 0.0

    def look(self, now: float) -> str:
        """Why requests or clients are turned away, to be read by people; empty when they are not. now: monotonic."""
        why = self._look()
        if why:
            self._why, self._until = why, now + HOLD
        elif now >= self._until:
            self._why = ""
        return self._why

    def _look(self) -> str:
        counters, seen = dict(self._plane.counters), self._seen
        risen = {name for name in (*_MEMORY, *_DESCRIPTORS, *_CLIENTS) if counters.get(name, 0) > seen.get(name, 0)}
        self._seen = counters
        budget, service = self._plane.budget, self._service
        if budget.is_full or risen.intersection(_MEMORY):
            return self._memory()
        if risen.intersection(_DESCRIPTORS):
            return "no descriptors left"
        if risen:
            clients, most = len(service.clients), service.most_clients
            return f"clients {clients} of {most}" if clients >= most else self._memory()
        return ""

    def _memory(self) -> str:
        budget = self._plane.budget
        return f"memory {budget.used / 2**20:.0f} of {budget.limit / 2**20:.0f} MiB"

"""The ledger's deliveries during a drill: those of a drilled route to new fail here, the others go their way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from config.model import Settings
from proxy.core.event import NEW, Attempt, Deliver, Event, Outcome
from proxy.http.faults import CopyFault, Faults, new_backends


class DrilledDelivery:
    """deliver: the transport's; over: is told of a route whose drill has ended."""

    def __init__(
        self, settings: Settings, deliver: Deliver, loop: asyncio.AbstractEventLoop, over: Callable[[str], None]
    ) -> None:
        self._deliver = deliver
        self._over = over
        self.faults = Faults(new_backends(settings), loop, self._changed)

    def _changed(self, route: str, fault: CopyFault | None) -> None:
        if fault is None:
            self._over(route)

    async def deliver(self, event: Event, attempt: Attempt) -> Outcome:
        """One attempt."""
        fault = self.faults.by_route.get(event.route) if attempt.side == NEW else None
        if fault is None:
            return await self._deliver(event, attempt)
        if not fault.is_slow:
            return fault.outcome()
        await asyncio.sleep(fault.delay)
        return await self._deliver(event, attempt)

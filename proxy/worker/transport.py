"""The ledger's own connections to the backends, and by which transport it delivers an event."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from typing import Final

from config.model import Settings
from proxy.core.breaker import BreakerTrouble
from proxy.core.event import Attempt, Event, Outcome
from proxy.fanout.server import FanOut
from proxy.http.balanced import upstream_of
from proxy.http.deliver import HttpDelivery
from proxy.http.tick import Tick
from proxy.net.live_context import LOOK_EVERY
from proxy.net.lookup import Lookup
from proxy.websocket.deliver import WebSocketDelivery

_CHECK_EVERY: Final = 0.1
"""Seconds between two looks for deliveries that are overdue."""


class Transport:
    """The ledger's own connections to the backends. fan_out: feeds those that connect to us, where there are any."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop, fan_out: FanOut | None = None) -> None:
        self._fan_out = fan_out
        tick = Tick(loop, lambda: True)  # nothing has to leave this process before an event
        self._loop = loop
        self._lookup = Lookup(settings.resolver)
        self._upstreams = {
            name: upstream_of(name, backend, loop, tick, self._lookup) for name, backend in settings.backends.items()
        }
        sides = {route.name: (self._upstreams[route.old], self._upstreams[route.new]) for route in settings.routes}
        self._sides = sides
        self._http = HttpDelivery(sides, settings.limits.max_decoded_size)
        sessions = {route.name: route.websocket for route in settings.routes if route.websocket is not None}
        limits = settings.limits
        self._websocket = WebSocketDelivery(sides, sessions, limits.max_event_size, limits.max_decoded_size, tick, loop)
        self._timer = loop.call_later(_CHECK_EVERY, self._check)
        self._files_timer = loop.call_later(LOOK_EVERY, self._check_files)
        loop.add_signal_handler(signal.SIGHUP, self.look_at_files)

    def _check_files(self) -> None:
        self.look_at_files()
        self._files_timer = self._loop.call_later(LOOK_EVERY, self._check_files)

    def look_at_files(self) -> None:
        """Use certificates that have changed."""
        for upstream in self._upstreams.values():
            upstream.look_at_files()

    def _check(self) -> None:
        now = time.monotonic()
        for upstream in self._upstreams.values():
            upstream.check_times(now)
        self._websocket.check_times(now)
        if self._fan_out is not None:
            self._fan_out.check_times(now)
        self._timer = self._loop.call_later(_CHECK_EVERY, self._check)

    async def deliver(self, event: Event, attempt: Attempt) -> Outcome:
        """By the transport that the event came by, or that its backend takes events by."""
        upstream = self._sides[event.route][attempt.side]
        if upstream.settings.consumer is not None:
            assert self._fan_out is not None
            return await self._fan_out.deliver(event, attempt)
        if upstream.settings.deliver.by(event.transport) == "websocket":
            return await self._websocket.deliver(event, attempt)
        return await self._http.deliver(event, attempt)

    def breakers(self) -> dict[str, str]:
        """The state of each backend's breaker."""
        now = time.monotonic()
        states = {name: upstream.breaker.state(now) for name, upstream in self._upstreams.items()}
        return states if self._fan_out is None else states | self._fan_out.breakers(now)

    def troubles(self) -> dict[str, BreakerTrouble]:
        """Why breakers are not closed, by backend."""
        now = time.monotonic()
        found = {name: upstream.breaker.trouble(now) for name, upstream in self._upstreams.items()}
        troubles = {name: trouble for name, trouble in found.items() if trouble is not None}
        return troubles if self._fan_out is None else troubles | self._fan_out.troubles(now)

    def counters(self) -> Mapping[str, int]:
        """What is counted of couriers and consumers."""
        couriers = self._websocket.counters
        return couriers if self._fan_out is None else couriers | self._fan_out.counters

    async def close(self) -> None:
        """Close the connections."""
        self._timer.cancel()
        self._files_timer.cancel()
        if self._fan_out is not None:
            await self._fan_out.close()
        self._http.close()
        self._websocket.close()
        for upstream in self._upstreams.values():
            upstream.close()
        await self._lookup.close()

"""What changes in Home Assistant: sensors at a steady rate, each in order, and now and then all followers at once."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Final

from deploy.home_assistant.core import HomeAssistant
from deploy.home_assistant.settings import BURST

ROOMS: Final = 16
"""Sensors that are changed at the same time."""
_REMOVED: Final = 29
"""Of so many changes of a sensor the last one takes it away."""


class House:
    """A home whose sensors change while it is lived in; the recorder knows what came of it.

    rate: changes per second, less where Home Assistant is slower than that.
    """

    def __init__(self, core: HomeAssistant, rate: float) -> None:
        self._core = core
        self.rate = rate
        self._rooms: list[asyncio.Task[None]] = []
        self._changes = 0
        self._bursts = 0

    def start(self) -> None:
        """Begin to change."""
        assert not self._rooms, "it changes already"
        self._rooms = [asyncio.create_task(self._room(number)) for number in range(ROOMS)]

    async def stop(self) -> None:
        """At once: of the changes that are being made some are made, and some not."""
        rooms, self._rooms = self._rooms, []
        for room in rooms:
            room.cancel()
        await asyncio.gather(*rooms, return_exceptions=True)

    def check(self) -> None:
        """Raise what made a sensor stop changing."""
        for room in self._rooms:
            if room.done():
                room.result()

    async def burst(self) -> None:
        """All followers change at once."""
        self._bursts += 1
        await self._core.api.call("input_number", "set_value", entity_id=BURST, value=self._bursts)

    async def _room(self, room: int) -> None:
        """A sensor's life: numbers, words, now and then nothing that is known, and at times it is not there."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(room / self.rate)  # one after the other, and not all at once
        entity, due = f"sensor.room_{room}", loop.time()
        for number in itertools.count(1):
            if number > 1 and (number + room) % _REMOVED == 0:  # never all of them at a time
                await self._core.api.remove(entity)
            else:
                self._changes += 1
                await self._core.api.set_state(entity, *_state(self._changes))
            due = max(due + ROOMS / self.rate, loop.time())  # who is late does not hurry
            await asyncio.sleep(due - loop.time())


def _state(number: int) -> tuple[str, dict[str, Any]]:
    """A state that was not there before, and its attributes."""
    if number % 11 == 7:
        return "unavailable", {"since": number}
    if number % 3 == 2:
        return f'wört {number}, "x"', {"friendly_name": "Words"}
    return str(number / 8), {"unit_of_measurement": "°C", "battery": f"{number % 100} %"}

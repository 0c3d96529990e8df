"""A ledger that keeps everything in memory, and says what it is told to say when it is told to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

from proxy.core.dedupe import FIRST
from proxy.core.event import Event
from proxy.ledger.framing import Unpacker, pack
from proxy.ledger.protocol import (
    HANDED,
    PARKED,
    RECEIVED,
    Claims,
    Durable,
    Frame,
    FromLedger,
    Hello,
    Report,
    Turn,
    Verdicts,
    Welcome,
    from_worker,
)


class FakeLedger:
    """One stream's ledger. `holds`: frames do not become durable until `release`.

    grants: turns are given at once; otherwise by `grant(n)`. judges: every claim is the first of its id, at once.
    frames: by number, as received; a frame that is sent again must be the same.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: asyncio.Server | None = None
        self._links: list[_Link] = []
        self.holds = False
        self.grants = True
        self.judges = True
        self.frames: dict[int, Frame] = {}
        self.durable = 0
        self.hellos: list[Hello] = []
        self.events: dict[str, Event] = {}
        """By id; of one id the last."""
        self.numbers: dict[str, list[int]] = {}
        self.reports: dict[int, list[Report]] = {}
        self.wanted_turns: list[int] = []
        self.claims: list[Claims] = []
        self.answers: dict[int, int] = {}
        """What clients were told, by the number of the event."""
        self._durable_events: set[str] = set()
        self._durable_hands: set[tuple[int, int]] = set()

    async def start(self) -> None:
        """Listen; a second time after `stop` as a ledger that was started again."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Link(self), str(self._path))

    def stop(self) -> None:
        """Die: what was not durable is forgotten."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in self._links:
            link.transport.abort()
        self._links.clear()
        self._path.unlink(missing_ok=True)
        kept = [frame for number, frame in self.frames.items() if number <= self.durable]
        for known in (self.frames, self.events, self.numbers, self.reports):
            known.clear()
        for frame in kept:
            self._note(frame)

    # what it was told

    def codes(self, number: int, side: int) -> list[int]:
        """The codes of the reports on one side of an event, in order."""
        return [code for _, of, code, _ in self.reports.get(number, []) if of == side]

    def holds_event(self, event_id: str) -> bool:
        """Is the event's record durable?"""
        return event_id in self._durable_events

    def promises(self, event_id: str, side: int) -> bool:
        """Will it deliver this event to this side, come what may?"""
        event = self.events.get(event_id)
        if event is None or event_id not in self._durable_events:
            return False
        given = event.handed | event.deferred
        return bool(given >> side & 1) or (event.n, side) in self._durable_hands

    # what it says

    def release(self) -> None:
        """Everything received is durable now."""
        self._commit(max(self.frames, default=0))

    def grant(self, number: int) -> None:
        """It is this event's turn."""
        self.say(Turn(number))

    def judge(self, number: int, kind: int, status: int = 0) -> None:
        """The verdict on a claim."""
        self.say(Verdicts([(number, kind, status)]))

    def asked(self) -> list[int]:
        """Numbers of the events whose claims were asked for and not withdrawn, in order."""
        numbers: dict[int, None] = {}
        for claims in self.claims:
            numbers |= dict.fromkeys(row[0] for row in claims.asked)
            for n in claims.withdrawn:
                numbers.pop(n, None)
        return list(numbers)

    def say(self, message: FromLedger) -> None:
        """Send a message to whoever is connected."""
        for link in self._links:
            link.transport.write(pack(message))

    def say_bytes(self, data: bytes) -> None:
        """Send what may be no message."""
        for link in self._links:
            link.transport.write(data)

    def _commit(self, upto: int) -> None:
        for number in range(self.durable + 1, upto + 1):
            frame = self.frames[number]
            self._durable_events |= {event.id for event in frame.events}
            self._durable_hands |= {(n, side) for n, side, code, _ in frame.reports if code in (HANDED, PARKED)}
        if upto > self.durable:
            self.durable = upto
            self.say(Durable(upto))

    def _take(self, link: _Link, message: Hello | Frame | Claims) -> None:
        if isinstance(message, Hello):
            self.hellos.append(message)
            link.transport.write(pack(Welcome(self.durable)))
            return
        if isinstance(message, Claims):
            self.claims.append(message)
            if self.judges:
                for row in message.asked:
                    self.judge(row[0], FIRST)
            return
        if message.number in self.frames or message.number <= self.durable:
            raise AssertionError(f"frame {message.number} came twice")
        assert message.number == max(self.frames, default=self.durable) + 1, "frames come in order"
        self._note(message)
        self.wanted_turns += message.turns
        if not self.holds:
            self._commit(message.number)
        if self.grants:
            for number in message.turns:
                self.grant(number)

    def _note(self, frame: Frame) -> None:
        self.frames[frame.number] = frame
        for event in frame.events:
            self.numbers.setdefault(event.id, []).append(event.n)
            self.events[event.id] = event
        self.answers |= dict(frame.answers)
        for n, side, code, status in frame.reports:
            for each in range(n, n + 1 + (status if code == RECEIVED else 0)):
                self.reports.setdefault(each, []).append((each, side, code, status))


class _Link(asyncio.Protocol):
    def __init__(self, ledger: FakeLedger) -> None:
        self._ledger = ledger
        self._unpacker = Unpacker()
        self.transport = cast(asyncio.Transport, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._ledger._links.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._ledger._links:
            self._ledger._links.remove(self)

    def data_received(self, data: bytes) -> None:
        for payload in self._unpacker.feed(data):
            self._ledger._take(self, from_worker.decode(payload))

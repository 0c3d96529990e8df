"""Both halves of the demo's load, and what they know together."""

from __future__ import annotations

from config.units import Address
from proxy.demo.load import Load
from proxy.demo.record import Record, joined
from proxy.demo.sessions import Sessions


class Clients:
    """Requests and messages, each at its own rate (events/s). seed: of the choice of keys."""

    def __init__(self, address: Address, *, requests: float, messages: float, seed: int = 1) -> None:
        self.http = Load(address, rate=requests, seed=seed)
        self.sessions = Sessions(address, rate=messages, seed=seed)

    @property
    def record(self) -> Record:
        """What both know."""
        return joined((self.http.record, self.sessions.record))

    @property
    def accepted(self) -> int:
        """How many events were promised."""
        return self.http.record.accepted + self.sessions.record.accepted

    @property
    def client_errors(self) -> int:
        """See `Record.client_errors`."""
        return self.http.record.client_errors + self.sessions.record.client_errors

    def start(self) -> None:
        """Begin."""
        self.http.start()
        self.sessions.start()

    async def stop(self) -> None:
        """Send nothing new, wait for what was sent, end the sessions in order."""
        await self.http.stop()
        await self.sessions.stop()

    async def cancel(self) -> None:
        """End at once, whatever is in flight."""
        await self.http.cancel()
        await self.sessions.cancel()

    def check(self) -> None:
        """Raise what stopped either, if something did."""
        self.http.check()
        self.sessions.check()

"""One address of a backend: the connections to it, and whether it is to be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.net.lookup import Address

if TYPE_CHECKING:
    from proxy.http.connection import Connection

_LONGEST: Final = 30.0
"""Seconds that an endpoint is left out at most."""


class Endpoint:
    """An endpoint. Its figures are this process's own.

    row: failures in a row; out_until: left out until then, monotonic seconds; turn: see `proxy.http.balance`
    """

    __slots__ = (
        "address",
        "idle",
        "is_gone",
        "is_healthy",
        "last_trouble",
        "open",
        "out_until",
        "outs",
        "row",
        "turn",
        "weight",
    )

    def __init__(self, address: Address) -> None:
        self.address = address
        # A weight of 0 is for what is hardly ever chosen (RFC 2782).
        self.weight = float(address.weight) or 0.01
        self.idle: list[Connection] = []
        self.open = 0
        """Connections that are open or being opened."""
        self.turn = 0.0
        self.row = 0
        self.outs = 0
        """How often it was left out since it did well last."""
        self.out_until = 0.0
        self.is_healthy = True
        """What the supervisor's probe says; true without a probe."""
        self.is_gone = False
        """Its name stands for other addresses now."""
        self.last_trouble = ""
        """Why it failed last, until it does well."""

    def use(self, address: Address) -> None:
        """Its record has another weight or priority now."""
        self.address = address
        self.weight = float(address.weight) or 0.01

    @property
    def outstanding(self) -> int:
        """Legs on their way, and connections being opened for some."""
        return self.open - len(self.idle)

    def is_usable(self, now: float) -> bool:
        """Is it to be chosen?"""
        return self.is_healthy and self.out_until <= now

    def trying(self, now: float, reset: float) -> None:
        """It is chosen again after it failed: by one event, whose outcome the others wait for."""
        self.out_until = now + reset

    def leave_out(self, now: float, reset: float) -> bool:
        """Choose others for `reset` seconds, without counting a failure; true when it was to be chosen."""
        is_news = self.out_until <= now
        self.out_until = max(self.out_until, now + reset)
        return is_news

    def succeeded(self) -> None:
        """It answered."""
        self.row = self.outs = 0
        self.out_until = 0.0
        self.last_trouble = ""

    def failed(self, now: float, reset: float, why: str, *, is_out: bool) -> bool:
        """It failed; true when that is news. is_out: leave it out, for `reset` seconds and twice as long each time."""
        self.row += 1
        is_news = why != self.last_trouble
        self.last_trouble = why
        if is_out:
            self.out_until = now + min(reset * 2.0**self.outs, _LONGEST)
            self.outs = min(self.outs + 1, 16)
        return is_news

    def state(self, now: float) -> str:
        """up, out (left out after failures) or unhealthy (by its probe)."""
        if not self.is_healthy:
            return "unhealthy"
        return "up" if self.out_until <= now else "out"

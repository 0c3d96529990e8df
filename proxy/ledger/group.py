"""What one commit writes: values that the loop packed, and the store's thread only hands to SQLite."""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeAlias

from proxy.ledger.entry import Entry
from proxy.ledger.turns import Place

HeldRow: TypeAlias = tuple[int, int, int, int]
"""seq, held, authority, owed."""
SideRow: TypeAlias = tuple[int, str, int, int, int, int, int | None, int | None, int | None]
"""seq, route, state before, state, status, attempts; then as in a HeldRow, None for what stays as it is."""
StreamRow: TypeAlias = tuple[int, str, int, int, int, int]
"""id, name, worker, durable frame, wall clock of that in ns, closed."""
GapRow: TypeAlias = tuple[int, int, str]
"""from and to in ns, reason."""


BodyRow: TypeAlias = tuple[int, bytes, bytes]
"""seq, context, body."""
ReceivedRow: TypeAlias = tuple[int, int, bytes, bytes]
"""seq, mask of the sides that received it, context, body."""


class Group:
    """One commit. number: from 1, later groups have higher ones; now_ns: wall clock when it was taken.

    receipts, bodies: rows one after another in flat lists, in the order of seq; states: how many new
    events begin with (route, old's state, new's state); entries: those to be told that they are durable.
    """

    __slots__ = (
        "number", "retain_bodies", "receipts", "bodies", "states", "held", "sides", "streams", "gaps",
        "needed", "halves", "last_seq", "newest_ns", "entries", "applied", "opened", "wake", "promises", "bodies_again",
        "received", "received_until_ns", "now_ns",
    )  # fmt: skip

    def __init__(self, number: int, *, retain_bodies: bool = False, now_ns: int = 0) -> None:
        self.number = number
        self.now_ns = now_ns
        self.retain_bodies = retain_bodies
        self.receipts: list[Any] = []
        self.bodies: list[Any] = []
        self.bodies_again: list[BodyRow] = []
        """Of events that were written without one, and are owed again."""
        self.received: list[ReceivedRow] = []
        """Events that may yet be taken back."""
        self.received_until_ns = 0
        """What was received before then is not kept any more."""
        self.states: Counter[tuple[str, int, int]] = Counter()
        self.held: list[HeldRow] = []
        """Of events of which no side changes."""
        self.sides: tuple[list[SideRow], list[SideRow]] = ([], [])
        self.needed: set[int] = set()
        """Events among them whose body stays: the other side is still open."""
        self.streams: list[StreamRow] = []
        self.gaps: list[GapRow] = []
        self.halves = 0
        """New events of which one side is the ledger's and the other's answer is still to come."""
        self.last_seq = 0
        self.newest_ns = 0
        self.entries: list[Entry] = []
        self.applied: set[int] = set()
        """Numbers of segments that have their part already: a retry after a full disk writes it once."""
        self.opened: list[tuple[Entry, int]] = []
        """Entries on disk of which a side becomes pending with this."""
        self.wake: set[tuple[str, int]] = set()
        """(route, side) that have rows to deliver once this is durable."""
        self.promises: list[tuple[Place, int]] = []
        """Events whose claims this decides, and what their clients were or would have been told."""

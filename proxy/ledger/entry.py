"""An event while somebody works on it, and the stream it came by."""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.core.event import Event
from proxy.ledger.protocol import Hello, Report

NEW_ENTRY: Final = 0
IN_FLIGHT: Final = 1
ON_DISK: Final = 2


class Entry(Event, array_like=True, gc=False):
    """An event and what is known of its sides.

    It is decoded from the worker's frame directly: what follows the fields of `Event` is not sent and
    takes its default, which saves making a second object per event.

    held: mask of sides that the worker is on; backlog: mask of sides counted in the backlog; parked: mask
    of sides that must not keep the next event of the key from its turn;
    stage: NEW_ENTRY, IN_FLIGHT (in a group that is being written) or ON_DISK; special: not on the short
    path; changed: mask of sides to be updated on disk; on_disk: states there, `old * 16 + new`;
    has_body: the body is on disk; dirty: the next group updates it; in_line: wants or has a turn.
    """

    seq: int = 0
    stream: int = 0
    held: int = 0
    backlog: int = 0
    parked: int = 0
    old_state: int = 0
    old_status: int = 0
    old_attempts: int = 0
    new_state: int = 0
    new_status: int = 0
    new_attempts: int = 0
    stage: int = NEW_ENTRY
    special: bool = False
    has_body: bool = False
    dirty: bool = False
    in_line: bool = False
    changed: int = 0
    on_disk: int = 0

    def state(self, side: int) -> int:
        """The state of one side."""
        return self.new_state if side else self.old_state


class LedgerFrame(msgspec.Struct, tag="frame", array_like=True):
    """`proxy.ledger.protocol.Frame` as the ledger reads it."""

    number: int
    urgent: bool
    events: list[Entry]
    reports: list[Report]
    turns: list[int] = []


decoder: Final = msgspec.msgpack.Decoder(Hello | LedgerFrame)


class Stream:
    """One life of a worker. live: its entries by number; received, durable: frame numbers."""

    __slots__ = (
        "id",
        "name",
        "worker",
        "received",
        "durable",
        "live",
        "is_connected",
        "came_back",
        "closed",
        "last_ns",
    )

    def __init__(self, id: int, name: str, worker: int, durable: int) -> None:
        self.id = id
        self.name = name
        self.worker = worker
        self.received = durable
        self.durable = durable
        self.live: dict[int, Entry] = {}
        self.is_connected = False
        self.came_back = False
        """It said hello in this life of the ledger."""
        self.closed = False
        self.last_ns = 0

"""An event while somebody works on it, and the stream it came by."""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from proxy.ledger.protocol import EventRow

NEW_ENTRY: Final = 0
IN_FLIGHT: Final = 1
ON_DISK: Final = 2


@mypyc_attr(acyclic=True)
class Entry:
    """An event and what is known of its sides. row: the fields of `proxy.core.event.Event`, in their order.

    held: mask of sides that the worker is on; backlog: mask of sides counted in the backlog; parked: mask
    of sides that must not keep the next event of the key from its turn;
    stage: NEW_ENTRY, IN_FLIGHT (in a group that is being written) or ON_DISK; special: not on the short
    path; changed: mask of sides to be updated on disk; on_disk: states there, `old * 16 + new`;
    has_body: the body is on disk; dirty: the next group updates it; in_line: wants or has a turn;
    window: nanoseconds for which a side that received it may be taken back, received: mask of those that may, until:
    the end of that, wall clock in ns; 0 while it is not known; kept_bytes: what its body counts for meanwhile.
    """

    __slots__ = (
        "n", "id", "route", "key", "bucket", "epoch", "authority", "owed", "handed", "deferred", "after_authority",
        "accepted_ns", "transport", "context", "body", "event_time", "identities", "client_id",
        "seq", "stream", "held", "backlog", "parked", "old_state", "old_status", "old_attempts", "new_state",
        "new_status", "new_attempts", "stage", "special", "has_body", "dirty", "in_line", "changed", "on_disk",
        "window", "received", "until", "kept_bytes",
    )  # fmt: skip

    def __init__(self, row: EventRow, seq: int, stream: int) -> None:
        (
            self.n, self.id, self.route, self.key, self.bucket, self.epoch, self.authority, self.owed, self.handed,
            self.deferred, self.after_authority, self.accepted_ns, self.transport, self.context, self.body,
            self.event_time, self.identities, self.client_id,
        ) = row  # fmt: skip
        self.seq = seq
        self.stream = stream
        self.held = 0
        self.backlog = 0
        self.parked = 0
        self.old_state = 0
        self.old_status = 0
        self.old_attempts = 0
        self.new_state = 0
        self.new_status = 0
        self.new_attempts = 0
        self.stage = NEW_ENTRY
        self.special = False
        self.has_body = False
        self.dirty = False
        self.in_line = False
        self.changed = 0
        self.on_disk = 0
        self.window = 0
        self.received = 0
        self.until = 0
        self.kept_bytes = 0

    def state(self, side: int) -> int:
        """The state of one side."""
        return self.new_state if side else self.old_state

    def status(self, side: int) -> int:
        """What the last attempt at one side showed."""
        return self.new_status if side else self.old_status


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

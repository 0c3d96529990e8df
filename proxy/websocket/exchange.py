"""One message on its way: which sides may still keep it from being safe, and from which its reply is awaited."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from proxy.http.route import AUTHORITY, COPY

if TYPE_CHECKING:
    from proxy.http.tracing import Trace


@mypyc_attr(acyclic=True)
class Exchange:
    """One message. n: its event's number in this worker's stream; authority: the side whose word counts for the client.

    bucket: of its key
    missing: mask of sides that have it neither themselves nor by the ledger
    frame: the frame for the ledger that must be durable before it is safe; 0 when none must
    size: of its payload, bytes
    """

    __slots__ = (
        "authority", "bucket", "event_id", "frame", "missing", "n", "parked", "raw", "reply", "reply_id", "resent",
        "size", "trace",
    )  # fmt: skip

    def __init__(self, n: int, bucket: int, authority: int, missing: int, frame: int, size: int) -> None:
        self.n = n
        self.bucket = bucket
        self.authority = authority
        self.missing = missing
        self.frame = frame
        self.size = size
        self.parked = 0
        """Mask of sides of which the ledger knows that it is on its way there."""
        self.reply_id = ""
        """What its reply will name; empty when its receipt is a Pong."""
        self.raw = b""
        """Its frames, while a reply is awaited: they are sent again when the connection is lost before it."""
        self.resent = 0
        """Mask of sides that it was sent to again."""
        self.reply = b""
        """The authority's, until it may go to the client."""
        self.trace: Trace | None = None
        """What is told of it, under its event's id; None when it is not drawn."""
        self.event_id = ""

    def received(self, side: int) -> None:
        """A backend has it."""
        self.missing &= ~(1 << side)

    def hand(self, side: int, frame: int) -> None:
        """The ledger knows that this side is owed it, once it has this frame."""
        self.missing &= ~(1 << side)
        if frame > self.frame:
            self.frame = frame

    def is_safe(self, durable: int) -> bool:
        """Does every side have it, or the ledger on disk for it? durable: the last frame that is."""
        return not self.missing and self.frame <= durable

    def role_of(self, side: int) -> int:
        """AUTHORITY or COPY."""
        return AUTHORITY if side == self.authority else COPY

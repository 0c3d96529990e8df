"""What to do when the authority fails: connect failure, timeout, 5xx, or an open breaker."""

from __future__ import annotations

from enum import Enum

from proxy.core.event import OLD


class Remedy(Enum):
    """How the client is served although its authority failed."""

    FAILOVER = "the other side answers; the failed side stays owed where copy is on"
    ACCEPT = "202 once durable; the ledger delivers"
    FAIL = "the failure is the answer"


def remedy(
    policy: str, *, authority: int, weight: float, latched: bool, copy_on: bool, sent: bool, client_id: bool
) -> Remedy:
    """Apply `on_authority_down`.

    Failing over to old is always allowed; to new only at a weight above 0 and not latched, else the
    event is accepted. With copy off, an event that may already be stored at the authority is only
    sent elsewhere when the client itself gave it an id.
    """
    if policy == "fail":
        return Remedy.FAIL
    if policy == "accept":
        return Remedy.ACCEPT
    if authority == OLD and (weight == 0 or latched):
        return Remedy.ACCEPT
    if not copy_on and sent and not client_id:
        return Remedy.FAIL
    return Remedy.FAILOVER

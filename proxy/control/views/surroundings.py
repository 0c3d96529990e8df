"""What the instance has to do with besides clients and backends."""

from __future__ import annotations

import msgspec


class ReceiverView(msgspec.Struct):
    """A receiver of notifications, since the supervisor began. waiting: entries that it has not been told yet.

    last_success, last_failure: of tries, null without any; trouble: why the last one failed, null when it did not
    """

    name: str
    kind: str
    waiting: int
    delivered: int
    dropped: int
    last_success: str | None
    last_failure: str | None
    trouble: str | None


class DependencyView(msgspec.Struct):
    """A service behind a backend. healthy: null before the first look."""

    backend: str
    name: str
    address: str
    healthy: bool | None
    detail: str


class CertificateView(msgspec.Struct):
    """A certificate that clients are shown. trouble: why what is on disk now is not in use, null when it is.

    loaded_at is the earliest of all workers.
    """

    listen: str
    file: str
    names: list[str]
    expires_at: str
    loaded_at: str
    trouble: str | None


class SourceView(msgspec.Struct):
    """A source. kind: home_assistant or websocket; state: connected, connecting, unhealthy, or waiting for a worker.

    trouble: why it is not well, or null; worker: that runs it, null when none does; rate: accepted events per second
    over the last ten; unaccepted: read and not accepted yet. The others are totals: of accepted events those that a
    snapshot told are recovered; refused: for good, by the route's authority; repeated: told before; retried: tries
    beyond the first; gaps: connections behind the first one; unreadable: messages that could not be read, and unknown
    ones.
    """

    name: str
    kind: str
    route: str
    state: str
    trouble: str | None
    worker: int | None
    rate: float
    unaccepted: int
    accepted: int
    recovered: int
    refused: int
    repeated: int
    retried: int
    gaps: int
    unreadable: int

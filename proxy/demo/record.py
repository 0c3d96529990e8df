"""What the demo's clients know: every event that they sent, and what they were promised of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class Promise(NamedTuple):
    """An event that was answered 2xx, or a message that stood before a Ping whose Pong is here.

    by: the backend that says it answered, empty when it was the proxy itself, and for a message; status: the answer's,
    0 for a message; sent, answered: perf_counter seconds, sent being the first attempt's; tried: when the last one
    was due, where the first one failed, else 0.
    """

    id: str
    key: str
    by: str
    status: int
    sent: float
    answered: float
    is_message: bool = False
    tried: float = 0.0

    @property
    def binds_from(self) -> float:
        """From when on an event of its key that is sent must be stored behind it: a session keeps its order at once."""
        return self.sent if self.is_message else self.answered


@dataclass
class Record:
    """What a client knows.

    promises: in the order in which they were made; digests: XXH64 of the body by id, of everything
    sent; statuses: answers by status, also to handshakes that opened no session; failures: missing
    answers by kind (`proxy.load.wire.FAILURES`), and sessions that were closed; retry_after: how
    many 503 said when to come back; reopened: requests that met a connection which the peer had just
    closed for idleness, and went out again at once; closed: sessions that ended before their client ended them;
    unsent: messages that were due while their session was closed; away: seconds from a session's end until it was
    open again.
    """

    promises: list[Promise] = field(default_factory=list)
    digests: dict[str, int] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    retry_after: int = 0
    reopened: int = 0
    closed: int = 0
    unsent: int = 0
    away: list[float] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        """How many events were promised."""
        return len(self.promises)

    @property
    def client_errors(self) -> int:
        """Answers that were not 2xx, requests without an answer, sessions that were not opened or were closed."""
        return sum(self.failures.values()) + self.refusals

    @property
    def refusals(self) -> int:
        """Answers that were not 2xx, of requests and of handshakes."""
        return sum(n for status, n in self.statuses.items() if not 200 <= status < 300)

    def accepted_ids(self) -> set[str]:
        """Every id that was promised."""
        return {promise.id for promise in self.promises}

    def errors_text(self) -> str:
        """The errors by kind, for a person."""
        kinds = {str(status): n for status, n in self.statuses.items() if not 200 <= status < 300} | self.failures
        return ", ".join(f"{n}x {kind}" for kind, n in sorted(kinds.items())) or "none"


def joined(records: Iterable[Record]) -> Record:
    """What several clients know together."""
    whole = Record()
    for record in records:
        whole.promises += record.promises
        whole.digests |= record.digests
        whole.statuses += record.statuses
        whole.failures += record.failures
        whole.retry_after += record.retry_after
        whole.reopened += record.reopened
        whole.closed += record.closed
        whole.unsent += record.unsent
        whole.away += record.away
    return whole

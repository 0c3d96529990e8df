"""Many clients that keep their connections and send little: what memory do they take, and who is refused?"""

from __future__ import annotations

from typing import Final, NamedTuple

from benchmarks import load
from benchmarks.bench import on_uvloop
from benchmarks.peers import Proxy
from benchmarks.processes import rss_bytes

RATE: Final = 2_000.0
"""Events per second of all clients together."""


class ClientsResult(NamedTuple):
    """p50, p99: seconds; rss: bytes of all processes, before the first client came and while all are there."""

    clients: int
    rate: float
    events: int
    failed: int
    p50: float
    p99: float
    rss_before: int
    rss_open: int

    @property
    def bytes_per_client(self) -> float:
        """Resident memory of all processes that a client takes once it has sent events."""
        return (self.rss_open - self.rss_before) / self.clients


def run(proxy: Proxy, *, clients: int, seconds: float) -> ClientsResult:
    """Let so many clients send in turn, each at least once."""
    pids = proxy.started.pids()
    warm = load.run(proxy.port, rate=RATE, seconds=seconds, connections=64)
    on_uvloop(warm)
    before = rss_bytes(pids)
    seen = [before]
    length = max(seconds, clients / RATE + 1)
    work = load.run(
        proxy.port,
        rate=RATE,
        seconds=length,
        connections=clients,
        is_sticky=True,
        at_end=lambda: seen.append(rss_bytes(pids)),
    )
    result = on_uvloop(work)
    return ClientsResult(
        clients,
        RATE,
        round(RATE * length),
        len(result.failed),
        result.quantile(0.5),
        result.quantile(0.99),
        before,
        seen[-1],
    )

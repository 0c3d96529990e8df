"""Rounds of messages on several proxies in turn, as `benchmarks.rounds` has them of requests.

A round's figure is the CPU time of all the proxy's processes, per message that was acknowledged. Ours is read when
nothing can be taken back any more, while the sessions are still open: what comes `redeliver_window` later is charged as
well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.peers import Proxy
from benchmarks.processes import BenchmarkFailed, rss_bytes
from benchmarks.rounds import SETTLE, Cpu, Round, check, settle
from benchmarks.websocket.stand import SessionBackend, clients

CONNECTIONS: Final = 16
REDELIVER_WINDOW: Final = 5.0
"""Seconds in which what was received may be taken back: the default of `websocket.redeliver_window`."""
START_AND_END: Final = 60.0
"""Seconds that the clients may take beside their load."""


class Window(NamedTuple):
    """How each client sends.

    size: messages on their way; is_batch: all of them in one write, once those before are acknowledged
    """

    size: int
    is_batch: bool = False

    @property
    def name(self) -> str:
        """As tables have it."""
        return f"batches of {self.size}" if self.is_batch else f"window {self.size}"


def _words(window: Window, seconds: float) -> list[object]:
    words: list[object] = ["--connections", CONNECTIONS, "--window", window.size, "--seconds", seconds]
    return [*words, "--batch"] if window.is_batch else words


def measuring(
    old: SessionBackend, new: SessionBackend, window: Window, *, core: int, directory: Path
) -> Callable[[Proxy, float], Round]:
    """`measure` of everything but a proxy and the seconds."""

    def run(proxy: Proxy, seconds: float) -> Round:
        return measure(proxy, old, new, window=window, seconds=seconds, core=core, directory=directory)

    return run


def loading(proxy: Proxy, window: Window, seconds: float, *, core: int, directory: Path) -> Callable[[], int]:
    """Loads it without measuring; returns how many messages were acknowledged."""

    def run() -> int:
        log = directory / f"load-{proxy.port}.log"
        with clients(proxy.port, *_words(window, seconds), core=core, log=log) as load:
            time.sleep(seconds)
            done = load.wait(START_AND_END)
            rest(proxy)
            return done.messages

    return run


def rest(proxy: Proxy, receipts: int = 0) -> None:
    """Wait until nothing can be taken back any more, and all is delivered: what comes later is of the same messages.

    receipts: that the ledger is to have then. Nothing is asked of ours before: the answers would be charged to it.
    """
    time.sleep(SETTLE if proxy.admin is None else REDELIVER_WINDOW + SETTLE)
    settle(proxy, receipts)


def measure(
    proxy: Proxy,
    old: SessionBackend,
    new: SessionBackend,
    *,
    window: Window,
    seconds: float,
    core: int,
    directory: Path,
) -> Round:
    """Load one proxy once; raises BenchmarkFailed when it did not do what it is there for.

    directory: for the clients' log
    """
    pids = proxy.started.pids()
    receipts, handed = (proxy.admin.receipts(), proxy.admin.handed()) if proxy.admin else (0, 0)
    seen_old, seen_new, cpu = old.messages(), new.messages(), Cpu(pids)
    with clients(proxy.port, *_words(window, seconds), core=core, log=directory / "clients.log") as loading:
        time.sleep(seconds)  # looking after them takes time from their core
        done = loading.wait(START_AND_END)
        rest(proxy, receipts + done.messages)
        spent, rss = cpu.per_event(max(done.messages, 1)), rss_bytes(pids)
    if proxy.started.pids() != pids:
        raise BenchmarkFailed(f"{proxy.name} lost or gained a process under load:\n{proxy.started.tail()}")
    if done.messages == 0:
        raise BenchmarkFailed(f"{proxy.name} acknowledged nothing:\n{proxy.started.tail()}")
    seen_old, seen_new = old.messages() - seen_old, new.messages() - seen_new
    if seen_old < done.messages:
        raise BenchmarkFailed(f"{proxy.name}: {seen_old} of {done.messages} messages reached old")
    one = Round(
        proxy.name,
        done.messages,
        sum(spent.values()),
        done.rate,
        done.p50,
        done.p99,
        0,
        share_new=seen_new / (seen_old + seen_new),
        copied=min(seen_old, seen_new) / done.messages if proxy.copies else 0.0,
        by_role=spent,
        handed=(proxy.admin.handed() - handed) / done.messages if proxy.admin else 0.0,
        rss=rss,
    )
    check(proxy, one, loses=False)
    return one

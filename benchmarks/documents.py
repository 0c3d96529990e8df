"""The figures that the documents promise, each as something that is met or missed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks import load, measure_wrk, rounds
from benchmarks.bench import Amounts, on_uvloop
from benchmarks.measure_wrk import Load
from benchmarks.peers import Proxy
from benchmarks.processes import BenchmarkFailed
from benchmarks.report import Target, ms
from benchmarks.verdicts import errors
from benchmarks.websocket.cost import CONNECTIONS, START_AND_END
from benchmarks.websocket.stand import clients

RATE: Final = 5_000.0
P99_BOUND: Final = 0.100
CONCURRENT: Final = 1_000
MESSAGES: Final = 10_000.0
BASELINE: Final = 17 / 60
"""Events per second of the house that all this began with."""


def of_requests(proxy: Proxy, amounts: Amounts, *, core: int) -> list[Target]:
    """Dual-written requests."""
    seconds = amounts.seconds
    result = on_uvloop(load.run(proxy.port, rate=RATE, seconds=seconds))
    p99 = result.quantile(0.99)
    name = f"dual write at {RATE:.0f} events/s"
    found = [
        Target(f"{name}: p99", ms(p99), f"< {ms(P99_BOUND)}", p99 < P99_BOUND),
        errors(name, len(result.failed), round(RATE * seconds)),
    ]
    crowd = measure_wrk.run(proxy.port, seconds=seconds, core=core, load=Load(connections=CONCURRENT))
    found.append(errors(f"{CONCURRENT} concurrent requests, p99 {ms(crowd.p99)}", crowd.errors, crowd.requests))
    rare = on_uvloop(load.run(proxy.port, rate=BASELINE, seconds=amounts.sparse))
    name = f"17 events/min, longest {ms(rare.quantile(1.0))}"
    found.append(errors(name, len(rare.failed), int(BASELINE * amounts.sparse)))
    rounds.settle(proxy, 0)
    return found


def of_messages(proxy: Proxy, amounts: Amounts, *, core: int, directory: Path) -> list[Target]:
    """Dual-written messages. A session that ends, or a message without its Pong, fails the clients."""
    name = f"WebSocket at {MESSAGES:.0f} messages/s"
    words = ("--connections", CONNECTIONS, "--rate", MESSAGES, "--seconds", amounts.seconds)
    try:
        with clients(proxy.port, *words, core=core, log=directory / "documents.log") as loading:
            done = loading.wait(amounts.seconds + START_AND_END)
    except BenchmarkFailed as failure:
        return [Target(name, str(failure).splitlines()[-1], "every one acknowledged", met=False)]
    measured = f"{done.rate:.0f}/s, p99 {ms(done.p99)}"
    return [Target(name, measured, "every one acknowledged", met=done.messages >= MESSAGES * amounts.seconds * 0.99)]

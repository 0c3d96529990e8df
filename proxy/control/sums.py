"""Sums of what workers say: plain numbers and mergeable sketches, added and taken away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from proxy.control.link import Requests, WorkerStats
from proxy.core.event import NEW, OLD
from proxy.core.sketch import Sketch

NO_ANSWER: Final = "error"
FAILURES: Final = ("5xx", NO_ANSWER)
"""Code classes that count as failures of a backend; a 4xx is the client's."""


class Series(NamedTuple):
    """What answers are counted by. side: OLD or NEW; role: authority, copy or stream."""

    route: str
    side: int
    backend: str
    role: str


class Answers:
    """Answers of one series: counts by code class, a sketch of the latencies, and bytes of accepted bodies."""

    def __init__(self) -> None:
        self.classes: Counter[str] = Counter()
        self.latency: Counter[int] = Counter()
        self.body_bytes = 0

    def add(self, requests: Requests, sign: int) -> None:
        """Add (1) or take away (-1) what a worker said."""
        for name, count in requests.code_classes.items():
            self.classes[name] += sign * count
        latency = self.latency
        if not latency and sign == 1:
            latency.update(requests.latency)  # at once: a whole exposition adds up tens of thousands of these
        else:
            get = latency.get
            for index, count in requests.latency.items():
                latency[index] = get(index, 0) + sign * count
        self.body_bytes += sign * requests.body_bytes

    @property
    def total(self) -> int:
        """All answers and failures."""
        return sum(self.classes.values())

    @property
    def failed(self) -> int:
        """Those that were failures of the backend."""
        return sum(self.classes[name] for name in FAILURES)

    @property
    def sketch(self) -> Sketch:
        """The latencies, in seconds."""
        return Sketch({index: count for index, count in self.latency.items() if count > 0})


class Sums:
    """A sum of workers' figures."""

    def __init__(self, stats: Iterable[WorkerStats] = ()) -> None:
        self.accepted: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.chosen: dict[str, list[int]] = {}
        self.requests: dict[Series, Answers] = {}
        self.counters: Counter[str] = Counter()
        self.left_out: dict[str, list[list[int]]] = {}
        """By route, then by side: answers, and failures among them, that the test of failures leaves out."""
        for each in stats:
            self.add(each)

    def add(self, stats: WorkerStats, sign: int = 1) -> None:
        """Add (1) or take away (-1) one worker's figures."""
        for route, count in stats.accepted.items():
            self.accepted[route] += sign * count
        for route, count in stats.answered.items():
            self.answered[route] += sign * count
        for route, count in stats.failed.items():
            self.failed[route] += sign * count
        for route, (old, new) in stats.chosen.items():
            chosen = self.chosen.setdefault(route, [0, 0])
            chosen[OLD] += sign * old
            chosen[NEW] += sign * new
        for each in stats.requests:
            self.requests.setdefault(Series(each.route, each.side, each.backend, each.role), Answers()).add(each, sign)
        for name, count in stats.counters.items():
            self.counters[name] += sign * count
        for route, sides in stats.left_out.items():
            left_out = self.left_out.setdefault(route, [[0, 0], [0, 0]])
            for side in (OLD, NEW):
                for i in (0, 1):
                    left_out[side][i] += sign * sides[side][i]

    def side(self, route: str, side: int) -> Answers:
        """All roles of one side of a route together."""
        together = Answers()
        for series, answers in self.requests.items():
            if series.route == route and series.side == side:
                together.classes.update(answers.classes)
                together.latency.update(answers.latency)
                together.body_bytes += answers.body_bytes
        return together

    def as_stats(self) -> WorkerStats:
        """The sum in the form in which a worker would say it."""
        return WorkerStats(
            epoch=0,
            accepted=dict(self.accepted),
            answered=dict(self.answered),
            failed=dict(self.failed),
            chosen={route: (old, new) for route, (old, new) in self.chosen.items()},
            requests=[
                Requests(*series, dict(answers.classes), dict(answers.latency), answers.body_bytes)
                for series, answers in self.requests.items()
            ],
            breakers={},
            open_connections={},
            clients=0,
            in_flight=0,
            counters=dict(self.counters),
            left_out={route: ((a, b), (c, d)) for route, ((a, b), (c, d)) in self.left_out.items()},
        )

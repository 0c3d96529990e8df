"""How long a scrape takes where there are many routes, and what it costs the supervisor."""

from __future__ import annotations

import http.client
import json
import statistics
import time
from typing import Final, NamedTuple

from benchmarks.peers import Proxy
from benchmarks.processes import BenchmarkFailed, cpu_seconds, role

ROUTES: Final = 50
EVENTS: Final = 40
"""Of each route, before anybody scrapes: every series is there then, with a histogram that is spread a little."""
_TOLD: Final = 1.0
"""Seconds until workers and ledger have told of them; they do four times a second."""


class ExpositionResult(NamedTuple):
    """seconds: of a scrape, at the admin socket; cpu: the supervisor's for one; lines: of the text. Medians."""

    routes: int
    scrapes: int
    lines: int
    seconds: float
    worst: float
    cpu: float


def path_of(number: int) -> str:
    """Where the events of a route go."""
    return f"/api/v1/events/{number}"


def routes() -> str:
    """All of them, as one value of the configuration; each event goes to both sides."""
    made = [
        {"name": f"events-{number}", "match": {"path": path_of(number)}, "key": "json:/entity_id", "stage": "dualwrite"}
        for number in range(ROUTES)
    ]
    return json.dumps(made)


def run(proxy: Proxy, *, scrapes: int) -> ExpositionResult:
    """Give every route something to tell of, and read it so often."""
    if proxy.admin is None:
        raise BenchmarkFailed(f"{proxy.name} has no metrics")
    _send(proxy.port)
    time.sleep(_TOLD)
    [supervisor] = [pid for pid in proxy.started.pids() if role(pid) == "supervisor"]
    taken, costs, text = [], [], ""
    for _ in range(scrapes):
        before, begun = cpu_seconds({supervisor}), time.perf_counter()
        text = proxy.admin.metrics()
        taken.append(time.perf_counter() - begun)
        costs.append(cpu_seconds({supervisor}) - before)
    series = text.count("crossfade_request_duration_seconds_count")
    if series != 2 * ROUTES:
        raise BenchmarkFailed(f"{series} series of requests were told, not {2 * ROUTES}")
    return ExpositionResult(
        ROUTES, scrapes, text.count("\n"), statistics.median(taken), max(taken), statistics.fmean(costs)
    )


def _send(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        for number in range(ROUTES * EVENTS):
            body = f'{{"entity_id":"{number % 997}","context":{{"id":"exposition-{number}"}}}}'
            connection.request("POST", path_of(number % ROUTES), body.encode())
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise BenchmarkFailed(f"an event of route {number % ROUTES} was answered {answer.status}")
    finally:
        connection.close()

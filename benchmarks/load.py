"""The constant-rate load of the benchmark: `proxy.load`, with the ids of what was accepted.

wrk waits for an answer before it sends again, so a proxy that stalls is asked less and looks better than it is.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from benchmarks.processes import BenchmarkFailed
from config.units import Address
from proxy.load.generator import ANSWER_TIMEOUT, CONNECTIONS, Generator, Lane, UnreachableError
from proxy.load.requests import BODY_SIZE, Requests
from proxy.load.schedule import OpenLoop
from proxy.load.tally import Tally
from proxy.load.target import plain
from proxy.load.template import Template, parse

KEYS: Final = 10_000
_BODY: Final = (
    '{"entity_id":"{{key}}","state":"21.50","attributes":{"unit_of_measurement":"kWh","device_class":"energy"},'
    '"last_changed":"2025-11-20T08:00:00.000000+00:00","context":{"parent_id":null,"id":"{{id}}"},"pad":"'
)
_FILLED: Final = len(_BODY) - len("{{key}}{{id}}") + len("sensor.meter_00000") + 34
_HEADERS: Final = ("Content-Type: application/json", "X-Bench-Id: {{id}}")


@dataclass(slots=True)
class LoadResult:
    """What became of the events. accepted: ids with a 2xx; failed: id to status, 0 without an answer."""

    rate: float
    tally: Tally
    accepted: list[str] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)

    @property
    def answers(self) -> int:
        """How many events were answered."""
        return self.tally.answered

    def quantile(self, q: float) -> float:
        """Latency in seconds, to 1 %, that the share q (0-1) of the answers did not exceed."""
        return self.tally.latency.quantile(q)


def body() -> Template:
    """The same kind of event that wrk/events.lua sends, with as little to make anew for each as it has."""
    return parse(_BODY + "x" * (BODY_SIZE - _FILLED - 2) + '"}', "the benchmark's body")


class _Record(Tally):
    """Also keeps ids. Losing a connection is a finding and not a nuisance."""

    def __init__(self, result: LoadResult) -> None:
        super().__init__()
        self._result = result

    def ended(self, lane: Lane, now: float) -> float:
        assert lane.event is not None
        if 200 <= lane.status < 300:
            self._result.accepted.append(lane.event.id)
        else:
            self._result.failed[lane.event.id] = lane.status
        return super().ended(lane, now)

    def dropped(self, due: float) -> None:
        self._result.failed[f"unsent {len(self._result.failed)}"] = 0
        super().dropped(due)

    def closed(self) -> None:
        self._result.failed[f"connection {len(self._result.failed)}"] = 0
        super().closed()


def _nothing() -> None:
    pass


async def run(
    port: int,
    *,
    rate: float,
    seconds: float,
    connections: int = CONNECTIONS,
    is_sticky: bool = False,
    watch: Callable[[], None] = _nothing,
    watch_every: float = 0.25,
    at_end: Callable[[], None] = _nothing,
) -> LoadResult:
    """Send `rate` events per second for `seconds`; `watch` is called every `watch_every` seconds meanwhile.

    is_sticky: the connections send in turn, whatever became of their last event; at_end: called when all have their
    answers, while the connections are open. Raises BenchmarkFailed when the generator itself could not keep the rate.
    """
    result = LoadResult(rate, Tally())
    result.tally = _Record(result)
    target = plain(Address("127.0.0.1", port))
    make = Requests(target, body(), keys=KEYS, headers=_HEADERS).make
    generator = Generator(target, make, result.tally, connections=connections, is_sticky=is_sticky)
    watched = time.perf_counter()

    def tick() -> None:
        nonlocal watched
        if time.perf_counter() - watched >= watch_every:
            watched = time.perf_counter()
            watch()

    schedule = OpenLoop(rate, int(rate * seconds), each_tick=tick)
    gc.collect()
    gc.disable()
    try:
        await generator.open()
        await schedule.run(generator)
        _check_rate(schedule, rate, seconds)
        await generator.finish(ANSWER_TIMEOUT)
        at_end()
    except TimeoutError:
        result.failed[f"{generator.outstanding} unanswered"] = 0
    except UnreachableError as error:
        raise BenchmarkFailed(str(error)) from None
    finally:
        gc.enable()
        generator.close()
    return result


def _check_rate(schedule: OpenLoop, rate: float, seconds: float) -> None:
    if time.perf_counter() - schedule.started > seconds * 1.1 + 0.5:
        raise BenchmarkFailed(
            f"the generator could not keep {rate:.0f} events/s on its core (latest {schedule.latest:.3f} s)"
        )

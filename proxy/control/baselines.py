"""Baselines: what old's answers were like over some minutes, kept to hold later figures against.

What the services took meanwhile is kept with it, by the queries of soaks, as far as a Prometheus says it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from config.gates import Gate
from proxy.control.audit import Audit, Entry, iso
from proxy.control.changes import OWN_ACTOR
from proxy.control.files import write_whole
from proxy.control.gate_calls import GateCalls
from proxy.control.resources import LOOK, READINGS, ResourceValue, Usage
from proxy.control.sums import Answers
from proxy.control.tally import Tally
from proxy.core.errors import BadChange, RefuseToStart
from proxy.core.event import OLD

log = logging.getLogger(__name__)

MOST_SECONDS: Final = 86_400.0
ENOUGH: Final = 20
"""Answers without which a p95 is a guess, and nothing is kept."""


class Baseline(msgspec.Struct, frozen=True):
    """Old's answers over `seconds`. recorded_at: ISO 8601, when it ended; rate: per second; p50, p95, p99: seconds.

    resources: what the queries of soaks gave meanwhile.
    """

    recorded_at: str
    seconds: float
    answers: int
    rate: float
    error_rate: float
    p50: float
    p95: float
    p99: float
    resources: tuple[ResourceValue, ...] = ()


class Baselines:
    """The baselines of all routes, in one file. clock: monotonic seconds; wall: seconds since 1970; calls: asks the
    Prometheus of each of the gates that has resources.

    Raises RefuseToStart for a file that cannot be read.
    """

    def __init__(
        self,
        path: Path,
        tally: Tally,
        audit: Audit,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        gates: Iterable[Gate] = (),
        calls: GateCalls | None = None,
    ) -> None:
        self._path = path
        self._tally = tally
        self._audit = audit
        self._clock = clock
        self._wall = wall
        self._calls = calls or GateCalls(path.parent)
        soaks = {gate.name: gate.soak for gate in gates if gate.soak is not None}
        self._resources = {name: soak.resources for name, soak in soaks.items() if soak.resources is not None}
        self._found = _read(path)
        self._recording: dict[str, asyncio.Task[None]] = {}
        self._until: dict[str, float] = {}
        self.trouble: dict[str, str] = {}
        """By route, why the last recording kept nothing."""

    def of(self, route: str) -> Baseline | None:
        """The last one of a route."""
        return self._found.get(route)

    def resources(self, route: str, gate: str, queries: Mapping[str, str]) -> dict[str, float]:
        """What queries of a gate gave when the last one of a route was recorded, by name; those that it knows."""
        found = self._found.get(route)
        return {
            each.name: each.value
            for each in (found.resources if found is not None else ())
            if each.gate == gate and queries.get(each.name) == each.query and each.value is not None
        }

    def left(self, route: str) -> float | None:
        """Seconds until what is being recorded is known; None when nothing is."""
        return max(0.0, self._until[route] - self._clock()) if route in self._until else None

    def check(self, route: str, seconds: float) -> None:
        """Raises BadChange for what cannot be recorded now."""
        if not 0 < seconds <= MOST_SECONDS:
            raise BadChange(f"a baseline takes more than nothing and at most a day, not {seconds:g} s")
        if route in self._until:
            raise BadChange(f"a baseline of {route} is being recorded already")

    def begin(self, route: str, seconds: float, epoch: int) -> None:
        """Record from now on; it is kept at the end. Raises BadChange."""
        self.check(route, seconds)
        self.trouble.pop(route, None)
        self._until[route] = self._clock() + seconds
        self._recording[route] = asyncio.create_task(self._record(route, seconds, epoch))

    async def close(self) -> None:
        """What is not complete is not kept."""
        for task in self._recording.values():
            task.cancel()
        await asyncio.gather(*self._recording.values(), return_exceptions=True)
        await self._calls.close()

    async def _record(self, route: str, seconds: float, epoch: int) -> None:
        before = self._tally.total().side(route, OLD)
        try:
            resources = await self._pass(seconds)
            found = baseline(before, self._tally.total().side(route, OLD), seconds, iso(self._wall()))
            if found.answers < ENOUGH:
                self.trouble[route] = f"{found.answers} answers of old in {seconds:g} s; it takes {ENOUGH}"
                return
            found = msgspec.structs.replace(found, resources=tuple(resources))
            said = msgspec.to_builtins(found)
            await self._audit.write(Entry("", epoch, epoch, OWN_ACTOR, "baseline", route, evidence=said))
            write_whole(self._path, msgspec.json.encode(self._found | {route: found}))
            self._found[route] = found
        except OSError as error:
            self.trouble[route] = f"it could not be kept: {error.strerror}"
            self._tally.own["baselines_not_kept"] += 1
            log.warning("the baseline could not be kept: %s", error, extra={"route": route})
        finally:
            del self._until[route], self._recording[route]

    async def _pass(self, seconds: float) -> list[ResourceValue]:
        """Let the time go by; what the services took meanwhile, by each gate that asks for it."""
        usages = {name: Usage(each, self._calls.value) for name, each in self._resources.items()}
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while (left := begun + seconds - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await asyncio.gather(*(usage.read(1 - left / seconds) for usage in usages.values()))
            left = begun + seconds - loop.time()
            await asyncio.sleep(min(LOOK, seconds / READINGS, max(left, 0.0)) if usages else left)
        return [value for name, usage in usages.items() for value in usage.medians(name)]


def baseline(before: Answers, after: Answers, seconds: float, recorded_at: str) -> Baseline:
    """What was answered in between."""
    between = Answers()
    between.classes = after.classes - before.classes
    between.latency = after.latency - before.latency
    sketch, total = between.sketch, between.total

    def quantile(share: float) -> float:
        return round(sketch.quantile(share), 6) if total else 0.0

    return Baseline(
        recorded_at,
        seconds,
        total,
        total / seconds,
        between.failed / total if total else 0.0,
        p50=quantile(0.5),
        p95=quantile(0.95),
        p99=quantile(0.99),
    )


def _read(path: Path) -> dict[str, Baseline]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Baseline])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise RefuseToStart(f"{path} cannot be read: {error}; move it away to forget the baselines") from None

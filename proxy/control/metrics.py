"""The exposition for Prometheus: one registry, one collector over the folded account.

A histogram is made from the workers' sketches, whose buckets are 2 % wide, so a count may be in the
neighbouring bucket when its duration is within 2 % of a bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from proxy.control.instance import VERSION, Instance
from proxy.control.status import MESSAGES, answers_of, checks, counters, endpoints, live_checks, worst_breaker
from proxy.control.sums import Series, Sums
from proxy.core.checked import MISMATCHES
from proxy.core.verdict import NAMES, NOTHING_YET

BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds in seconds."""
GROWTH: Final = 1.02
"""Of a sketch's buckets; see proxy.core.sketch."""
_BREAKER: Final = {"closed": 0, "half-open": 1, "open": 2}
_ENDPOINT: Final = {"up": 0, "out": 1, "unhealthy": 2}
_SHED: Final = {
    "memory": "refused_memory",
    "body": "refused_bodies",
    "connections": "refused_connections",
    "descriptors": "refused_descriptors",
    "pending": "refused_pending",
    "disk": "refused_no_room",
    "ledger": "refused_ledger_away",
}
"""Causes for which requests or clients are turned away, and the counter of each."""
_P: Final = "crossfade"


class InstanceCollector(Collector):
    """Yields every metric of an instance at the moment of a scrape."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names depend on nothing that is known at registration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        total = self._instance.tally.total()
        yield from _requests(total)
        yield from self._routing(total)
        yield from self._ledger()
        yield from self._backends()
        yield from self._consistency()
        yield from self._processes(total)

    def _routing(self, total: Sums) -> Iterator[Metric]:
        instance = self._instance
        target = _gauge("weight_target_ratio", "Weight of the live routing, 0-1", "route")
        observed = _gauge("weight_observed_ratio", "Share of events whose authority was new, last 10 s", "route")
        latched = _gauge("latched", "1 while a revert keeps the weight at 0", "route")
        verdict = _gauge("verdict", "1 for what the guard thinks of new, 0 for the other words", "route", "verdict")
        accepted = _counter("events_accepted", "Events whose client was answered or promised", "route")
        states = instance.state.routes if instance.state is not None else {}
        for route, state in states.items():
            target.add_metric([route], round(state.weight / 100, 4))
            latched.add_metric([route], float(state.latched))
            found = instance.tally.verdicts.get(route, NOTHING_YET)
            for name in NAMES:
                verdict.add_metric([route, name], float(name == found.name))
            seen = instance.tally.observed(route, instance.clock())
            if seen is not None:
                observed.add_metric([route], round(seen.weight / 100, 4))
        for route, count in sorted(total.accepted.items()):
            accepted.add_metric([route], count)
        reverts = _counter("reverts", "Weights that the proxy itself moved to 0", "reason")
        for name, count in sorted(instance.tally.own.items()):
            if name.startswith("reverts:"):
                reverts.add_metric([name.removeprefix("reverts:")], count)
        yield from (target, observed, latched, verdict, accepted, reverts)
        yield _single(GaugeMetricFamily(f"{_P}_routing_epoch", "Epoch of the live routing"), instance.epoch)

    def _ledger(self) -> Iterator[Metric]:
        tally = self._instance.tally
        pending = _gauge("ledger_pending_events", "Events owed and not settled", "route", "backend")
        oldest = _gauge("ledger_oldest_age_seconds", "Age of the oldest pending event", "route", "backend")
        dead = _gauge("ledger_dead_events", "Dead letters", "route", "backend")
        deferred = _gauge("ledger_deferred_events", "Events kept for a rollback", "route", "backend")
        marked = _gauge("ledger_marked_buckets", "Buckets with a backlog", "route", "backend")
        for side in tally.ledger.sides if tally.ledger is not None else ():
            labels = [side.route, side.backend]
            pending.add_metric(labels, side.balance.get("pending", 0))
            dead.add_metric(labels, side.balance.get("dead", 0))
            deferred.add_metric(labels, side.balance.get("deferred", 0))
            oldest.add_metric(labels, side.oldest_pending_age)
            marked.add_metric(labels, side.marked)
        ids = _gauge("dedupe_ids", "Event ids that a dedupe window remembers", "route")
        for route, count in sorted(tally.ledger.remembered.items() if tally.ledger is not None else ()):
            ids.add_metric([route], count)
        owed = _counter("events_owed", "Events that a backend was ever owed", "backend")
        delivered = _counter("events_delivered", "Events that a backend has got", "backend")
        for name, family in (("owed", owed), ("delivered", delivered)):
            for backend, count in sorted(tally.climbed(name).items()):
                family.add_metric([backend], count)
        yield from (pending, oldest, dead, deferred, marked, ids, owed, delivered)
        ledger = tally.ledger
        if ledger is not None:
            yield _single(GaugeMetricFamily(f"{_P}_ledger_low_disk", "1 when the disk is nearly full"), ledger.low_disk)
            yield _single(GaugeMetricFamily(f"{_P}_ledger_gaps", "Coverage gaps"), ledger.gaps)
            yield _single(GaugeMetricFamily(f"{_P}_ledger_disk_bytes", "Size of the record"), ledger.bytes_on_disk)

    def _consistency(self) -> Iterator[Metric]:
        mismatches = _counter("mismatches", "Identities held against a side, by class", "routes", "class")
        checked = _counter("checked_events", "Identities that were judged and say something of a side", "routes")
        classes = _counter("judged_events", "Identities that were judged, by class", "routes", "class")
        behind = _gauge("check_behind_seconds", "Age of the first window that is not judged", "routes")
        late = _gauge("check_late_windows", "Windows that should be judged and could not be", "routes")
        pending = _gauge("check_pending_windows", "Windows in which something is still owed", "routes")
        passed = _gauge("probe_passed", "1 when the last probe was as it should be", "routes")
        seen = _gauge("probe_visible_seconds", "Until a store showed the last probe", "routes", "side")
        for check in checks(self._instance):
            if not check.record:
                continue  # it has not said anything to this supervisor yet: no counter goes back
            routes = ",".join(check.routes)
            checked.add_metric([routes], check.checked)
            for name in sorted(MISMATCHES):
                mismatches.add_metric([routes, name], check.classes.get(name, 0))
            for name, count in sorted(check.classes.items()):
                classes.add_metric([routes, name], count)
            if check.probe is not None and check.probe.passed is not None:
                passed.add_metric([routes], check.probe.passed)
                for side, seconds in check.probe.visible.items():
                    seen.add_metric([routes, side], seconds)
            behind.add_metric([routes], check.behind_s)
            late.add_metric([routes], check.late)
            pending.add_metric([routes], check.pending)
        yield from self._answers()
        if self._instance.settings.needs_checker:
            up = GaugeMetricFamily(f"{_P}_checker_up", "1 while the live checker's process is there")
            yield _single(up, self._instance.peers.checker is not None)
        if live_checks(self._instance.settings):
            yield from (mismatches, checked, classes, behind, late, pending, passed, seen)

    def _answers(self) -> Iterator[Metric]:
        """Gauges: the checker counts anew when it is restarted."""
        compared = _gauge("answers_compared", "Events whose answers were compared", "route")
        different = _gauge("answers_different_ratio", "Of these, those that differ beyond old's noise", "route")
        for each in answers_of(self._instance):
            if each.compared:
                compared.add_metric([each.route], each.compared)
                different.add_metric([each.route], each.beyond_noise / each.compared)
        if compared.samples:
            yield from (compared, different)

    def _backends(self) -> Iterator[Metric]:
        instance = self._instance
        breaker = _gauge("breaker_state", "Worst breaker, the ledger's too: 0 closed, 1 half-open, 2 open", "backend")
        healthy = _gauge("backend_healthy", "What the health probe says", "backend")
        for backend in instance.settings.backends:
            breaker.add_metric([backend], _BREAKER[worst_breaker(instance, backend)])
        for backend, is_healthy in instance.probes.healthy.items():
            healthy.add_metric([backend], float(is_healthy))
        state = _gauge("endpoint_state", "Worst over the workers: 0 up, 1 left out, 2 unhealthy", "backend", "endpoint")
        outstanding = _gauge("endpoint_outstanding_events", "Events on their way to it", "backend", "endpoint")
        for backend in instance.settings.backends:
            for each in endpoints(instance, backend):
                state.add_metric([backend, each.address], _ENDPOINT[each.state])
                outstanding.add_metric([backend, each.address], each.outstanding)
        yield from (breaker, healthy, state, outstanding)

    def _processes(self, total: Sums) -> Iterator[Metric]:
        instance = self._instance
        yield _single(GaugeMetricFamily(f"{_P}_ready", "1 when /readyz says yes"), not instance.not_ready())
        yield _single(GaugeMetricFamily(f"{_P}_workers", "Workers connected"), len(instance.peers.workers))
        lost = CounterMetricFamily(f"{_P}_copies_lost", "Best effort copies that were lost")
        yield _single(lost, total.counters["copies_lost"])
        yield from self._overload(total)
        yield from self._sessions(total)
        named = _counter("counts", "Everything else that is counted, by name", "name")
        for name, count in counters(instance, total).items():
            named.add_metric([name], count)
        build = _gauge("build_info", "Always 1", "version")
        build.add_metric([VERSION], 1)
        yield from (named, build)

    def _sessions(self, total: Sums) -> Iterator[Metric]:
        sessions = _gauge("websocket_connections", "Open WebSocket sessions", "worker")
        for index, stats in self._instance.tally.present():
            sessions.add_metric([str(index)], stats.sessions)
        messages = _counter("websocket_messages", "Messages of clients, and of backends to them", "direction")
        for direction, counter in MESSAGES.items():
            messages.add_metric([direction], total.counters[counter])
        yield from (sessions, messages)

    def _overload(self, total: Sums) -> Iterator[Metric]:
        held = _gauge("memory_held_bytes", "What clients make a worker hold", "worker")
        budget = _gauge("memory_budget_bytes", "A worker's share of limits.memory", "worker")
        shedding = _gauge("shedding", "1 while a worker turns requests or clients away", "worker")
        for index, stats in self._instance.tally.present():
            held.add_metric([str(index)], stats.held_bytes)
            budget.add_metric([str(index)], stats.budget_bytes)
            shedding.add_metric([str(index)], float(bool(stats.sheds)))
        shed = _counter("requests_shed", "Requests or clients that got 503 before anything was sent", "cause")
        for cause, counter in _SHED.items():
            shed.add_metric([cause], total.counters[counter])
        yield from (held, budget, shedding, shed)
        failures = CounterMetricFamily(f"{_P}_accept_failures", "Accepts that failed, for want of descriptors")
        yield _single(failures, total.counters["accept_failures"])


def exposition(registry: CollectorRegistry) -> bytes:
    """The text format."""
    return generate_latest(registry)


def registry_of(instance: Instance) -> CollectorRegistry:
    """The one registry of an instance."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(InstanceCollector(instance))
    return registry


def _requests(total: Sums) -> Iterator[Metric]:
    requests = _counter("requests", "Answers and failures of a backend", "route", "backend", "role", "code_class")
    duration = HistogramMetricFamily(
        f"{_P}_request_duration_seconds",
        "From sending an event to the end of the backend's answer",
        labels=["route", "backend", "role"],
    )
    for series, answers in sorted(total.requests.items()):
        labels = _labels(series)
        for code_class, count in sorted(answers.classes.items()):
            requests.add_metric([*labels, code_class], count)
        buckets, summed = histogram(answers.sketch.buckets)
        duration.add_metric(labels, buckets=buckets, sum_value=summed)
    yield from (requests, duration)


def histogram(sketch: dict[int, int]) -> tuple[list[tuple[str, float]], float]:
    """Cumulative counts up to each bound, the last being +Inf, and the sum of all durations (to 1 %)."""
    ordered = sorted(sketch.items())
    summed = sum(count * GROWTH ** (index - 0.5) for index, count in ordered)
    buckets: list[tuple[str, float]] = []
    position = seen = 0
    for bound in BOUNDS:
        while position < len(ordered) and GROWTH ** (ordered[position][0] - 0.5) <= bound:
            seen += ordered[position][1]
            position += 1
        buckets.append((str(bound), seen))
    buckets.append(("+Inf", sum(sketch.values())))
    return buckets, summed


def _labels(series: Series) -> list[str]:
    return [series.route, series.backend, series.role]


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_P}_{name}", text, labels=labels)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{_P}_{name}", text, labels=labels)


def _single(family: GaugeMetricFamily | CounterMetricFamily, value: float) -> Metric:
    family.add_metric([], float(value))
    return family

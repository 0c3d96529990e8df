"""The exposition for Prometheus: one registry, one collector over the folded account, and the text of requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from proxy.control import crew_state, source_status
from proxy.control.instance import Instance
from proxy.control.link import CHECKER_INTERVAL, STATS_INTERVAL
from proxy.control.request_metrics import request_text
from proxy.control.status import (
    MESSAGES,
    answers_of,
    checks,
    counters,
    endpoints,
    is_balanced,
    live_checks,
    worst_breaker,
)
from proxy.control.sums import Sums
from proxy.control.switch_state import KINDS, RESULTS
from proxy.control.version import VERSION
from proxy.core.checked import MISMATCHES
from proxy.core.event import NEW, OLD, SIDES
from proxy.core.rollout import PHASES
from proxy.core.verdict import NAMES, NOTHING_YET
from proxy.net.kernel import resident_bytes

_BREAKER: Final = {"closed": 0, "half-open": 1, "open": 2}
_ENDPOINT: Final = {"up": 0, "out": 1, "unhealthy": 2}
_KINDS: Final = ("http", "websocket", "consumer")
"""Of clients' connections."""
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
_NONE: Final = ((0, 0), (0, 0))
_P: Final = "crossfade"


class InstanceCollector(Collector):
    """Yields every metric of an instance at the moment of a scrape, but those of requests."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.total = Sums()
        """The account of that moment."""

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names depend on nothing that is known at registration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        total = self.total
        yield from self._sides(total)
        yield from self._routing(total)
        yield from self._outcomes()
        yield from self._ledger()
        yield from self._backends()
        yield from self._consistency()
        yield from self._sources(total)
        yield from self._consumers()
        yield from self._rollouts()
        yield from self._processes(total)

    def _sides(self, total: Sums) -> Iterator[Metric]:
        side_info = _gauge("side_info", "Always 1: which backend is old and which new", "route", "backend", "side")
        left_out = _counter(
            "answers_left_out",
            "Answers and failures beyond what one connection may contribute to the test of failures in a second",
            "route",
            "backend",
        )
        for route in self._instance.settings.routes:
            for side, backend in ((OLD, route.old), (NEW, route.new)):
                side_info.add_metric([route.name, backend, SIDES[side]], 1)
                left_out.add_metric([route.name, backend], total.left_out.get(route.name, _NONE)[side][0])
        yield from (side_info, left_out)

    def _routing(self, total: Sums) -> Iterator[Metric]:
        instance = self._instance
        target = _gauge("weight_target_ratio", "Weight of the live routing, 0-1", "route")
        observed = _gauge("weight_observed_ratio", "Share of events whose authority was new, last 10 s", "route")
        latched = _gauge("latched", "1 while a revert keeps the weight at 0", "route")
        frozen = _gauge("frozen", "1 while the routing only goes back", "route")
        drilled = _gauge("drilled", "1 while a drill fails copies to new", "route")
        verdict = _gauge("verdict", "1 for what the guard thinks of new, 0 for the other words", "route", "verdict")
        accepted = _counter("events_accepted", "Events whose client was answered or promised", "route")
        states = instance.state.routes if instance.state is not None else {}
        for route, state in states.items():
            target.add_metric([route], round(state.weight / 100, 4))
            latched.add_metric([route], float(state.latched))
            frozen.add_metric([route], float(instance.freezes.of(route) is not None))
            drilled.add_metric([route], float(instance.drills.running(route) is not None))
            found = instance.tally.verdicts.get(route, NOTHING_YET)
            for name in NAMES:
                verdict.add_metric([route, name], float(name == found.name))
            seen = instance.tally.observed(route, instance.clock())
            if seen is not None:
                observed.add_metric([route], round(seen.weight / 100, 4))
        for route, count in sorted(total.accepted.items()):
            accepted.add_metric([route], count)
        answered = _counter("client_answers", "Requests and messages whose client was answered", "route")
        failed = _counter("client_answers_failed", "Those that were answered 5xx, whoever was the cause", "route")
        for route in sorted(states.keys() | total.answered.keys()):
            answered.add_metric([route], total.answered[route])
            failed.add_metric([route], total.failed[route])
        reverts = _counter(
            "reverts", "Weights moved to 0 and latched: by the proxy itself, a gate, an alert or a webhook", "reason"
        )
        for name, count in sorted(instance.tally.own.items()):
            if name.startswith("reverts:"):
                reverts.add_metric([name.removeprefix("reverts:")], count)
        yield from (target, observed, latched, frozen, drilled, verdict, accepted, answered, failed, reverts)
        availability = instance.availability
        observed = GaugeMetricFamily(f"{_P}_observed_seconds", "Time that was looked at, also between instances")
        yield _single(observed, availability.observed)
        down = GaugeMetricFamily(f"{_P}_down_seconds", "Of it, time in which clients could not be served")
        yield _single(down, availability.down)
        yield _single(GaugeMetricFamily(f"{_P}_routing_epoch", "Epoch of the live routing"), instance.epoch)

    def _outcomes(self) -> Iterator[Metric]:
        families = {
            "gates": _counter("gate_answers", "Answers of gates, and that there was none", "gate", "outcome"),
            "alerts": _counter("hook_alerts", "Alerts and webhooks by what came of them", "hook", "outcome"),
            "notifications": _counter("notifications", "Told entries of the audit trail", "receiver", "outcome"),
            "spans": _counter("spans", "Spans of traces by what came of them", "outcome"),
        }
        for name, count in sorted(self._instance.tally.own.items()):
            kind, *labels = name.split(":")
            if kind in families:
                families[kind].add_metric(labels, count)
        yield from families.values()
        failing = _gauge("notifications_failing", "1 while the last try to tell a receiver failed", "receiver")
        waiting = _gauge("notifications_waiting", "Entries that a receiver was not told yet", "receiver")
        for each in self._instance.receivers():
            failing.add_metric([each.name], float(each.trouble is not None))
            waiting.add_metric([each.name], each.waiting)
        yield from (failing, waiting)

    def _rollouts(self) -> Iterator[Metric]:
        """Of routes that had one."""
        phase = _gauge("rollout_phase", "1 for the phase of the last staged plan, 0 for the others", "route", "phase")
        step = _gauge("rollout_step", "Its step, from 1", "route")
        steps = _gauge("rollout_steps", "How many it has", "route")
        for route, rollout in self._instance.rollouts.items():
            if route not in self._instance.routes:
                continue
            for name in PHASES:
                phase.add_metric([route, name], float(name == rollout.progress.phase))
            step.add_metric([route], rollout.progress.step + 1)
            steps.add_metric([route], len(rollout.plan.steps))
        yield from (phase, step, steps)

    def _ledger(self) -> Iterator[Metric]:
        tally = self._instance.tally
        pending = _gauge("ledger_pending_events", "Events owed and not settled", "route", "backend")
        oldest = _gauge("ledger_oldest_age_seconds", "Age of the oldest pending event", "route", "backend")
        dead = _gauge("ledger_dead_events", "Dead letters", "route", "backend")
        deferred = _gauge("ledger_deferred_events", "Events kept for a rollback", "route", "backend")
        marked = _gauge("ledger_marked_buckets", "Buckets with a backlog", "route", "backend")
        for side in tally.ledger.sides if tally.ledger is not None else ():
            # Of a route that is gone nobody knows the backend; its sides are two series all the same.
            labels = [side.route, side.backend or SIDES[side.side]]
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
            if ledger.last_gap:
                ended = GaugeMetricFamily(f"{_P}_ledger_last_gap_timestamp_seconds", "Where the last coverage gap ends")
                yield _single(ended, ledger.last_gap)
            balanced = GaugeMetricFamily(f"{_P}_ledger_balanced", "1 while what is owed is the sum of all states")
            yield _single(balanced, is_balanced(ledger))
            yield _single(GaugeMetricFamily(f"{_P}_ledger_disk_bytes", "Size of the record"), ledger.bytes_on_disk)
            free = GaugeMetricFamily(f"{_P}_ledger_disk_free_bytes", "Free on the disk that the record lies on")
            yield _single(free, ledger.disk_free)
            commit = GaugeMetricFamily(f"{_P}_ledger_commit_p99_seconds", "p99 of the latest commits to the record")
            yield _single(commit, ledger.commit_p99)

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

    def _consumers(self) -> Iterator[Metric]:
        """Where there are any."""
        ledger = self._instance.tally.ledger
        if ledger is None or not ledger.consumers:
            return
        connected = _gauge("consumer_connected", "1 while a backend that connects itself is fed", "backend")
        for each in ledger.consumers:
            connected.add_metric([each.backend], float(each.is_fed))
        yield connected

    def _sources(self, total: Sums) -> Iterator[Metric]:
        """Where there are any."""
        if not self._instance.settings.sources:
            return
        up = _gauge("source_up", "1 while a source is connected", "source")
        unaccepted = _gauge("source_unaccepted_events", "Events of a source that are not accepted yet", "source")
        for each in source_status.sources(self._instance, self._instance.tally.window(self._instance.clock()), {}):
            up.add_metric([each.name], float(each.state == source_status.CONNECTED))
            unaccepted.add_metric([each.name], each.unaccepted)
        counts = _counter("source_counts", "What is counted of a source, by name", "source", "name")
        for name, count in sorted(total.counters.items()):
            if name.startswith(source_status.PREFIX):
                counts.add_metric(name.split(":")[1:], count)
        yield from (up, unaccepted, counts)

    def _processes(self, total: Sums) -> Iterator[Metric]:
        instance = self._instance
        yield _single(GaugeMetricFamily(f"{_P}_ready", "1 when /readyz says yes"), not instance.not_ready())
        refused = GaugeMetricFamily(f"{_P}_configuration_refused", "1 while the file is not served as it is now")
        yield _single(refused, instance.configuration.trouble is not None)
        yield _single(GaugeMetricFamily(f"{_P}_workers", "Workers connected"), len(instance.peers.workers))
        lost = CounterMetricFamily(f"{_P}_copies_lost", "Best effort copies that were lost")
        yield _single(lost, total.counters["copies_lost"])
        yield from self._loops()
        yield from self._pools()
        yield from self._overload(total)
        yield from self._sessions(total)
        yield from self._launched()
        yield from self._moves(total)
        named = _counter("counts", "Everything else that is counted, by name", "name")
        for name, count in counters(instance, total).items():
            named.add_metric([name], count)
        build = _gauge("build_info", "Always 1", "version")
        build.add_metric([VERSION], 1)
        yield from (named, build)

    def _loops(self) -> Iterator[Metric]:
        """By process: worker-0 and so on, ledger, checker, and supervisor."""
        instance, tally = self._instance, self._instance.tally
        applied = _gauge("applied_epoch", "Epoch of the routing that a process goes by; 0 while it is away", "process")
        lag = _gauge("loop_lag_seconds", "The most that an event loop was late by in the last 15 s", "process")
        memory = _gauge("resident_memory_bytes", "Resident memory", "process")
        for index in range(instance.settings.workers):
            worker = instance.peers.workers.get(index)
            applied.add_metric([f"worker-{index}"], worker.applied if worker is not None else 0)
        applied.add_metric(["ledger"], instance.peers.ledger.applied if instance.peers.ledger is not None else 0)
        peers = instance.peers
        workers = [(f"worker-{index}", peers.workers.get(index), stats) for index, stats in tally.present()]
        for name, peer, stats in (
            *workers,
            ("ledger", peers.ledger, tally.ledger),
            ("checker", peers.checker, tally.checker),
        ):
            if stats is None:
                continue
            # What hangs says nothing of it: its next report is late.
            interval = CHECKER_INTERVAL if name == "checker" else STATS_INTERVAL
            overdue = instance.clock() - peer.heard_at - interval if peer is not None else 0.0
            lag.add_metric([name], max(stats.loop_lag, overdue))
            memory.add_metric([name], stats.rss_bytes)
        lag.add_metric(["supervisor"], instance.loop_lag)
        memory.add_metric(["supervisor"], resident_bytes())
        yield from (applied, lag, memory)

    def _launched(self) -> Iterator[Metric]:
        """Deaths and replacements, as the launcher tells them."""
        died = _counter("process_deaths", "How often a process died since the instance started", "process")
        looping = _gauge("crash_looping", "1 while a process dies soon after each start", "process")
        for each in crew_state.read(self._instance.crew_path):
            name = each.name.replace(" ", "-")
            died.add_metric([name], each.died)
            looping.add_metric([name], float(each.loops))
        switched = _counter("switches", "Upgrades and reloads that have ended", "kind", "result")
        own = self._instance.tally.own
        for kind, result in product(KINDS, RESULTS):  # also those that never were: increase() sees the first one then
            switched.add_metric([kind, result], own[f"switches:{kind}:{result}"])
        yield from (died, looping, switched)

    def _pools(self) -> Iterator[Metric]:
        upstream = _gauge("upstream_connections", "Open connections to a backend, of all workers", "backend")
        clients = _gauge("client_connections", "Open connections of clients", "worker")
        in_flight = _gauge("events_in_flight", "Events that are not answered yet", "worker")
        is_open = dict.fromkeys(self._instance.settings.backends, 0)
        for index, stats in self._instance.tally.present():
            clients.add_metric([str(index)], stats.clients)
            in_flight.add_metric([str(index)], stats.in_flight)
            for backend, count in stats.open_connections.items():
                is_open[backend] = is_open.get(backend, 0) + count
        for backend, count in is_open.items():
            upstream.add_metric([backend], count)
        yield from (upstream, clients, in_flight)

    def _sessions(self, total: Sums) -> Iterator[Metric]:
        sessions = _gauge("websocket_connections", "Open WebSocket sessions", "worker")
        for index, stats in self._instance.tally.present():
            sessions.add_metric([str(index)], stats.sessions)
        messages = _counter("websocket_messages", "Messages of clients, and of backends to them", "direction")
        for direction, counter in MESSAGES.items():
            messages.add_metric([direction], total.counters[counter])
        yield from (sessions, messages)

    def _moves(self, total: Sums) -> Iterator[Metric]:
        """What became of connections whose workers were replaced."""
        moved = _counter("connections_moved", "Connections that a worker has handed to another one", "kind")
        refused = _counter("connection_moves_refused", "Connections that no other worker took", "kind")
        drained = _counter("connections_drained", "Connections that ended because their worker did", "kind")
        for kind in _KINDS:
            moved.add_metric([kind], total.counters[f"moved_out_{kind}"])
            refused.add_metric([kind], total.counters[f"moves_refused_{kind}"])
            drained.add_metric([kind], total.counters[f"drained_{kind}"])
        yield from (moved, refused, drained)

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


class Exposition:
    """What an instance says of itself. Made once: prometheus-client's registry keeps no figures here."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._collector = InstanceCollector(instance)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._collector)

    def text(self) -> bytes:
        """Everything at this moment, in the text format."""
        self._collector.total = total = self._instance.tally.total()
        return generate_latest(self._registry) + request_text(total).encode()


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_P}_{name}", text, labels=labels)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{_P}_{name}", text, labels=labels)


def _single(family: GaugeMetricFamily | CounterMetricFamily, value: float) -> Metric:
    family.add_metric([], float(value))
    return family

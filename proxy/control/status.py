"""The status of an instance: what was counted, put together for people and machines to read."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from config.consistency import Check
from config.model import Route, Settings
from proxy.control import crew_state, source_status
from proxy.control.audit import iso
from proxy.control.drills import Drill, said_of
from proxy.control.instance import Instance
from proxy.control.link import CertificateStats, LedgerStats, SideStats
from proxy.control.reloads import trouble_view
from proxy.control.state import RouteState, initial
from proxy.control.sums import Answers, Sums
from proxy.control.switch_handlers import switch_view
from proxy.control.tally import Window
from proxy.control.version import VERSION
from proxy.control.views import (
    AnswersView,
    AvailabilityView,
    CertificateView,
    CheckView,
    ConsumerView,
    DeathsView,
    DependencyView,
    DrillView,
    EndpointView,
    FilePosition,
    FreezeView,
    LedgerCounts,
    LedgerView,
    ProbeView,
    RolloutAtAGlance,
    RouteView,
    ServedView,
    SessionsView,
    SideView,
    Status,
    TrialView,
    VerdictView,
    WorkerView,
)
from proxy.core.answers import AnswerStats
from proxy.core.checked import MISMATCHES, CheckStats, ProbeStats
from proxy.core.event import NEW, OLD, SIDES
from proxy.core.freeze import Freeze
from proxy.core.owed import STATE_NAMES
from proxy.core.rollout import Rollout, target
from proxy.core.routing import COPY_NONE
from proxy.core.verdict import NOTHING_YET
from proxy.net.server_tls import days_left

EXPIRES_SOON: Final = 7.0
"""Days."""
MESSAGES: Final = {
    "from_client": "websocket_messages",
    "to_client": "websocket_messages_to_clients",
    "dropped": "websocket_messages_dropped",
}
"""Directions of WebSocket messages, and the counter of each. dropped: answers of a side that does not answer."""
_WORST_ENDPOINT = ("up", "out", "unhealthy")
_WORST = ("closed", "half-open", "open")


def status(instance: Instance) -> Status:
    """Everything, at this moment."""
    now = instance.clock()
    window, total = instance.tally.window(now), instance.tally.total()
    not_ready = instance.not_ready()
    states = instance.state.routes if instance.state is not None else {}
    routes = [_route(instance, name, states[name], window, total, now) for name in instance.routes if name in states]
    workers = [_worker(instance, index) for index in range(instance.settings.workers)]
    ledger = _ledger(instance)
    sources = source_status.sources(instance, window, total.counters)
    return Status(
        version=VERSION,
        epoch=instance.epoch,
        started_at=iso(instance.started_ns / 1e9),
        ready=not not_ready,
        not_ready=not_ready,
        draining=instance.draining,
        routes=routes,
        default=instance.settings.default,
        passed_through=total.counters["passed_through"],
        workers=workers,
        switch=switch_view(state) if (state := instance.switches.state) is not None else None,
        deaths=deaths(instance),
        sessions=_sessions(instance, total),
        ledger=ledger,
        consistency=checks(instance),
        answers=answers_of(instance),
        sources=sources,
        dependencies=[
            DependencyView(each.backend, each.name, each.address, each.healthy, each.detail)
            for each in instance.probes.dependencies
        ],
        certificates=certificates(instance),
        availability=_availability(instance),
        scraped_s=None if instance.scraped_at is None else round(now - instance.scraped_at, 1),
        notifications=instance.receivers(),
        configuration=_served(instance),
        counters=counters(instance, total),
        warnings=warnings(instance, routes, workers, ledger) + source_status.troubles(sources),
    )


def _served(instance: Instance) -> ServedView:
    served = instance.configuration
    return ServedView(
        file=str(served.file),
        digest=served.digest,
        loaded_at=served.loaded,
        workers=instance.peers.serving(served.digest),
        of=instance.settings.workers,
        trouble=trouble_view(served.trouble),
    )


def _file_position(route: Route) -> FilePosition:
    dials = initial(route).dials
    return FilePosition(dials.stage, dials.weight)


def deaths(instance: Instance) -> list[DeathsView]:
    """Processes that have died since the instance started, as the launcher says it."""
    return [
        DeathsView(each.name, each.died, each.loops, each.short_lives, each.last_end)
        for each in crew_state.read(instance.crew_path)
    ]


def _availability(instance: Instance) -> AvailabilityView:
    found = instance.availability
    ratio = found.ratio
    return AvailabilityView(round(found.observed, 1), round(found.down, 1), None if ratio is None else round(ratio, 6))


def counters(instance: Instance, total: Sums) -> dict[str, int]:
    """Every counter by name: the workers' plain, the ledger's with `ledger_`, the supervisor's with `control_`."""
    named = {name: count for name, count in total.counters.items() if not name.startswith(source_status.PREFIX)}
    named |= {f"ledger_{name}": count for name, count in instance.tally.ledger_counters().items()}
    own = dict(instance.tally.own) | {
        "audit_damaged_lines": instance.audit.damaged,
        "link_garbage": instance.peers.garbage,
    }
    named |= {f"control_{name.replace(':', '_')}": count for name, count in own.items()}
    return dict(sorted(named.items()))


def certificates(instance: Instance) -> list[CertificateView]:
    """What clients are shown, by listener and file; a worker that could not load the present file counts for all."""
    found: dict[tuple[str, str], CertificateStats] = {}
    for _, stats in instance.tally.present():
        for each in stats.certificates:
            known = found.setdefault((each.listen, each.file), each)
            if (bool(each.trouble), -each.loaded_at) > (bool(known.trouble), -known.loaded_at):
                found[each.listen, each.file] = each
    return [
        CertificateView(
            each.listen,
            each.file,
            list(each.names),
            iso(each.expires_at),
            iso(each.loaded_at),
            each.trouble or None,
        )
        for each in found.values()
    ]


def endpoints(instance: Instance, backend: str) -> list[EndpointView]:
    """A backend's endpoints over all workers: the worst state, and everything that is on its way."""
    found: dict[str, EndpointView] = {}
    for _, stats in instance.tally.present():
        for each in stats.endpoints:
            if each.backend != backend:
                continue
            view = found.setdefault(each.address, EndpointView(each.address, each.state, 0, 0, None))
            view.state = max(view.state, each.state, key=_WORST_ENDPOINT.index)
            view.outstanding += each.outstanding
            view.connections += each.open
            view.trouble = view.trouble or each.trouble or None
    return [found[address] for address in sorted(found)]


def live_checks(settings: Settings) -> list[Check]:
    """Those of the configuration that are checked all the time."""
    return [check for check in settings.consistency if check.is_live]


def checks(instance: Instance) -> list[CheckView]:
    """What the live checker says, or that it has not said anything yet."""
    said = {tuple(each.routes): each for each in instance.tally.checks}
    return [_check(instance, check.routes, said.get(check.routes)) for check in live_checks(instance.settings)]


def _check(instance: Instance, routes: tuple[str, ...], stats: CheckStats | None) -> CheckView:
    stats = stats or CheckStats(list(routes))
    trial = stats.trial
    return CheckView(
        routes=stats.routes,
        record=stats.record,
        alive=instance.peers.checker is not None,
        checked_until=iso(stats.judged_until / 1e9) if stats.judged_until else "",
        behind_s=round(max(0.0, instance.wall() - stats.judged_until / 1e9), 3) if stats.judged_until else 0.0,
        settle_s=round(stats.settle, 3),
        pending=stats.pending,
        late=stats.late,
        trouble=stats.trouble or None,
        classes=stats.classes,
        checked=stats.checked,
        mismatches=sum(stats.classes.get(name, 0) for name in MISMATCHES),
        windows=stats.judged,
        since_change=TrialView(trial.epoch, trial.settled, trial.mismatches, trial.lost, trial.rate, trial.samples),
        visible=stats.visible,
        probe=_probe(stats.probe) if stats.probe is not None else None,
        unused_rules=stats.unused_rules,
    )


def _probe(stats: ProbeStats) -> ProbeView:
    return ProbeView(
        sent=iso(stats.at / 1e9) if stats.at else "",
        passed=not stats.error if stats.at else None,
        error=stats.error or None,
        failures=stats.failures,
        visible=stats.visible,
    )


def answers_of(instance: Instance) -> list[AnswersView]:
    """What is known of routes whose answers are compared."""
    said = {each.route: each for each in instance.tally.answers}
    return [
        _answers(said.get(route.name) or AnswerStats(route.name), is_comparing=_is_comparing(instance, route))
        for route in instance.settings.routes
        if route.answers is not None
    ]


def _is_comparing(instance: Instance, route: Route) -> bool:
    """As workers do (`EventRoute.apply`)."""
    state = instance.state.routes.get(route.name) if instance.state is not None else None
    if state is None or route.answers is None or state.dials.copy == COPY_NONE:
        return False
    return route.ack != "accepted" and (route.answers.when == "always" or state.dials.stage == "shadow")


def _answers(stats: AnswerStats, *, is_comparing: bool) -> AnswersView:
    return AnswersView(
        route=stats.route,
        comparing=is_comparing,
        compared=stats.compared,
        unread=stats.unread,
        different=stats.different,
        beyond_noise=stats.beyond_noise,
        noise_compared=stats.noise_compared,
        fields={
            path: {
                "different": figures.different / stats.compared if stats.compared else 0.0,
                "different_twice": figures.different_twice / stats.noise_compared if stats.noise_compared else None,
                "noise": figures.noise / stats.noise_compared if stats.noise_compared else None,
            }
            for path, figures in stats.fields.items()
        },
        samples=stats.samples,
        trouble=stats.trouble or None,
    )


def worst_breaker(instance: Instance, backend: str) -> str:
    """The worst state of a backend's breakers, over all workers and the ledger."""
    ledger = instance.tally.ledger
    reports = [stats.breakers for _, stats in instance.tally.present()] + ([ledger.breakers] if ledger else [])
    states = [breakers.get(backend, "closed") for breakers in reports]
    return max(states, key=_WORST.index, default="closed")


def side_stats(ledger: LedgerStats | None, route: str, side: int) -> SideStats | None:
    """What the ledger says of one side."""
    for each in ledger.sides if ledger is not None else ():
        if each.route == route and each.side == side:
            return each
    return None


def _route(instance: Instance, name: str, state: RouteState, window: Window, total: Sums, now: float) -> RouteView:
    route, state = instance.routes[name], instance.tally.dated(name, state)
    observed = instance.tally.observed(name, now)
    found = instance.tally.verdicts.get(name, NOTHING_YET)
    return RouteView(
        name=name,
        stage=state.dials.stage,
        weight_target=state.weight,
        weight_observed=observed.weight if observed else None,
        weight_observed_interval=(observed.low, observed.high) if observed else None,
        copy=state.copy,
        latched=state.latched,
        latch_reason=state.latch_reason or None,
        old_incomplete_since=state.old_incomplete_since or None,
        frozen=freeze_view(instance.freezes.of(name)),
        drill=drill_view(instance.drills.running(name), instance.epoch),
        rate=_rate(window.sums.accepted[name], window),
        accepted_total=total.accepted[name],
        verdict=VerdictView(found.name, list(found.reasons), found.samples, found.failed),
        rollout=_rollout(instance.rollouts.get(name)),
        baseline=instance.baselines.of(name),
        file=_file_position(route),
        sides={SIDES[side]: _side(instance, name, side, (route.old, route.new)[side], window) for side in (OLD, NEW)},
    )


def freeze_view(found: Freeze | None) -> FreezeView | None:
    """A freeze as the API tells it."""
    return None if found is None else FreezeView(iso(found.since), iso(found.until), found.actor, found.reason)


def drill_view(found: Drill | None, epoch: int) -> DrillView | None:
    """A drill as the API tells it. epoch: the present one."""
    if found is None:
        return None
    fault = found.fault
    return DrillView(
        route=found.route,
        running=not found.is_over,
        fault=fault.kind,
        seconds=fault.seconds,
        delay_s=fault.delay,
        actor=found.actor,
        reason=found.reason,
        began_at=iso(found.began_at),
        ended_at=iso(found.ended_at) if found.ended_at else None,
        noticed_s=found.noticed,
        cause=found.cause,
        reverted_epoch=found.reverted,
        epoch=epoch,
        dry_run=False,
    )


def _rollout(found: Rollout | None) -> RolloutAtAGlance | None:
    if found is None:
        return None
    plan, progress = found.plan, found.progress
    return RolloutAtAGlance(
        progress.phase,
        progress.step + 1,
        len(plan.steps),
        target(plan, progress),
        progress.reason,
        found.paused_by or None,
        found.paused_at or None,
    )


def _side(instance: Instance, route: str, side: int, backend: str, window: Window) -> SideView:
    answers = window.sums.side(route, side)
    ledger = side_stats(instance.tally.ledger, route, side)
    return SideView(
        backend=backend,
        url=instance.settings.backends[backend].where,
        rate=_rate(answers.total, window),
        error_rate=round(answers.failed / answers.total, 6) if answers.total else None,
        p50=_quantile(answers, 0.5),
        p95=_quantile(answers, 0.95),
        p99=_quantile(answers, 0.99),
        breaker=worst_breaker(instance, backend),
        healthy=instance.probes.healthy.get(backend),
        paused=ledger.paused if ledger is not None else "",
        ledger=_counts(ledger) if instance.tally.ledger is not None else None,
        endpoints=endpoints(instance, backend),
        consumer=_consumer(instance, backend),
    )


def _counts(side: SideStats | None) -> LedgerCounts:
    """What a side is owed. side: None where it never was anything."""
    balance = side.balance if side is not None else {}
    return LedgerCounts(
        **{name: balance.get(name, 0) for name in ("owed", *STATE_NAMES[1:])},
        oldest_age_s=round(side.oldest_pending_age, 3) if side is not None else 0.0,
        marked_buckets=side.marked if side is not None else 0,
    )


def _consumer(instance: Instance, backend: str) -> ConsumerView | None:
    ledger = instance.tally.ledger
    found = next((each for each in ledger.consumers if each.backend == backend), None) if ledger is not None else None
    return ConsumerView(found.is_fed, found.seconds, found.told) if found is not None else None


def _rate(count: int, window: Window) -> float:
    return round(count / window.seconds, 2) if window.seconds > 0 else 0.0


def _quantile(answers: Answers, q: float) -> float | None:
    sketch = answers.sketch
    return round(sketch.quantile(q), 6) if sketch.buckets else None


def _worker(instance: Instance, index: int) -> WorkerView:
    peer, slot = instance.peers.workers.get(index), instance.tally.slot(index)
    last = slot.latest if slot is not None else None
    return WorkerView(
        index=index,
        pid=peer.pid if peer is not None else 0,
        epoch=peer.applied if peer is not None else last.epoch if last is not None else 0,
        in_flight=last.in_flight if last is not None and peer is not None else 0,
        clients=last.clients if last is not None and peer is not None else 0,
        sessions=last.sessions if last is not None and peer is not None else 0,
        rss_bytes=last.rss_bytes if last is not None and peer is not None else 0,
        alive=peer is not None,
        restarts=slot.restarts if slot is not None else 0,
        held_bytes=last.held_bytes if last is not None and peer is not None else 0,
        budget_bytes=last.budget_bytes if last is not None else 0,
        sheds=(last.sheds or None) if last is not None and peer is not None else None,
    )


def _sessions(instance: Instance, total: Sums) -> SessionsView | None:
    if all(route.websocket is None for route in instance.routes.values()):
        return None
    is_open = sum(stats.sessions for _, stats in instance.tally.present())
    return SessionsView(is_open, **{direction: total.counters[counter] for direction, counter in MESSAGES.items()})


def _check_warnings(check: CheckView) -> list[str]:
    """What a person should know of a live check."""
    if not check.alive:
        return ["the checker is down; the launcher starts it again"]
    said = [f"not judged: {check.trouble}"] if check.trouble else []
    if check.late:
        said.append(f"{check.late} windows are late")
    trial = check.since_change
    if trial.mismatches:
        said.append(f"{trial.mismatches} mismatches ({trial.lost} lost) at new since the weight was changed")
    if check.probe is not None and check.probe.error is not None:
        said.append(f"{check.probe.failures} probes in a row failed, the last one at {check.probe.error}")
    said += [f"rule {rule} has matched nothing: is its path mistyped?" for rule in check.unused_rules]
    return said


def is_balanced(ledger: LedgerStats) -> bool:
    """Is what is owed the sum of all states, with no state below zero, at every side?"""
    for side in ledger.sides:
        states = [side.balance.get(name, 0) for name in STATE_NAMES[1:]]
        if side.balance.get("owed", 0) != sum(states) or min(states) < 0:
            return False
    return True


def _ledger(instance: Instance) -> LedgerView:
    ledger, peer = instance.tally.ledger, instance.peers.ledger
    pid = peer.pid if peer is not None else 0
    if ledger is None:
        return LedgerView(alive=peer is not None, pid=pid)
    return LedgerView(
        alive=peer is not None,
        pid=pid,
        pending=sum(side.balance.get("pending", 0) for side in ledger.sides),
        deferred=sum(side.balance.get("deferred", 0) for side in ledger.sides),
        dead=sum(side.balance.get("dead", 0) for side in ledger.sides),
        balanced=is_balanced(ledger),
        segments=ledger.segments,
        bytes_on_disk=ledger.bytes_on_disk,
        disk_free=ledger.disk_free,
        low_disk=ledger.low_disk,
        gaps=ledger.gaps,
        commit_p99_s=round(ledger.commit_p99, 6),
        receipts=ledger.receipts,
    )


def left_owed(instance: Instance) -> list[str]:
    """What is owed to routes that the configuration has no more."""
    said = []
    for side in instance.tally.ledger.sides if instance.tally.ledger is not None else ():
        owed = side.balance.get("pending", 0) + side.balance.get("deferred", 0)
        if owed and side.route not in instance.routes:
            how = f"are delivered to {side.backend}" if side.backend else "wait until the configuration has it again"
            said.append(f"{owed} events are owed to {SIDES[side.side]} of {side.route}, which is gone: they {how}")
    return said


def warnings(instance: Instance, routes: list[RouteView], workers: list[WorkerView], ledger: LedgerView) -> list[str]:
    """What a person should know although it is in the figures already."""
    not_ready = instance.not_ready()
    said = [f"not ready: {reason}" for reason in not_ready]
    said += [reason for reason in instance.shedding() + instance.hanging_workers() if reason not in not_ready]
    said += [f"worker {worker.index} is down" for worker in workers if not worker.alive]
    said += [
        f"{each.name} keeps dying: {each.short_lives} short lives in a row, the last one {each.last_end}"
        for each in deaths(instance)
        if each.crash_loop
    ]
    if ledger.balanced is False:
        said.append("the ledger's balance does not add up: keep its files and report this")
    if ledger.gaps:
        said.append(f"{ledger.gaps} coverage gaps: events in them may be unrecorded")
    paused = {side.backend: side.paused for route in routes for side in route.sides.values() if side.paused}
    said += [
        f"deliveries to {backend} are paused: {why}; mend its address or its credentials, they go on by themselves"
        for backend, why in sorted(paused.items())
    ]
    said += left_owed(instance)
    if instance.settings.needs_checker and not live_checks(instance.settings) and instance.peers.checker is None:
        said.append("the checker, which compares answers, is down; the launcher starts it again")
    for check in checks(instance):
        said += [f"consistency of {', '.join(check.routes)}: {what}" for what in _check_warnings(check)]
    said += [f"{name}: {what}" for name, found in sorted(instance.tally.verdicts.items()) for what in found.alerts]
    splits = {route.name: instance.splits.doubt(route.name, instance.clock()) for route in routes}
    said += [f"{name}: {doubt}" for name, doubt in splits.items() if doubt]
    for route in routes:
        if (drill := instance.drills.running(route.name)) is not None:
            said.append(said_of(drill))
        if route.latched:
            said.append(f"{route.name} is latched: {route.latch_reason}")
        if route.old_incomplete_since:
            said.append(f"{route.name}: old is incomplete since {route.old_incomplete_since}")
        for name, side in route.sides.items():
            if side.ledger is not None and side.ledger.dead:
                said.append(f"{route.name}: {side.ledger.dead} dead letters at {name}")
    said += [
        f"{each.name} behind {each.backend} is not well: {each.detail}"
        for each in instance.probes.dependencies
        if each.healthy is False
    ]
    said += [
        f"{name}: any certificate is believed (tls.insecure)"
        for name, backend in instance.settings.backends.items()
        if backend.tls.insecure
    ]
    lookups = {name: why for _, stats in instance.tally.present() for name, why in stats.lookups.items()}
    said += [f"{name}: {why}; the last addresses are used" for name, why in sorted(lookups.items())]
    refusals = {name: why for _, stats in instance.tally.present() for name, why in stats.refusals.items()}
    said += [
        f"{name} refuses WebSocket sessions: {why}; what it is owed waits" for name, why in sorted(refusals.items())
    ]
    for certificate in certificates(instance):
        if certificate.trouble:
            in_use = f"what was loaded at {certificate.loaded_at} is in use"
            said.append(f"TLS on {certificate.listen}: {certificate.trouble}; {in_use}")
        left = days_left(datetime.fromisoformat(certificate.expires_at).timestamp(), instance.wall())
        if left < EXPIRES_SOON:
            when = f"expires in {left:.1f} days" if left > 0 else "has expired"
            said.append(f"TLS on {certificate.listen}: the certificate {certificate.file} {when}")
    dropped = instance.tally.ledger_counters()["dedupe_ids_dropped"]
    if dropped:
        said.append(f"dedupe: {dropped} ids were forgotten before their time; raise dedupe_ids of the route")
    if instance.figures_trouble:
        said.append(f"figures are not kept: {instance.figures_trouble}")
    if instance.traces_trouble():
        said.append(f"traces are not sent: {instance.traces_trouble()}")
    if instance.hooks_trouble():
        said.append(f"hooks: {instance.hooks_trouble()}; it is taken when it is sent again")
    if instance.audit.damaged:
        said.append(f"{instance.audit.damaged} damaged lines in the audit trail")
    return said

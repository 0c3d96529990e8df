"""What only a running instance knows: is it ready, whole, of one version, and does anybody watch it?"""

from __future__ import annotations

import os
import time
from importlib import metadata
from typing import Final

from proxy.control.doctor.finding import INSTANCE, Finding, fail, judged, ok, warn
from proxy.control.instance import Instance
from proxy.control.version import VERSION

_SCRAPED: Final = (120.0, float("inf"))
"""Seconds since somebody read the metrics."""
_LAG: Final = (0.1, 1.0)
"""Seconds that an event loop may be late by."""


def look(instance: Instance) -> list[Finding]:
    """All of it."""
    return [_ready(instance), _version(), _scraped(instance), *_processes(instance), *_troubles(instance)]


def _ready(instance: Instance) -> Finding:
    reasons = instance.not_ready()
    if reasons:
        return fail(INSTANCE, "ready", "; ".join(reasons), "mend that first: a load balancer sends no traffic here")
    return ok(INSTANCE, "ready", "yes")


def _version() -> Finding:
    """What runs, beside what is installed by now."""
    name = "version"
    try:
        installed = metadata.version("crossfade")
    except metadata.PackageNotFoundError:
        return ok(INSTANCE, name, f"{VERSION}, from a source tree")
    if installed != VERSION:
        advice = "restart the instance: what is restarted of it meanwhile is of another version than the rest"
        return warn(INSTANCE, name, f"{VERSION} runs, {installed} is installed", advice)
    return ok(INSTANCE, name, VERSION)


def _scraped(instance: Instance) -> Finding:
    name, at = "metrics are read", instance.scraped_at
    advice = "let a Prometheus scrape /metrics of the admin address: no alert fires without (proxyctl alerts export)"
    began = time.monotonic() - instance.began[1]
    if at is None and began < _SCRAPED[0]:
        return ok(INSTANCE, name, f"not yet: the supervisor began {began:.0f} s ago")
    if at is None:
        return warn(INSTANCE, name, "by nobody since the supervisor began", advice)
    since = instance.clock() - at
    return judged(INSTANCE, name, since, _SCRAPED, f"{since:.0f} s ago", advice)


def _processes(instance: Instance) -> list[Finding]:
    """Who is there, at the epoch, and in time."""
    peers, tally, epoch = instance.peers, instance.tally, instance.epoch
    away = [str(index) for index in range(instance.settings.workers) if index not in peers.workers]
    late = [str(index) for index, peer in sorted(peers.workers.items()) if peer.applied < epoch]
    found = []
    if away:
        advice = "the launcher starts them again; its log says why they ended"
        found.append(fail(INSTANCE, "workers", f"away: {', '.join(away)}", advice))
    elif late:
        advice = "look at their logs: they answer by an earlier routing"
        found.append(fail(INSTANCE, "workers", f"not at epoch {epoch}: {', '.join(late)}", advice))
    else:
        found.append(ok(INSTANCE, "workers", f"{len(peers.workers)}, all at epoch {epoch}"))
    lags = {f"worker-{index}": stats.loop_lag for index, stats in tally.present()}
    lags |= {"supervisor": instance.loop_lag}
    lags |= {name: each.loop_lag for name, each in (("ledger", tally.ledger), ("checker", tally.checker)) if each}
    worst = max(lags, key=lambda name: lags[name])
    advice = "the host has no time for it: fewer workers than cores, or more cores"
    seen = f"at most {lags[worst] * 1000:.0f} ms late, {worst}"
    return [*found, judged(INSTANCE, "event loops", lags[worst], _LAG, seen, advice)]


def _troubles(instance: Instance) -> list[Finding]:
    """What is told elsewhere only to who looks."""
    found = [
        fail(INSTANCE, f"receiver {each.name}", f"cannot be told: {each.trouble}", "mend its url or its credential")
        for each in instance.receivers()
        if each.trouble
    ]
    if instance.traces_trouble():
        advice = "mend tracing.url: spans are dropped meanwhile"
        found.append(fail(INSTANCE, "traces", f"not sent: {instance.traces_trouble()}", advice))
    if instance.figures_trouble:
        advice = "let the supervisor write in state_dir: report and rollouts have no past figures"
        found.append(fail(INSTANCE, "figures", f"not kept: {instance.figures_trouble}", advice))
    if instance.audit.damaged:
        advice = "keep a copy of audit.jsonl: a power cut tore lines of it"
        found.append(warn(INSTANCE, "audit trail", f"{instance.audit.damaged} lines cannot be read", advice))
    wrong = instance.tally.own["misplaced_events"]
    if wrong:
        found.append(fail(INSTANCE, "placing", f"{wrong} events went to the wrong side", "report this, with the logs"))
    return found


def processes(instance: Instance) -> dict[str, int]:
    """Process ids by name, of those that are there."""
    peers = instance.peers
    found = {f"worker-{index}": peer.pid for index, peer in peers.workers.items()}
    found |= {each.kind: each.pid for each in (peers.ledger, peers.checker) if each is not None}
    return found | {"supervisor": os.getpid()}

"""The cases by name, each with its stands and proxies; see README.md for what they are about."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable
from typing import Final

from benchmarks import (
    attacked,
    commands,
    costs,
    documents,
    exposition,
    latency,
    limit,
    observed,
    opened,
    replay,
    rounds,
    stalled,
    verdicts,
)
from benchmarks.bench import Bench
from benchmarks.consistency.__main__ import Run as CheckerRun
from benchmarks.costs import Group
from benchmarks.measure_wrk import Load
from benchmarks.peers import DUAL, DUAL_204, KEPT, SPLIT_CARRIED, Certificate, tracing_section
from benchmarks.processes import free_ports
from benchmarks.report import Part, Target
from benchmarks.rounds import Round
from benchmarks.websocket import cost, idle, unread
from benchmarks.websocket.cost import Window

WINDOWS: Final = (Window(32), Window(1), Window(32, is_batch=True))
WORKERS_BOUND: Final = 1.8
"""Throughput of two workers over that of one."""


def split(bench: Bench) -> Part:
    """A quarter of the keys to new."""
    with bench.peers() as (peers, old, new):
        proxies = [peers.nginx_split(), peers.haproxy_split(), peers.envoy_split(), peers.aiohttp_split()]
        if bench.with_ours:
            proxies.append(peers.split())
            proxies.append(peers.crossfade(SPLIT_CARRIED, stage="split", weight=25, carry_over=True))
        group = Group("Split, 25 % to new", bench.alternate(proxies, old, new), "split")
    return costs.part({"split": group}, is_plain=bench.is_plain, plots=["split"])


def dual(bench: Bench) -> Part:
    """Every event to both."""
    with bench.peers() as (peers, old, new):
        proxies = [peers.nginx_mirror(), peers.nginx_mirror(empty=True), peers.envoy_mirror(), peers.aiohttp_dual()]
        if bench.with_ours:
            proxies.append(peers.dual())
            proxies.append(peers.dual("crossfade dual write, before-send", durability="before-send"))
            proxies.append(peers.dual("crossfade dual write, durability off", durability="off"))
            proxies.append(peers.dual(DUAL_204, empty=True))
            proxies.append(peers.dual(f"{DUAL_204}, before-send", durability="before-send", empty=True))
            proxies.append(peers.dual(f"{DUAL_204}, durability off", durability="off", empty=True))
        group = Group("Dual write", bench.alternate(proxies, old, new), "dual")
    return costs.part({"dual": group}, is_plain=bench.is_plain, plots=["dual"])


def traced(bench: Bench) -> Part:
    """What traces cost: of no event, of some, and of all."""
    with bench.collector() as collector, bench.peers() as (peers, old, new):
        proxies = [peers.dual()]
        for share, name in costs.TRACED.items():
            proxies.append(peers.dual(name, tracing=tracing_section(collector.empty, share)))
        group = Group("Dual write, with traces", bench.alternate(proxies, old, new))
    found = costs.part({"traced": group})
    found.targets += group.traces()
    return found


def late(bench: Bench) -> Part:
    """Latency at a constant rate: half of what the slowest of them takes."""
    groups = [_late_events(bench, "Dual write")]
    if bench.has_time:
        groups += [_late_events(bench, "Split"), _late_messages(bench)]
    return latency.part(groups)


def _late_events(bench: Bench, work: str) -> latency.Group:
    amounts, is_dual = bench.amounts, work == "Dual write"
    with bench.peers() as (peers, old, new):
        if is_dual:
            proxies = [peers.nginx_mirror(), peers.envoy_mirror(), *([peers.dual()] if bench.with_ours else [])]
        else:
            proxies = [peers.nginx_split(), peers.envoy_split(), *([peers.split()] if bench.with_ours else [])]
        rate = min(bench.full_rate(proxy, old, new) for proxy in proxies) / 2
        load = latency.events(rate, amounts.seconds)
        found = latency.measure(proxies, load, rounds=amounts.rounds)
    return latency.Group(f"{work} at {rate:.0f} events/s in an open loop", found, "latency" if is_dual else "")


def _late_messages(bench: Bench) -> latency.Group:
    amounts = bench.amounts
    with bench.session_peers() as (peers, old, new, directory):
        proxies = [peers.nginx_tunnel(), peers.dual_websockets(), *([peers.crossfade(DUAL)] if bench.with_ours else [])]
        alone = cost.measuring(old, new, Window(1), core=bench.load_core, directory=directory)
        rate = min(alone(proxy, amounts.seconds).rate for proxy in proxies) / 2
        load = latency.messages(rate, amounts.seconds, core=bench.load_core, directory=directory)
        found = latency.measure(proxies, load, rounds=amounts.rounds)
    return latency.Group(f"WebSocket at {rate:.0f} messages/s in an open loop", found)


def copy_stalled(bench: Bench) -> Part:
    """New accepts and never answers."""
    return _away(bench, "copy stalled", stalled.STOPPED)


def copy_dead(bench: Bench) -> Part:
    """New is not there."""
    return _away(bench, "copy dead", stalled.DEAD)


def _away(bench: Bench, name: str, how: stalled.Harm) -> Part:
    with bench.peers() as (peers, old, new):
        proxy = peers.dual()
        rate = bench.full_rate(proxy, old, new) / 2
        amounts = bench.amounts
        pairs = [stalled.run(proxy, old, new, rate=rate, seconds=amounts.stall, harm=how) for _ in range(amounts.pairs)]
    return verdicts.stalled(name, "client", "events", pairs)


def bodies(bench: Bench) -> Part:
    """Dual write by the size of a body."""
    loads = {f"bodies of {size:,} bytes": Load(size=size) for size in bench.amounts.sizes}
    return _by_load(bench, loads)


def connections(bench: Bench) -> Part:
    """Dual write by the number of clients, of which each has a request on its way at all times."""
    loads = {f"{count:,} connections": Load(connections=count) for count in bench.amounts.connections}
    return _by_load(bench, loads)


def _by_load(bench: Bench, loads: dict[str, Load]) -> Part:
    groups = {}
    for name, load in loads.items():
        with bench.peers() as (peers, old, new):
            mirror = peers.nginx_mirror(kept=max(KEPT, load.connections))
            proxies = [mirror, peers.envoy_mirror(), *([peers.dual()] if bench.with_ours else [])]
            groups[name] = Group(f"Dual write, {name}", bench.alternate(proxies, old, new, load))
    return costs.part(groups)


def workers(bench: Bench) -> Part:
    """One worker and two: where the load limits the rate, the CPU time of an event says what they could do."""
    with bench.peers() as (peers, old, new):
        proxies = [peers.dual("crossfade, one worker"), peers.dual("crossfade, two workers", workers=2)]
        group = Group("Workers, all on one core", bench.alternate(proxies, old, new))
    one, two = group.summaries
    ratio = 2 * one.cpu_us / two.cpu_us
    measured = f"{ratio:.2f} (2 x {one.cpu_us:.1f} / {two.cpu_us:.1f} µs)"
    name = "two workers: throughput over that of one, by CPU per event"
    found = costs.part({"workers": group})
    found.targets.append(Target(name, measured, f"≥ {WORKERS_BOUND:g}", ratio >= WORKERS_BOUND))
    return found


def tls(bench: Bench) -> Part:
    """Clients that speak TLS."""
    certificate = Certificate.make(bench.folder())
    with bench.peers() as (peers, old, new):
        proxies = [peers.nginx_split(certificate)]
        if bench.with_ours:
            proxies.append(peers.crossfade("crossfade split, TLS", stage="split", weight=25, certificate=certificate))
        group = Group("Split, clients over TLS", bench.alternate(proxies, old, new))
    return costs.part({"tls": group})


def guard(bench: Bench) -> Part:
    """What the guard's watching costs."""
    with bench.peers() as (peers, old, new):
        proxies = [
            peers.crossfade("crossfade, no trigger", stage="live", weight=25, trigger=False),
            peers.crossfade("crossfade, all triggers", stage="live", weight=25),
        ]
        group = Group("Guard, 25 % to new with copies", bench.alternate(proxies, old, new))
    return costs.part({"guard": group})


def looked_at(bench: Bench) -> Part:
    """What it costs that consoles and a Prometheus look."""
    (port,) = free_ports(1)
    with bench.peers() as (peers, old, new):
        proxy = peers.dual(admin=f"127.0.0.1:{port}")

        def measure(seconds: float) -> Round:
            return rounds.measure(proxy, old, new, seconds=seconds, core=bench.load_core)

        amounts, url = bench.amounts, f"http://127.0.0.1:{port}"
        compared = observed.compare(measure, url, pairs=amounts.rounds, seconds=amounts.seconds)
        return verdicts.observed(asyncio.run(compared))


def scraped(bench: Bench) -> Part:
    """Metrics of many routes."""
    with bench.peers() as (peers, _, _):
        proxy = peers.crossfade(DUAL, stage="dualwrite", routes=exposition.routes())
        return verdicts.exposition(exposition.run(proxy, scrapes=10 * bench.amounts.rounds))


def outage(bench: Bench) -> Part:
    """Replay of what new is owed."""
    with bench.peers() as (peers, old, new):
        amounts = bench.amounts
        result = replay.run(peers.dual(), old, new, owed=amounts.outage, seconds=amounts.seconds, core=bench.load_core)
    return replay.part(result)


def weight(bench: Bench) -> Part:
    """Changes under full load."""
    with bench.peers() as (peers, _, _):
        proxy = peers.crossfade("crossfade live", stage="live", weight=50)
        result = commands.change_weights(proxy, changes=bench.amounts.changes, core=bench.load_core)
        rounds.settle(proxy, result.requests)
    return verdicts.weight(result)


def start(bench: Bench) -> Part:
    """Start-up of an instance and of a command."""
    with bench.peers() as (peers, _, _):
        return verdicts.start(commands.start(peers.dual, starts=bench.amounts.starts))


def clients(bench: Bench) -> Part:
    """Many that are connected."""
    found, amounts = [], bench.amounts
    for _ in range(amounts.pairs):  # a fresh one each time: memory that was had once is had
        with bench.peers() as (peers, _, _):
            found.append(opened.run(peers.dual(), clients=amounts.clients, seconds=amounts.seconds))
    return verdicts.clients(found)


def figures(bench: Bench) -> Part:
    """What the documents promise."""
    with bench.peers() as (peers, _, _):
        proxy = peers.dual()
        targets = documents.of_requests(proxy, bench.amounts, core=bench.load_core)
    with bench.session_peers() as (sessions, _, _, directory):
        proxy = sessions.crossfade(DUAL)
        targets += documents.of_messages(proxy, bench.amounts, core=bench.load_core, directory=directory)
    return Part([target.line() for target in targets], targets=targets)


def websocket(bench: Bench) -> Part:
    """Every message of a session to both."""
    groups = {}
    with bench.session_peers() as (peers, old, new, directory):
        proxies = [peers.nginx_tunnel(), peers.dual_websockets()]
        if bench.with_ours:
            proxies.append(peers.crossfade(DUAL))
        for window in WINDOWS:
            measure = cost.measuring(old, new, window, core=bench.load_core, directory=directory)
            summaries = bench.in_turn(proxies, measure)
            groups[window.name] = Group(f"WebSocket, {window.name}", summaries, window.name, "message")
    found = costs.part(groups, is_plain=bench.is_plain, plots=["window 32"])
    found.targets += groups["window 32"].throughput()
    return found


def idle_sessions(bench: Bench) -> Part:
    """Sessions in which nothing happens."""
    with bench.session_peers() as (sessions, old, new, directory), bench.peers() as (_, http_old, http_new):
        proxy = sessions.crossfade(DUAL, "idle.yaml", HTTP_OLD=http_old.body, HTTP_NEW=http_new.body)
        amounts = bench.amounts
        result = idle.run(
            proxy, old, new, sessions=amounts.sessions, rounds=amounts.rounds, seconds=amounts.seconds,
            core=bench.load_core, directory=directory,
        )  # fmt: skip
        sessions.stop()
    return verdicts.idle(result)


def copy_unread(bench: Bench) -> Part:
    """A backend of sessions that stops reading."""
    with bench.session_peers(writes_ids=True) as (peers, old, new, directory):
        proxy, amounts = peers.crossfade(DUAL), bench.amounts
        pairs = [
            unread.run(proxy, old, new, seconds=amounts.stall, core=bench.load_core, directory=directory)
            for _ in range(amounts.pairs)
        ]
    return verdicts.stalled("copy that stops reading", "acknowledgement", "messages", pairs)


def under_attack(bench: Bench) -> Part:
    """On both cores: whatever takes time from one proxy takes it from the one beside it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {bench.proxy_core, bench.load_core})
    try:
        amounts = bench.amounts
        return verdicts.attacked(asyncio.run(attacked.compare(rounds=amounts.rounds, seconds=amounts.seconds)))
    finally:
        os.sched_setaffinity(0, before)


def checker(bench: Bench) -> Part:
    """Bulk and live, in short; `make bench-consistency` has more."""
    options = argparse.Namespace(
        only=["bulk", "windows"], rows=bench.amounts.rows, rounds=min(3, bench.amounts.rounds),
        scale=1 if bench.amounts.rows >= 1_000_000 else 10,
    )  # fmt: skip
    run = CheckerRun(options, bench.folder())
    run()
    return Part(run.figures, targets=run.targets)


def limits(bench: Bench) -> Part:
    """Relays of bytes beside proxies, system calls, and flame graphs of our worker."""
    folder, core, seconds = bench.folder(), bench.load_core, bench.amounts.seconds
    with bench.peers() as (peers, old, new):
        proxies = [peers.relay(), peers.haproxy_tcp(), peers.nginx_split()]
        if bench.with_ours:
            proxies.append(peers.split())
        group = Group("The limit: bytes relayed to one backend, beside events", bench.alternate(proxies, old, new))
        found = costs.part({"limit": group}, plots=["limit"])
        ours = {"split": proxies[-1], "dual": peers.dual()} if bench.with_ours else {}
        traced = dict.fromkeys([*proxies, *ours.values()])
        calls = [limit.calls(proxy, folder, limit.events(proxy, seconds, core=core)) for proxy in traced]
        for name, proxy in ours.items():
            load = limit.events(proxy, seconds + limit.AROUND, core=core)
            found.pictures[f"flame-{name}"] = limit.flame(proxy, folder, load, seconds=seconds)
    found.tables.append(limit.table(calls))
    found.figures["calls"] = [one._asdict() for one in calls]
    return found


def session_limits(bench: Bench) -> Part:
    """The same of sessions."""
    core, seconds = bench.load_core, bench.amounts.seconds
    groups, counted, pictures = {}, {}, {}
    with bench.session_peers() as (peers, old, new, directory):
        proxies = [peers.relay(), peers.nginx_tunnel(), *([peers.crossfade(DUAL)] if bench.with_ours else [])]
        for window in WINDOWS:
            measure = cost.measuring(old, new, window, core=core, directory=directory)
            title = f"The limit: bytes of sessions relayed to one backend, {window.name}"
            groups[window.name] = Group(title, bench.in_turn(proxies, measure), "", "message")
        for window in WINDOWS:  # behind all of that: who is traced is slow
            loads = {proxy: cost.loading(proxy, window, seconds, core=core, directory=directory) for proxy in proxies}
            counted[window.name] = [limit.calls(proxy, directory, load) for proxy, load in loads.items()]
            if bench.with_ours:
                load = cost.loading(proxies[-1], window, seconds + limit.AROUND, core=core, directory=directory)
                picture = limit.flame(proxies[-1], directory, load, seconds=seconds)
                pictures[f"flame-{window.name.replace(' ', '-')}"] = picture
    found = costs.part(groups)
    found.tables += [limit.table(calls, f"message, {name}") for name, calls in counted.items()]
    found.figures["calls"] = {name: [one._asdict() for one in calls] for name, calls in counted.items()}
    found.pictures = pictures
    return found


Case = Callable[[Bench], Part]
CASES: Final[dict[str, Case]] = {
    "split": split,
    "dual": dual,
    "traced": traced,
    "latency": late,
    "stalled": copy_stalled,
    "dead": copy_dead,
    "bodies": bodies,
    "connections": connections,
    "workers": workers,
    "tls": tls,
    "guard": guard,
    "replay": outage,
    "weight": weight,
    "start": start,
    "clients": clients,
    "documents": figures,
    "websocket": websocket,
    "idle": idle_sessions,
    "unread": copy_unread,
    "checker": checker,
    "limit": limits,
    "limit-sessions": session_limits,
    "attacked": under_attack,
    "observed": looked_at,
    "exposition": scraped,
}
WITH_PEERS: Final = ("split", "dual", "latency", "bodies", "connections", "tls", "websocket", "limit", "limit-sessions")
"""Those in which somebody else takes part."""
QUICK: Final = ("split", "dual", "latency", "stalled", "start", "documents")
"""Those that --quick has the time for."""

"""The exposition: names and labels are a contract with dashboards and alerts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.control.link import EndpointStats, SideStats
from proxy.control.metrics import BOUNDS, histogram
from proxy.core.sketch import Sketch
from proxy.ledger.marks import LOW_DISK
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane, balance, ledger_stats, requests
from tests.control.helpers import eventually

GOLDEN = """
crossfade_accept_failures_total{}
crossfade_backend_healthy{backend}
crossfade_breaker_state{backend}
crossfade_build_info{version}
crossfade_copies_lost_total{}
crossfade_counts_total{name}
crossfade_dedupe_ids{route}
crossfade_endpoint_outstanding_events{backend,endpoint}
crossfade_endpoint_state{backend,endpoint}
crossfade_events_accepted_total{route}
crossfade_events_delivered_total{backend}
crossfade_events_owed_total{backend}
crossfade_latched{route}
crossfade_ledger_dead_events{backend,route}
crossfade_ledger_deferred_events{backend,route}
crossfade_ledger_disk_bytes{}
crossfade_ledger_gaps{}
crossfade_ledger_low_disk{}
crossfade_ledger_marked_buckets{backend,route}
crossfade_ledger_oldest_age_seconds{backend,route}
crossfade_ledger_pending_events{backend,route}
crossfade_memory_budget_bytes{worker}
crossfade_memory_held_bytes{worker}
crossfade_ready{}
crossfade_request_duration_seconds_bucket{backend,le,role,route}
crossfade_request_duration_seconds_count{backend,role,route}
crossfade_request_duration_seconds_sum{backend,role,route}
crossfade_requests_shed_total{cause}
crossfade_requests_total{backend,code_class,role,route}
crossfade_reverts_total{reason}
crossfade_routing_epoch{}
crossfade_shedding{worker}
crossfade_verdict{route,verdict}
crossfade_websocket_connections{worker}
crossfade_websocket_messages_total{direction}
crossfade_weight_observed_ratio{route}
crossfade_weight_target_ratio{route}
crossfade_workers{}
"""


async def scrape(plane: Plane) -> dict[str, float]:
    """Every sample as `name{label="value"}` without the prefix."""
    text = await plane.get("/metrics")
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name.removeprefix('crossfade_')}{{{labels}}}".removesuffix("{}")] = sample.value
    return samples


async def fill(plane: Plane) -> None:
    """Give every metric something to say."""
    await plane.change("stage", stage="live", weight=25)
    assert plane.ledger is not None
    stats = ledger_stats(new=balance(pending=3, dead=2, deferred=1, delivered=40))
    stats.sides[1] = SideStats("events", 1, "new", stats.sides[1].balance, 7.5, 4)
    stats.remembered = {"events": 17}
    plane.ledger.tell(stats)
    plane.workers[0].say(accepted={"events": 0}, chosen={"events": (0, 0)})
    await eventually(lambda: (slot := plane.supervisor.instance.tally.slot(0)) and slot.latest)
    plane.clock.now += 1
    plane.workers[0].say(
        accepted={"events": 100},
        chosen={"events": (75, 25)},
        requests=[requests(ok=20, error=5, latency=0.004), requests(0, "copy", ok=20, latency=0.03)],
        breakers={"old": "half-open", "new": "closed"},
        counters={"copies_lost": 2, "handed": 6, "refused_memory": 9, "accept_failures": 3, "websocket_messages": 7},
        sessions=2,
        held_bytes=400,
        budget_bytes=500,
        sheds="memory 400 of 500 B",
        endpoints=[EndpointStats("new", "10.0.0.1:80", "out", 3, 4, "refused")],
    )
    total = plane.supervisor.instance.tally.total
    await eventually(lambda: total().accepted["events"] == 100, "the figures")


@pytest.mark.asyncio
async def test_names_and_labels(make_plane: MakePlane) -> None:
    plane = make_plane()
    await plane.start()
    await fill(plane)
    plane.supervisor.instance.probes.standings["new"] = {"127.0.0.1:9": _well()}
    plane.supervisor.instance.tally.own["reverts:breaker"] = 1
    text = await plane.get("/metrics")
    found = set()
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, rest = line.partition("{") if "{" in line else line.partition(" ")
            labels = re.findall(r'(\w+)="', rest) if "{" in line else []
            found.add(f"{name}{{{','.join(sorted(labels))}}}")
    assert sorted(found) == GOLDEN.split()


def _well() -> Any:
    from proxy.control.probes import Standing

    standing = Standing(1, 1)
    standing.take(True)
    return standing


@pytest.mark.asyncio
async def test_values(plane: Plane) -> None:
    await fill(plane)
    samples = await scrape(plane)
    expected = {
        'weight_target_ratio{route="events"}': 0.25,
        'weight_observed_ratio{route="events"}': 0.25,
        'latched{route="events"}': 0,
        'events_accepted_total{route="events"}': 100,
        'events_owed_total{backend="new"}': 46,
        'events_delivered_total{backend="new"}': 40,
        'ledger_pending_events{backend="new",route="events"}': 3,
        'ledger_dead_events{backend="new",route="events"}': 2,
        'ledger_deferred_events{backend="new",route="events"}': 1,
        'ledger_oldest_age_seconds{backend="new",route="events"}': 7.5,
        'ledger_marked_buckets{backend="new",route="events"}': 4,
        'dedupe_ids{route="events"}': 17,
        'breaker_state{backend="old"}': 1,
        'breaker_state{backend="new"}': 0,
        'requests_total{backend="new",code_class="2xx",role="authority",route="events"}': 20,
        'requests_total{backend="new",code_class="error",role="authority",route="events"}': 5,
        'requests_total{backend="old",code_class="2xx",role="copy",route="events"}': 20,
        'request_duration_seconds_count{backend="new",role="authority",route="events"}': 25,
        'request_duration_seconds_bucket{backend="new",le="0.0025",role="authority",route="events"}': 0,
        'request_duration_seconds_bucket{backend="new",le="0.005",role="authority",route="events"}': 25,
        "copies_lost_total": 2,
        'memory_held_bytes{worker="0"}': 400,
        'memory_budget_bytes{worker="0"}': 500,
        'shedding{worker="0"}': 1,
        'websocket_connections{worker="0"}': 2,
        'websocket_messages_total{direction="from_client"}': 7,
        'websocket_messages_total{direction="to_client"}': 0,
        'requests_shed_total{cause="memory"}': 9,
        'requests_shed_total{cause="pending"}': 0,
        "accept_failures_total": 3,
        'counts_total{name="handed"}': 6,
        "routing_epoch": 2,
        "ready": 1,
        "workers": 2,
    }
    assert {name: samples.get(name) for name in expected} == expected
    duration = samples['request_duration_seconds_sum{backend="new",role="authority",route="events"}']
    assert duration == pytest.approx(25 * 0.004, rel=0.02)


@pytest.mark.asyncio
async def test_counters_never_go_back(make_plane: MakePlane) -> None:
    """Workers, ledger and supervisor die in turn; what is exported only climbs."""
    plane = make_plane()
    await plane.start()
    assert plane.ledger is not None
    before: dict[str, float] = {}

    async def check() -> None:
        now = {name: value for name, value in (await scrape(plane)).items() if "_total" in name or "_count" in name}
        fallen = {name: (value, now.get(name)) for name, value in before.items() if now.get(name, -1) < value}
        assert fallen == {}
        before.update(now)

    async def count(number: int) -> None:
        say = {"accepted": {"events": number}, "requests": [requests(ok=number)], "counters": {"handed": number}}
        wanted = plane.supervisor.instance.tally.total().accepted["events"]
        plane.workers[0].say(**say)
        await eventually(lambda: plane.supervisor.instance.tally.total().accepted["events"] != wanted, "the report")
        await check()

    await count(50)
    plane.ledger.tell(ledger_stats(new=balance(delivered=30), counters={"commits": 9}))
    await eventually(lambda: plane.supervisor.instance.tally.ledger)
    await check()
    await plane.workers[0].link.close()
    await check()
    plane.workers[0] = _again(plane, "worker-0-again")
    await plane.until_ready()
    await check()
    await count(3)
    assert before['events_accepted_total{route="events"}'] == 53
    await plane.restart()
    await check()
    await plane.until_ready()
    await count(5)
    assert before['events_accepted_total{route="events"}'] == 55
    assert before['counts_total{name="handed"}'] == 55
    assert before['counts_total{name="ledger_commits"}'] == 9


def _again(plane: Plane, life: str) -> Any:
    from tests.control.fakes import FakeWorker

    fake = FakeWorker(plane.places.control_socket, 0, life)
    fake.link.start()
    return fake


@pytest.mark.asyncio
async def test_low_disk_is_not_ready(plane: Plane) -> None:
    plane.supervisor.instance.marks.set_flag(LOW_DISK, True)
    samples = await scrape(plane)
    assert samples["ready"] == 0
    _, body = await plane.ask("GET", "/readyz")
    assert body["reasons"] == ["low disk: new events get 503 until there is room"]


def test_a_histogram_counts_each_duration_once() -> None:
    sketch = Sketch()
    durations = [0.0001, 0.0004, 0.003, 0.003, 0.2, 7.0, 100.0]
    for each in durations:
        sketch.add(each)
    buckets, summed = histogram(sketch.buckets)
    assert [bound for bound, _ in buckets] == [*map(str, BOUNDS), "+Inf"]
    counts = [count for _, count in buckets]
    assert counts == [sum(each <= bound for each in durations) for bound in BOUNDS] + [len(durations)]
    assert summed == pytest.approx(sum(durations), rel=0.02)
    assert histogram({})[0][-1] == ("+Inf", 0)

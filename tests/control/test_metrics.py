"""The exposition: names and labels are a contract with dashboards and alerts."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.control import crew_state
from proxy.control.changes import Who
from proxy.control.crew_state import Deaths
from proxy.control.link import ConsumerStats, EndpointStats, SideStats, SourceStats
from proxy.control.metrics import Exposition
from proxy.control.request_metrics import BOUNDS, histogram, request_text
from proxy.control.sums import Series, Sums
from proxy.control.views import ReceiverView
from proxy.core.rollout import HOLDING, PHASES, Plan, Progress, Rollout, Step
from proxy.core.sketch import Sketch
from proxy.ledger.marks import LOW_DISK
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane, balance, ledger_stats, requests, worker_stats
from tests.control.helpers import eventually
from tests.harness.prometheus import promtool

SOURCE = {"name": "home", "route": "events", "websocket": {"url": "ws://127.0.0.1:9"}}
GOLDEN = """
crossfade_accept_failures_total{}
crossfade_answers_left_out_total{backend,route}
crossfade_applied_epoch{process}
crossfade_backend_healthy{backend}
crossfade_breaker_state{backend}
crossfade_build_info{version}
crossfade_client_answers_failed_total{route}
crossfade_client_answers_total{route}
crossfade_client_connections{worker}
crossfade_configuration_refused{}
crossfade_connection_moves_refused_total{kind}
crossfade_connections_drained_total{kind}
crossfade_connections_moved_total{kind}
crossfade_consumer_connected{backend}
crossfade_copies_lost_total{}
crossfade_counts_total{name}
crossfade_crash_looping{process}
crossfade_dedupe_ids{route}
crossfade_down_seconds{}
crossfade_drilled{route}
crossfade_endpoint_outstanding_events{backend,endpoint}
crossfade_endpoint_state{backend,endpoint}
crossfade_events_accepted_total{route}
crossfade_events_delivered_total{backend}
crossfade_events_in_flight{worker}
crossfade_events_owed_total{backend}
crossfade_frozen{route}
crossfade_gate_answers_total{gate,outcome}
crossfade_hook_alerts_total{hook,outcome}
crossfade_latched{route}
crossfade_ledger_balanced{}
crossfade_ledger_commit_p99_seconds{}
crossfade_ledger_dead_events{backend,route}
crossfade_ledger_deferred_events{backend,route}
crossfade_ledger_disk_bytes{}
crossfade_ledger_disk_free_bytes{}
crossfade_ledger_gaps{}
crossfade_ledger_last_gap_timestamp_seconds{}
crossfade_ledger_low_disk{}
crossfade_ledger_marked_buckets{backend,route}
crossfade_ledger_oldest_age_seconds{backend,route}
crossfade_ledger_pending_events{backend,route}
crossfade_loop_lag_seconds{process}
crossfade_memory_budget_bytes{worker}
crossfade_memory_held_bytes{worker}
crossfade_notifications_failing{receiver}
crossfade_notifications_total{outcome,receiver}
crossfade_notifications_waiting{receiver}
crossfade_observed_seconds{}
crossfade_process_deaths_total{process}
crossfade_ready{}
crossfade_request_duration_seconds_bucket{backend,le,role,route}
crossfade_request_duration_seconds_count{backend,role,route}
crossfade_request_duration_seconds_sum{backend,role,route}
crossfade_requests_shed_total{cause}
crossfade_requests_total{backend,code_class,role,route}
crossfade_resident_memory_bytes{process}
crossfade_reverts_total{reason}
crossfade_rollout_phase{phase,route}
crossfade_rollout_steps{route}
crossfade_rollout_step{route}
crossfade_routing_epoch{}
crossfade_shedding{worker}
crossfade_side_info{backend,route,side}
crossfade_source_counts_total{name,source}
crossfade_source_unaccepted_events{source}
crossfade_source_up{source}
crossfade_spans_total{outcome}
crossfade_switches_total{kind,result}
crossfade_upstream_connections{backend}
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
    crew_state.write(plane.places.crew, [Deaths("worker 0", 3, 1, loops=False, last_end="exited with 1")])
    plane.supervisor.instance.tally.own["switches:upgrade:done"] += 2
    await plane.change("stage", stage="live", weight=25)
    assert plane.ledger is not None
    stats = ledger_stats(last_gap=1.7e9, new=balance(pending=3, dead=2, deferred=1, delivered=40))
    stats.consumers = [ConsumerStats("old", True, 3.5, 9), ConsumerStats("new", False, 1.0, 0)]
    stats.sides[1] = SideStats("events", 1, "new", stats.sides[1].balance, 7.5, 4)
    stats.remembered = {"events": 17}
    plane.ledger.tell(stats)
    plane.workers[0].say(accepted={"events": 0}, chosen={"events": (0, 0)})
    await eventually(lambda: (slot := plane.supervisor.instance.tally.slot(0)) and slot.latest)
    plane.clock.now += 1
    plane.workers[0].say(
        accepted={"events": 100},
        answered={"events": 120},
        failed={"events": 6},
        chosen={"events": (75, 25)},
        requests=[requests(ok=20, error=5, latency=0.004), requests(0, "copy", ok=20, latency=0.03)],
        left_out={"events": ((2, 0), (4, 1))},
        breakers={"old": "half-open", "new": "closed"},
        counters={
            "copies_lost": 2,
            "handed": 6,
            "refused_memory": 9,
            "accept_failures": 3,
            "websocket_messages": 7,
            "moved_out_websocket": 4,
            "moves_refused_http": 1,
            "drained_consumer": 2,
        }
        | {"source:home:accepted": 11, "source:home:gaps": 2},
        sessions=2,
        held_bytes=400,
        budget_bytes=500,
        sheds="memory 400 of 500 B",
        endpoints=[EndpointStats("new", "10.0.0.1:80", "out", 3, 4, "refused")],
        sources=[SourceStats("home", 1, "connected", "", 5)],
        open_connections={"old": 5, "new": 4},
        clients=8,
        in_flight=3,
        rss_bytes=9000,
        loop_lag=0.125,
    )
    total = plane.supervisor.instance.tally.total
    await eventually(lambda: total().accepted["events"] == 100, "the figures")


async def fill_all(plane: Plane) -> None:
    """The same with what is there only once something was configured or has happened."""
    await fill(plane)
    instance = plane.supervisor.instance
    instance.probes.standings["new"] = {"127.0.0.1:9": _well()}
    instance.tally.own["reverts:breaker"] = 1
    instance.tally.own["alerts:webhook:paused"] = 1
    instance.tally.own["gates:smoke:no_answer"] = 1
    instance.tally.own["notifications:chat:delivered"] = 1
    instance.tally.own["spans:exported"] = 1
    instance.receivers = lambda: [ReceiverView("chat", "slack", 2, 1, 0, None, None, "status 500")]
    plan = Plan((Step(10, 60, 100), Step(50, 60, 100), Step(100, 60, 100)))
    instance.rollouts["events"] = Rollout(plan, Progress(HOLDING, 1, 10), "2026-11-29T00:00:00Z", "me")


@pytest.mark.asyncio
async def test_names_and_labels(make_plane: MakePlane) -> None:
    plane = make_plane(sources=[SOURCE])
    await plane.start()
    await fill_all(plane)
    text = await plane.get("/metrics")
    found = set()
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, rest = line.partition("{") if "{" in line else line.partition(" ")
            labels = re.findall(r'(\w+)="', rest) if "{" in line else []
            found.add(f"{name}{{{','.join(sorted(labels))}}}")
    assert sorted(found) == GOLDEN.split()


@pytest.mark.asyncio
async def test_prometheus_has_nothing_to_say_about_the_names(plane: Plane) -> None:
    await fill_all(plane)
    text = await plane.get("/metrics")
    assert await asyncio.to_thread(promtool, "check", "metrics", text=text) == (0, "")
    # Classic histograms: a bucket for each bound and one for everything, cumulative.
    bounds = re.findall(r'request_duration_seconds_bucket\{[^}]*backend="new"[^}]*,le="([^"]+)"', text)
    assert bounds == [*map(str, BOUNDS), "+Inf"]


@pytest.mark.asyncio
async def test_a_rollout_and_who_is_told(plane: Plane) -> None:
    await fill_all(plane)
    samples = await scrape(plane)
    phases = {name: samples[f'rollout_phase{{phase="{name}",route="events"}}'] for name in PHASES}
    assert phases == dict.fromkeys(PHASES, 0.0) | {HOLDING: 1.0}
    assert (samples['rollout_step{route="events"}'], samples['rollout_steps{route="events"}']) == (2, 3)
    assert samples['notifications_failing{receiver="chat"}'] == 1
    assert samples['notifications_waiting{receiver="chat"}'] == 2
    plane.supervisor.instance.receivers = lambda: [ReceiverView("chat", "slack", 0, 3, 0, None, None, None)]
    assert (await scrape(plane))['notifications_failing{receiver="chat"}'] == 0


@pytest.mark.asyncio
async def test_who_goes_by_which_epoch(plane: Plane) -> None:
    await fill(plane)

    async def applied() -> dict[str, float]:
        samples = await scrape(plane)
        return {name: samples[f'applied_epoch{{process="{name}"}}'] for name in ("worker-0", "worker-1", "ledger")}

    epoch = (await scrape(plane))["routing_epoch"]
    assert await applied() == {"worker-0": epoch, "worker-1": epoch, "ledger": epoch}
    await plane.workers[1].link.close()
    await eventually(lambda: 1 not in plane.supervisor.instance.peers.workers)
    assert await applied() == {"worker-0": epoch, "worker-1": 0, "ledger": epoch}


def _well() -> Any:
    from proxy.control.probes import Standing

    standing = Standing(1, 1)
    standing.take(True)
    return standing


@pytest.mark.asyncio
async def test_values(make_plane: MakePlane) -> None:
    plane = make_plane(sources=[SOURCE])
    await plane.start()
    await fill(plane)
    samples = await scrape(plane)
    expected = {
        'weight_target_ratio{route="events"}': 0.25,
        'weight_observed_ratio{route="events"}': 0.25,
        'latched{route="events"}': 0,
        'events_accepted_total{route="events"}': 100,
        'client_answers_total{route="events"}': 120,
        'client_answers_failed_total{route="events"}': 6,
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
        'answers_left_out_total{backend="old",route="events"}': 2,
        'answers_left_out_total{backend="new",route="events"}': 4,
        'request_duration_seconds_count{backend="new",role="authority",route="events"}': 25,
        'request_duration_seconds_bucket{backend="new",le="0.0025",role="authority",route="events"}': 0,
        'request_duration_seconds_bucket{backend="new",le="0.005",role="authority",route="events"}': 25,
        'requests_total{backend="old",code_class="5xx",role="copy",route="events"}': 0,
        'requests_total{backend="old",code_class="error",role="copy",route="events"}': 0,
        'upstream_connections{backend="old"}': 5,
        'upstream_connections{backend="new"}': 4,
        'client_connections{worker="0"}': 8,
        'events_in_flight{worker="0"}': 3,
        'resident_memory_bytes{process="worker-0"}': 9000,
        'loop_lag_seconds{process="worker-0"}': 0.125,
        'loop_lag_seconds{process="ledger"}': 0.75,  # it has said nothing for a second, and four times is due
        "ledger_disk_free_bytes": 10**9,
        "copies_lost_total": 2,
        'memory_held_bytes{worker="0"}': 400,
        'memory_budget_bytes{worker="0"}': 500,
        'shedding{worker="0"}': 1,
        'websocket_connections{worker="0"}': 2,
        'websocket_messages_total{direction="from_client"}': 7,
        'websocket_messages_total{direction="to_client"}': 0,
        'connections_moved_total{kind="websocket"}': 4,
        'connections_moved_total{kind="http"}': 0,
        'connection_moves_refused_total{kind="http"}': 1,
        'connections_drained_total{kind="consumer"}': 2,
        'requests_shed_total{cause="memory"}': 9,
        'requests_shed_total{cause="pending"}': 0,
        'consumer_connected{backend="old"}': 1,
        'consumer_connected{backend="new"}': 0,
        'source_up{source="home"}': 1,
        'source_unaccepted_events{source="home"}': 5,
        'source_counts_total{name="accepted",source="home"}': 11,
        'source_counts_total{name="gaps",source="home"}': 2,
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
    await plane.until_ready()
    plane.workers[1].say()
    plane.ledger.tell(ledger_stats(new=balance(delivered=30), counters={"commits": 9}))
    await eventually(lambda: plane.supervisor.instance.tally.unheard(2) == ["worker 0"])
    await count(5)
    assert before['events_accepted_total{route="events"}'] == 55
    assert before['counts_total{name="handed"}'] == 55
    assert before['counts_total{name="ledger_commits"}'] == 9


@pytest.mark.asyncio
async def test_a_kill_of_the_supervisor_takes_no_counter_back(plane: Plane) -> None:
    """Its account is some seconds old: nobody may scrape before everybody was heard."""
    await fill(plane)
    saved = plane.supervisor._tally._path
    plane.supervisor._tally.save()
    early = saved.read_bytes()
    plane.workers[0].say(accepted={"events": 500}, chosen={"events": (0, 0)})
    await eventually(lambda: plane.supervisor.instance.tally.total().accepted["events"] == 500)
    await plane.restart(between=lambda: saved.write_bytes(early))
    await plane.until_ready()
    status, answer = await plane.ask("GET", "/metrics")
    assert (status, answer["detail"].split(" must")[0]) == (503, "worker 0, worker 1, the ledger")
    plane.workers[0].say(accepted={"events": 501})
    plane.workers[1].say(accepted={"events": 0})
    assert plane.ledger is not None
    plane.ledger.tell(ledger_stats())
    tally = plane.supervisor.instance.tally
    await eventually(lambda: not tally.unheard(2))
    assert (await scrape(plane))['events_accepted_total{route="events"}'] == 501


@pytest.mark.asyncio
async def test_metrics_do_not_wait_for_ever_for_a_word_of_all(plane: Plane) -> None:
    await plane.restart()
    assert (await plane.ask("GET", "/metrics"))[0] == 503
    plane.clock.now += 10
    assert (await scrape(plane))["workers"] >= 0


@pytest.mark.asyncio
async def test_a_revert_is_counted_for_good(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    await plane.supervisor._guard._reverts.revert("events", "breaker", Who("crossfade", "it is down"), {})
    saved = plane.supervisor._tally._path.read_bytes()
    await plane.restart(between=lambda: plane.supervisor._tally._path.write_bytes(saved))
    assert plane.supervisor.instance.tally.own["reverts:breaker"] == 1


@pytest.mark.asyncio
async def test_a_process_that_hangs_is_seen(plane: Plane) -> None:
    await fill(plane)
    assert (await scrape(plane))["ready"] == 1
    plane.clock.now += 3.5
    plane.workers[1].say(accepted={"events": 0})
    assert plane.ledger is not None
    plane.ledger.tell(ledger_stats())
    peers, now = plane.supervisor.instance.peers, plane.clock.now
    await eventually(lambda: peers.ledger is not None and peers.workers[1].heard_at == peers.ledger.heard_at == now)
    samples = await scrape(plane)
    assert samples['loop_lag_seconds{process="worker-0"}'] == pytest.approx(3.25)
    assert samples['loop_lag_seconds{process="worker-1"}'] == samples['loop_lag_seconds{process="ledger"}'] == 0
    assert samples["ready"] == 1, "the other one takes all clients"


@pytest.mark.asyncio
async def test_what_is_left_of_a_route_that_is_gone(plane: Plane) -> None:
    """No series twice: one of both sides would hide the other. And nothing of its rollout."""
    await fill_all(plane)
    assert plane.ledger is not None
    sides = [SideStats("gone", side, "", balance(pending=3 + side), 1.0, 0) for side in (0, 1)]
    plane.ledger.tell(ledger_stats(sides=sides))
    await eventually(lambda: (found := plane.supervisor.instance.tally.ledger) and found.sides[0].route == "gone")
    instance = plane.supervisor.instance
    instance.rollouts["gone"] = instance.rollouts["events"]
    samples = await scrape(plane)
    pending = {name: value for name, value in samples.items() if name.startswith("ledger_pending")}
    assert pending == {
        'ledger_pending_events{backend="old",route="gone"}': 3,
        'ledger_pending_events{backend="new",route="gone"}': 4,
    }
    assert not [name for name in samples if name.startswith("rollout") and "gone" in name]
    assert not [name for name in samples if 'backend=""' in name]


def test_a_sum_of_durations_never_goes_back() -> None:
    """Floats that are added in another order give another sum; a worker that reports first turns the order around."""
    buckets = {index: 3 + index % 7 for index in range(-400, 200, 3)}
    found = {histogram(dict(order))[1] for order in (buckets.items(), reversed(buckets.items()))}
    assert len(found) == 1


def _again(plane: Plane, life: str) -> Any:
    from tests.control.fakes import FakeWorker

    fake = FakeWorker(plane.places.control_socket, 0, life)
    fake.link.start()
    return fake


@pytest.mark.asyncio
async def test_fifty_routes_are_told(make_plane: MakePlane) -> None:
    names = [f"route-{number}" for number in range(50)]
    plane = make_plane(routes=[{"name": name, "match": {"path": f"/{name}"}} for name in names])
    await plane.start()
    busy = [
        requests(side, role, route=name, ok=1000, failed=3, error=1)
        for name in names
        for side in (0, 1)
        for role in ("authority", "copy")
    ]
    for each in busy:
        each.latency = dict.fromkeys(range(-200, 0), 5)  # as spread as a real one's
    for worker in plane.workers:
        worker.say(accepted=dict.fromkeys(names, 10), chosen=dict.fromkeys(names, (5, 5)), requests=busy)
    instance = plane.supervisor.instance
    await eventually(lambda: instance.tally.total().accepted["route-49"] == 20, "the figures")
    text = Exposition(instance).text()
    assert text.count(b"crossfade_request_duration_seconds_count") == 4 * len(names)


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
    counts, summed = histogram(sketch.buckets)
    assert counts == [sum(each <= bound for each in durations) for bound in BOUNDS] + [len(durations)]
    assert summed == pytest.approx(sum(durations), rel=0.02)
    assert histogram({}) == ([0] * (len(BOUNDS) + 1), 0.0)


def test_names_with_odd_characters_are_escaped() -> None:
    total = Sums([worker_stats(requests=[requests(ok=3, route='a"b\\c')])])
    assert [series.route for series in total.requests] == ['a"b\\c']
    (family, _) = text_string_to_metric_families(request_text(total))
    assert {(each.labels["route"], each.labels["code_class"], each.value) for each in family.samples} == {
        ('a"b\\c', "2xx", 3.0), ('a"b\\c', "5xx", 0.0), ('a"b\\c', "error", 0.0),
    }  # fmt: skip
    assert next(iter(total.requests)) == Series('a"b\\c', 1, "new", "authority")

"""The status as operators and scripts read it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial

import pytest

from proxy.cli.status_view import render
from proxy.cli.waiting import unsettled
from proxy.control.link import CertificateStats, EndpointStats, SideStats
from proxy.control.status import is_balanced
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane, balance, ledger_stats, requests
from tests.control.helpers import eventually

pytestmark = pytest.mark.asyncio


async def test_a_status_of_live_traffic(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    present = plane.supervisor.instance.tally.present
    for second in range(3):
        for worker in plane.workers:
            worker.say(
                accepted={"events": 100 * second},
                chosen={"events": (75 * second, 25 * second)},
                requests=[requests(ok=24 * second, failed=second), requests(0, ok=75 * second, latency=0.1)],
                in_flight=3,
                clients=9,
                rss_bytes=50_000_000,
                counters={"handed": second},
            )
        wanted = [second, second]
        await plane.heard(partial(_are, wanted, lambda: [stats.counters.get("handed") for _, stats in present()]))
        plane.clock.now += 1
    plane.clock.now -= 1
    assert plane.ledger is not None
    plane.ledger.tell(ledger_stats(new=balance(delivered=8, pending=2), receipts=10, counters={"commits": 4}))
    await eventually(lambda: plane.supervisor.instance.tally.ledger)
    status = await plane.get("/api/v1/status")
    route = status["routes"][0]
    assert route["rate"] == 200.0
    assert route["accepted_total"] == 400
    assert (route["weight_target"], route["weight_observed"]) == (25.0, 25.0)
    low, high = route["weight_observed_interval"]
    assert 20 < low < 25 < high < 30
    new, old = route["sides"]["new"], route["sides"]["old"]
    assert (new["rate"], new["error_rate"]) == (50.0, 0.04)
    assert new["p99"] == pytest.approx(0.004, rel=0.02)
    assert old["p50"] == pytest.approx(0.1, rel=0.02)
    assert new["ledger"]["pending"] == 2
    assert new["ledger"]["owed"] == 10
    assert status["ledger"]["pending"] == 2
    assert status["ledger"]["receipts"] == 10
    assert status["ledger"]["balanced"] is True
    assert status["counters"]["handed"] == 4
    assert status["counters"]["ledger_commits"] == 4
    worker = status["workers"][0]
    assert (worker["in_flight"], worker["clients"], worker["rss_bytes"]) == (3, 9, 50_000_000)
    assert status["warnings"] == []


def _are(wanted: object, found: Callable[[], object]) -> bool:
    return found() == wanted


async def test_an_idle_status_has_no_invented_figures(plane: Plane) -> None:
    route = (await plane.get("/api/v1/status"))["routes"][0]
    assert route["weight_observed"] is None
    assert route["weight_observed_interval"] is None
    assert route["rate"] == 0.0
    side = route["sides"]["new"]
    assert (side["p50"], side["p99"], side["healthy"], side["error_rate"]) == (None, None, None, None)
    assert side["breaker"] == "closed"


async def test_sessions_and_their_messages(make_plane: MakePlane) -> None:
    match = {"path": "/api/v1/stream"}
    stream = {"name": "stream", "match": match, "key": "json:/k", "event_id": ["json:/id"], "websocket": {}}
    plane = make_plane(routes=[{"name": "events", "match": {"path": "/api/v1/events"}}, stream])
    await plane.start()
    assert (await plane.get("/api/v1/status"))["sessions"] == {
        "open": 0, "from_client": 0, "to_client": 0, "dropped": 0,
    }  # fmt: skip
    for n, worker in enumerate(plane.workers):
        counters = {"websocket_messages": 10 + n, "websocket_messages_to_clients": 5, "websocket_messages_dropped": n}
        worker.say(sessions=3 + n, clients=4, counters=counters)
    present = plane.supervisor.instance.tally.present
    await plane.heard(partial(_are, [3, 4], lambda: [stats.sessions for _, stats in present()]))
    status = await plane.get("/api/v1/status")
    assert status["sessions"] == {"open": 7, "from_client": 21, "to_client": 10, "dropped": 1}
    assert [worker["sessions"] for worker in status["workers"]] == [3, 4]


async def test_without_a_route_of_sessions_there_is_nothing_to_say_of_them(plane: Plane) -> None:
    assert (await plane.get("/api/v1/status"))["sessions"] is None


async def test_what_is_wrong_is_a_warning(plane: Plane) -> None:
    assert plane.ledger is not None
    stats = ledger_stats(new=balance(dead=2), gaps=1, counters={"dedupe_ids_dropped": 3})
    stats.sides[0] = SideStats("events", 0, "old", balance(pending=1), 3.0, 1, paused="401 Unauthorized")
    plane.ledger.tell(stats)
    await eventually(lambda: plane.supervisor.instance.tally.ledger)
    await plane.workers[1].link.close()
    await eventually(lambda: 1 not in plane.supervisor.instance.peers.workers)
    status = await plane.get("/api/v1/status")
    assert status["ready"] is False
    assert status["warnings"] == [
        "not ready: 1 of 2 workers have applied epoch 1",
        "worker 1 is down",
        "1 coverage gaps: events in them may be unrecorded",
        "deliveries to old are paused: 401 Unauthorized; mend its address or its credentials, they go on by themselves",
        "events: 2 dead letters at new",
        "dedupe: 3 ids were forgotten before their time; raise dedupe_ids of the route",
    ]
    assert status["routes"][0]["sides"]["old"]["paused"] == "401 Unauthorized"
    assert status["routes"][0]["sides"]["old"]["ledger"]["oldest_age_s"] == 3.0
    assert status["workers"][1]["alive"] is False


async def test_a_paused_backend_of_many_routes_is_one_warning(make_plane: MakePlane) -> None:
    plane = make_plane(routes=[{"name": name, "match": {"path": f"/{name}"}} for name in ("one", "two")])
    await plane.start()
    assert plane.ledger is not None
    sides = [SideStats(name, 1, "new", balance(pending=1), 3.0, 1, "status 401", False) for name in ("one", "two")]
    plane.ledger.tell(ledger_stats(sides=sides))
    await eventually(lambda: plane.supervisor.instance.tally.ledger)
    (warning,) = (await plane.get("/api/v1/status"))["warnings"]
    assert warning.startswith("deliveries to new are paused: status 401; ")


async def test_what_fits_no_route_is_in_the_status(make_plane: MakePlane) -> None:
    plane = make_plane(default="old")
    await plane.start()
    for worker in plane.workers:
        worker.say(counters={"passed_through": 3})
    total = plane.supervisor.instance.tally.total
    await eventually(lambda: total().counters["passed_through"] == 6)
    status = await plane.get("/api/v1/status")
    assert (status["default"], status["passed_through"]) == ("old", 6)


async def test_a_ledger_that_is_down_is_shown(make_plane: MakePlane) -> None:
    plane = make_plane()
    await plane.start(everybody=False)
    status = await plane.get("/api/v1/status")
    assert status["ledger"] == dict.fromkeys(status["ledger"]) | {"alive": False, "pid": 0}
    assert {each["ledger"] for each in status["routes"][0]["sides"].values()} == {None}
    assert status["not_ready"] == ["0 of 2 workers have applied epoch 1", "the ledger is not connected"]


async def test_a_ledger_that_has_not_told_of_itself_owes_nobody_knows_what(plane: Plane) -> None:
    status = await plane.get("/api/v1/status")
    assert (status["ledger"]["alive"], status["ledger"]["pending"], status["ledger"]["balanced"]) == (True, None, None)
    assert unsettled(status) == ["the ledger has not told of itself yet"]
    assert "ledger  it has not told of itself yet" in render(status)
    assert plane.ledger is not None
    plane.ledger.tell(ledger_stats(sides=[]))
    await eventually(lambda: plane.supervisor.instance.tally.ledger)
    status = await plane.get("/api/v1/status")
    assert (status["ledger"]["alive"], status["ledger"]["pending"], status["ledger"]["balanced"]) == (True, 0, True)
    assert status["routes"][0]["sides"]["new"]["ledger"]["owed"] == 0
    assert unsettled(status) == []


async def test_dependencies_and_breakers(make_plane: MakePlane) -> None:
    backends = {
        "old": {"url": "http://127.0.0.1:9"},
        "new": {"url": "http://127.0.0.1:9", "dependencies": {"db": "tcp://127.0.0.1:9"}},
    }
    plane = make_plane(backends=backends)
    await plane.start()
    plane.workers[0].say(breakers={"old": "closed", "new": "half-open"})
    plane.workers[1].say(breakers={"old": "closed", "new": "open"})
    await eventually(lambda: len(list(plane.supervisor.instance.tally.present())) == 2)
    await eventually(lambda: plane.supervisor.instance.probes.dependencies[0].healthy is False)
    status = await plane.get("/api/v1/status")
    assert status["routes"][0]["sides"]["new"]["breaker"] == "open"
    assert status["dependencies"][0]["name"] == "db"
    assert any("db behind new is not well" in each for each in status["warnings"])


async def test_balances_that_do_not_add_up() -> None:
    assert is_balanced(ledger_stats(new=balance(delivered=5, pending=1)))
    assert not is_balanced(ledger_stats(new=balance(delivered=5) | {"owed": 6}))
    assert not is_balanced(ledger_stats(new=balance(delivered=5, pending=-1)))


async def test_a_process_that_hangs_is_not_ready(plane: Plane) -> None:
    ledger = plane.supervisor.instance.peers.ledger
    assert ledger is not None
    plane.clock.now += 2.9
    assert plane.supervisor.instance.not_ready() == []
    plane.clock.now += 0.2
    hanging = [
        f"{name} (process {pid}) hangs: it has said nothing for 3 s"
        for name, pid in (("the ledger", ledger.pid), ("worker 0", os.getpid()), ("worker 1", os.getpid()))
    ]
    assert plane.supervisor.instance.not_ready() == hanging
    assert plane.ledger is not None
    plane.ledger.tell(ledger_stats())
    plane.workers[0].say()
    await eventually(lambda: not plane.supervisor.instance.not_ready(), "the other worker takes the clients")
    status = await plane.get("/api/v1/status")
    assert hanging[2] in status["warnings"]
    plane.workers[1].say()
    await eventually(lambda: not plane.supervisor.instance.hanging_workers())


async def test_a_supervisor_that_stood_still_accuses_nobody(plane: Plane) -> None:
    instance = plane.supervisor.instance
    plane.clock.now += 10
    instance.loop_lag = 9.8
    assert instance.not_ready() == instance.hanging_workers() == []


async def test_a_backend_that_refuses_sessions_is_a_warning(plane: Plane) -> None:
    plane.workers[0].say(refusals={"new": "it answers 403"})
    said = "new refuses WebSocket sessions: it answers 403; what it is owed waits"
    await until_warned(plane, [said])
    plane.workers[0].say(refusals={})
    await until_warned(plane, [])


async def until_warned(plane: Plane, warnings: list[str]) -> None:
    for _ in range(100):
        if (await plane.get("/api/v1/status"))["warnings"] == warnings:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"never: {warnings}")


async def test_endpoints_are_the_worst_and_the_sum_of_all_workers(plane: Plane) -> None:
    one, two = (f"10.0.0.{number}:80" for number in (1, 2))
    plane.workers[0].say(
        endpoints=[EndpointStats("new", one, "up", 2, 3, ""), EndpointStats("new", two, "up", 1, 1, "")],
        lookups={"new": "events.test: Timeout"},
    )
    plane.workers[1].say(
        endpoints=[EndpointStats("new", two, "out", 0, 0, "refused"), EndpointStats("old", one, "up", 9, 9, "")]
    )
    present = plane.supervisor.instance.tally.present
    await eventually(lambda: [len(stats.endpoints) for _, stats in present()] == [2, 2])
    status = await plane.get("/api/v1/status")
    assert status["routes"][0]["sides"]["new"]["endpoints"] == [
        {"address": one, "state": "up", "outstanding": 2, "connections": 3, "trouble": None},
        {"address": two, "state": "out", "outstanding": 1, "connections": 1, "trouble": "refused"},
    ]
    assert status["warnings"] == ["new: events.test: Timeout; the last addresses are used"]
    metrics = await plane.get("/metrics")
    assert f'crossfade_endpoint_state{{backend="new",endpoint="{two}"}} 1.0' in metrics
    assert f'crossfade_endpoint_outstanding_events{{backend="new",endpoint="{one}"}} 2.0' in metrics


async def test_certificates_and_what_is_wrong_with_them(make_plane: MakePlane) -> None:
    plane = make_plane(
        backends={"old": {"url": "http://127.0.0.1:9"}, "new": {"url": "https://h", "tls": {"insecure": True}}}
    )
    await plane.start()
    now = plane.supervisor.instance.wall()

    def certificate(file: str, days: float, trouble: str = "", age: float = 0.0) -> CertificateStats:
        return CertificateStats("0.0.0.0:443", file, ("a.example",), now + days * 86400, now - age, trouble)

    plane.workers[0].say(certificates=[certificate("a", 90, age=60), certificate("b", 3), certificate("c", -1)])
    plane.workers[1].say(certificates=[certificate("a", 90, "a is broken", age=30), certificate("b", 3)])
    present = plane.supervisor.instance.tally.present
    await eventually(lambda: [len(stats.certificates) for _, stats in present()] == [3, 2])
    status = await plane.get("/api/v1/status")
    assert [(each["file"], each["trouble"]) for each in status["certificates"]] == [
        ("a", "a is broken"),
        ("b", None),
        ("c", None),
    ]
    unsafe, broken, soon, over = status["warnings"]
    assert unsafe == "new: any certificate is believed (tls.insecure)"
    assert broken.startswith("TLS on 0.0.0.0:443: a is broken; what was loaded at ")
    assert soon == "TLS on 0.0.0.0:443: the certificate b expires in 3.0 days"
    assert over == "TLS on 0.0.0.0:443: the certificate c has expired"


async def test_it_is_not_ready_when_every_worker_sheds(plane: Plane) -> None:
    for worker, sheds in ((0, "memory 255 of 256 MiB"), (1, "")):
        plane.workers[worker].say(sheds=sheds, held_bytes=255 * 2**20, budget_bytes=2**28)
    present = plane.supervisor.instance.tally.present
    await plane.heard(partial(_are, 2, lambda: len(list(present()))))
    status = await plane.get("/api/v1/status")
    assert status["ready"] is True
    assert status["warnings"] == ["worker 0 sheds: memory 255 of 256 MiB"]
    assert [worker["sheds"] for worker in status["workers"]] == ["memory 255 of 256 MiB", None]
    assert (status["workers"][0]["held_bytes"], status["workers"][0]["budget_bytes"]) == (255 * 2**20, 2**28)

    plane.workers[1].say(sheds="clients 9 of 9")
    await plane.heard(lambda: plane.supervisor.instance.not_ready() != [])
    code, body = await plane.ask("GET", "/readyz")
    assert (code, body["reasons"]) == (
        503,
        ["worker 0 sheds: memory 255 of 256 MiB", "worker 1 sheds: clients 9 of 9"],
    )
    warnings = (await plane.get("/api/v1/status"))["warnings"]
    assert warnings == [f"not ready: {reason}" for reason in body["reasons"]]

    plane.workers[0].say()
    await plane.heard(lambda: plane.supervisor.instance.not_ready() == [])
    assert (await plane.ask("GET", "/readyz"))[0] == 200

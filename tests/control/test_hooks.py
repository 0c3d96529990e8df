"""Alerts and webhooks, with a real supervisor and fake workers."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shlex
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from proxy.control import file_store, hook_memory, hooks, rollouts
from proxy.control.audit import Audit, Entry
from proxy.control.changes import Changed, Changes
from proxy.control.hook_limit import BURST
from proxy.control.inherit import places_of
from proxy.control.rollouts import Rollouts
from proxy.core.rollout import Rollout
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane
from tests.control.helpers import eventually

pytestmark = pytest.mark.asyncio
ALERTS = "/api/v1/hooks/alertmanager"
WEBHOOK = "/api/v1/hooks/webhook"
README = Path(__file__).resolve().parents[2] / "README.md"
ROUTES = [{"name": name, "match": {"path": f"/{name}"}} for name in ("events", "orders")]
RULES = [
    {"labels": {"alertname": "NewFails", "severity": "critical"}, "route": "events", "action": "revert"},
    {"labels": {"alertname": "NewSlow"}, "route": "*", "action": "pause"},
    {"labels": {"alertname": "Everything"}, "route": "*", "action": "revert"},
]
HOOKS = {"alertmanager": {"rules": RULES}, "webhook": {}}
STEPS = [{"weight": 10, "hold": 60}, {"weight": 50, "hold": 30}]


@pytest.fixture(autouse=True)
def ticks_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "TICK", 3600.0)


@pytest_asyncio.fixture
async def plane(make_plane: MakePlane) -> AsyncIterator[Plane]:
    made = make_plane(routes=ROUTES, hooks=HOOKS, admin={"tcp": "127.0.0.1:0"})
    await made.start()
    for each in ROUTES:
        await turn(made, "stage", each["name"], stage="live", weight=25)
    yield made


async def turn(plane: Plane, what: str, route: Any = "events", **body: Any) -> None:
    method = "PUT" if what in ("weight", "stage") else "POST"
    status, answer = await plane.ask(method, f"/api/v1/routes/{route}/{what}", body)
    assert status == 200, answer


def weights(plane: Plane) -> list[float]:
    state = plane.supervisor.instance.state
    assert state is not None
    return [state.routes[name].weight for name in ("events", "orders")]


def alert(plane: Plane, name: str = "NewFails", *, age: float = 60.0, status: str = "firing", **more: Any) -> Any:
    started = datetime.fromtimestamp(plane.supervisor.instance.wall() - age, UTC)
    return {
        "status": status,
        "labels": {"alertname": name, "severity": "critical"},
        "annotations": {"summary": "new fails"},
        "startsAt": started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": "c0ffee",
    } | more


def notification(*alerts: Any, **more: Any) -> Any:
    return {
        "version": "4", "groupKey": '{}:{alertname="NewFails"}', "truncatedAlerts": 0, "status": "firing",
        "receiver": "crossfade", "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
        "externalURL": "http://alertmanager", "alerts": list(alerts),
    } | more  # fmt: skip


async def post(plane: Plane, *alerts: Any) -> Any:
    status, answer = await plane.ask("POST", ALERTS, notification(*alerts))
    assert status == 200, answer
    return answer


async def newest(plane: Plane, action: str) -> Any:
    """The newest entry of the audit trail with this action."""
    return next(each for each in (await plane.get("/api/v1/history"))["entries"] if each["action"] == action)


async def actions(plane: Plane) -> list[str]:
    history = await plane.get("/api/v1/history")
    return [f"{entry['action']} {entry['route']}" for entry in reversed(history["entries"])][4:]


async def test_an_alert_reverts_and_why_names_it(plane: Plane) -> None:
    answer = await post(plane, alert(plane))
    await eventually(lambda: weights(plane) == [0, 25], "the revert")
    assert answer == {
        "outcomes": [
            {"route": "events", "action": "revert", "outcome": "reverted", "detail": "from 25 % to 0 %"}
        ],
        "idle": {},
        "dry_run": False,
    }  # fmt: skip
    why = await plane.get("/api/v1/why?route=events")
    assert why["latched"] is True
    assert "the alert NewFails is firing (severity=critical): new fails" in why["text"]
    assert why["entry"]["actor"] == "unix socket"
    evidence = why["entry"]["evidence"]
    assert (evidence["trigger"], evidence["alert"], evidence["labels"]["severity"]) == ("alert", "NewFails", "critical")
    assert (evidence["group_key"], evidence["annotations"]) == ('{}:{alertname="NewFails"}', {"summary": "new fails"})
    assert why["seconds_to_detect"] == evidence["seconds_to_detect"] >= 0, "since it began to fire"
    route = (await plane.get("/api/v1/status"))["routes"][0]
    assert (route["stage"], route["latched"]) == ("dualwrite", True)
    metrics = await plane.get("/metrics")
    assert 'crossfade_reverts_total{reason="alert"} 1.0' in metrics
    assert 'crossfade_hook_alerts_total{hook="alertmanager",outcome="reverted"} 1.0' in metrics


async def test_a_repeated_one_does_not_revert_again_and_a_new_one_does(plane: Plane) -> None:
    first = alert(plane)
    await post(plane, first)
    await turn(plane, "rearm")
    await turn(plane, "weight", weight=10)
    assert (await post(plane, first))["idle"] == {"known": 1}
    await plane.restart()
    await plane.until_ready()
    assert (await post(plane, first))["idle"] == {"known": 1}
    assert weights(plane) == [10, 25]
    plane.clock.now += 60
    await post(plane, alert(plane))
    await eventually(lambda: weights(plane) == [0, 25], "the revert")


async def test_the_same_one_at_the_same_time_is_done_once(plane: Plane) -> None:
    answers = await asyncio.gather(*(post(plane, alert(plane)) for _ in range(5)))
    assert sum(len(each["outcomes"]) for each in answers) == 1
    assert (await actions(plane)).count("revert events") == 1


async def test_one_that_found_weight_0_counts_when_it_is_repeated_later(plane: Plane) -> None:
    """A person may raise the weight while it goes on firing."""
    await turn(plane, "rollback")
    (outcome,) = (await post(plane, alert(plane)))["outcomes"]
    assert (outcome["outcome"], outcome["detail"]) == ("nothing", "the weight is 0 already")
    await turn(plane, "weight", weight=5)
    (outcome,) = (await post(plane, alert(plane)))["outcomes"]
    assert outcome["outcome"] == "reverted"


async def test_one_that_found_the_latch_closed_is_known_to_who_opens_it(plane: Plane) -> None:
    first = alert(plane)
    await post(plane, first)
    plane.clock.now += 10
    other = alert(plane, fingerprint="other")
    (outcome,) = (await post(plane, other))["outcomes"]
    assert (outcome["outcome"], outcome["detail"]) == ("nothing", "the route is latched already")
    await turn(plane, "rearm")
    await turn(plane, "weight", weight=10)
    assert (await post(plane, first, other))["idle"] == {"known": 2}
    await post(plane, other | {"status": "resolved"})
    assert "alert-resolved events" not in await actions(plane), "it did nothing"
    await post(plane, first | {"status": "resolved"})
    assert (await actions(plane))[-1] == "alert-resolved events"
    assert weights(plane) == [10, 25]


async def test_a_revert_at_weight_0_pauses_the_rollout_that_would_raise_it(plane: Plane) -> None:
    """Copies to new trip the alert before it has a weight."""
    await turn(plane, "rollback")
    status, _ = await plane.ask("POST", "/api/v1/routes/events/rollout", {"steps": STEPS})
    assert status == 201
    first = alert(plane)
    (outcome,) = (await post(plane, first))["outcomes"]
    assert (outcome["action"], outcome["outcome"]) == ("revert", "paused")
    assert outcome["detail"] == "the weight is 0 already; the rollout is paused at step 1"
    for _ in range(4):
        plane.clock.now += 0.5
        await plane.supervisor._rollouts.tick()
    assert weights(plane) == [0, 25]
    entry = await newest(plane, "rollout-pause")
    assert entry["reason"] == "the alert NewFails is firing (severity=critical): new fails"
    assert (entry["evidence"]["trigger"], entry["evidence"]["fingerprint"]) == ("alert", "c0ffee")
    status, _ = await plane.ask("POST", "/api/v1/routes/events/rollout/resume", {})
    assert status == 200
    assert (await post(plane, first))["idle"] == {"known": 1}, "whoever resumed it has seen why"


async def test_a_weight_that_is_raised_just_before_the_pause_is_taken_back(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    await turn(plane, "rollback")
    await plane.ask("POST", "/api/v1/routes/events/rollout", {"steps": STEPS})
    pause = Rollouts.pause

    async def late(self: Rollouts, *given: Any) -> Rollout:
        await self.tick()
        assert weights(plane) == [10, 25]
        return await pause(self, *given)

    monkeypatch.setattr(Rollouts, "pause", late)
    (outcome,) = (await post(plane, alert(plane)))["outcomes"]
    assert (outcome["outcome"], outcome["detail"]) == ("reverted", "from 10 % to 0 %")
    assert weights(plane) == [0, 25]


async def test_a_paused_rollout_at_weight_0_leaves_a_revert_to_be_done(plane: Plane) -> None:
    await turn(plane, "rollback")
    await plane.ask("POST", "/api/v1/routes/events/rollout", {"steps": STEPS})
    await plane.ask("POST", "/api/v1/routes/events/rollout/pause", {})
    (outcome,) = (await post(plane, alert(plane)))["outcomes"]
    assert (outcome["outcome"], outcome["detail"]) == ("nothing", "the weight is 0 already")
    await plane.ask("POST", "/api/v1/routes/events/rollout/resume", {})
    (outcome,) = (await post(plane, alert(plane)))["outcomes"]
    assert outcome["outcome"] == "paused"


async def test_one_ends_and_another_one_fires_in_the_same_notification(plane: Plane) -> None:
    """The old one is too old to be remembered any longer."""
    old = alert(plane, age=86_300, fingerprint="old")
    await post(plane, old)
    plane.clock.now += 200
    await turn(plane, "rearm")
    await turn(plane, "weight", weight=10)
    answer = await post(plane, old | {"status": "resolved"}, alert(plane, fingerprint="new"))
    assert ([each["outcome"] for each in answer["outcomes"]], answer["idle"]) == (["reverted"], {"resolved": 1})
    assert (await actions(plane))[-3:] == ["revert events", "revert-applied events", "alert-resolved events"]


async def test_all_routes(plane: Plane) -> None:
    answer = await post(plane, alert(plane, "Everything"))
    assert [each["route"] for each in answer["outcomes"]] == ["events", "orders"]
    await eventually(lambda: weights(plane) == [0, 0], "the reverts")
    for name in ("events", "orders"):
        assert (await plane.get(f"/api/v1/why?route={name}"))["latched"] is True


async def test_an_alert_pauses_the_rollout_under_way(plane: Plane) -> None:
    await turn(plane, "rollback")
    status, _ = await plane.ask("POST", "/api/v1/routes/events/rollout", {"steps": STEPS})
    assert status == 201
    answer = await post(plane, alert(plane, "NewSlow"))
    assert [(each["route"], each["outcome"], each["detail"]) for each in answer["outcomes"]] == [
        ("events", "paused", "at step 1"),
        ("orders", "nothing", "no rollout is under way"),
    ]
    rollout = await plane.get("/api/v1/routes/events/rollout")
    assert (rollout["phase"], rollout["reason"]) == ("paused", "the alert NewSlow is firing: new fails")
    evidence = (await newest(plane, "rollout-pause"))["evidence"]
    assert {name: evidence[name] for name in ("trigger", "fingerprint", "group_key", "step", "of")} == {
        "trigger": "alert", "fingerprint": "c0ffee", "group_key": '{}:{alertname="NewFails"}', "step": 1, "of": 2,
    }  # fmt: skip
    assert evidence["labels"]["alertname"] == "NewSlow"
    plane.clock.now += 10
    again = await post(plane, alert(plane, "NewSlow", fingerprint="other"))
    assert again["outcomes"][0]["detail"] == "the rollout is paused already"
    status, _ = await plane.ask("POST", "/api/v1/routes/events/rollout/resume", {})
    assert status == 200
    assert (await post(plane, alert(plane, "NewSlow")))["idle"] == {"known": 1}
    assert (await plane.get("/api/v1/routes/events/rollout"))["phase"] == "moving"


async def test_resolved_is_noted_once_and_raises_nothing(plane: Plane) -> None:
    assert (await post(plane, alert(plane, status="resolved")))["idle"] == {"resolved": 1}
    assert await actions(plane) == []
    await post(plane, alert(plane))
    for _ in range(2):
        answer = await post(plane, alert(plane, status="resolved"))
        assert (answer["outcomes"], answer["idle"]) == ([], {"resolved": 1})
    assert await actions(plane) == ["revert events", "revert-applied events", "alert-resolved events"]
    assert weights(plane) == [0, 25]
    assert (await plane.get("/api/v1/why?route=events"))["latched"] is True


async def test_old_and_unmatched_ones_do_nothing(plane: Plane) -> None:
    early = alert(plane, "Other", age=-3600)
    answer = await post(plane, alert(plane, age=86_401), early, alert(plane, "Other"), alert(plane, labels={}))
    assert answer["idle"] == {"ignored": 1, "unmatched": 3}
    assert weights(plane) == [25, 25]
    assert await actions(plane) == []


async def test_what_could_not_be_written_is_sent_again(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alertmanager repeats for a 5xx; what was done in the meantime is known."""
    write = Audit.write

    async def fails(self: Audit, entry: Entry) -> Entry:
        if entry.action == "revert" and entry.route == "events":
            raise OSError(28, "No space left on device")
        return await write(self, entry)

    monkeypatch.setattr(Audit, "write", fails)
    status, problem = await plane.ask("POST", ALERTS, notification(alert(plane, "Everything")))
    assert (status, "revert of events" in problem["detail"]) == (503, True)
    await eventually(lambda: weights(plane) == [25, 0], "the other revert")
    monkeypatch.undo()
    answer = await post(plane, alert(plane, "Everything"))
    assert ([each["route"] for each in answer["outcomes"]], answer["idle"]) == (["events"], {"known": 1})


async def test_what_could_not_be_remembered_is_sent_again(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hook_memory, "write_whole", full)
    status, problem = await plane.ask("POST", ALERTS, notification(alert(plane)))
    assert status == 503
    assert problem["detail"] == (
        "what alerts did, or that they have ended, could not be kept, so it may be done again: No space left on device "
        "(done: revert of events: from 25 % to 0 %)"
    )
    await eventually(lambda: weights(plane) == [0, 25], "the revert")
    assert 'hook_alerts_total{hook="alertmanager",outcome="reverted"} 1.0' in await plane.get("/metrics")


async def test_one_of_the_future_is_sent_again_until_its_time_comes(plane: Plane) -> None:
    """The clock of this machine may be behind."""
    early = alert(plane, age=-600)
    status, problem = await plane.ask("POST", ALERTS, notification(early, alert(plane, "Everything")))
    assert (status, weights(plane)) == (503, [0, 0])
    assert problem["detail"] == (
        "1 alerts did nothing yet: an alert begins in 600 s: the clock of this machine is behind, or another one's is "
        "ahead (done: revert of events: from 25 % to 0 %, revert of orders: from 25 % to 0 %)"
    )
    assert 'outcome="future"} 1.0' in await plane.get("/metrics")
    warnings = (await plane.get("/api/v1/status"))["warnings"]
    assert any(each.startswith("hooks: an alert begins in 600 s") for each in warnings)
    plane.clock.now += 301
    assert not any("hooks:" in each for each in (await plane.get("/api/v1/status"))["warnings"])
    await turn(plane, "rearm")
    await turn(plane, "weight", weight=10)
    assert (await post(plane, early))["outcomes"][0]["outcome"] == "reverted"


async def test_a_warning_of_one_that_is_never_due_ends(plane: Plane) -> None:
    never = alert(plane) | {"startsAt": "2990-01-01T00:00:00Z"}
    assert (await plane.ask("POST", ALERTS, notification(never)))[0] == 503
    assert any("hooks:" in each for each in (await plane.get("/api/v1/status"))["warnings"])
    plane.clock.now += hooks.WARN_FOR + 1
    assert not any("hooks:" in each for each in (await plane.get("/api/v1/status"))["warnings"])


async def test_what_one_meets_is_nothing_to_the_others(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    turn_dials = Changes.turn

    async def breaks(self: Changes, name: str, *given: Any, **more: Any) -> Changed:
        if name == "events":
            raise LookupError("a bug")
        return await turn_dials(self, name, *given, **more)

    monkeypatch.setattr(Changes, "turn", breaks)
    status, problem = await plane.ask("POST", ALERTS, notification(alert(plane, "Everything")))
    assert (status, weights(plane)) == (503, [25, 0])
    assert problem["detail"] == (
        "revert of events: unexpected error; the supervisor's log has it (done: revert of orders: from 25 % to 0 %)"
    )
    monkeypatch.undo()
    answer = await post(plane, alert(plane, "Everything"))
    assert ([each["route"] for each in answer["outcomes"]], answer["idle"]) == (["events"], {"known": 1})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"annotations": {"summary": "\ud800"}}, "$.alerts[1].annotations.summary"),
        ({"labels": {"alertname": "NewFails", "\udfff": "x"}}, "$.alerts[1].labels"),
        ({"fingerprint": "\ud800"}, "$.alerts[1].fingerprint"),
    ],
)
async def test_half_a_surrogate_pair_is_refused_by_name(plane: Plane, change: dict[str, Any], field: str) -> None:
    status, problem = await plane.ask("POST", ALERTS, notification(alert(plane, "Other"), alert(plane) | change))
    assert (status, problem["detail"]) == (400, f"half a surrogate pair is no character - at `{field}`")
    assert weights(plane) == [25, 25]


async def test_the_webhook_refuses_half_a_surrogate_pair(plane: Plane) -> None:
    body = {"action": "revert", "route": "events", "reason": "a test"}
    for change in ({"reason": "\ud800"}, {"\ud800": 1}):
        assert (await plane.ask("POST", WEBHOOK, body | change))[0] == 400
    data = json.dumps(body).encode()
    head = f"POST {WEBHOOK} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    reader, writer = await asyncio.open_unix_connection(places_of(plane.supervisor.instance.settings).admin_socket)
    writer.write(head.encode() + b"X-Actor: \xff\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
    answer = await reader.read()
    writer.close()
    assert (answer.split()[1], b"X-Actor must be UTF-8" in answer) == (b"400", True)
    assert weights(plane) == [25, 25]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"version": "3"}, "$.version"),
        ({"groupKey": None}, "$.groupKey"),
        ({"alerts": [{"status": "firing"}]}, "$.alerts[0]"),
        ({"alerts": "none"}, "$.alerts"),
    ],
)
async def test_a_malformed_one_is_refused_by_name(plane: Plane, change: dict[str, Any], field: str) -> None:
    status, problem = await plane.ask("POST", ALERTS, notification() | change)
    assert status == 400
    assert field in problem["detail"]
    assert (await plane.ask("POST", ALERTS, None))[0] == 400
    assert (await plane.ask("POST", ALERTS, []))[0] == 400


async def test_who_may_post(plane: Plane) -> None:
    tokens = {}
    for role in ("viewer", "operator", "hook"):
        _, made = await plane.ask("POST", "/api/v1/tokens", {"name": role, "role": role})
        tokens[role] = made["token"]
    url = plane.supervisor.admin.tcp
    async with aiohttp.ClientSession() as session:

        async def status(path: str, token: str, body: Any) -> int:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            method = "POST" if body is not None else "GET"
            async with session.request(method, url + path, json=body, headers=headers) as answer:
                return answer.status

        body, hook = notification(alert(plane)), tokens["hook"]
        asked = [await status(ALERTS, token, body) for token in ("", "cf_forged", tokens["viewer"])]
        assert asked == [401, 401, 403]
        assert weights(plane) == [25, 25]
        assert await status(ALERTS, hook, body) == 200
        assert await status(ALERTS, tokens["operator"], body) == 200
        others = [
            await status("/api/v1/status", hook, None),
            await status("/api/v1/routes/events/rearm", hook, {}),
            await status("/api/v1/tokens", hook, {"name": "more", "role": "operator"}),
        ]
        assert others == [403, 403, 403]
    assert (await plane.get("/api/v1/why?route=events"))["entry"]["actor"] == "token hook"


async def test_a_flood_is_refused(plane: Plane) -> None:
    for _ in range(int(BURST)):
        await post(plane)
    async with plane.session().post(f"http://localhost{ALERTS}", json=notification()) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
        assert answer.content_type == "application/problem+json"
    assert 'crossfade_hook_alerts_total{hook="alertmanager",outcome="refused"} 1.0' in await plane.get("/metrics")
    body = {"action": "pause", "route": "events", "reason": "another hook"}
    assert (await plane.ask("POST", WEBHOOK, body))[0] == 200
    plane.clock.now += 1
    await post(plane)


async def test_who_is_refused_is_not_read(plane: Plane) -> None:
    """And shuts out no other token."""
    tokens = [(await plane.ask("POST", "/api/v1/tokens", {"name": n, "role": "hook"}))[1]["token"] for n in "ab"]
    url = plane.supervisor.admin.tcp + ALERTS
    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:

        async def status(token: str, data: bytes) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            async with session.post(url, data=data, headers=headers) as answer:
                return answer.status

        noise = [await status(tokens[0], b"{") for _ in range(int(BURST) + 1)]
        assert noise == [400] * int(BURST) + [429]
        assert await status(tokens[1], json.dumps(notification(alert(plane))).encode()) == 200
    assert weights(plane) == [0, 25]


async def test_a_body_that_is_too_large_is_refused(plane: Plane) -> None:
    huge = notification(*(alert(plane, annotations={"summary": "x" * 2000}) for _ in range(600)))
    headers = {"Content-Type": "application/json"}
    data = io.BytesIO(json.dumps(huge).encode())
    async with plane.session().post(f"http://localhost{ALERTS}", data=data, headers=headers) as answer:
        assert answer.status == 413
    assert weights(plane) == [25, 25]


async def test_many_alerts_are_one_revert(plane: Plane) -> None:
    answer = await post(plane, *(alert(plane, fingerprint=f"f{number}") for number in range(1000)))
    assert len(answer["outcomes"]) == 1
    assert (await plane.get("/api/v1/why?route=events"))["entry"]["evidence"]["further_alerts"] == 999
    assert 'outcome="reverted"} 1000.0' in await plane.get("/metrics")
    await post(plane, *(alert(plane, fingerprint=f"f{number}", status="resolved") for number in range(1000)))
    assert await actions(plane) == ["revert events", "revert-applied events", "alert-resolved events"]


async def test_more_alerts_than_are_remembered_are_known_when_repeated(plane: Plane) -> None:
    many = [alert(plane, "Everything", fingerprint=f"f{number}", annotations={}) for number in range(2100)]
    await post(plane, *many)
    for name in ("events", "orders"):
        await turn(plane, "rearm", name)
        await turn(plane, "weight", name, weight=10)
    answer = await post(plane, *many)
    assert (answer["outcomes"], answer["idle"]) == ([], {"known": 4200})
    assert weights(plane) == [10, 10]


async def test_the_end_of_an_alert_is_a_short_line_and_of_few(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a hook's token fills no disk."""
    labels = {"alertname": "NewFails", "severity": "critical"} | {f"l{n}" + "k" * 290: "v" * 300 for n in range(30)}
    big = alert(plane, labels=labels, fingerprint="f" * 5000)
    await post(plane, big)
    path = places_of(plane.supervisor.instance.settings).audit
    before = path.stat().st_size
    await post(plane, big | {"status": "resolved"})
    assert 100 < path.stat().st_size - before < 1000
    entry = (await plane.get("/api/v1/history"))["entries"][0]
    assert (entry["action"], entry["evidence"]) == (
        "alert-resolved", {"alert": "NewFails", "fingerprint": "f" * 64},
    )  # fmt: skip
    before = path.stat().st_size
    for number in range(5):
        each = alert(plane, fingerprint=f"f{number}", age=50 - number)
        await post(plane, each)
        await post(plane, each | {"status": "resolved"})
    assert path.stat().st_size == before, "they did nothing"

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    await turn(plane, "rearm")
    await turn(plane, "weight", weight=10)
    each = alert(plane, age=0)
    await post(plane, each)
    monkeypatch.setattr(hook_memory, "write_whole", full)
    for _ in range(hooks.ENDS + 9):
        status, problem = await plane.ask("POST", ALERTS, notification(each | {"status": "resolved"}))
        assert (status, "could not be kept" in problem["detail"]) == (503, True)
        plane.clock.now += 1
    assert path.read_text().count('"alert-resolved"') == hooks.ENDS + 1, "one of them a minute later"
    assert 'outcome="unnoted"} 9.0' in await plane.get("/metrics")


async def test_the_webhook(plane: Plane) -> None:
    body = {"action": "revert", "route": "events", "reason": "the canary job says so"}
    status, answer = await plane.ask("POST", WEBHOOK, body | {"dry_run": True})
    assert (status, answer["dry_run"], answer["outcomes"][0]["outcome"]) == (200, True, "reverted")
    assert weights(plane) == [25, 25]
    status, _ = await plane.ask("POST", WEBHOOK, body)
    assert status == 200
    await eventually(lambda: weights(plane) == [0, 25], "the revert")
    why = await plane.get("/api/v1/why?route=events")
    assert (why["latched"], why["entry"]["evidence"]["trigger"]) == (True, "webhook")
    assert "the canary job says so" in why["text"]
    _, answer = await plane.ask("POST", WEBHOOK, body | {"route": "*", "action": "pause"})
    assert [each["outcome"] for each in answer["outcomes"]] == ["nothing", "nothing"]


async def test_what_the_readme_posts_is_taken(plane: Plane) -> None:
    """The command of the README, with the socket of this instance in the place of its address."""
    (command,) = re.findall(rf"^curl .*{WEBHOOK}(?:.*\\\n)*.*", README.read_text(), re.MULTILINE)
    words = shlex.split(command)
    headers = dict(words[at + 1].split(": ") for at, word in enumerate(words) if word == "-H")
    assert headers == {"Authorization": "Bearer $TOKEN", "Content-Type": "application/json"}
    status, answer = await plane.ask("POST", WEBHOOK, json.loads(words[words.index("-d") + 1]))
    assert (status, answer["outcomes"][0]["outcome"]) == (200, "reverted")


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"action": "raise"}, 400, "$.action"),
        ({"reason": ""}, 400, "$.reason"),
        ({"reason": "x" * 1001}, 400, "$.reason"),
        ({"weight": 100}, 400, "weight"),
        ({"route": "nowhere"}, 403, "does not let"),
        ({"route": "orders"}, 403, "does not let"),
        ({"action": "pause"}, 403, "does not let"),
    ],
)
async def test_what_the_webhook_may_not(make_plane: MakePlane, change: Any, status: int, says: str) -> None:
    plane = make_plane(routes=ROUTES, hooks={"webhook": {"routes": ["events"], "actions": ["revert"]}})
    await plane.start()
    body = {"action": "revert", "route": "events", "reason": "a test"} | change
    found, problem = await plane.ask("POST", WEBHOOK, body)
    assert found == status
    assert says in problem["detail"]


async def test_names_of_routes_are_not_told(plane: Plane) -> None:
    body = {"action": "revert", "route": "nowhere", "reason": "a test"}
    status, problem = await plane.ask("POST", WEBHOOK, body)
    assert (status, problem["detail"]) == (404, "there is no route 'nowhere'")
    assert "orders" not in json.dumps(problem)


async def test_a_star_is_what_the_webhook_may_be_about(make_plane: MakePlane) -> None:
    plane = make_plane(routes=ROUTES, hooks={"webhook": {"routes": ["orders"]}})
    await plane.start()
    _, answer = await plane.ask("POST", WEBHOOK, {"action": "revert", "route": "*", "reason": "a test"})
    assert [each["route"] for each in answer["outcomes"]] == ["orders"]


async def test_without_configuration_there_is_no_hook(make_plane: MakePlane) -> None:
    plane = make_plane()
    await plane.start()
    body = {"action": "revert", "route": "events", "reason": "a test"}
    for path, sent in ((ALERTS, notification()), (WEBHOOK, body)):
        status, problem = await plane.ask("POST", path, sent)
        assert (status, "the configuration file has no hooks." in problem["detail"]) == (404, True)


async def test_a_routing_that_cannot_be_written_is_an_error(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file_store, "write_whole", full)
    body = {"action": "revert", "route": "events", "reason": "a test"}
    status, problem = await plane.ask("POST", WEBHOOK, body)
    assert (status, "revert of events" in problem["detail"]) == (503, True)
    assert weights(plane) == [25, 25]
    assert 'hook_alerts_total{hook="webhook",outcome="failed"} 1.0' in await plane.get("/metrics")

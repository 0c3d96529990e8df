"""What the operations do beside changing the routing: the record, dead letters, tokens, drain."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from proxy.control.account import explain
from proxy.control.audit import Entry
from proxy.control.link import SideStats
from tests.control.conftest import MakePlane
from tests.control.fakes import FakeLedger, Plane, balance, ledger_stats

pytestmark = pytest.mark.asyncio


def receipt(id_: str, *, old: str | None = "delivered", new: str | None = "dead") -> dict[str, Any]:
    sides = {"old": old, "new": new}
    return {"id": id_} | {
        name: {"state": state, "status": 503, "attempts": 3} if state else None for name, state in sides.items()
    }


def ledger_of(plane: Plane, **answers: Any) -> FakeLedger:
    assert plane.ledger is not None
    plane.ledger.answers = answers
    return plane.ledger


def by_id(*dead: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A ledger in which these events are dead at both sides."""

    def events(args: dict[str, Any]) -> dict[str, Any]:
        assert args["state"] == "dead"
        return {"events": [receipt(args["id"], old="dead")] if args["id"] in dead else [], "next_after_seq": None}

    return events


async def last_entry(plane: Plane) -> Any:
    return (await plane.get("/api/v1/history?limit=1"))["entries"][0]


async def test_events_are_asked_for_with_every_filter(plane: Plane) -> None:
    ledger = ledger_of(plane, events={"events": [receipt("a")], "next_after_seq": 17})
    answer = await plane.get(
        "/api/v1/ledger/events?route=events&side=new&state=pending&since=1970-01-01T00:00:01Z&after_seq=5&limit=7"
    )
    assert answer == {"events": [receipt("a")], "next_after_seq": 17}
    assert ledger.asked[0].args == {
        "route": "events",
        "side": 1,
        "state": "pending",
        "since_ns": 1_000_000_000,
        "after_seq": 5,
        "limit": 7,
        "id": None,
    }
    await plane.get("/api/v1/dead?side=old")
    assert ledger.asked[1].args["state"] == "dead"
    assert ledger.asked[1].args["side"] == 0


@pytest.mark.parametrize("query", ["side=both", "state=gone", "state=not_owed", "since=yesterday", "after_seq=-1"])
async def test_bad_filters(plane: Plane, query: str) -> None:
    status, _ = await plane.ask("GET", f"/api/v1/ledger/events?{query}")
    assert status == 422


async def test_one_event(plane: Plane) -> None:
    def events(args: dict[str, Any]) -> dict[str, Any]:
        return {"events": [receipt("x/1")] if args["id"] == "x/1" else [], "next_after_seq": None}

    ledger_of(plane, events=events)
    assert (await plane.get("/api/v1/ledger/events/x%2F1"))["receipts"] == [receipt("x/1")]
    status, problem = await plane.ask("GET", "/api/v1/ledger/events/y")
    assert status == 404
    assert "'y'" in problem["detail"]


async def test_the_summary_with_the_present_beside_it(plane: Plane) -> None:
    sides = [
        {"route": "events", "side": 1, "balance": balance(pending=2)},
        {"route": "gone", "side": 0, "balance": balance(delivered=1)},
    ]
    ledger = ledger_of(plane, summary={"balanced": True, "sides": sides, "segments": 2, "receipts": 3, "gaps": []})
    stats = ledger_stats()
    stats.sides[1] = SideStats("events", 1, "new", balance(pending=2), 3.25, 2, "401")
    ledger.tell(stats)
    await plane.heard(lambda: plane.supervisor.instance.tally.ledger)
    answer = await plane.get("/api/v1/ledger")
    assert (answer["balanced"], answer["segments"], answer["gaps"]) == (True, 2, [])
    assert answer["sides"] == [
        {
            "route": "events",
            "side": "new",
            "backend": "new",
            "balance": balance(pending=2),
            "oldest_pending_age": 3.25,
            "marked": 2,
            "paused": "401",
        },
        {
            "route": "gone",
            "side": "old",
            "backend": "",
            "balance": balance(delivered=1),
            "oldest_pending_age": 0.0,
            "marked": 0,
            "paused": "",
        },
    ]


async def test_without_a_ledger_the_record_is_unavailable(make_plane: MakePlane) -> None:
    plane = make_plane()
    await plane.start(everybody=False)
    for method, path, body in (
        ("GET", "/api/v1/ledger", None),
        ("GET", "/api/v1/dead", None),
        ("POST", "/api/v1/dead/requeue", {"all": True}),
    ):
        status, problem = await plane.ask(method, path, body)
        assert status == 503
        assert "ledger process is not connected" in problem["detail"]


async def test_what_the_ledger_refuses_is_422(plane: Plane) -> None:
    ledger_of(plane, dead_requeue="its segment is gone")
    status, problem = await plane.ask("POST", "/api/v1/dead/requeue", {"all": True})
    assert (status, problem["detail"]) == (422, "its segment is gone")


async def test_dead_letters_are_moved_after_an_audit_line(plane: Plane) -> None:
    seen: list[str] = []

    def move(_args: dict[str, Any]) -> dict[str, Any]:
        seen.append(json.loads(plane.places.audit.read_bytes().splitlines()[-1])["action"])
        return {"moved": 2}

    ledger = ledger_of(plane, events=by_id("a", "b"), dead_requeue=move, dead_discard=move)
    status, answer = await plane.ask("POST", "/api/v1/dead/requeue", {"ids": ["a", "b"], "reason": "mended"})
    assert (status, answer) == (200, {"moved": 2, "dry_run": False})
    assert ledger.asked[2].args == {"ids": ["a", "b"], "side": None, "route": None}
    await plane.ask("POST", "/api/v1/dead/discard", {"all": True, "side": "new", "route": "events"})
    assert ledger.asked[3].args == {"ids": None, "side": 1, "route": "events"}
    assert seen == ["dead-requeue", "dead-discard"]
    entry = await last_entry(plane)
    assert entry["evidence"] == {"ids": None, "all": True, "side": "new"}


@pytest.mark.parametrize("body", [{}, {"ids": ["a"], "all": True}, {"all": False}, {"ids": "a"}, {"side": "left"}])
async def test_dead_letters_must_be_named(plane: Plane, body: dict[str, Any]) -> None:
    for operation in ("requeue", "discard"):
        assert (await plane.ask("POST", f"/api/v1/dead/{operation}", body))[0] == 422


async def test_a_dry_run_counts_and_moves_nothing(plane: Plane) -> None:
    pages = {
        0: {"events": [receipt("a"), receipt("b", old="dead")], "next_after_seq": 2},
        2: {"events": [receipt("c", old=None), receipt("d", new="pending")], "next_after_seq": None},
    }
    ledger = ledger_of(plane, events=lambda args: pages[args["after_seq"]])
    for body, moved in (
        ({"all": True}, 4),
        ({"all": True, "side": "new"}, 3),
    ):
        status, answer = await plane.ask("POST", "/api/v1/dead/discard", body | {"dry_run": True})
        assert (status, answer) == (200, {"moved": moved, "dry_run": True})
    ledger.answers["events"] = by_id("a", "b")
    named: tuple[tuple[dict[str, Any], int], ...] = (({"ids": ["a", "b"]}, 4), ({"ids": ["b"], "side": "old"}, 1))
    for chosen, moved in named:
        status, answer = await plane.ask("POST", "/api/v1/dead/discard", chosen | {"dry_run": True})
        assert (status, answer) == (200, {"moved": moved, "dry_run": True})
    assert {each.op for each in ledger.asked} == {"events"}
    assert (await last_entry(plane))["action"] == "route-added"


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("operation", ["requeue", "discard"])
async def test_ids_that_name_no_dead_letter_are_told(plane: Plane, operation: str, dry_run: bool) -> None:
    ledger = ledger_of(plane, events=by_id("a"))
    body = {"ids": ["x", "a", "y"], "dry_run": dry_run}
    status, problem = await plane.ask("POST", f"/api/v1/dead/{operation}", body)
    assert (status, problem["ids"]) == (404, ["x", "y"])
    assert "x, y" in problem["detail"]
    assert {each.op for each in ledger.asked} == {"events"}
    assert (await last_entry(plane))["action"] == "route-added"


async def test_replay_needs_bodies(plane: Plane) -> None:
    status, problem = await plane.ask("POST", "/api/v1/ledger/replay", {"since": 0, "side": "new"})
    assert status == 422
    assert "retain_bodies" in problem["detail"]


async def test_replay(make_plane: MakePlane) -> None:
    plane = make_plane(ledger={"retain_bodies": True})
    await plane.start()
    page = {"events": [receipt("a", new="delivered"), receipt("b")], "next_after_seq": None}
    ledger = ledger_of(plane, replay={"replayed": 9, "without_body": 1}, events=page)
    body = {"since": "1970-01-01T00:00:01Z", "side": "new"}
    _, answer = await plane.ask("POST", "/api/v1/ledger/replay", body | {"dry_run": True})
    assert answer == {"replayed": 1, "without_body": 0, "dry_run": True}
    _, answer = await plane.ask("POST", "/api/v1/ledger/replay", body)
    assert answer == {"replayed": 9, "without_body": 1, "dry_run": False}
    assert ledger.asked[-1].op == "replay"
    assert ledger.asked[-1].args == {"since_ns": 10**9, "side": 1, "route": None}
    assert (await last_entry(plane))["action"] == "replay"
    for bad in ({"since": "x", "side": "new"}, {"since": 0}, {"side": "new"}, {"since": 0, "side": "left"}):
        assert (await plane.ask("POST", "/api/v1/ledger/replay", bad))[0] == 422


async def test_tokens_are_made_listed_and_revoked(plane: Plane) -> None:
    status, made = await plane.ask("POST", "/api/v1/tokens", {"name": "ci", "role": "operator"})
    assert status == 201
    assert made["token"].startswith("cf_")
    listed = (await plane.get("/api/v1/tokens"))["tokens"]
    assert [(each["name"], each["role"]) for each in listed] == [("ci", "operator")]
    assert made["token"] not in json.dumps(listed)
    assert made["token"] not in plane.places.audit.read_text()
    assert (await last_entry(plane))["evidence"] == {"name": "ci", "role": "operator"}
    status, problem = await plane.ask("POST", "/api/v1/tokens", {"name": "ci", "role": "viewer"})
    assert status == 422
    assert "already" in problem["detail"]
    assert (await plane.ask("DELETE", "/api/v1/tokens/ci", {"dry_run": True}))[0] == 200
    assert (await plane.ask("DELETE", "/api/v1/tokens/ci"))[0] == 200
    assert (await plane.ask("DELETE", "/api/v1/tokens/ci"))[0] == 404
    assert (await plane.get("/api/v1/tokens"))["tokens"] == []
    assert (await last_entry(plane))["action"] == "token-revoke"


@pytest.mark.parametrize(
    "body",
    [{"name": "", "role": "viewer"}, {"name": "a b", "role": "viewer"}, {"name": "a", "role": "root"}, {"name": "a"}],
)
async def test_bad_tokens(plane: Plane, body: dict[str, Any]) -> None:
    assert (await plane.ask("POST", "/api/v1/tokens", body))[0] == 422


async def test_drain_takes_readiness_away_and_asks_the_launcher(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(plane.supervisor.instance, "stop", lambda: asked.append(True))
    assert (await plane.ask("POST", "/api/v1/drain", {"dry_run": True})) == (202, {"draining": False, "dry_run": True})
    assert (await plane.ask("GET", "/readyz"))[0] == 200
    assert (await plane.ask("POST", "/api/v1/drain", {"reason": "kernel"}))[0] == 202
    assert asked == [True]
    status, body = await plane.ask("GET", "/readyz")
    assert (status, body) == (503, {"ready": False, "reasons": ["draining"]})
    assert (await plane.ask("GET", "/healthz")) == (200, {"status": "ok"})
    assert (await plane.get("/api/v1/status"))["draining"] is True
    assert (await last_entry(plane))["reason"] == "kernel"


async def test_an_unexpected_error_is_a_500_without_its_text(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("inner secret")

    monkeypatch.setattr(plane.supervisor.instance.tokens, "listed", broken)
    status, problem = await plane.ask("GET", "/api/v1/tokens")
    assert status == 500
    assert "inner secret" not in json.dumps(problem)
    assert "a request failed" in caplog.text


async def test_explanations() -> None:
    entry = Entry("T", 3, 2, "crossfade", "revert", "r", {"weight": 25.0}, {"weight": 0.0}, "the breaker is open")
    assert explain("r", None, False) == "No revert of r is recorded."
    assert explain("r", entry, True).startswith("At T the proxy moved the weight of r from 25 % to 0 % (epoch 2 to 3)")


async def test_the_settings_of_all_routes_are_shown(plane: Plane) -> None:
    answer = await plane.get("/api/v1/routes")
    assert answer["listen"] == [each.address for each in plane.supervisor.instance.settings.listen]
    assert answer["listen_tls"] == []
    (route,) = answer["routes"]
    assert (route["name"], route["match"]["path"]) == (
        "events",
        plane.supervisor.instance.settings.routes[0].match.path,
    )
    assert route["load_events"] == "count"


async def test_what_the_checker_asks_reaches_the_ledger(plane: Plane) -> None:
    row = [7, "a", 1, "", "", 3, 1, 3, 1]
    ledger = ledger_of(
        plane,
        recorded={"rows": [row], "after_seq": 7, "more": False},
        settled={"rows": [row]},
        covered={"from_ns": 1, "last_seq": 9, "gaps": [[2, 3]]},
    )
    answer = await plane.get("/api/v1/ledger/recorded?route=events&after_seq=5&limit=10&since=2")
    assert answer == {"rows": [row], "after_seq": 7, "more": False}
    assert await plane.get("/api/v1/ledger/settled?seqs=7,9") == {"rows": [row]}
    assert await plane.get("/api/v1/ledger/covered") == {"from_ns": 1, "last_seq": 9, "gaps": [[2, 3]]}
    assert [each.args for each in ledger.asked] == [
        {"route": "events", "after_seq": 5, "limit": 10, "since_ns": 2_000_000_000},
        {"seqs": [7, 9]},
        {},
    ]


@pytest.mark.parametrize(
    "path",
    [
        "recorded",
        "recorded?route=other",
        "recorded?route=events&limit=5001",
        "recorded?route=events&since=yesterday",
        "settled",
        "settled?seqs=",
        "settled?seqs=1,,2",
        "settled?seqs=1,x",
        "settled?seqs=" + ",".join(["1"] * 501),
    ],
)
async def test_bad_questions_of_a_checker(plane: Plane, path: str) -> None:
    assert (await plane.ask("GET", f"/api/v1/ledger/{path}"))[0] == 422


async def test_the_history_of_a_time_in_pages(plane: Plane) -> None:
    for weight in (10, 20, 30, 40):
        plane.clock.now += 1
        await plane.change("stage", stage="live", weight=weight)
    path = "/api/v1/history?since=2023-11-14T22:30:02Z&until=1700001004"

    async def weights(query: str = "") -> list[float]:
        return [each["after"]["weight"] for each in (await plane.get(path + query))["entries"]]

    assert await weights() == [30.0, 20.0]
    assert await weights("&limit=1&offset=1") == [20.0]
    assert await weights("&offset=2") == []

"""Checks over the admin API: the real checker over two files, what is recorded of it, and what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import pytest
import pytest_asyncio
import yaml

from proxy.control import check_handlers
from proxy.control.check_handlers import CheckerCommand
from proxy.control.problems import Problem
from tests.control.fakes import Plane
from tests.control.helpers import make_settings

pytestmark = pytest.mark.asyncio

AT = 1_769_860_800
"""2026-01-31T12:00:00Z"""
SPAN = f"since={AT}&until={AT + 600}"
API = "/api/v1/consistency"


def table(file: Path) -> dict[str, Any]:
    return {"sqlite": {"file": str(file), "table": "event", "identity": ["id"], "time": "at"}}


def rows(folder: Path, side: str) -> list[Any]:
    db = apsw.Connection(str(folder / f"{side}.db"))
    found = list(db.execute("SELECT id, value FROM event ORDER BY id"))
    db.close()
    return found


@pytest_asyncio.fixture
async def opened(state_dir: Path) -> AsyncIterator[Plane]:
    """An instance whose stores differ: new lacks `c`, and `b` is another value there."""
    for side, values in (("old", (("a", 1), ("b", 2), ("c", 3))), ("new", (("a", 1), ("b", 7)))):
        db = apsw.Connection(str(state_dir / f"{side}.db"))
        db.execute("CREATE TABLE event (id TEXT, at INTEGER, value INTEGER)")
        db.executemany("INSERT INTO event VALUES (?, ?, ?)", [(name, AT + value, value) for name, value in values[:1]])
        db.executemany("INSERT INTO event VALUES (?, ?, ?)", [(name, AT + 5, value) for name, value in values[1:]])
        db.close()
    check = {"routes": ["events"], **{side: table(state_dir / f"{side}.db") for side in ("old", "new")}}
    document = {
        "version": 1,
        "salt": "a-salt-for-tests",
        "state_dir": str(state_dir / "nobody"),  # which makes the checker find no instance
        "backends": {"old": {"url": "http://127.0.0.1:9"}, "new": {"url": "http://127.0.0.1:9"}},
        "routes": [{"name": "events", "match": {"path": "/api/v1/events"}}],
        "consistency": [check],
    }
    path = state_dir / "crossfade.yaml"
    path.write_text(yaml.safe_dump(document))
    plane = Plane(make_settings(state_dir), config_path=path)
    await plane.start()
    yield plane
    await plane.close()


async def test_what_is_read(opened: Plane) -> None:
    answer = await opened.get(f"{API}/verify?{SPAN}")
    assert (answer["result"], answer["mismatches"], answer["settled"]) == ("fail", 2, 3)
    answer = await opened.get(f"{API}/diff?{SPAN}&class=different&field=/value")
    assert [each["identity"] for each in answer["findings"]] == ["b"]
    assert (await opened.get(f"{API}/suggest?{SPAN}&limit=5"))["suggestions"] == []
    assert (await opened.get(API)) == {"checks": [], "answers": []}
    entries = (await opened.get("/api/v1/history"))["entries"]
    assert all(entry["action"] not in ("verify", "diff", "suggest") for entry in entries)


async def test_what_is_written_is_recorded(opened: Plane, state_dir: Path) -> None:
    body = {"source": "old", "target": "new", "since": AT, "until": AT + 600, "dry_run": True, "reason": "history"}
    status, answer = await opened.ask("POST", f"{API}/backfill", body)
    assert (status, answer["written"], answer["dry_run"]) == (200, 1, True)
    assert len(rows(state_dir, "new")) == 2
    status, answer = await opened.ask("POST", f"{API}/backfill", body | {"dry_run": False})
    assert (status, answer["result"], answer["written"]) == (200, "done", 1)
    assert rows(state_dir, "new") == [("a", 1), ("b", 7), ("c", 3)], "nothing was overwritten"
    entry = (await opened.get("/api/v1/history"))["entries"][0]
    assert (entry["action"], entry["reason"], entry["evidence"]["target"]) == ("backfill", "history", "new")


async def test_a_repair_needs_the_ledger(opened: Plane, state_dir: Path) -> None:
    status, problem = await opened.ask("POST", f"{API}/repair", {"since": AT, "until": AT + 600})
    assert status == 422
    assert "a repair needs the ledger" in problem["detail"]
    assert len(rows(state_dir, "new")) == 2


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("GET", "verify?since=yesterday", None, "ISO 8601"),
        ("GET", "verify?full=maybe", None, "full must be one of true, false"),
        ("GET", "verify?limit=0", None, "limit must be a whole number"),
        ("GET", "diff?class=gone", None, "there is no class 'gone'"),
        ("GET", "verify?route=other", None, "no `consistency` for route 'other'"),
        ("POST", "backfill", {"source": "old", "target": "old", "since": 5}, "from one side to the other"),
        ("POST", "backfill", {"source": "old", "target": "new"}, "since"),
        ("POST", "repair", {"until": "never"}, "ISO 8601"),
    ],
)
async def test_bad_requests(opened: Plane, method: str, path: str, body: Any, words: str) -> None:
    status, problem = await opened.ask(method, f"{API}/{path}", body)
    assert status == 422
    assert words in problem["detail"]


async def test_one_at_a_time(opened: Plane) -> None:
    first = asyncio.ensure_future(opened.ask("GET", f"{API}/verify?{SPAN}"))
    await asyncio.sleep(0.1)
    status, problem = await opened.ask("GET", f"{API}/verify?{SPAN}")
    assert (status, problem["detail"]) == (409, "a check is running already; try again when it has ended")
    assert (await first)[0] == 200


async def test_a_check_that_takes_too_long_is_ended(opened: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_handlers, "MOST_SECONDS", 0.05)
    status, problem = await opened.ask("GET", f"{API}/verify?{SPAN}")
    assert status == 504
    assert "name a shorter span" in problem["detail"]


async def test_a_checker_without_an_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(Problem, match="ended with 1 and without an answer"):
        await CheckerCommand(tmp_path / "x.yaml").ask({"do": "verify"})

"""A mismatch of stores that the ledger cannot name: what is owed, or was owed to one side alone, speaks against it."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from consistency.doubts import NOT_COPIED, STILL_OWED, Doubts
from consistency.ledger import LEAST_DELAY
from consistency.live.journal import Journal
from consistency.recorded import RecordsUnavailable
from consistency.rows import Span
from tests.consistency.test_verify import BEGIN, ask, configuration, event, put

SECOND = 10**9
HOUR = 3600 * SECOND


class Status:
    """An instance's status. oldest: when the oldest event that is owed was accepted, nanoseconds; None: nothing is;
    asked_in_vain: how often it is still asked before its ledger has told of itself.
    """

    def __init__(self, oldest: int | None = None) -> None:
        self.oldest = oldest
        self.segments = 1
        self.asked_in_vain = 0

    async def ask(self, path: str, **_: object) -> dict[str, Any]:
        assert path == "status"
        return self.now(HOUR)

    def now(self, now: int) -> dict[str, Any]:
        age = 0.0 if self.oldest is None else (now - self.oldest) / SECOND
        side = {"ledger": {"pending": self.oldest is not None, "oldest_age_s": age}}
        segments = self.segments
        if self.asked_in_vain:
            self.asked_in_vain -= 1
            segments = 0
        return {"ledger": {"segments": segments}, "routes": [{"name": "events", "sides": {"new": side}}]}


def doubts(status: Status, route: str = "events") -> Doubts:
    return Doubts(status, (route,), lambda _: True, lambda: HOUR)


@pytest.mark.asyncio
async def test_what_may_still_be_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    status = Status()
    found = doubts(status)
    await found.look()
    window = Span(60 * SECOND, 120 * SECOND)
    assert await found.about(window) == ""
    status.oldest = window.end + LEAST_DELAY - SECOND
    assert await found.about(window) == STILL_OWED
    assert await found.about(Span(0, 60 * SECOND)) == "", "all of that is delivered"
    status.oldest = None
    assert await found.about(window) == STILL_OWED, "it was when the stores were read"
    assert await doubts(status).about(window) == ""
    assert await doubts(Status(0), "other").about(window) == ""
    status.segments = 0
    monkeypatch.setattr("consistency.doubts.PATIENCE", 0.2)
    with pytest.raises(RecordsUnavailable, match="not said yet"):
        await found.about(window)


@pytest.mark.asyncio
async def test_without_an_instance_it_goes_by_what_was_copied() -> None:
    found = Doubts(None, ("events",), lambda span: span.start >= 60, lambda: HOUR)
    await found.look()
    assert [await found.about(Span(start, start + 60)) for start in (0, 60)] == [NOT_COPIED, ""]


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def instance(folder: Path, status: Status) -> Iterator[None]:
    """Who answers on the admin socket of `configuration`, beside which a checker keeps its journal."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(status.now(time.time_ns())).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: Any) -> None:
            pass

    state = folder / "crossfade-state"
    state.mkdir(exist_ok=True)
    with _Server(str(state / "admin.sock"), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


@pytest.fixture
def lacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of two stores; new lacks an event of the 2nd minute."""
    monkeypatch.setattr("consistency.__main__.BACK_OFF", (0.0, 0.0, 0.0))
    put(tmp_path, "old", *map(event, range(300)))
    put(tmp_path, "new", *[event(number) for number in range(300) if number != 70])
    return configuration(tmp_path, identity="none")


def reasons(answer: dict[str, Any]) -> list[str]:
    return [each["reason"] for each in answer["inconclusive"]]


def test_a_check_on_demand_waits_for_what_is_owed(lacking: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consistency.doubts.PATIENCE", 0.2)
    status = Status((BEGIN + 70) * SECOND)
    with instance(lacking.parent, status):
        answer = ask(lacking)
        assert (answer["result"], answer["mismatches"], reasons(answer)) == ("inconclusive", 0, [STILL_OWED])
        assert answer["classes"]["equal"] == 240, "windows without a mismatch are as they are"
        status.oldest = None
        answer = ask(lacking)
        assert (answer["result"], answer["classes"]["unrecorded"]) == ("fail", 1)
        status.segments = 0
        answer = ask(lacking)
        assert (answer["result"], reasons(answer)) == ("inconclusive", ["the ledger has not said yet what it owes"])


def test_a_check_on_demand_waits_for_an_instance_that_has_just_begun(lacking: Path) -> None:
    status = Status(None)
    status.asked_in_vain = 3
    with instance(lacking.parent, status):
        answer = ask(lacking)
    assert (answer["result"], answer["classes"]["unrecorded"]) == ("fail", 1)
    assert status.asked_in_vain == 0


def test_time_in_which_not_all_was_copied_is_inconclusive(lacking: Path) -> None:
    folder = lacking.parent / "crossfade-state" / "checker"
    folder.mkdir(parents=True)
    journal = Journal(folder / "events.db", size=60 * SECOND, begin=BEGIN * SECOND, horizon=HOUR)
    journal.note_copy(True, 1, (BEGIN + 120) * SECOND)
    journal.close()
    answer = ask(lacking)
    assert (answer["result"], reasons(answer)) == ("inconclusive", [NOT_COPIED])
    assert ask(lacking, repair=True, two_way=True)["repair"]["written"] == {"old": 0, "new": 1}, "a person's word"


def test_a_journal_that_cannot_be_read_is_no_journal_in_which_all_was_copied(lacking: Path) -> None:
    folder = lacking.parent / "crossfade-state" / "checker"
    folder.mkdir(parents=True)
    (folder / "events.db").write_bytes(b"no database at all" * 100)
    answer = ask(lacking)
    assert answer["result"] == "inconclusive"
    assert "events.db" in reasons(answer)[0]

"""probe on the command line: what it asks, what it prints, how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.cli import probe
from tests.cli.conftest import Ctl

SAID: dict[str, Any] = {
    "routes": ["events"],
    "result": "fail",
    "id": "crossfade-probe-0123",
    "sent": "2026-01-31T12:00:00.000000Z",
    "error": "new: not there within 30 s",
    "steps": [
        {"name": "send", "seconds": 0.004, "error": "", "skipped": False},
        {"name": "old", "seconds": None, "error": "", "skipped": True},
        {"name": "new", "seconds": None, "error": "not there within 30 s", "skipped": False},
        {"name": "enriched", "seconds": 1.5, "error": "", "skipped": False},
    ],
    "duration_s": 30.1,
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        found.append(request)
        return SAID if request["route"] is None else SAID | {"result": "pass"}

    monkeypatch.setattr(probe, "ask_checker", ask)
    return found


def test_each_step_is_told(ctl: Ctl, asked: list[dict[str, Any]]) -> None:
    done = ctl("probe", "--config", "a.yaml")
    assert asked == [{"do": "probe", "config": "a.yaml", "route": None}]
    assert done.code == 1
    assert done.out.splitlines() == [
        "fail: crossfade-probe-0123, sent 2026-01-31T12:00:00.000000Z",
        "step      after",
        "send      0.004 s  as it should be",
        "old       -        not owed there",
        "new       -        not there within 30 s",
        "enriched  1.500 s  as it should be",
    ]
    assert ctl("probe", "-o", "json").json == SAID


def test_a_probe_that_passes_is_0(ctl: Ctl, asked: list[dict[str, Any]]) -> None:
    assert ctl("probe", "--route", "events").code == 0


def test_a_check_without_one_is_an_error(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "version: 1\nsalt: a salt of tests\n"
        'backends: {old: {url: "http://127.0.0.1:1"}, new: {url: "http://127.0.0.1:2"}}\n'
        "routes: [{name: events, match: {path: /events}}]\n"
        "consistency:\n  - routes: [events]\n"
        "    old: {sqlite: {file: old.db, table: event, identity: [id], time: at}}\n"
        "    new: {sqlite: {file: new.db, table: event, identity: [id], time: at}}\n"
    )
    done = ctl("probe", "--config", str(tmp_path / "a.yaml"))
    assert done.code == 2
    assert "the check of events has no `probe`: it does not say what to send" in done.err

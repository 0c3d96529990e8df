"""freeze: what it asks for and what it shows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Ctl
from tests.cli.fake_admin import FakeAdmin

FREEZE = {
    "since": "2026-01-31T12:00:00.000Z",
    "until": "2026-01-31T14:00:00.000Z",
    "actor": "ann@host",
    "reason": "release",
}


def answering(admin: FakeAdmin, *, changed: bool = True, dry_run: bool = False, off: bool = False) -> None:
    route = {"route": "events", "before": FREEZE if off else None, "after": None if off else FREEZE}
    answer = {"routes": [route | {"changed": changed}], "epoch": 6, "changed": changed, "dry_run": dry_run}
    answer["notes"] = ["a note"]
    admin.forced = lambda _method, path: (200, answer) if path == "/api/v1/freeze" else None


def asked(admin: FakeAdmin) -> tuple[str, str, Any]:
    method, target, _, body = admin.requests[-1]
    return method, target, body


def test_for_a_time(ctl: Ctl, admin: FakeAdmin) -> None:
    answering(admin)
    done = ctl("freeze", "--for", "2h", "--reason", "release")
    assert (done.code, done.out) == (
        0, "events: frozen until 2026-01-31T14:00:00.000Z by ann@host: release\nnote: a note\n"
    )  # fmt: skip
    assert asked(admin) == ("PUT", "/api/v1/freeze", {"seconds": 7200, "reason": "release"})


def test_a_route_a_dry_run_and_an_epoch(ctl: Ctl, admin: FakeAdmin) -> None:
    answering(admin, dry_run=True)
    done = ctl("freeze", "--for", "90s", "--route", "events", "--dry-run", "--if-epoch", "6")
    assert "dry run: nothing was changed" in done.out
    assert asked(admin)[2] == {"seconds": 90, "route": "events", "dry_run": True}
    assert admin.requests[-1][2]["if-match"] == "6"


def test_off(ctl: Ctl, admin: FakeAdmin) -> None:
    answering(admin, off=True)
    assert ctl("freeze", "--off").out.startswith("events: frozen no longer\n")
    assert asked(admin) == ("DELETE", "/api/v1/freeze", {})
    answering(admin, off=True, changed=False)
    assert ctl("freeze", "--off", "--route", "events").out.startswith("events: was not frozen\n")
    assert asked(admin)[2] == {"route": "events"}


def test_as_json(ctl: Ctl, admin: FakeAdmin) -> None:
    answering(admin)
    assert ctl("freeze", "--for", "2h", "-o", "json").json["routes"][0]["after"] == FREEZE


@pytest.mark.parametrize("words", [[], ["--for", "2"], ["--for", "2h", "--off"], ["--for"]])
def test_one_of_both_is_needed(ctl: Ctl, admin: FakeAdmin, words: list[str]) -> None:
    assert ctl("freeze", *words).code == 2
    assert not admin.requests


def test_a_change_of_a_frozen_route_is_blocked(ctl: Ctl, admin: FakeAdmin) -> None:
    problem = {"status": 423, "title": "Locked", "detail": "events is frozen until then", "frozen": "events"}
    admin.forced = lambda method, _path: (423, problem) if method == "PUT" else None
    done = ctl("set-weight", "10")
    assert done.code == 7
    assert "events is frozen until then" in done.err
    assert "it ends by itself; to end it now: proxyctl freeze --off --route events" in done.err


def test_the_status_shows_it(ctl: Ctl, admin: FakeAdmin) -> None:
    assert "FROZEN" not in ctl("status").out
    admin.frozen = FREEZE
    assert "  FROZEN until 2026-01-31T14:00:00.000Z by ann@host: release" in ctl("status").out


def test_a_later_freeze_that_stands(ctl: Ctl, admin: FakeAdmin) -> None:
    answering(admin, changed=False)
    assert ctl("freeze", "--for", "1m").out.startswith("events: frozen already until 2026-01-31T14:00:00.000Z by ann@")

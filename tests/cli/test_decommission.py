"""decommission --check: what depends on old is listed with its remedy, and the exit code says whether anything does."""

from __future__ import annotations

from typing import Any

from tests.cli.conftest import Ctl
from tests.cli.fake_admin import FakeAdmin, serving

LAST = {"route": "events", "backend": "old", "at": None, "ago_s": None, "since": "2026-01-01T00:00:00.000Z"}
CLEAR: dict[str, Any] = {"clear": True, "epoch": 6, "quiet_s": 60, "dependents": [], "last_events": [LAST]}
OWED = {"route": "events", "kind": "owed", "detail": "7 events are owed to old", "remedy": "proxyctl status --wait"}
DEFAULT = {"route": "", "kind": "default", "detail": "the rest goes to old", "remedy": "name another"}


def answering(admin: FakeAdmin, *dependents: dict[str, str], **changes: Any) -> None:
    answer = CLEAR | {"clear": not dependents, "dependents": list(dependents)} | changes
    admin.forced = lambda _method, path: (200, answer) if path == "/api/v1/decommission" else None


def test_nothing_depends_on_old(ctl: Ctl, admin: FakeAdmin) -> None:
    answering(admin)
    done = ctl("decommission", "--check")
    assert (done.code, done.out.splitlines()) == (
        0,
        [
            "yes: nothing depends on old, it can be switched off",
            "",
            "last event to old of route events: none since 2026-01-01T00:00:00.000Z, when the figures begin",
        ],
    )
    assert admin.requests[-1][1] == "/api/v1/decommission?quiet=60"


def test_what_does_is_listed_with_what_to_do(ctl: Ctl, admin: FakeAdmin) -> None:
    answering(admin, OWED, DEFAULT, last_events=[LAST | {"at": "2026-01-31T12:00:00.000Z", "ago_s": 30.0}])
    done = ctl("decommission", "--check", "--route", "events", "--quiet", "1h")
    assert (done.code, done.out.splitlines()) == (
        1,
        [
            "no: 2 things depend on old",
            "",
            "owed     events: 7 events are owed to old",
            "         -> proxyctl status --wait",
            "default  the rest goes to old",
            "         -> name another",
            "last event to old of route events: 2026-01-31T12:00:00.000Z, 30 s ago",
        ],
    )
    assert admin.requests[-1][1] == "/api/v1/decommission?route=events&quiet=3600"
    assert ctl("decommission", "--check", "-o", "json").json["dependents"] == [OWED, DEFAULT]


def test_one_instance_that_needs_old_is_enough(ctl: Ctl, admin: FakeAdmin) -> None:
    other = FakeAdmin()
    answering(admin)
    answering(other, OWED)
    with serving(admin) as first, serving(other) as second:
        done = ctl("--admin", first, "--admin", second, "decommission", "--check")
        assert (done.code, done.out.count("yes: "), done.out.count("no: 1 thing depends")) == (1, 1, 1)
        away = ctl("--admin", first, "--admin", "http://127.0.0.1:1", "decommission", "--check")
        assert away.code == 6
        away = ctl("--admin", second, "--admin", "http://127.0.0.1:1", "decommission", "--check")
        assert (away.code, away.out.count("no: 1 thing depends")) == (1, 1)
        answering(other)
        assert ctl("--admin", first, "--admin", second, "decommission", "--check").code == 0


def test_it_only_checks(ctl: Ctl, admin: FakeAdmin) -> None:
    done = ctl("decommission")
    assert (done.code, "--check" in done.err) == (2, True)

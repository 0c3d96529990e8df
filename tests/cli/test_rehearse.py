"""rehearse: there and back, timed, and what is left where it breaks off."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pytest

from proxy.cli import rehearse
from proxy.cli.client import Admin
from proxy.cli.endpoints import Target, parse
from proxy.cli.failure import Failure
from proxy.cli.options import settle
from proxy.core.routing import Dials
from tests.cli.conftest import Ctl, FakeClock
from tests.cli.fake_admin import FakeAdmin


def options(*words: str) -> argparse.Namespace:
    from proxy.cli.main import build

    return settle(build().parse_args(["rehearse", *words]))


@pytest.fixture
def at(admin: FakeAdmin) -> Admin:
    admin.dials["events"] = Dials(25.0, "durable")
    return Admin(Target((parse("unix:crossfade-state/admin.sock"),), None))


def changes(admin: FakeAdmin) -> list[tuple[str, object, str | None]]:
    return [
        (target.rsplit("/", 1)[1], body.get("weight"), headers.get("if-match"))
        for method, target, headers, body in admin.requests
        if method != "GET"
    ]


def test_there_and_back_and_how_long_it_took(admin: FakeAdmin, at: Admin, clock: FakeClock) -> None:
    report = rehearse.drill(at, options("--reason", "monthly", "--if-epoch", "6"), clock)
    assert changes(admin) == [("rollback", None, "6"), ("weight", 25.0, "7")]
    assert {body["reason"] for method, *_, body in admin.requests if method != "GET"} == {"rehearsal: monthly"}
    assert clock.time == pytest.approx(rehearse.HOLD)
    assert (report["result"], report["down"]["seconds"], report["up"]["epoch"]) == ("pass", 0.004, 8)
    assert admin.dials["events"].weight == 25
    lines = rehearse.render(report).splitlines()
    assert lines[0] == "pass: events: rolled back from 25 % and came back"
    assert lines[2].split() == "weight 0 everywhere after 0.004 s 2 workers 7".split()  # noqa: SIM905 - as it is read


def test_old_that_is_not_well_fails_the_drill_which_goes_back_all_the_same(
    admin: FakeAdmin, at: Admin, clock: FakeClock
) -> None:
    admin.before_status.extend([lambda: None] * 3 + [lambda: admin.sides["old"].update(healthy=False)])
    report = rehearse.drill(at, options(), clock)
    assert (report["result"], report["trouble"]) == ("fail", "old is unhealthy")
    assert admin.dials["events"].weight == 25
    assert rehearse.render(report).startswith("fail: events: rolled back from 25 % and came back, but old is unhealthy")


def test_who_changes_the_routing_meanwhile_is_not_overruled(admin: FakeAdmin, at: Admin, clock: FakeClock) -> None:
    def change() -> None:
        admin.epoch += 1

    admin.before_status.extend([lambda: None] * 3 + [change])
    with pytest.raises(
        Failure, match=r"epoch 8, not 7; the weight of events may be 0 % now; back: proxyctl set-weight 25"
    ):
        rehearse.drill(at, options(), clock)
    assert changes(admin) == [("rollback", None, "6")]


def test_ctrl_c_says_what_is_left(
    admin: FakeAdmin, at: Admin, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    def sleep(duration: float) -> None:
        raise KeyboardInterrupt

    clock.sleep = sleep  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        rehearse.drill(at, options(), clock)
    assert "the weight of events may be 0 % now; back: proxyctl set-weight 25" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda admin: admin.dials.update(events=Dials(0.0, "durable")), "there is nothing to roll back"),
        (
            lambda admin: setattr(
                admin, "rollout", {"phase": "holding", "step": 1, "of": 2, "weight": 25.0, "reason": ""}
            ),
            "a rollout of events is holding",
        ),
        (lambda admin: admin.dials.update(other=Dials()), "there are several routes: events, other"),
    ],
)
def test_what_cannot_be_rehearsed(
    change: Callable[[FakeAdmin], None], said: str, at: Admin, ctl: Ctl, admin: FakeAdmin
) -> None:
    change(admin)
    done = ctl("rehearse")
    assert (done.code, said in done.err) == (2, True)
    assert changes(admin) == []


@pytest.mark.parametrize(
    ("dials", "more", "said"),
    [
        (Dials(100.0, "none"), {}, "copies of events are none: new would never get what old answers"),
        (
            Dials(25.0, "durable"),
            {"old_incomplete_since": "2026-01-31T12:00:00Z"},
            "old is incomplete since 2026-01-31",
        ),
    ],
)
def test_a_drill_that_would_cost_events_is_none(
    dials: Dials, more: dict[str, str], said: str, at: Admin, ctl: Ctl, admin: FakeAdmin
) -> None:
    admin.dials["events"] = dials

    def answer(method: str, path: str) -> Any:
        if path != "/api/v1/status":
            return None
        found = admin._status()
        return 200, found | {"routes": [each | more for each in found["routes"]]}

    admin.forced = answer
    for words in ([], ["--dry-run"]):
        done = ctl("rehearse", *words)
        assert (done.code, said in done.err) == (7, True)
    assert changes(admin) == []


def test_a_dry_run_says_what_it_would_do(at: Admin, ctl: Ctl, admin: FakeAdmin) -> None:
    done = ctl("rehearse", "--dry-run", "--hold", "1m")
    assert (done.code, done.out.splitlines()[0]) == (0, "events: would go from 25 % to 0 % for 60 s and back")
    assert changes(admin) == []
    assert ctl("rehearse", "--admin", "unix:a", "--admin", "unix:b").code == 2


def test_a_frozen_route_is_not_rehearsed_for_it_could_not_come_back(
    admin: FakeAdmin, at: Admin, clock: FakeClock
) -> None:
    admin.frozen = {"until": "2026-01-31T14:00:00.000Z", "actor": "ann@host", "reason": ""}
    with pytest.raises(Failure, match=r"frozen until 2026-01-31T14:00:00\.000Z by ann@host: a drill could") as failure:
        rehearse.drill(at, options(), clock)
    assert (failure.value.code, changes(admin)) == (7, [])

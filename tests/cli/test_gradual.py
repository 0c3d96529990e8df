"""rollback --gradual."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from proxy.cli.client import Admin
from proxy.cli.endpoints import Target, parse
from proxy.cli.failure import Failure
from proxy.cli.gradual import PATIENCE, descend, failure_of_new
from proxy.cli.options import settle
from proxy.core.routing import Dials
from tests.cli.conftest import Ctl, FakeClock
from tests.cli.fake_admin import FakeAdmin


def options(*words: str) -> argparse.Namespace:
    from proxy.cli.main import build

    return settle(build().parse_args(["rollback", "--gradual", "-o", "json", *words]))


@pytest.fixture
def at(admin: FakeAdmin) -> Admin:
    admin.dials["events"] = Dials(60.0, "durable")
    return Admin(Target((parse("unix:crossfade-state/admin.sock"),), None))


def weights(admin: FakeAdmin) -> list[float | str]:
    """The changes that were asked for."""
    return [
        body.get("weight", target.rsplit("/", 1)[1]) for method, target, _, body in admin.requests if method != "GET"
    ]


def test_steps_below_the_present_weight_each_held(admin: FakeAdmin, at: Admin, clock: FakeClock) -> None:
    answer = descend(at, options(), clock)
    assert weights(admin) == [50, 25, 10, "rollback"]
    assert clock.time == pytest.approx(180)
    assert answer["steps"] == [50, 25, 10, 0]
    assert (answer["after"]["weight"], admin.dials["events"].weight) == (0, 0)


def test_each_step_is_guarded_by_the_epoch_of_the_last(admin: FakeAdmin, at: Admin, clock: FakeClock) -> None:
    descend(at, options("--if-epoch", "6", "--steps", "50,25,0", "--hold", "5s"), clock)
    guards = [headers.get("if-match") for method, _, headers, _ in admin.requests if method != "GET"]
    assert guards == ["6", "7", "8"]
    assert clock.time == pytest.approx(10)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"breaker": "open"}, "breaker open at new"),
        ({"healthy": False}, "new is unhealthy"),
        ({"error_rate": 0.02}, "2 % of the events fail at new"),
    ],
)
def test_a_failure_of_new_ends_it_at_0_with_exit_3(
    admin: FakeAdmin, at: Admin, clock: FakeClock, change: dict[str, object], cause: str
) -> None:
    admin.before_status.extend([lambda: None, lambda: None, lambda: admin.sides["new"].update(change)])
    with pytest.raises(Failure) as failure:
        descend(at, options(), clock)
    assert (failure.value.code, failure.value.details["cause"]) == (3, cause)
    assert weights(admin) == [50, "rollback"]
    assert admin.dials["events"].weight == 0


def revert(admin: FakeAdmin) -> Callable[[], None]:
    def do() -> None:
        admin.dials["events"] = Dials(0.0, "durable", latched=True)
        admin.epoch += 1

    return do


def test_old_that_is_not_well_is_given_no_more_until_it_is(
    admin: FakeAdmin, at: Admin, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    def at_time(seconds: float, **change: object) -> Callable[[], None]:
        def look() -> None:
            if clock.time >= seconds:
                admin.sides["old"].update(change)
            else:
                admin.before_status.append(look)

        return look

    admin.sides["old"]["error_rate"] = 0.02
    admin.before_status.append(at_time(90, error_rate=0.01))
    args = options("--steps", "50,10,0", "--hold", "10s")
    args.output = "text"
    descend(at, args, clock)
    assert weights(admin) == [50, 10, "rollback"]
    assert clock.time == pytest.approx(100, abs=3), "90 s until old is well, and the step after that"
    assert capsys.readouterr().out.count("2 % of the events fail at old; waiting until it can take more") == 1


@pytest.mark.parametrize("change", [{"breaker": "open"}, {"healthy": False}])
def test_old_that_stays_unwell_keeps_the_weight_where_it_is(
    change: dict[str, object], admin: FakeAdmin, at: Admin, clock: FakeClock
) -> None:
    admin.sides["old"].update(change)
    with pytest.raises(Failure, match="the weight goes no further down") as failure:
        descend(at, options("--hold", "10s"), clock)
    assert (failure.value.code, weights(admin)) == (4, [50])
    assert clock.time == pytest.approx(10 + PATIENCE, abs=2)


def test_a_revert_meanwhile_is_a_failure_of_new(admin: FakeAdmin, at: Admin, clock: FakeClock) -> None:
    admin.before_status.extend([lambda: None, lambda: None, revert(admin)])
    with pytest.raises(Failure) as failure:
        descend(at, options(), clock)
    assert failure.value.code == 3


def test_a_person_who_changes_the_routing_is_not_overruled(admin: FakeAdmin, at: Admin, clock: FakeClock) -> None:
    def somebody() -> None:
        admin.dials["events"] = Dials(80.0, "durable")
        admin.epoch += 1

    admin.before_status.extend([lambda: None, lambda: None, somebody])
    with pytest.raises(Failure) as failure:
        descend(at, options(), clock)
    assert failure.value.code == 5
    assert admin.dials["events"].weight == 80


def test_a_supervisor_that_restarts_does_not_end_it(
    admin: FakeAdmin, at: Admin, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cli.gradual.look", lambda admin: None)
    assert descend(at, options(), clock)["steps"] == [50, 25, 10, 0]


def test_dry_run_lists_the_steps(admin: FakeAdmin, at: Admin, clock: FakeClock) -> None:
    answer = descend(at, options("--dry-run"), clock)
    assert answer["steps"] == [50, 25, 10, 0]
    assert (weights(admin), admin.epoch, clock.time) == (["rollback"], 6, 0)


def test_at_0_there_is_nothing_to_hold(admin: FakeAdmin, at: Admin, clock: FakeClock) -> None:
    admin.dials["events"] = Dials(0.0, "durable")
    assert descend(at, options(), clock)["steps"] == [0]
    assert clock.time == 0


def test_on_the_command_line(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.dials["events"] = Dials(60.0, "durable")
    done = ctl("rollback", "--gradual", "--steps", "50,10,0", "--hold", "0s")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[:2] == ["events: weight 50 % for 0 s, epoch 7", "events: weight 10 % for 0 s, epoch 8"]
    assert lines[-1] == "steps: 50 %, 10 %, 0 %"


def test_failure_on_the_command_line(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.dials["events"] = Dials(60.0, "durable")
    admin.sides["new"]["breaker"] = "open"
    done = ctl("rollback", "--gradual", "--hold", "0s")
    assert done.code == 3
    assert "breaker open at new: rolled back to 0 % at once" in done.err
    assert "live 50 % -> dualwrite 0 %" in done.err


def test_stopped_half_way_says_where_it_stays(ctl: Ctl, admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    admin.dials["events"] = Dials(60.0, "durable")
    monkeypatch.setattr("proxy.cli.waiting.time.sleep", interrupted)
    done = ctl("rollback", "--gradual", "--hold", "1s")
    assert done.code == 130
    assert "the weight stays at 50 %; to 0 at once: proxyctl rollback" in done.out
    assert admin.dials["events"].weight == 50


def test_which_route_is_for_the_api_to_ask(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.dials["more"] = Dials()
    done = ctl("rollback", "--gradual")
    assert done.code == 2
    assert "events, more" in done.err


def test_a_latched_route_has_failed() -> None:
    assert failure_of_new({"latched": True, "latch_reason": "error rate"}) == "error rate"
    assert failure_of_new({"latched": True}) == "the route is latched"
    assert failure_of_new({}) == ""

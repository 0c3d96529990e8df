"""rehearse --fault: what it asks for, how it waits, what it restores, and what is left where it breaks off."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pytest

from proxy.cli import fault_drill, rehearse, waiting
from proxy.cli.client import Admin
from proxy.cli.endpoints import Target, parse
from proxy.cli.failure import Failure
from proxy.cli.options import settle
from proxy.core import drill
from proxy.core.routing import Dials, rolled_back
from tests.cli.conftest import Ctl, FakeClock
from tests.cli.fake_admin import FakeAdmin

CAUSE = "the breaker of new is open in worker 1"


def options(*words: str) -> argparse.Namespace:
    from proxy.cli.main import build

    return settle(build().parse_args(["rehearse", *words]))


@pytest.fixture
def at(admin: FakeAdmin) -> Admin:
    admin.dials["events"] = Dials(0.0, "durable")
    return Admin(Target((parse("unix:crossfade-state/admin.sock"),), None))


def changes(admin: FakeAdmin) -> list[tuple[str, str, object, str | None]]:
    """What was asked for: method, what, the body without its reason, the epoch."""
    return [
        (method, target.rsplit("/", 1)[1], {k: v for k, v in body.items() if k != "reason"}, headers.get("if-match"))
        for method, target, headers, body in admin.requests
        if method != "GET"
    ]


def nothing(_: dict[str, Any]) -> None:
    """The guard sees nothing yet."""


def noticed(found: dict[str, Any]) -> None:
    """The guard sees it."""
    found |= {"noticed_s": 0.75, "cause": CAUSE}


def reverts(admin: FakeAdmin) -> Callable[[dict[str, Any]], None]:
    """The guard takes the weight back."""

    def revert(found: dict[str, Any]) -> None:
        admin.dials["events"] = rolled_back(admin.dials["events"], latch=True)
        admin.epoch += 1
        for worker in admin.workers:
            worker["epoch"] = admin.epoch
        noticed(found)
        found["reverted_epoch"] = admin.epoch

    return revert


def test_words_are_those_of_the_core() -> None:
    assert set(rehearse.FAULTS) == set(drill.FAULTS)


def test_at_weight_0_it_is_seen_and_ended(admin: FakeAdmin, at: Admin, clock: FakeClock) -> None:
    admin.on_drill.extend([nothing, nothing, noticed])
    report = fault_drill.drill(at, options("--fault", "dead", "--hold", "2s", "--reason", "monthly"), clock)
    assert changes(admin) == [
        ("POST", "drill", {"fault": "dead", "seconds": 60.0}, "6"),
        ("DELETE", "drill", {}, None),
    ]
    assert {body["reason"] for method, *_, body in admin.requests if method != "GET"} == {"rehearsal: monthly"}
    assert clock.time == pytest.approx(3 * 0.5 + 2)
    assert (report["result"], report["noticed_s"], report["revert"], report["up"]) == ("pass", 0.75, None, None)
    lines = fault_drill.render(report).splitlines()
    assert lines[0] == "pass: events: copies to new failed (dead), and everything is as before"
    assert [line.split()[:6] for line in lines[2:4]] == [
        ["the", "fault", "began", "2026-01-31T12:00:00.000Z", "-"],
        ["the", "guard", "saw", "it", "after", "0.750"],
    ]
    assert lines[3].endswith(CAUSE)


def test_a_revert_is_undone_when_new_has_everything(
    admin: FakeAdmin, at: Admin, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    admin.dials["events"] = Dials(25.0, "durable")
    admin.on_drill.extend([nothing, noticed, reverts(admin)])
    report = fault_drill.drill(at, options("--fault", "errors", "--for", "2m", "--hold", "0s"), clock)
    said = capsys.readouterr().err
    assert said == "proxyctl: the guard will take the weight of events from 25 % to 0; it is restored afterwards\n"
    wanted = {"fault": "errors", "seconds": 120.0}
    assert changes(admin) == [
        ("POST", "drill", wanted | {"dry_run": True}, "6"),
        ("POST", "drill", wanted, "6"),
        ("DELETE", "drill", {}, None),
        ("POST", "rearm", {}, "7"),
        ("PUT", "weight", {"weight": 25.0}, "8"),
    ]
    assert admin.dials["events"] == Dials(25.0, "durable")
    assert (report["result"], report["revert"]["epoch"], report["up"]["epoch"]) == ("pass", 7, 9)
    assert "25 % everywhere after" in fault_drill.render(report)


def test_it_waits_until_new_has_what_it_was_owed(admin: FakeAdmin, at: Admin, clock: FakeClock) -> None:
    ledger = admin.sides["new"]["ledger"]
    ledger |= {"pending": 3, "owed": 100, "delivered": 97}
    admin.on_drill.append(noticed)

    def backlog() -> None:
        if admin.drill is not None and not admin.drill["running"]:
            ledger.update({"pending": 53, "oldest_age_s": 20.0, "owed": 160, "delivered": 107})
            admin.sides["new"]["breaker"] = "open"

    def drained() -> None:
        ledger.update({"pending": 4, "oldest_age_s": 0.01, "owed": 170, "delivered": 166})

    def closed() -> None:
        admin.sides["new"]["breaker"] = "closed"

    admin.before_status.extend([lambda: None] * 2 + [backlog, backlog, drained, drained, closed])
    report = fault_drill.drill(at, options("--fault", "dead", "--hold", "0s"), clock)
    assert not admin.before_status
    assert report["delivered"] == {
        "seconds": pytest.approx(4 * waiting.POLL), "pending": 4, "owed": 70, "delivered": 69, "lost": 0, "dead": 0,
    }  # fmt: skip


def test_slow_copies_are_held_back_for_so_long(admin: FakeAdmin, at: Admin, clock: FakeClock) -> None:
    admin.on_drill.extend([noticed] * 2)
    fault_drill.drill(at, options("--fault", "slow", "--hold", "0s"), clock)
    fault_drill.drill(at, options("--fault", "slow", "--delay", "250ms", "--hold", "0s"), clock)
    asked = [body["delay"] for _, what, body, _ in changes(admin) if "fault" in body and what == "drill"]  # type: ignore[operator,index]
    assert asked == [1.0, 0.25]


def test_without_an_event_there_was_nothing_to_see(
    admin: FakeAdmin, at: Admin, ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fault_drill, "LOOK", 0.001)
    admin.on_drill.append(lambda found: admin.end_drill())
    done = ctl("rehearse", "--fault", "dead")
    said = "no event came meanwhile, so there was nothing for the guard to see"
    assert (done.code, done.out.splitlines()[0].endswith(said)) == (1, True), done.out


@pytest.mark.parametrize("how", ["nobody", "no revert", "lost", "dead"])
def test_what_is_no_pass(how: str, admin: FakeAdmin, at: Admin, ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_drill, "LOOK", 0.001)
    said = {
        "nobody": "the guard did not see it in 60 s",
        "no revert": "the guard saw it and did not revert",
        "lost": "new lost 2 events, and 0 are dead letters",
        "dead": "new lost 0 events, and 2 are dead letters",
    }[how]
    if how == "no revert":
        admin.dials["events"] = Dials(25.0, "durable")

    def look(found: dict[str, Any]) -> None:
        admin.accepted += 5
        if how != "nobody":
            noticed(found)
        if how in ("lost", "dead"):
            admin.sides["new"]["ledger"][how] += 2
        admin.end_drill()

    admin.on_drill.append(look)
    done = ctl("rehearse", "--fault", "dead")
    assert (done.code, done.out.splitlines()[0]) == (
        1, f"fail: events: copies to new failed (dead), and everything is as before, but {said}",
    )  # fmt: skip
    assert "weight" not in [what for _, what, *_ in changes(admin)]


def test_who_changes_the_routing_meanwhile_is_not_overruled(admin: FakeAdmin, at: Admin, clock: FakeClock) -> None:
    admin.dials["events"] = Dials(25.0, "durable")

    def somebody(found: dict[str, Any]) -> None:
        reverts(admin)(found)
        admin.epoch += 1

    admin.on_drill.append(somebody)
    with pytest.raises(
        Failure,
        match=r"the epoch is 8, not 7; the fault ends by itself; where the guard has reverted, the weight of events",
    ) as failure:
        fault_drill.drill(at, options("--fault", "dead", "--hold", "0s"), clock)
    assert failure.value.code == 5
    assert admin.dials["events"].weight == 0


def test_ctrl_c_ends_the_fault_and_says_what_is_left(
    admin: FakeAdmin, at: Admin, clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    admin.dials["events"] = Dials(25.0, "durable")

    def sleep(duration: float) -> None:
        raise KeyboardInterrupt

    clock.sleep = sleep  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        fault_drill.drill(at, options("--fault", "dead"), clock)
    assert changes(admin)[-1][:2] == ("DELETE", "drill")
    said = capsys.readouterr().out
    assert "the weight of events stays at 0 % and latched" in said
    assert "to go on: proxyctl rearm --route events, then proxyctl set-weight 25 --route events" in said


def test_a_dry_run_says_what_it_would_do(admin: FakeAdmin, at: Admin, ctl: Ctl) -> None:
    done = ctl("rehearse", "--fault", "dead", "--for", "30s", "--dry-run")
    assert (done.code, done.out.splitlines()) == (
        0, ["events: copies to new would fail (dead) for 30 s at most", "dry run: nothing was changed"],
    )  # fmt: skip
    admin.dials["events"] = Dials(25.0, "durable")
    done = ctl("rehearse", "--fault", "dead", "--dry-run")
    assert "the guard would take the weight from 25 % to 0" in done.out
    assert (admin.drill, done.err) == (None, "")


@pytest.mark.parametrize(
    ("problem", "code", "hint"),
    [
        ({"detail": "copies of events are none", "drilled": None}, 7, ""),
        ({"detail": "a drill of ann@host", "drilled": "events"}, 7, "proxyctl rehearse --end --route events"),
        ({"detail": "events is frozen", "frozen": "events"}, 7, "proxyctl freeze --off --route events"),
    ],
)
def test_what_is_refused_is_told_and_nothing_is_announced(
    problem: dict[str, Any], code: int, hint: str, admin: FakeAdmin, at: Admin, ctl: Ctl
) -> None:
    admin.dials["events"] = Dials(25.0, "durable")
    admin.forced = lambda method, path: (423, problem) if method == "POST" else None
    done = ctl("rehearse", "--fault", "dead")
    assert (done.code, problem["detail"] in done.err) == (code, True)
    assert hint in done.err
    assert ("proxyctl why" in done.err, "will take" in done.err) == (False, False)


def test_somebody_elses_is_ended(admin: FakeAdmin, at: Admin, ctl: Ctl) -> None:
    assert ctl("rehearse", "--end").code == 1, "there was none"
    at.change("POST", "/api/v1/routes/events/drill", {"fault": "dead", "seconds": 60.0})
    assert ctl("rehearse", "--end", "--dry-run").out.splitlines()[0] == "events: the fault would end"
    assert admin.drill is not None
    assert admin.drill["running"]
    assert ctl("rehearse", "--end").out.strip() == "events: the fault has ended already"
    assert not admin.drill["running"]


@pytest.mark.parametrize(
    "words",
    [
        ("--fault", "broken"), ("--for", "1m"), ("--delay", "1s"), ("--fault", "dead", "--delay", "1s"),
        ("--end", "--fault", "dead"), ("--end", "--for", "1m"),
        ("--fault", "dead", "--admin", "unix:a", "--admin", "unix:b"),
    ],
)  # fmt: skip
def test_what_is_no_command(words: tuple[str, ...], admin: FakeAdmin, at: Admin, ctl: Ctl) -> None:
    assert ctl("rehearse", *words).code == 2
    assert changes(admin) == []

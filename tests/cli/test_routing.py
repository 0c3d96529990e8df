"""set-weight, stage, rollback, rearm."""

from __future__ import annotations

import pytest

from proxy.core.routing import Dials
from tests.cli.conftest import Ctl
from tests.cli.fake_admin import FakeAdmin


def test_set_weight_says_all_there_is_to_know(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.dials["events"] = Dials(0.0, "durable")
    done = ctl("set-weight", "25")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "events: dualwrite 0 % -> live 25 %, copy durable",
        "epoch 6 -> 7, applied on 2 of 2 workers in 4.0 ms",
        "weight target 25 %, observed in the last 10 s 24.7 % (23.9 to 25.6 %)",
        "note: a note",
        "next: proxyctl status --wait",
    ]
    assert admin.requests[0][:2] == ("PUT", "/api/v1/routes/-/weight")
    assert admin.requests[0][3] == {"weight": 25.0}


def test_set_weight_as_json(ctl: Ctl, admin: FakeAdmin) -> None:
    answer = ctl("set-weight", "25", "-o", "json").json
    assert (answer["before"]["weight"], answer["after"]["weight"], answer["epoch"]) == (0, 25, 7)
    assert answer["observed"] == {"weight": 24.7, "interval": [23.9, 25.6]}


@pytest.mark.parametrize("text", ["-1", "101", "abc", "NaN", "-0.5"])
@pytest.mark.parametrize("words", [["set-weight"], ["stage", "live", "--weight"]])
def test_bad_weight_exits_2_with_the_range_and_contacts_nobody(
    ctl: Ctl, admin: FakeAdmin, words: list[str], text: str
) -> None:
    done = ctl(*words, text)
    assert done.code == 2
    assert f"between 0 and 100 percent, not {text}" in done.err
    assert ctl(*words, text, "-o", "json").error["code"] == 2
    assert admin.requests == []


def test_dry_run_changes_nothing(ctl: Ctl, admin: FakeAdmin) -> None:
    done = ctl("set-weight", "25", "--dry-run", "--wait")
    assert done.code == 0
    assert "events: off 0 % -> split 25 %, copy none" in done.out
    assert "dry run: nothing was changed, epoch 6" in done.out
    assert (admin.epoch, len(admin.requests)) == (6, 1)


def keys(estimate: int, low: int, high: int, *, is_least: bool = False) -> dict[str, object]:
    return {"estimate": estimate, "low": low, "high": high, "is_least": is_least}


MOVES = {
    "window_seconds": 290.0,
    "to": "new",
    "buckets_percent": 25.0,
    "keys": keys(251, 250, 262),
    "all_keys": keys(1004, 1001, 1040),
    "rate": 30.0,
    "all_rate": 120.0,
    "sides": {"old": {"before": 120.0, "after": 120.0}, "new": {"before": 0.0, "after": 120.0}},
}


@pytest.mark.parametrize("words", [["set-weight", "25"], ["stage", "live", "--weight", "25"]])
def test_dry_run_says_what_would_move(ctl: Ctl, admin: FakeAdmin, words: list[str]) -> None:
    admin.moves = MOVES
    assert ctl(*words, "--dry-run").out.splitlines()[1:4] == [
        "would move to new: about 251 (250-262) of about 1,004 (1,001-1,040) keys, 30.0 of 120 events/s (25 %)",
        "events to each side: old 120/s -> 120/s, new 0.0/s -> 120/s",
        "seen in the last 4m 50s; keys are estimated, with their 95 % interval",
    ]
    assert ctl(*words, "--dry-run", "-o", "json").json["moves"] == MOVES
    assert "would move" not in ctl(*words).out


def test_dry_run_that_moves_no_key_or_knows_nothing(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.moves = MOVES | {"buckets_percent": 0.0, "all_keys": keys(17, 17, 17)}
    assert "would move no key; 17 keys, 120 events/s\n" in ctl("stage", "dualwrite", "--dry-run").out
    admin.moves = MOVES | {"keys": keys(9, 20_000_000, 30_000_000, is_least=True)}
    assert "would move to new: more than 20,000,000 of" in ctl("set-weight", "1", "--dry-run").out
    for moves in (None, MOVES | {"all_rate": 0.0}):
        admin.moves = moves
        assert "not known, no event was seen" in ctl("set-weight", "1", "--dry-run").out


def test_no_change_says_so(ctl: Ctl, admin: FakeAdmin) -> None:
    assert "it was so already, epoch 6" in ctl("set-weight", "0").out


def test_a_latch_blocks(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.dials["events"] = Dials(0.0, "durable", latched=True)
    done = ctl("set-weight", "25")
    assert done.code == 7
    assert "proxyctl rearm" in done.err


def test_a_stage_that_does_not_fit(ctl: Ctl, admin: FakeAdmin) -> None:
    assert ctl("stage", "split", "--weight", "100").code == 2


def test_stage_turns_both_dials(ctl: Ctl, admin: FakeAdmin) -> None:
    assert "off 0 % -> live 10 %, copy none -> durable" in ctl("stage", "live", "--weight", "10").out
    assert admin.requests[0][3] == {"stage": "live", "weight": 10.0}
    assert "live 10 % -> complete 100 %, copy durable -> none" in ctl("stage", "complete").out


def test_rollback_is_idempotent_and_never_asks(ctl: Ctl, admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    admin.dials["events"] = Dials(50.0, "durable")
    assert "live 50 % -> dualwrite 0 %" in ctl("rollback").out
    assert "it was so already" in ctl("rollback").out


@pytest.mark.parametrize("words", [["rearm"], ["rollout", "rearm"]])
def test_rearm(ctl: Ctl, admin: FakeAdmin, words: list[str]) -> None:
    admin.dials["events"] = Dials(0.0, "durable", latched=True)
    assert "dualwrite 0 % latched -> dualwrite 0 %," in ctl(*words).out
    assert not admin.dials["events"].latched


def test_route_is_named_or_the_only_one(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.dials["a/b c"] = Dials()
    done = ctl("set-weight", "25")
    assert done.code == 2
    assert "events, a/b c" in done.err
    assert ctl("set-weight", "25", "--route", "a/b c").code == 0
    assert admin.dials["a/b c"].weight == 25
    done = ctl("set-weight", "25", "--route", "gone")
    assert done.code == 2
    assert "events, a/b c" in done.err


def test_not_all_workers_yet(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.applied_late = True
    assert "applied on 1 of 2 workers so far in 4.0 ms" in ctl("set-weight", "25").out


def test_wait_for_the_last_worker(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.applied_late = True
    admin.before_status.extend([lambda: None, lambda: admin.workers[1].update(epoch=7)])
    done = ctl("set-weight", "25", "--wait")
    assert done.code == 0
    assert "applied on 2 of 2 workers\n" in done.out


def test_wait_in_vain(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.applied_late = True
    done = ctl("set-weight", "25", "--wait", "--timeout", "20ms")
    assert done.code == 4
    assert "worker 1 is at epoch 6, not 7" in done.err


def test_a_change_stands_when_the_status_after_it_fails(
    ctl: Ctl, admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cli.routing.look", lambda admin: None)
    done = ctl("set-weight", "25")
    assert done.code == 0
    assert "epoch 6 -> 7" in done.out
    assert "observed" not in done.out


def test_no_events_no_observation(ctl: Ctl, admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = {"routes": [{"name": "events", "weight_observed": None, "weight_observed_interval": None}]}
    monkeypatch.setattr("proxy.cli.routing.look", lambda admin: quiet)
    assert "observed in the last 10 s none, no events" in ctl("set-weight", "25").out


@pytest.mark.parametrize("words", [["--steps", "50,0"], ["--hold", "1s"]])
def test_steps_belong_to_gradual(ctl: Ctl, admin: FakeAdmin, words: list[str]) -> None:
    assert ctl("rollback", *words).code == 2
    assert admin.requests == []


def test_restore_asks_for_an_epoch(ctl: Ctl, admin: FakeAdmin) -> None:
    done = ctl("restore", "--epoch", "3", "--reason", "it was well then", "--if-epoch", "6", "--wait")
    assert done.code == 0
    assert done.out.startswith("events: off 0 % -> live 25 %, copy none -> durable\nepoch 6 -> 7")
    method, target, headers, body = admin.requests[0]
    assert (method, target, headers["if-match"]) == ("POST", "/api/v1/routes/-/restore", "6")
    assert body == {"epoch": 3, "reason": "it was well then"}
    assert "it was so already, epoch 7" in ctl("restore", "--epoch", "3").out


@pytest.mark.parametrize("words", [[], ["--epoch", "0"], ["--epoch", "-1"], ["--epoch", "first"]])
def test_restore_needs_an_epoch(ctl: Ctl, admin: FakeAdmin, words: list[str]) -> None:
    assert ctl("restore", *words).code == 2
    assert not admin.requests

"""rollout: what it asks for, how it shows what it is told, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config import plan as plan_file
from proxy.cli import rollout
from proxy.cli.client import Admin
from proxy.cli.endpoints import Target, parse
from proxy.cli.failure import UNREACHABLE, Failure
from tests.cli.conftest import Ctl, FakeClock
from tests.cli.fake_admin import FakeAdmin

PATH = "/api/v1/routes/-/rollout"


def view(**values: Any) -> dict[str, Any]:
    steps = [
        {"weight": 10.0, "hold_s": 300.0, "samples": 500, "predicted_s": 300.0},
        {"weight": 100.0, "hold_s": 1800.0, "samples": 0, "predicted_s": None},
    ]
    head = {
        "route": "events",
        "phase": "holding",
        "step": 1,
        "held_s": 12.0,
        "reason": "lacks 60 of 500 answers of new",
    }
    return head | {"auto_promote": True, "started_at": "", "actor": "a", "dry_run": False, "steps": steps} | values


@pytest.fixture
def answering(admin: FakeAdmin) -> FakeAdmin:
    admin.forced = lambda method, path: (200, view()) if "rollout" in path else None
    return admin


def asked(admin: FakeAdmin) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, target, body) for method, target, _, body in admin.requests]


def test_defaults_are_those_of_a_plan_file() -> None:
    assert (rollout.WEIGHTS, rollout.HOLD) == (plan_file.WEIGHTS, plan_file.HOLD)
    assert (rollout.ANALYSIS, rollout.KEEP_OLD) == (plan_file.ANALYSIS, plan_file.KEEP_OLD)


def test_start_sends_a_plan_of_options(ctl: Ctl, answering: FakeAdmin) -> None:
    done = ctl("rollout", "start", "--steps", "10,50", "--hold", "1m", "--samples", "9", "--manual", "--from-step", "2")
    assert done.code == 0, done.err
    steps = [{"weight": weight, "hold": 60.0, "samples": 9} for weight in (10.0, 50.0)]
    assert asked(answering) == [("POST", PATH, {"steps": steps, "auto_promote": False, "from_step": 2})]
    assert done.out.splitlines()[:2] == [
        "events: holding at step 1 of 2, 10 %, for 12 s",
        "  lacks 60 of 500 answers of new",
    ]
    assert any(line.split()[:3] == ["1", "<", "10"] for line in done.out.splitlines())


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        (["--hold", "1m"], list(rollout.WEIGHTS)),
        (["--increment", "30"], [30, 60, 90, 100]),
        (["--increment", "10"], [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]),
        (["--increment", "33.33"], [33.33, 66.66, 99.99, 100]),
        (["--increment", "33.333"], [33.33, 66.67, 100]),
        (["--increment", "100"], [100]),
    ],
)
def test_steps(options: list[str], weights: list[float], ctl: Ctl, answering: FakeAdmin) -> None:
    assert ctl("rollout", "start", *options).code == 0
    assert [step["weight"] for step in asked(answering)[0][2]["steps"]] == weights


@pytest.mark.parametrize(
    ("options", "stops"),
    [
        (["--analysis", "1m", "--steps", "50", "--hold", "2m"], [(0, 60), (50, 120)]),
        (["--blue-green"], [(0, 300), (100, 3600)]),
        (["--blue-green", "--analysis", "10s", "--keep-old", "2h"], [(0, 10), (100, 7200)]),
    ],
)
def test_analysis_and_blue_green(
    options: list[str], stops: list[tuple[float, float]], ctl: Ctl, answering: FakeAdmin
) -> None:
    assert ctl("rollout", "start", *options).code == 0
    assert [(step["weight"], step["hold"]) for step in asked(answering)[0][2]["steps"]] == stops


def test_limits_of_latency_are_shown(ctl: Ctl, answering: FakeAdmin) -> None:
    answering.forced = lambda method, path: (200, view(latency={"p50": None, "p95": 0.5}))
    assert "  each step takes of new at most: p95 500.0 ms" in ctl("rollout", "status").out.splitlines()


def test_without_a_plan_it_is_the_configurations(ctl: Ctl, answering: FakeAdmin) -> None:
    assert ctl("rollout", "start", "--from-step", "2", "--reason", "go").code == 0
    assert asked(answering) == [("POST", PATH, {"from_step": 2, "reason": "go"})]


def test_start_sends_a_file(ctl: Ctl, answering: FakeAdmin, home: Path) -> None:
    (home / "plan.yaml").write_text("version: 1\nhold: 2m\nsteps:\n  - {weight: 5, samples: 7}\n")
    assert ctl("rollout", "start", "-f", "plan.yaml", "--reason", "now").code == 0
    [(_, _, body)] = asked(answering)
    assert body["steps"] == [{"weight": 5.0, "hold": 120.0, "samples": 7}]
    assert body["reason"] == "now"


def test_gates_are_shown_and_a_wrong_one_has_its_line(ctl: Ctl, answering: FakeAdmin, home: Path) -> None:
    steps = [view()["steps"][0] | {"before": ["warm"], "gates": ["smoke", "approve"], "after": []}]
    gates = [{"name": "smoke", "answer": "no", "text": "exit 3\x1b slow", "on_fail": "hold"}]
    answering.forced = lambda method, path: (200, view(steps=steps, gates=gates))
    assert ctl("rollout", "status").out.splitlines()[-2:] == [
        "  step 1: before warm; gates smoke, approve",
        r"  gate smoke: no (exit 3\x1b slow)",
    ]
    (home / "plan.yaml").write_text("version: 1\nsteps:\n  - {weight: 5}\n  - {weight: 7, gates: [smok]}\n")
    problem = {"status": 422, "detail": "there is no gate 'smok'", "at": ["steps", 1, "gates", 0]}
    answering.forced = lambda method, path: (422, problem)
    for command in ("plan", "start"):
        done = ctl("rollout", command, "-f", "plan.yaml")
        assert "plan.yaml:4:25: there is no gate 'smok'" in done.err
        assert "plan.yaml" not in ctl("rollout", command, "--steps", "5").err, "there is no line to name"


def test_plan_is_a_dry_run_with_a_prediction(ctl: Ctl, answering: FakeAdmin) -> None:
    answering.forced = lambda method, path: (201, view(dry_run=True))
    done = ctl("rollout", "plan")
    assert asked(answering)[0][2]["dry_run"] is True
    assert done.out.splitlines()[0] == "events: would begin at step 1 of 2"
    assert "never ends: no events come" in done.out
    assert done.out.splitlines()[-1] == "dry run: nothing was begun"
    answering.forced = lambda method, path: (201, view(dry_run=True, steps=view()["steps"][:1]))
    assert "5m 0s in all, at this rate" in ctl("rollout", "plan").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-f", "plan.yaml", "--steps", "10"], "-f is a whole plan"),
        (["-f", "plan.yaml", "--blue-green"], "-f is a whole plan"),
        (["--blue-green", "--hold", "1m"], "--blue-green goes from 0 to 100 % at once"),
        (["--keep-old", "1h"], "--keep-old belongs to --blue-green"),
        (["-f", "nowhere.yaml"], "cannot read nowhere.yaml"),
        (["-f", "bad.yaml"], "bad.yaml:4:14: 5 % does not rise above the 10 % before it"),
        (["--steps", "10", "--increment", "5"], "two ways to say the same"),
        (["--increment", "0"], "--increment is from 0.01 to 100"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    words: list[str], said: str, ctl: Ctl, answering: FakeAdmin, home: Path
) -> None:
    (home / "plan.yaml").write_text("version: 1\n")
    (home / "bad.yaml").write_text("version: 1\nsteps:\n  - {weight: 10}\n  - {weight: 5}\n")
    done = ctl("rollout", "start", *words)
    assert done.code == 2
    assert said in done.err
    assert asked(answering) == []


@pytest.mark.parametrize("words", [["--steps", "50,10"], ["--steps", "0,10"], ["--hold", "5"], ["--from-step", "0"]])
def test_values_that_are_none_are_usage_errors(words: list[str], ctl: Ctl, capsys: pytest.CaptureFixture[str]) -> None:
    done = ctl("rollout", "start", *words)
    assert (done.code, done.out) == (2, "")


@pytest.mark.parametrize("what", ["pause", "resume", "promote", "abort"])
def test_what_a_person_does_to_it(what: str, ctl: Ctl, answering: FakeAdmin) -> None:
    assert ctl("rollout", what, "--route", "events", "--reason", "why").code == 0
    assert asked(answering) == [("POST", f"/api/v1/routes/events/rollout/{what}", {"reason": "why"})]


def test_what_was_promoted_is_waited_for(ctl: Ctl, admin: FakeAdmin) -> None:
    phases = iter(["moving", "moving"])
    admin.forced = lambda method, path: (
        (200, view(phase=next(phases, "holding") if method == "GET" else "moving")) if "rollout" in path else None
    )
    done = ctl("rollout", "promote", "--wait")
    assert (done.code, done.out.splitlines()[0]) == (0, "events: holding at step 1 of 2, 10 %, for 12 s")
    assert len([1 for method, target, _ in asked(admin) if target == PATH]) == 4


def test_a_promotion_that_was_overtaken_is_a_failure(ctl: Ctl, admin: FakeAdmin) -> None:
    for phase, code in (("paused", 1), ("reverted", 3)):
        admin.forced = lambda method, path: (200, view(phase=phase)) if "rollout" in path else None  # noqa: B023
        assert ctl("rollout", "promote", "--wait").code == code
    assert ctl("rollout", "pause", "--wait").code == 3


def test_a_pause_says_whose_it_is_since_when_and_how_to_go_on(ctl: Ctl, answering: FakeAdmin) -> None:
    pause = {"phase": "paused", "reason": "lunch", "paused_by": "ann@host", "paused_at": "2026-01-31T12:00:00.000Z"}
    answering.forced = lambda method, path: (200, view(**pause))
    for command in ("pause", "status"):
        assert ctl("rollout", command).out.splitlines()[:3] == [
            "events: paused by ann@host since 2026-01-31T12:00:00.000Z at step 1 of 2, 10 %, which had held for 12 s",
            "  lunch",
            "  to go on: proxyctl rollout resume --route events",
        ]


def test_status(ctl: Ctl, answering: FakeAdmin) -> None:
    answering.forced = lambda method, path: (200, view(phase="reverted", reason="new\x1b fails", auto_promote=False))
    out = ctl("rollout", "status").out
    assert out.splitlines()[:2] == ["events: rollout REVERTED at step 1 of 2", r"  new\x1b fails"]
    assert "proxyctl rollout promote" in out
    assert asked(answering) == [("GET", PATH, {})]


@pytest.mark.parametrize(
    ("phase", "code", "said"),
    [
        ("reverted", 3, "the rollout was reverted: why"),
        ("aborted", 1, "the rollout was aborted"),
        ("paused", 4, "not over after 60 s; paused"),
    ],
)
def test_wait_ends_with_how_it_ended(phase: str, code: int, said: str, admin: FakeAdmin, clock: FakeClock) -> None:
    looks = iter([view(), view()])
    admin.forced = lambda method, path: (200, next(looks, view(phase=phase, reason="why")))
    at = Admin(Target((parse("unix:crossfade-state/admin.sock"),), None))
    with pytest.raises(Failure, match=said) as caught:
        rollout.wait_until_over(at, PATH, 60.0, clock)
    assert caught.value.code == code


def test_wait_until_it_is_done(admin: FakeAdmin, clock: FakeClock) -> None:
    looks = iter([(200, view()), (200, view(phase="paused"))])
    admin.forced = lambda method, path: next(looks, (200, view(phase="done", step=2)))
    at = Admin(Target((parse("unix:crossfade-state/admin.sock"),), None))
    assert rollout.wait_until_over(at, PATH, 60.0, clock)["phase"] == "done"
    assert clock.time == pytest.approx(rollout.LOOK)


def test_wait_outlives_a_restart_of_the_supervisor(
    admin: FakeAdmin, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [view(), Failure(UNREACHABLE, "away"), view(phase="done")]

    def get(self: Admin, path: str) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Failure):
            raise answer
        return answer

    monkeypatch.setattr(Admin, "get", get)
    at = Admin(Target((parse("unix:crossfade-state/admin.sock"),), None))
    assert rollout.wait_until_over(at, PATH, 60.0, clock)["phase"] == "done"
    answers += [view(), Failure(2, "no such route")]
    with pytest.raises(Failure, match="no such route"):
        rollout.wait_until_over(at, PATH, 60.0, clock)


def test_notes_are_shown(ctl: Ctl, answering: FakeAdmin) -> None:
    answering.forced = lambda method, path: (201, view(notes=["copy is\x1b none"]))
    assert r"note: copy is\x1b none" in ctl("rollout", "start").out.splitlines()

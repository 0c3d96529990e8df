"""One command on several instances."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from proxy.cli.failure import BLOCKED, CONFLICT, FAILED, ROLLED_BACK, TIMEOUT, UNREACHABLE, USAGE, WORST_FIRST
from proxy.cli.instances import worst
from tests.cli.conftest import ROOT, Ctl
from tests.cli.fake_admin import FakeAdmin, serving

BOTH = ["--admin", "unix:a.sock", "--admin", "unix:b.sock"]


@pytest.fixture
def two() -> Iterator[tuple[FakeAdmin, FakeAdmin]]:
    a, b = FakeAdmin(), FakeAdmin()
    with serving(a, "a.sock"), serving(b, "b.sock"):
        yield a, b


def test_each_is_done_and_reported(ctl: Ctl, two: tuple[FakeAdmin, FakeAdmin]) -> None:
    done = ctl("set-weight", "25", *BOTH)
    assert done.code == 0
    assert done.out.count("off 0 % -> split 25 %") == 2
    assert done.out.startswith("unix:a.sock:\n")
    assert "\nunix:b.sock:\n" in done.out
    assert [fake.dials["events"].weight for fake in two] == [25, 25]


def test_json_names_each(ctl: Ctl, two: tuple[FakeAdmin, FakeAdmin]) -> None:
    answer = ctl("history", "-o", "json", *BOTH).json
    assert answer == [
        {"admin": "unix:a.sock", "code": 0, "result": {"entries": []}},
        {"admin": "unix:b.sock", "code": 0, "result": {"entries": []}},
    ]
    assert yaml.safe_load(ctl("history", "-o", "yaml", *BOTH).out) == answer


def test_options_before_and_after_the_command_add_up(ctl: Ctl, two: tuple[FakeAdmin, FakeAdmin]) -> None:
    assert ctl("--admin", "unix:a.sock", "dead", "--admin", "unix:b.sock", "ls", "--admin", "unix:a.sock").code == 0
    assert [len(fake.requests) for fake in two] == [1, 1]  # naming one twice does it once


def test_the_environment_may_name_several(
    ctl: Ctl, two: tuple[FakeAdmin, FakeAdmin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROXYCTL_ADMIN", "unix:a.sock,unix:b.sock")
    assert ctl("history").code == 0
    assert [len(fake.requests) for fake in two] == [1, 1]


def test_one_failure_does_not_keep_the_other_from_it(ctl: Ctl, two: tuple[FakeAdmin, FakeAdmin]) -> None:
    done = ctl("rollback", "--admin", "unix:gone", *BOTH)
    assert done.code == 6
    assert "proxyctl: unix:gone: no admin API could be reached" in done.err
    assert "1 of 3 instances failed" in done.err
    assert [len(fake.requests) for fake in two] == [2, 2]


def test_the_epoch_that_is_expected_is_each_ones_own(ctl: Ctl, two: tuple[FakeAdmin, FakeAdmin]) -> None:
    two[1].epoch = 9
    done = ctl("set-weight", "25", "--if-epoch", "6", "--admin", "unix:gone", *BOTH, "-o", "json")
    assert [(report["admin"], report["code"]) for report in done.json] == [
        ("unix:gone", 6),
        ("unix:a.sock", 0),
        ("unix:b.sock", 5),
    ]
    assert done.json[1]["result"]["epoch"] == 7
    assert done.json[2]["error"]["problem"]["epoch"] == 9
    assert (done.code, done.error) == (6, {"code": 6, "message": "2 of 3 instances failed"})
    assert [fake.dials["events"].weight for fake in two] == [25, 0]


def test_the_worst_is_told() -> None:
    named = {ROLLED_BACK, FAILED, TIMEOUT, UNREACHABLE, CONFLICT, BLOCKED, USAGE}
    assert set(WORST_FIRST) == named
    assert len(WORST_FIRST) == len(named)
    assert worst([USAGE, BLOCKED, CONFLICT]) == CONFLICT
    assert worst([UNREACHABLE, TIMEOUT, CONFLICT]) == TIMEOUT
    assert worst([FAILED, ROLLED_BACK, USAGE]) == ROLLED_BACK


def test_all_are_asked_at_the_same_time(ctl: Ctl, two: tuple[FakeAdmin, FakeAdmin]) -> None:
    both_are_there = threading.Barrier(2, timeout=10)

    def meet(method: str, path: str) -> None:
        both_are_there.wait()  # BrokenBarrierError, hence no answer, if one came after the other

    for fake in two:
        fake.forced = meet
    assert ctl("history", *BOTH).code == 0


def test_one_that_hangs_hides_no_other(
    ctl: Ctl, two: tuple[FakeAdmin, FakeAdmin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cli.client.ANSWER_TIMEOUT", 0.3)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind("silent.sock")
        silent.listen()
        done = ctl("status", "--admin", "unix:silent.sock", *BOTH)
    assert done.code == 4
    assert "unix:silent.sock: unix:silent.sock did not answer within 0.3 s" in done.err
    assert done.out.count("ready, epoch 6") == 2


HEARS_INTERRUPTS = ["env", "--default-signal=INT"]
"""As from a terminal: whoever runs the tests in the background may ignore them, and children inherit that."""


def test_an_interrupt_says_of_whom_nothing_is_known(two: tuple[FakeAdmin, FakeAdmin], home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind("silent.sock")
        silent.listen()
        command = [sys.executable, "-m", "proxy.cli.main", "rollback", *BOTH[:2], "--admin", "unix:silent.sock"]
        process = subprocess.Popen(
            [*HEARS_INTERRUPTS, *command],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"unix:a.sock:\n"
            connection, _ = silent.accept()
            process.send_signal(signal.SIGINT)
            error = process.stderr.read()
            assert process.wait(30) == 130
            connection.close()
    assert b"interrupted before it was known what came of it at unix:silent.sock\n" in error


def test_each_goes_down_by_its_own_epochs(ctl: Ctl, two: tuple[FakeAdmin, FakeAdmin]) -> None:
    for fake, epoch in zip(two, (6, 20), strict=True):
        assert ctl("stage", "live", "--weight", "60", "--admin", f"unix:{'ab'[epoch == 20]}.sock").code == 0
        fake.epoch = epoch
    assert ctl("rollback", "--gradual", "--steps", "50,0", "--hold", "0s", *BOTH).code == 0
    assert [fake.dials["events"].weight for fake in two] == [0, 0]


def test_watch_shows_both(ctl: Ctl, two: tuple[FakeAdmin, FakeAdmin], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("proxy.cli.waiting.time.sleep", interrupted)
    done = ctl("status", "-w", *BOTH)
    assert done.code == 0
    assert "at unix:a.sock" in done.out
    assert "at unix:b.sock" in done.out


def test_watch_goes_on_beside_one_that_is_away(
    ctl: Ctl, two: tuple[FakeAdmin, FakeAdmin], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("proxy.cli.waiting.time.sleep", interrupted)
    done = ctl("status", "-w", "--admin", "unix:gone", *BOTH)
    assert done.code == 0
    assert "unix:gone: no admin API could be reached" in done.out
    assert "at unix:b.sock" in done.out
    done = ctl("status", "-w", "--admin", "unix:gone", "--admin", "unix:gone2")
    assert done.code == 6
    assert "unix:gone2: no admin API could be reached" in done.err


def test_each_step_down_names_its_instance(ctl: Ctl, two: tuple[FakeAdmin, FakeAdmin]) -> None:
    assert ctl("stage", "live", "--weight", "60", *BOTH).code == 0
    out = ctl("rollback", "--gradual", "--steps", "50,0", "--hold", "0s", *BOTH).out
    for name in "ab":
        assert f"unix:{name}.sock: events: weight 50 % for 0 s, epoch 8\n" in out

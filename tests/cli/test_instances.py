"""One command on several instances."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cli.conftest import Ctl
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
    assert answer == {
        "instances": [
            {"admin": "unix:a.sock", "result": {"entries": []}},
            {"admin": "unix:b.sock", "result": {"entries": []}},
        ]
    }


def test_options_before_and_after_the_command_add_up(ctl: Ctl, two: tuple[FakeAdmin, FakeAdmin]) -> None:
    assert ctl("--admin", "unix:a.sock", "dead", "--admin", "unix:b.sock", "ls", "--admin", "unix:a.sock").code == 0
    assert [len(fake.requests) for fake in two] == [2, 1]


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


def test_failures_that_differ_exit_1(ctl: Ctl, two: tuple[FakeAdmin, FakeAdmin]) -> None:
    two[1].epoch = 9
    done = ctl("set-weight", "25", "--if-epoch", "6", "--admin", "unix:gone", *BOTH, "-o", "json")
    assert done.code == 1
    codes = [report.get("error", {"code": 0})["code"] for report in json.loads(done.out)["instances"]]
    assert codes == [6, 0, 5]
    assert done.error == {"code": 1, "message": "2 of 3 instances failed"}


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

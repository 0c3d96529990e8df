"""drain."""

from __future__ import annotations

import argparse

import pytest

from proxy.cli.client import Admin, Json
from proxy.cli.drain import stop
from proxy.cli.endpoints import Target, parse
from proxy.cli.failure import Failure
from tests.cli.conftest import Ctl, FakeClock
from tests.cli.fake_admin import FakeAdmin


def test_drain(ctl: Ctl, admin: FakeAdmin) -> None:
    done = ctl("drain", "--reason", "kernel")
    assert done.code == 0
    assert "is draining and stops" in done.out
    assert admin.requests[0][:2] == ("POST", "/api/v1/drain")
    assert admin.requests[0][3] == {"reason": "kernel"}


def test_until_empty(ctl: Ctl, admin: FakeAdmin) -> None:
    assert ctl("drain", "--until-empty").code == 0
    assert admin.requests[0][3] == {"until_empty": True}


def test_dry_run(ctl: Ctl, admin: FakeAdmin) -> None:
    assert ctl("drain", "--dry-run", "--wait").out == "dry run: unix:crossfade-state/admin.sock would drain and stop\n"
    assert len(admin.requests) == 1


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("\n", 1)])
def test_drain_asks_on_a_terminal(ctl: Ctl, admin: FakeAdmin, terminal: list[str], answer: str, code: int) -> None:
    terminal.append(answer)
    done = ctl("drain")
    assert done.code == code
    assert "Go on? [y/N]" in done.err
    assert len(admin.requests) == (code == 0)


class Stopping(Admin):
    """An instance that is gone after so many looks."""

    def __init__(self, looks: int) -> None:
        super().__init__(Target((parse("unix:a"),), None))
        self.looks = looks

    def change(self, method: str, path: str, body: Json, if_epoch: int | None = None) -> Json:
        return {"draining": True}

    def get(self, path: str, **query: object) -> Json:
        self.looks -= 1
        if self.looks < 0:
            raise Failure(6, "gone")
        return {}


def options(timeout: float) -> argparse.Namespace:
    return argparse.Namespace(wait=True, dry_run=False, reason=None, if_epoch=None, timeout=timeout, until_empty=False)


def test_wait_until_it_is_gone(clock: FakeClock) -> None:
    answer = stop(Stopping(3), options(30), clock)
    assert answer["stopped"] is True
    assert clock.time > 0


def test_wait_in_vain(clock: FakeClock) -> None:
    with pytest.raises(Failure, match="has not stopped after 3 s") as failure:
        stop(Stopping(10**6), options(3), clock)
    assert failure.value.code == 4


def test_gone_at_once_on_the_command_line(ctl: Ctl, admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cli.drain.look", lambda admin: None)
    assert ctl("drain", "--wait").out == "unix:crossfade-state/admin.sock has stopped\n"

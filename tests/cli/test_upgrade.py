"""upgrade."""

from __future__ import annotations

import argparse

import pytest

from proxy.cli.client import Admin, Json
from proxy.cli.endpoints import Target, parse
from proxy.cli.failure import Failure
from proxy.cli.status_view import render as status_text
from proxy.cli.upgrade import begin
from tests.cli.conftest import Ctl, FakeClock
from tests.cli.fake_admin import FakeAdmin, switch


def test_it_is_asked_for(ctl: Ctl, admin: FakeAdmin) -> None:
    done = ctl("upgrade", "--reason", "1.3")
    assert done.code == 0
    assert "upgrade 1 runs, replacing (supervisor done, worker 0 starts)" in done.out
    assert admin.requests[0][:2] == ("POST", "/api/v1/upgrade")
    assert admin.requests[0][3] == {"reason": "1.3"}


def test_dry_run(ctl: Ctl, admin: FakeAdmin) -> None:
    done = ctl("upgrade", "--dry-run", "--wait")
    assert done.out == "dry run: unix:crossfade-state/admin.sock would let the code on the disk take over\n"
    assert len(admin.requests) == 1


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("\n", 1)])
def test_it_asks_on_a_terminal(ctl: Ctl, admin: FakeAdmin, terminal: list[str], answer: str, code: int) -> None:
    terminal.append(answer)
    assert ctl("upgrade").code == code
    assert len(admin.requests) == (code == 0)


def test_a_second_one_is_blocked(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.forced = lambda method, path: (423, {"detail": "there can be one switch at a time", "switch": 3})
    done = ctl("upgrade")
    assert (done.code, "see how far it is: proxyctl status -w" in done.err) == (7, True)


class Switching(Admin):
    """Answers with these states, one for each look; the last one for ever. None: it is away."""

    def __init__(self, *states: Json | None) -> None:
        super().__init__(Target((parse("unix:a"),), None))
        self.states = list(states)

    def change(self, method: str, path: str, body: Json, if_epoch: int | None = None) -> Json:
        return switch()

    def get(self, path: str, **query: object) -> Json:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state is None:
            raise Failure(6, "gone")
        return state


def options(timeout: float = 30.0) -> argparse.Namespace:
    return argparse.Namespace(wait=True, dry_run=False, reason=None, if_epoch=None, timeout=timeout)


def test_wait_while_the_supervisor_is_replaced(clock: FakeClock) -> None:
    done = begin(Switching(switch(), None, None, switch(result="done")), options(), clock)
    assert (done["result"], clock.time > 0) == ("done", True)


@pytest.mark.parametrize(("result", "code"), [("refused", 2), ("put-back", 3), ("failed", 1)])
def test_what_came_of_it_is_the_exit_code(clock: FakeClock, result: str, code: int) -> None:
    with pytest.raises(Failure, match=r"upgrade 1 .*: worker 0 exited with 1") as failure:
        begin(Switching(switch(result=result, reason="worker 0 exited with 1")), options(), clock)
    assert failure.value.code == code
    assert failure.value.hint


@pytest.mark.parametrize("state", [switch(), None])
def test_wait_in_vain(clock: FakeClock, state: Json | None) -> None:
    with pytest.raises(Failure, match="not ended after 3 s") as failure:
        begin(Switching(state), options(3.0), clock)
    assert failure.value.code == 4


def test_another_switch_is_not_taken_for_ours(clock: FakeClock) -> None:
    with pytest.raises(Failure, match="is at switch 2 now, not 1"):
        begin(Switching(switch(number=2, result="done")), options(), clock)


def test_the_status_tells_of_it() -> None:
    assert "upgrade 1 runs, version 1 to 2: replacing (supervisor done, worker 0 starts)" in status_text(
        {"switch": switch()}
    )
    text = status_text({"switch": switch(result="put-back", reason="worker 0 hangs")})
    assert "upgrade 1 was put back, version 1 to 2: worker 0 hangs, at 2026-01-31T12:00:09.000Z" in text
    assert "upgrade" not in status_text({"switch": None})

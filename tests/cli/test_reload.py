"""reload: what a changed file changes is shown, and waited for."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from proxy.cli.client import Admin, Json
from proxy.cli.endpoints import Target, parse
from proxy.cli.failure import Failure
from proxy.cli.reload import apply
from tests.cli.conftest import Ctl, FakeClock
from tests.cli.fake_admin import FakeAdmin

CHANGE = {"key": "routes.events.copy_wait", "before": "5ms", "after": "20ms", "kind": "live", "why": None}
BEGUN: Json = {
    "file": "/etc/crossfade.yaml",
    "digest": "second",
    "epoch": 6,
    "changes": [CHANGE],
    "refused": [],
    "dry_run": False,
    "begun": True,
}


def answers(admin: FakeAdmin, status: int, **changes: Any) -> None:
    """What the instance says to a reload."""
    admin.forced = lambda method, path: (status, BEGUN | changes) if path == "/api/v1/reload" else None


def test_what_changes_is_shown(ctl: Ctl, admin: FakeAdmin) -> None:
    answers(admin, 202)
    done = ctl("reload", "--reason", "slower disks")
    assert done.code == 0
    assert "routes.events.copy_wait  5ms     ->  20ms   live: no connection is touched" in done.out
    assert done.out.endswith("it is being applied\nnext: proxyctl status -w\n")
    assert admin.requests[0][3] == {"reason": "slower disks"}


def test_a_dry_run_changes_nothing(ctl: Ctl, admin: FakeAdmin) -> None:
    answers(admin, 202, dry_run=True, begun=False)
    done = ctl("reload", "--dry-run", "--leave-owed")
    assert "dry run: nothing was changed\nnext: proxyctl reload --wait" in done.out
    assert admin.requests[0][3] == {"dry_run": True, "leave_owed": True}


def test_nothing_different(ctl: Ctl, admin: FakeAdmin) -> None:
    answers(admin, 202, changes=[], begun=False)
    assert ctl("reload").out == "/etc/crossfade.yaml: nothing is different\n"


def test_what_stands_against_it_is_told_beside_what_would_change(ctl: Ctl, admin: FakeAdmin) -> None:
    answers(admin, 202, refused=["events is frozen until noon"], begun=False)
    done = ctl("reload")
    assert done.code == 7
    assert "routes.events.copy_wait" in done.err
    assert "refused: events is frozen until noon" in done.err
    assert "the configuration of before is served on" in done.err


def test_errors_of_a_file_are_told_as_check_tells_them(ctl: Ctl, admin: FakeAdmin) -> None:
    error = {"path": "/etc/crossfade.yaml", "line": 3, "column": 5, "message": "unknown key 'x'", "suggestion": "y"}
    problem = {"status": 422, "detail": "/etc/crossfade.yaml has 1 error", "errors": [error]}
    admin.forced = lambda method, path: (422, problem) if path == "/api/v1/reload" else None
    done = ctl("reload")
    assert done.code == 2
    assert done.err.startswith("/etc/crossfade.yaml:3:5: unknown key 'x' (did you mean 'y'?)\n")


class Instance(Admin):
    """Says one thing after the other of what is served; the last one for ever."""

    def __init__(self, *served: Json | Failure) -> None:
        super().__init__(Target((parse("unix:a"),), None))
        self.served = list(served)

    def change(self, method: str, path: str, body: Json, if_epoch: int | None = None) -> Json:
        return BEGUN

    def get(self, path: str, **query: object) -> Json:
        found = self.served.pop(0) if len(self.served) > 1 else self.served[0]
        if isinstance(found, Failure):
            raise found
        return found


def served(digest: str, workers: int, number: int, phase: str, result: str = "", reason: str = "") -> Json:
    switch = {"number": number, "kind": "reload", "phase": phase, "result": result, "reason": reason}
    return {"digest": digest, "workers": workers, "of": 2, "switch": switch}


def options(timeout: float = 30.0) -> argparse.Namespace:
    return argparse.Namespace(wait=True, dry_run=False, reason=None, if_epoch=None, timeout=timeout, leave_owed=False)


def test_wait_until_every_worker_goes_by_it(clock: FakeClock) -> None:
    instance = Instance(
        served("first", 2, 4, "ended", "done"),
        served("first", 2, 5, "checking"),
        Failure(6, "the supervisor is being replaced"),
        served("second", 0, 5, "replacing"),
        served("second", 2, 5, "watching"),
        served("second", 2, 5, "ended", "done"),
    )
    assert apply(instance, options(), clock)["served"] is True


def test_wait_hears_that_it_was_put_back(clock: FakeClock) -> None:
    instance = Instance(
        served("first", 2, 4, "ended", "put-back", "an old story"),
        served("first", 2, 4, "ended", "put-back", "an old story"),
        served("first", 2, 5, "ended", "put-back", "worker 0 did not serve within 30 s"),
    )
    with pytest.raises(Failure, match=r"it was not applied \(put-back\): worker 0 did not serve within 30 s"):
        apply(instance, options(), clock)


def test_wait_in_vain(clock: FakeClock) -> None:
    with pytest.raises(Failure, match="after 3 s: 1 of 2 workers go by it, replacing") as failure:
        apply(Instance(served("second", 1, 0, "replacing")), options(3.0), clock)
    assert failure.value.code == 4

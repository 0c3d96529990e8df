"""Waiting for an instance that goes away and comes back."""

from __future__ import annotations

import pytest

from proxy.cli.client import Admin, Json
from proxy.cli.endpoints import Target, parse
from proxy.cli.failure import Failure
from proxy.cli.waiting import behind, latched_routes, look, unsettled, until
from tests.cli.conftest import FakeClock


class Script(Admin):
    """An instance that answers as it is told, the last answer for ever."""

    def __init__(self, *answers: Json | Failure) -> None:
        super().__init__(Target((parse("unix:a"),), None))
        self.answers = list(answers)

    def get(self, path: str, **query: object) -> Json:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Failure):
            raise answer
        return answer


def worker(epoch: int, alive: bool = True, index: int = 0) -> Json:
    return {"index": index, "epoch": epoch, "alive": alive}


def status(epoch: int = 2, *workers: Json, **values: object) -> Json:
    return {
        "epoch": epoch,
        "workers": list(workers) or [worker(epoch)],
        "ledger": {"alive": True, "pending": 0},
    } | values


def test_behind() -> None:
    assert behind(status(2, worker(2), worker(3)), 2) == []
    assert behind(status(2, worker(1), worker(2)), 2) == ["worker 0 is at epoch 1, not 2"]
    assert behind(status(2, worker(2, alive=False, index=1)), 2) == ["worker 1 is down"]
    assert behind({"workers": []}, 2) == ["no worker has reported"]


def test_unsettled() -> None:
    assert unsettled(status()) == []
    assert unsettled(status(ledger={"alive": False})) == ["the ledger is down"]
    assert unsettled(status(ledger={"alive": True, "pending": None})) == ["the ledger has not told of itself yet"]
    assert unsettled(status(ledger={"alive": True, "pending": 7})) == ["7 events are pending"]
    routes = [{"name": "r", "sides": {"old": {"ledger": {"pending": 0}}, "new": {"ledger": {"pending": 7}}}}]
    assert unsettled(status(routes=routes, ledger={"alive": True, "pending": 7})) == [
        "7 events of r are pending at new"
    ]


def test_what_is_to_be_carried_over_is_waited_for() -> None:
    """Right after a rollback from split nothing of it is pending yet."""
    side = {"ledger": {"pending": 0, "deferred": 1204}}
    route = {"name": "r", "weight_target": 0.0, "sides": {"old": side, "new": {"ledger": {"deferred": 3}}}}
    assert unsettled(status(routes=[route])) == ["1,204 events of r are to be carried over to old"]
    assert unsettled(status(routes=[route | {"weight_target": 25.0}])) == [], "in split that is as it should be"


def test_latched_routes() -> None:
    assert latched_routes({"routes": [{"name": "a", "latched": True}, {"name": "b", "latched": False}]}) == {"a"}


@pytest.mark.parametrize("code", [6, 4])
def test_an_instance_that_answered_once_may_be_away(clock: FakeClock, code: int) -> None:
    away = Failure(code, "away")
    admin = Script(status(2, worker(1)), away, away, status())
    assert until(admin, unsettled, 10, clock=clock) == status()
    assert 0 < clock.time < 10


def test_away_for_too_long(clock: FakeClock) -> None:
    with pytest.raises(Failure, match="unix:a is away") as failure:
        until(Script(status(2, worker(1)), Failure(6, "away")), unsettled, 3, clock=clock)
    assert failure.value.code == 4
    assert clock.time == pytest.approx(3)


@pytest.mark.parametrize("code", [6, 1])
def test_never_there_or_not_allowed(clock: FakeClock, code: int) -> None:
    with pytest.raises(Failure) as failure:
        until(Script(Failure(code, "no")), unsettled, 3, clock=clock)
    assert (failure.value.code, clock.time) == (code, 0)


def test_a_right_that_is_lost_meanwhile(clock: FakeClock) -> None:
    with pytest.raises(Failure, match="revoked"):
        until(Script(status(2, worker(1)), Failure(1, "revoked")), unsettled, 3, clock=clock)


def test_look() -> None:
    assert look(Script(status())) == status()
    assert look(Script(Failure(6, "away"))) is None
    with pytest.raises(Failure):
        look(Script(Failure(1, "no")))

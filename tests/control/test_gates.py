"""When gates are asked, how long an answer stands, and who is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import pytest

from config.gates import Gate
from proxy.control.gate_calls import GateCalls, Question
from proxy.control.gates import MOST_TOLD, Gates, places_of
from proxy.control.soak import Soaking
from proxy.core.errors import BadPlan
from proxy.core.gate import NO, NO_ANSWER, YES, Said
from proxy.core.rollout import Plan, Step
from tests.control.fakes import Clock
from tests.control.test_soak import NOTHING

pytestmark = pytest.mark.asyncio
QUESTION = Question("events", "gates", 1, 2, 10.0, 10.0, 7)
ASKED = Said(NO_ANSWER, "it is being asked")


def gate(name: str, kind: str = "command", **more: Any) -> Gate:
    kinds: dict[str, Any] = {
        "command": ("true",),
        "webhook": {"url": "http://127.0.0.1:1"},
        "soak": {"lasts": "1m"},
        "prometheus": {"url": "http://127.0.0.1:1", "query": "up", "above": 0.0},
    }
    return Gate.model_validate({"name": name, kind: kinds[kind], "every": "10s"} | more)


def no_soak(gate: Gate, route: str, calls: GateCalls) -> NoReturn:
    raise AssertionError(route)


class Scene:
    """Gates that answer what `answers` says, when they are let."""

    def __init__(self, *gates: Gate, folder: Path = Path("/")) -> None:
        self.clock = Clock()
        self.counts: Counter[str] = Counter()
        self.gates = Gates(gates, folder, self.clock, self.soak, self.counts)
        self.answers: dict[str, str] = {}
        self.calls: list[str] = []
        self.cancelled: list[str] = []
        self.go = asyncio.Event()
        self.go.set()
        self.gates._calls.ask = self.ask  # type: ignore[method-assign]

    def soak(self, gate: Gate, route: str, calls: GateCalls) -> Soaking:
        """One that sees nothing of new, and so has no answer."""

        async def sleep(_: float) -> None:
            await self.go.wait()
            self.go.clear()

        self.calls.append(f"soak of {route}")
        assert gate.soak is not None
        return Soaking(gate.soak, lambda: NOTHING._replace(at=self.clock.now), sleep)

    async def ask(self, gate: Gate, question: Question) -> Said:
        self.calls.append(gate.name)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(gate.name)
            raise
        return Said(self.answers.get(gate.name, YES), question.route, gate.on_fail)

    async def said(self, *names: str, later: float = 0.0, question: Question = QUESTION) -> dict[str, str]:
        self.clock.now += later
        found = self.gates.said(names, question)
        for _ in range(3):
            await asyncio.sleep(0)
        return {name: each.answer for name, each in found.items()}


async def test_a_yes_stands_and_everything_else_is_asked_again() -> None:
    scene = Scene(gate("smoke"), gate("approve", "webhook"), gate("p95", "prometheus"))
    scene.answers = {"approve": NO}
    names = ("smoke", "approve", "p95")
    assert await scene.said(*names) == dict.fromkeys(names, NO_ANSWER)
    assert await scene.said(*names) == {"smoke": YES, "approve": NO, "p95": YES}
    assert await scene.said(*names, later=9.9) == {"smoke": YES, "approve": NO, "p95": YES}
    assert scene.calls == list(names)
    scene.answers = {"approve": YES, "p95": NO}
    assert await scene.said(*names, later=0.1) == {"smoke": YES, "approve": NO, "p95": YES}, "as it was said last"
    assert await scene.said(*names) == {"smoke": YES, "approve": YES, "p95": NO}
    assert scene.calls == [*names, "approve", "p95"], "a metric may have changed"
    await scene.gates.close()


async def test_every_answer_is_counted_also_that_there_was_none() -> None:
    scene = Scene(gate("smoke"), gate("away"), gate("hour", "soak"))
    scene.answers = {"smoke": NO, "away": NO_ANSWER}
    for _ in range(3):
        await scene.said("smoke", "away", later=10.0)
    assert scene.counts == {"gates:smoke:no": 2, "gates:away:no_answer": 2}
    scene.gates.tell(["smoke"], QUESTION, lambda name, said: None)
    scene.go.set()
    await scene.said("hour")
    scene.go.set()
    await scene.said("hour", later=60.0)
    assert scene.counts["gates:smoke:no"] == 3, "who is told answers, too"
    assert scene.counts["gates:hour:no_answer"] == 1, "a soak answers at its end"
    scene.go.clear()
    await scene.said("smoke", question=QUESTION._replace(step=2))
    await scene.gates.close()
    assert scene.counts.total() == 6, "who is not asked any more has not answered"


async def test_a_soak_tells_how_far_it_is() -> None:
    scene = Scene(gate("hour", "soak"))
    scene.go.clear()
    assert scene.gates.said(("hour",), QUESTION) == {"hour": Said(NO_ANSWER, "soaks for 0 of 60 s")}
    await scene.said("hour")
    scene.clock.now += 30
    scene.go.set()
    await scene.said("hour")
    assert scene.gates.said(("hour",), QUESTION)["hour"].text == "soaks for 30 of 60 s"
    scene.clock.now += 30
    scene.go.set()
    await scene.said("hour")
    await scene.said("hour")
    assert scene.gates.said(("hour",), QUESTION)["hour"].text == "new gave 0 answers; it takes 20"
    assert scene.calls == ["soak of events"]
    await scene.gates.close()


async def test_a_soak_belongs_where_the_weight_has_been_turned() -> None:
    made = Gates([gate("smoke", "soak")], Path("/"), Clock(), no_soak)
    with pytest.raises(BadPlan, match="gate 'smoke' is a soak") as caught:
        await made.check(plan())
    assert caught.value.at == ("steps", 1, "before", 0)
    await made.check(Plan((Step(10, 1, 0, gates=("smoke",)),)))


async def test_nobody_is_asked_twice_at_once() -> None:
    scene = Scene(gate("smoke"))
    scene.go.clear()
    for _ in range(5):
        assert await scene.said("smoke", later=100) == {"smoke": NO_ANSWER}
    assert scene.calls == ["smoke"]
    scene.go.set()
    await scene.said("smoke")
    assert await scene.said("smoke") == {"smoke": YES}
    await scene.gates.close()


async def test_another_step_asks_anew_and_ends_what_was_asked() -> None:
    scene = Scene(gate("smoke"))
    scene.go.clear()
    await scene.said("smoke")
    assert await scene.said("smoke", question=QUESTION._replace(step=2)) == {"smoke": NO_ANSWER}
    assert scene.cancelled == ["smoke"]
    await scene.said("smoke", question=QUESTION._replace(step=2, epoch=8, weight=50.0))
    assert scene.calls == ["smoke", "smoke"], "the epoch of another route's change is no other step"
    assert await scene.said() == {}
    assert len(scene.cancelled) == 2
    scene.go.set()
    await scene.said("smoke")
    await scene.gates.close()


async def test_routes_do_not_share_answers() -> None:
    scene = Scene(gate("smoke"))
    await scene.said("smoke")
    await scene.said("smoke", question=QUESTION._replace(route="other"))
    assert scene.gates.said(("smoke",), QUESTION) == {"smoke": Said(YES, "events")}
    assert scene.gates.said(("smoke",), QUESTION._replace(route="other")) == {"smoke": Said(YES, "other")}
    await scene.gates.close()


async def test_a_gate_that_the_configuration_has_no_more_holds() -> None:
    scene = Scene(gate("smoke"))
    assert scene.gates.said(("gone",), QUESTION) == {"gone": Said(NO_ANSWER, "the configuration has it no more")}
    await scene.gates.close()


async def test_who_is_told_is_told_once_and_waited_for_by_nobody() -> None:
    scene = Scene(gate("tell"), gate("deaf"))
    scene.answers = {"deaf": NO}
    noted: list[tuple[str, str]] = []
    scene.gates.tell(("tell", "deaf", "gone"), QUESTION, lambda name, said: noted.append((name, said.answer)))
    await scene.said()
    assert scene.calls == ["tell", "deaf"]
    assert sorted(noted) == [("deaf", NO), ("gone", NO_ANSWER)]
    scene.go.clear()
    scene.gates.tell(["tell"] * (MOST_TOLD + 1), QUESTION, lambda name, said: noted.append((name, said.text)))
    assert noted[2:] == [("tell", "too many are being told already")]
    await scene.said()
    await scene.gates.close()
    assert len(scene.cancelled) == MOST_TOLD


def plan(*, before: str = "smoke", gates: str = "smoke", after: str = "smoke", revert: str = "smoke") -> Plan:
    return Plan((Step(10, 1, 0), Step(50, 1, 0, (before,), ("smoke", gates), (after,))), on_revert=(revert,))


async def test_places() -> None:
    assert list(places_of(plan(before="a", gates="b", after="c", revert="d"))) == [
        ("a", ("steps", 1, "before", 0)),
        ("smoke", ("steps", 1, "gates", 0)),
        ("b", ("steps", 1, "gates", 1)),
        ("c", ("steps", 1, "after", 0)),
        ("d", ("on_revert", 0)),
    ]


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        ({"before": "smok"}, ("steps", 1, "before", 0)),
        ({"gates": "smok"}, ("steps", 1, "gates", 1)),
        ({"after": "smok"}, ("steps", 1, "after", 0)),
        ({"revert": "smok"}, ("on_revert", 0)),
    ],
)
async def test_a_gate_that_is_not_there(changes: dict[str, str], at: tuple[str | int, ...]) -> None:
    with pytest.raises(BadPlan, match="there is no gate 'smok'; there is smoke, p95") as caught:
        await Gates([gate("smoke"), gate("p95", "prometheus")], Path("/"), Clock(), no_soak).check(plan(**changes))
    assert caught.value.at == at
    with pytest.raises(BadPlan, match="the configuration has no `gates`"):
        await Gates([], Path("/"), Clock(), no_soak).check(plan())


async def test_what_cannot_be_asked_is_told_before_anything_begins(tmp_path: Path) -> None:
    await Gates([gate("smoke")], tmp_path, Clock(), no_soak).check(plan())
    missing = Gates([gate("smoke", command=("./smoke.sh",))], tmp_path, Clock(), no_soak)
    with pytest.raises(BadPlan, match=r"gate 'smoke': there is no program ./smoke\.sh") as caught:
        await missing.check(plan())
    assert caught.value.at == ("steps", 1, "before", 0), "where it is named first"
    away = Gates([gate("smoke"), gate("p95", "prometheus")], tmp_path, Clock(), no_soak)
    with pytest.raises(BadPlan, match=r"gate 'p95': http://127\.0\.0\.1:1 does not answer"):
        await away.check(plan(gates="p95"))
    await away.close()
    await Gates([gate("smoke", "webhook")], tmp_path, Clock(), no_soak).check(plan())

"""A drill in one process: copies to new fail or are held back, and nothing else."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from config.model import Backend
from proxy.core.drill import DEAD, ERRORS, SLOW, WHY, Fault
from proxy.core.event import NEW, OLD, RETRY, UNREACHABLE
from proxy.http.faults import CopyFault, Faults
from proxy.http.route import AUTHORITY, COPY
from tests.http.backend import always, reply
from tests.http.rig import LIVE, Rig, event_bytes, key_for, make_route, running
from tests.http.wire import until

pytestmark = pytest.mark.asyncio
BACKEND = Backend.model_validate({"url": ("http://127.0.0.1:1",), "breaker": {"failures": 3, "reset": "1m"}})


def fail(rig: Rig, fault: Fault) -> CopyFault:
    made = CopyFault(fault, "new", BACKEND, asyncio.get_running_loop())
    rig.plane.routes[0].fault = made
    return made


@pytest.mark.parametrize(("kind", "code_class"), [(ERRORS, 5), (DEAD, 0)])
async def test_copies_fail_and_nobody_else_hears_of_it(kind: str, code_class: int) -> None:
    async with running() as rig:
        fault = fail(rig, Fault(kind, 60.0))
        for number in range(5):
            assert (await rig.ask(event_bytes(f"e{number}", key=f"k{number}"))).status == 200
        await rig.settled()
        assert {rig.story(f"e{number}") for number in range(5)} == {("D", "H")}, "owed, and the ledger's"
        assert (len(rig.old.seen), rig.new.seen) == (5, [])
        figures = rig.plane.routes[0].figures
        assert figures[NEW][COPY].classes[code_class] == sum(figures[NEW][COPY].classes) == 5
        assert sum(figures[OLD][AUTHORITY].classes) == figures[OLD][AUTHORITY].classes[2] == 5
        assert rig.upstreams["new"].breaker.row == 0, "the backend's own breaker is what clients go by"
        assert fault.breaker.state(monotonic()) == "open"
        rig.plane.routes[0].fault = None
        assert (await rig.ask(event_bytes("after", key="k9"))).status == 200
        await rig.settled()
        assert rig.story("after") == ("D", "D")
        rig.check_ends()


async def test_what_new_answers_itself_is_let_be_and_so_are_copies_to_old() -> None:
    async with running(dials=LIVE) as rig:
        fail(rig, Fault(DEAD, 60.0))
        assert (await rig.ask(event_bytes("e", key=key_for(NEW)))).status == 200
        await rig.settled()
        assert rig.story("e") == ("D", "D")
        assert (await rig.ask(event_bytes("o", key=key_for(OLD)))).status == 200
        await rig.settled()
        assert rig.story("o") == ("D", "H")
        rig.check_ends()


async def test_a_copy_that_waits_for_its_authority_fails_as_well() -> None:
    async with running(make_route(copy_order="sequential")) as rig:
        fail(rig, Fault(ERRORS, 60.0))
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        await rig.settled()
        assert rig.story("e") == ("D", "H")
        rig.old.behave = always(reply(400))
        assert (await rig.ask(event_bytes("refused", key="k2"))).status == 400
        await rig.settled()
        assert rig.story("refused") == ("R", "X"), "as when new fails: the client was told no"
        rig.check_ends()


async def test_answers_of_a_drill_are_not_compared() -> None:
    route = make_route(compare_answers={"sample": "100%", "when": "always"})
    async with running(route) as rig:
        fail(rig, Fault(ERRORS, 60.0))
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        rig.plane.routes[0].fault = None
        assert (await rig.ask(event_bytes("f", key="l"))).status == 200
        await rig.settled()
        assert [pair.id for pair in rig.plane.compared] == ["f"]


async def test_slow_copies_arrive_later_and_the_wait_counts_as_that_of_new() -> None:
    async with running() as rig:
        fault = fail(rig, Fault(SLOW, 60.0, 0.5))
        begun = monotonic()
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        assert monotonic() - begun < 0.4, "the client waits no longer than for any slow copy"
        assert fault.held == 1
        await until(lambda: rig.new.ids() == ["e"], "it arrives")
        await rig.settled()
        assert (monotonic() - begun >= 0.5, fault.held) == (True, 0)
        assert rig.story("e") == ("D", "PD")
        latency = rig.plane.routes[0].figures[NEW][COPY].latency
        assert latency.quantile(0.5) >= 0.49
        assert fault.breaker.is_closed
        rig.check_ends()


async def test_long_answers_of_slow_copies_are_read_to_their_end() -> None:
    async with running() as rig:
        fail(rig, Fault(SLOW, 60.0, 0.05))
        rig.new.behave = always(reply(200, b"x" * 300_000))
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        await until(lambda: rig.story("e") == ("D", "PD"), "delivered")
        await rig.settled()
        assert rig.plane.routes[0].figures[NEW][COPY].latency.quantile(0.5) >= 0.049
        rig.check_ends()


async def test_no_more_copies_are_held_back_than_there_would_be_connections() -> None:
    async with running(make_route(copy_wait="1s")) as rig:
        few = BACKEND.model_copy(update={"connections": 2})
        rig.plane.routes[0].fault = CopyFault(Fault(SLOW, 60.0, 0.3), "new", few, asyncio.get_running_loop())
        asked = [asyncio.create_task(rig.ask(event_bytes(f"e{n}", key=f"k{n}"))) for n in range(4)]
        assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
        await rig.settled()
        stories = sorted(rig.story(f"e{n}")[1] for n in range(4))
        assert stories == ["D", "D", "H", "H"]
        assert sum(rig.plane.routes[0].figures[NEW][COPY].classes) == 2, "it is no failure of new's"
        rig.check_ends()


async def test_a_held_copy_whose_backend_is_away_is_the_ledgers() -> None:
    async with running(down=("new",)) as rig:
        fail(rig, Fault(SLOW, 60.0, 0.02))
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        await until(lambda: rig.story("e")[1] in ("H", "PH"), "handed")
        await rig.settled()
        rig.check_ends()


class Heard:
    """The faults of a process, and what is told of them."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str | None]] = []
        backends = {"events": ("new", BACKEND), "orders": ("newer", BACKEND)}
        self.faults = Faults(backends, asyncio.get_running_loop(), self.hear)

    def hear(self, route: str, fault: CopyFault | None) -> None:
        self.told.append((route, None if fault is None else fault.kind))


async def test_faults_are_those_that_were_said_last() -> None:
    heard = Heard()
    heard.faults.set({"events": Fault(DEAD, 60.0), "nowhere": Fault(DEAD, 60.0)})
    first = heard.faults.by_route["events"]
    heard.faults.set({"events": Fault(DEAD, 50.0), "orders": Fault(ERRORS, 60.0)})
    assert heard.faults.by_route["events"] is first, "the same fault, told again"
    heard.faults.set({"orders": Fault(SLOW, 60.0, 1.0)})
    assert heard.told == [("events", DEAD), ("orders", ERRORS), ("events", None), ("orders", SLOW)]
    heard.faults.set({})
    assert (heard.told[-1], heard.faults.by_route) == (("orders", None), {})
    heard.faults.close()


async def test_a_fault_ends_by_itself_and_later_when_it_is_said_again() -> None:
    heard = Heard()
    heard.faults.set({"events": Fault(DEAD, 0.05)})
    heard.faults.set({"events": Fault(DEAD, 0.3)})
    await asyncio.sleep(0.15)
    assert heard.told == [("events", DEAD)]
    await until(lambda: heard.told == [("events", DEAD), ("events", None)], "its end")
    heard.faults.set({"events": Fault(DEAD, 60.0)})
    heard.faults.close()


async def test_its_breaker_is_told_as_the_backends_while_it_is_not_closed() -> None:
    heard = Heard()
    heard.faults.set({"events": Fault(DEAD, 60.0), "orders": Fault(ERRORS, 60.0)})
    dead, errors = heard.faults.by_route["events"], heard.faults.by_route["orders"]
    assert [dead.outcome()[:2] for _ in range(3)] == [(UNREACHABLE, 502)] * 3
    assert errors.outcome()[:2] == (RETRY, 503)
    assert errors.outcome().reason, "without one the event itself would be suspected"
    now = monotonic()
    assert heard.faults.breakers(now) == {"new": "open"}
    assert heard.faults.breakers(now + 60) == {"new": "half-open"}
    (trouble,) = heard.faults.troubles(now).values()
    assert (trouble.reason, trouble.failures) == (WHY, 3)
    assert (dead.failed, errors.failed) == (3, 2)
    heard.faults.close()

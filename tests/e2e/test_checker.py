"""The consistency checker beside a running instance: what became of events, told by the ledger and both stores."""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from proxy.core.checked import MISMATCHES
from proxy.demo.admin import Status
from proxy.demo.load import until_accepted, wait_until
from proxy.demo.toy import ToyBackend
from proxy.demo.verify import ask, verify
from tests.harness.scene import ANSWERS_NEVER_REVERT, NEVER_REVERT, Scene, paced, scene, with_stores

JUDGED = 120.0
"""Seconds within which a window is judged on a busy machine, from its end."""

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(600)]


IN_FLIGHT = 16
"""Events that were under way when something was killed, at most, which is what the load has connections for."""


async def checked(opened: Scene, begun: int) -> dict[str, Any]:
    answer = await verify(opened.instance.config_path, begun, time.time_ns(), 1000)
    assert answer["record"] == "three-way"
    return answer


def mismatches(answer: dict[str, Any]) -> dict[str, int]:
    return {name: answer["classes"][name] for name in MISMATCHES if answer["classes"][name]}


async def test_killed_workers_and_backends_leave_nothing_to_find_and_what_is_damaged_is_found() -> None:
    begun = time.time_ns()
    async with scene(with_stores, stage="live", weight=50, trigger=NEVER_REVERT) as opened:
        load = opened.load(rate=250.0, keys=200, connections=16)
        await until_accepted(load, paced(200))
        for _ in range(3):
            os.kill(opened.instance.pids("worker")[0], signal.SIGKILL)
            await until_accepted(load, paced(60))
            opened.new.child.signal(signal.SIGKILL)
            await opened.new.child.ended(10)
            await until_accepted(load, paced(60))
            await opened.new.restart()
            await until_accepted(load, paced(60))
        record = await load.stop()
        receipts = await opened.verify(record)
        answer = await checked(opened, begun)
        # A copy of what somebody who was killed had under way cannot always be told from one that a backend made.
        copies = mismatches(answer).pop("duplicate", 0)
        assert copies <= IN_FLIGHT
        assert sum(mismatches(answer).values()) == copies, answer["findings"][:5]
        assert answer["settled"] == len({receipt.id for receipt in receipts})

        opened.new.damage(3, 2)
        answer = await checked(opened, begun)
        found = mismatches(answer)
        assert (answer["result"], found["lost"], found["different"]) == ("fail", 3, 2)
        assert found.keys() <= {"lost", "different", "duplicate"}
        stored = {row.id for row in opened.new.stored()}
        assert {
            each["identity"] for each in answer["findings"] if each["class"] == "lost"
        } == record.accepted_ids() - stored


async def test_what_new_has_not_got_yet_is_pending_and_then_equal() -> None:
    begun = time.time_ns()
    async with scene(with_stores, stage="dualwrite", trigger=NEVER_REVERT) as opened:
        load = opened.load(rate=200.0)
        await until_accepted(load, paced(100))
        await opened.new.fault("down")
        await until_accepted(load, paced(200))
        answer = await checked(opened, begun)
        assert (answer["result"], mismatches(answer)) == ("inconclusive", {})
        assert answer["classes"]["pending"] >= paced(100)
        await opened.new.fault("none")
        record = await load.stop()
        await opened.verify(record)
        answer = await checked(opened, begun)
        assert (answer["result"], mismatches(answer)) == ("pass", {})
        assert "pending" not in answer["classes"]


async def test_a_split_is_as_it_should_be_on_either_side() -> None:
    begun = time.time_ns()
    async with scene(with_stores, stage="split", weight=25) as opened:
        load = opened.load(rate=400.0, keys=400)
        await until_accepted(load, paced(800))
        record = await load.stop()
        await opened.verify(record, sides="either")
        answer = await checked(opened, begun)
        assert (answer["result"], mismatches(answer)) == ("pass", {})
        assert answer["classes"]["one-sided"] == answer["settled"] >= paced(800)


@pytest.mark.soak
async def test_a_time_that_cannot_be_believed_hides_nothing() -> None:
    """A client's clock is decades off: its events are judged by when they arrived, and the report says so."""

    def dated(config: dict[str, Any]) -> None:
        with_stores(config)
        config["routes"][0]["event_time"] = "header:X-Event-Id"  # which is no time at all

    begun = time.time_ns()
    async with scene(dated, stage="dualwrite") as opened:
        load = opened.load(rate=200.0)
        await until_accepted(load, 50)
        await opened.verify(await load.stop())
        opened.new.damage(1, 0)
        answer = await checked(opened, begun)
        assert mismatches(answer) == {"lost": 1}
        assert answer["timeless_events"] == answer["settled"] >= 50


async def test_what_new_has_lost_reverts_and_is_named() -> None:
    async with scene(with_stores, stage="live", weight=50, trigger=ANSWERS_NEVER_REVERT) as opened:
        load = opened.load(rate=200.0)
        await until_accepted(load, paced(400))
        opened.new.damage(1, 0)
        status = await opened.admin.until(lambda status: status.routes[0].latched, JUDGED, "the revert")
        record = await load.stop()
        await opened.settled()
        assert status.routes[0].weight_target == 0
        (lost,) = record.accepted_ids() - {row.id for row in opened.new.stored()}
        why = await opened.admin.ask("GET", "/api/v1/why")
        evidence = why["entry"]["evidence"]
        assert (evidence["trigger"], evidence["lost"], evidence["record"]) == ("lost", 1, "three-way")
        assert [each["identity"] for each in evidence["samples"]] == [lost]
        await opened.admin.rearm("it is known")
        changed = await opened.admin.weight(25)
        assert changed["after"]["weight"] == 25, "what was lost under the earlier weight is no news"
        again = opened.load(rate=200.0, seed=1)
        await until_accepted(again, paced(200))
        until = time.time()
        await again.stop()
        status = await opened.admin.until(lambda status: judged_until(status) > until, JUDGED, "the last window")
        assert not status.routes[0].latched


async def test_kills_of_the_checker_and_an_outage_leave_nothing_to_find_and_revert_nothing() -> None:
    async with scene(with_stores, stage="live", weight=25, trigger=ANSWERS_NEVER_REVERT) as opened:
        load = opened.load(rate=250.0, keys=200)
        await until_accepted(load, paced(200))
        for turn in range(6):
            if turn == 1:
                await opened.new.fault("down")
            if turn == 4:
                await opened.new.fault("none")
            await kill_checker(opened)
            await until_accepted(load, paced(300))
        record = await load.stop()
        receipts = await opened.verify(record)
        until = time.time()
        status = await opened.admin.until(lambda status: judged_until(status) > until, JUDGED, "the last window")
        (check,) = status.consistency
        assert not status.routes[0].latched
        assert (check.mismatches, check.pending, check.late, check.trouble) == (0, 0, 0, None), check
        # What was accepted before the first window began is not judged.
        assert 0.7 * len(receipts) < check.checked <= len(receipts), check


def with_probe(config: dict[str, Any]) -> None:
    with_stores(config)
    config["consistency"][0]["probe"] = {
        "path": "/api/v1/events",
        "headers": {"X-Event-Id": "{{id}}", "Content-Type": "application/json"},
        "body": '{"entity_id": "sensor.probe", "state": "{{id}}"}',
        "expect": {"/body/entity_id": "sensor.probe"},
        "timeout": "5s",
        "visible_within": "4s",
        "every": "1s",
    }


async def test_probes_go_the_whole_way_are_in_no_count_and_revert_when_new_stores_nothing() -> None:
    begun = time.time_ns()
    async with scene(
        with_probe, stage="live", weight=50, trigger=ANSWERS_NEVER_REVERT | {"probe_failures": 2}
    ) as opened:
        status = await opened.admin.until(
            lambda status: (probe := status.consistency[0].probe) is not None and probe.passed is True, 30, "a probe"
        )
        (check,) = status.consistency
        assert check.probe is not None
        assert check.probe.visible.keys() == {"old", "new"}
        answer = await ask(opened.instance.config_path, {"do": "probe", "route": "events"})
        assert answer["result"] == "pass", answer
        assert [step["name"] for step in answer["steps"]] == ["send", "old", "new", "content"]
        load = opened.load(rate=50.0)
        await until_accepted(load, 100)
        record = await load.stop()
        answer = await ask(opened.instance.config_path, {"do": "verify", "from_ns": begun, "settle_ns": 0})
        assert (answer["result"], answer["settled"]) == ("pass", len(record.accepted_ids())), answer
        assert len(opened.new.stored()) > len(record.accepted_ids()), "the probes"
        status = await opened.admin.status()
        assert not status.routes[0].latched
        await opened.new.fault("forget")
        await opened.admin.until(lambda status: status.routes[0].latched, JUDGED, "the revert")
        why = await opened.admin.ask("GET", "/api/v1/why")
        assert why["entry"]["evidence"]["trigger"] == "probe", why
        answer = await ask(opened.instance.config_path, {"do": "probe", "route": "events"})
        assert (answer["result"], answer["error"]) == ("fail", "new: not there within 5 s")


async def test_what_both_sides_answer_is_compared_in_shadow_and_reported_apart(tmp_path: Path) -> None:
    """The toys answer alike but for their names, and so does a second old: what differs by nature is noise."""
    rules = [{"path": "/body/by", "compare": "ignore"}]
    status = await after_comparing({})
    (answers,) = status.answers
    assert answers.different == answers.beyond_noise == answers.compared
    (figures,) = answers.fields.values()
    assert (list(answers.fields), figures["different"], figures["noise"]) == (["/body/by"], 1.0, None)
    assert status.consistency == [], "no store is compared"
    (answers,) = (await after_comparing({"rules": rules})).answers
    assert (answers.different, answers.fields) == (0, {})
    second = ToyBackend("second", tmp_path)
    try:
        await second.ready()
        (answers,) = (await after_comparing({"noise": second.url})).answers
    finally:
        await second.stop()
    assert answers.fields["/body/by"]["noise"] == 1.0
    assert answers.beyond_noise < answers.different, "once something is known of noise"


async def after_comparing(settings: dict[str, Any]) -> Status:
    """The status of an instance in stage shadow, once answers of 50 events were compared."""

    def configure(config: dict[str, Any]) -> None:
        config["routes"][0]["compare_answers"] = {"sample": "100%"} | settings

    async with scene(configure, stage="shadow", trigger=NEVER_REVERT) as opened:
        load = opened.load(rate=30.0)
        status = await opened.admin.until(lambda status: status.answers[0].compared >= 50, 60, "compared answers")
        await load.stop()
        return status


async def kill_checker(opened: Scene) -> None:
    """Kill it, and wait for the next one."""
    (pid,) = opened.instance.pids("checker")
    os.kill(pid, signal.SIGKILL)
    await wait_until(lambda: opened.instance.pids("checker") not in ([], [pid]), 20, "another checker")


def judged_until(status: Status) -> float:
    """Seconds since 1970 until which the only check has judged everything."""
    (check,) = status.consistency
    return datetime.fromisoformat(check.checked_until).timestamp() if check.checked_until else 0.0

"""What is known to be down: failovers in strict order, events that nobody needs to wait for, and what clients hear."""

from __future__ import annotations

import pytest

from proxy.core.event import NEW, OLD
from proxy.core.owed import DELIVERED, DISCARDED
from proxy.ledger.protocol import ANSWERED, OWED
from proxy.worker.stats import worker_stats
from tests.http.backend import always, reply
from tests.http.rig import DUAL, OFF, SPLIT, event_bytes, key_for, make_route, running
from tests.http.wire import Answer

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.asyncio
@pytest.mark.parametrize("ordering", ["strict", "answered"])
async def test_a_failover_in_split_owes_the_other_side_before_it_lets_go_of_the_first(ordering: str) -> None:
    async with running(make_route(ordering=ordering), dials=SPLIT) as rig:
        rig.new.behave = always(reply(503))
        key = key_for(NEW, SPLIT)
        assert (await rig.ask(event_bytes("e", key=key))).status == 200
        assert (await rig.ask(event_bytes("f", key=key))).status == 200
        await rig.settled()
        for event_id in ("e", "f"):
            event = rig.fake.events[event_id]
            assert (event.authority, event.owed) == (NEW, 1 << NEW)
            assert [(side, code) for _, side, code, _ in rig.fake.reports[event.n]] == [
                (OLD, OWED),
                (OLD, ANSWERED),
                (NEW, DISCARDED),
                (OLD, DELIVERED),
            ]
        assert rig.old.ids() == ["e", "f"]
        assert rig.plane.counters["failovers"] == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("trouble", ["probe", "breaker"])
@pytest.mark.parametrize("policy", [{}, {"durability": "before-send"}, {"ordering": "strict"}], ids=str)
@pytest.mark.parametrize("down", ["accept", "failover"])
async def test_nobody_waits_for_the_backlog_of_a_side_that_is_down(
    down: str, policy: dict[str, str], trouble: str
) -> None:
    """At weight 0 `failover` accepts too."""
    async with running(make_route(drain_wait="60s", on_authority_down=down, **policy), dials=DUAL) as rig:
        rig.mark(OLD, "k")
        if trouble == "probe":
            rig.upstreams["old"].is_healthy = False
        else:
            rig.upstreams["old"].breaker.is_closed = False
        answer = await rig.ask(event_bytes("e", key="k"))
        assert answer.status == 202
        assert "waited_for_backlog" not in rig.plane.counters
        assert rig.plane.counters["accepted_for_authority"] == 1
        await rig.settled()
        assert rig.story("e") == ("H", "H")
        assert rig.old.seen == rig.new.seen == []


def check_hidden(answer: Answer, name: str, port: int) -> None:
    """A 502 that says which backend, not where it is."""
    assert answer.status == 502
    assert name in answer.detail
    assert b"127.0.0.1" not in answer.raw
    assert str(port).encode() not in answer.raw


@pytest.mark.asyncio
async def test_a_502_names_the_backend_and_not_its_address() -> None:
    async with running(make_route(on_authority_down="fail"), dials=OFF, down=("old", "other")) as rig:
        check_hidden(await rig.ask(event_bytes("e", key="k")), "old", rig.old.port)
        check_hidden(await rig.ask(GET, "GET"), "other", rig.other.port)


@pytest.mark.asyncio
async def test_the_log_has_the_address(caplog: pytest.LogCaptureFixture) -> None:
    backend = {"breaker": {"failures": 1, "reset": "60s"}}
    async with running(dials=OFF, down=("other",), backend=backend) as rig:
        assert (await rig.ask(GET, "GET")).status == 502
        (record,) = [record for record in caplog.records if record.message == "breaker opened"]
        assert f"127.0.0.1:{rig.other.port}" in record.__dict__["reason"]
        (trouble,) = worker_stats(rig.plane, rig.service).breaker_troubles.values()
        assert (trouble.reason, trouble.failures) == (record.__dict__["reason"], 1)


@pytest.mark.asyncio
async def test_what_had_no_answer_is_in_trouble_since_it_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    backend = {"breaker": {"failures": 1, "reset": "60s"}, "response_timeout": "300ms"}
    async with running(dials=OFF, backend=backend) as rig:
        rig.other.behave = lambda seen, connection: None
        assert (await rig.ask(GET, "GET")).status == 504
        (record,) = [record for record in caplog.records if record.message == "breaker opened"]
        trouble = worker_stats(rig.plane, rig.service).breaker_troubles["other"]
        assert trouble.reason == record.__dict__["reason"] == "no answer within 0.3 s"
        assert trouble.lasts >= 0.3

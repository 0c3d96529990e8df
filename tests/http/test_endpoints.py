"""Backends of several endpoints: how events are spread, endpoints that go and come back, names that change."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import dns.rcode
import pytest

from proxy.http.balanced import BalancedUpstream
from proxy.http.upstream import Upstream
from tests.harness.certificates import Authority
from tests.harness.dns_server import DnsServer, dns_server
from tests.http.backend import Backend, BackendConnection, always, reply
from tests.http.rig import OFF, Rig, event_bytes, make_route, running
from tests.http.wire import Answer, until

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
SETTINGS: dict[str, Any] = {"breaker": {"failures": 3, "reset": "100ms"}, "resolve_interval": "30ms"}


@asynccontextmanager
async def backends(count: int, *, down: Sequence[int] = (), one_port: bool = True) -> AsyncIterator[list[Backend]]:
    """Backends on 127.0.0.1, .2, .3 at one port, or on 127.0.0.1 at ports of their own. down: not started."""
    first = Backend()
    numbers = range(2, count + 1)
    others = [Backend(host=f"127.0.0.{number}", port=first.port) if one_port else Backend() for number in numbers]
    made = [first, *others]
    try:
        for index, each in enumerate(made):
            if index not in down:
                await each.start()
        yield made
    finally:
        for each in made:
            each.stop()


async def asked(rig: Rig, count: int) -> list[Answer]:
    """So many requests one after the other, each on a connection of its own."""
    return [await rig.ask(GET, "GET") for _ in range(count)]


def statuses(answers: Sequence[Answer]) -> Counter[int]:
    return Counter(answer.status for answer in answers)


def balanced(rig: Rig, name: str = "other") -> BalancedUpstream:
    found = rig.upstreams[name]
    assert isinstance(found, BalancedUpstream)
    return found


def states(rig: Rig) -> dict[str, str]:
    """State by the last digit of each endpoint's address."""
    now = asyncio.get_running_loop().time()
    return {each.address.split(":")[0][-1]: each.state for each in rig.upstreams["other"].endpoints(now)}


def urls(made: Sequence[Backend]) -> tuple[str, ...]:
    return tuple(f"http://{each.host}:{each.port}" for each in made)


@pytest.mark.asyncio
async def test_one_address_needs_no_choosing() -> None:
    async with running(dials=OFF) as rig:
        assert type(rig.upstreams["other"]) is Upstream


@pytest.mark.asyncio
async def test_events_are_spread_evenly() -> None:
    async with backends(3) as three, running(dials=OFF, backend={"other": SETTINGS | {"url": urls(three)}}) as rig:
        assert statuses(await asked(rig, 30)) == {200: 30}
        assert [len(each.seen) for each in three] == [10, 10, 10]
        assert [len(each.connections) for each in three] == [1, 1, 1]


@pytest.mark.asyncio
async def test_a_slow_endpoint_gets_fewer() -> None:
    async with (
        backends(2) as (slow, fast),
        running(dials=OFF, backend={"other": SETTINGS | {"url": urls((slow, fast))}}) as rig,
    ):
        loop = asyncio.get_running_loop()
        slow.behave = lambda seen, connection: loop.call_later(0.1, connection.write, reply(200))

        async def client() -> list[Answer]:
            return await asked(rig, 20)

        found = await asyncio.gather(*(client() for _ in range(4)))
        assert statuses([answer for answers in found for answer in answers]) == {200: 80}
        assert len(slow.seen) < 20 < len(fast.seen)


@pytest.mark.asyncio
async def test_an_endpoint_that_cannot_be_connected_costs_nobody_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        backends(3, down=[1]) as three,
        running(dials=OFF, backend={"other": SETTINGS | {"url": urls(three)}}) as rig,
    ):
        assert statuses(await asked(rig, 40)) == {200: 40}
        assert states(rig) == {"1": "up", "2": "out", "3": "up"}
        upstream = rig.upstreams["other"]
        assert (upstream.breaker.opened, upstream.breaker.is_closed) == (0, True)
        await three[1].start()
        while not three[1].seen:
            assert (await rig.ask(GET, "GET")).status == 200
        assert states(rig)["2"] == "up"
        before = len(three[1].seen)
        assert statuses(await asked(rig, 30)) == {200: 30}
        assert len(three[1].seen) - before in range(9, 12)
        left_out = [vars(record)["endpoint"] for record in caplog.records if record.getMessage() == "endpoint left out"]
        assert left_out == [f"127.0.0.2:{three[1].port}"]


@pytest.mark.asyncio
async def test_an_endpoint_that_dies_at_work_and_comes_back() -> None:
    async with (
        backends(2) as (one, two),
        running(
            make_route(on_authority_down="fail"), dials=OFF, backend={"old": SETTINGS | {"url": urls((one, two))}}
        ) as rig,
    ):
        for number in range(10):
            assert (await rig.ask(event_bytes(f"a{number}", key="k"))).status == 200
        two.stop()
        # What was not sent yet goes elsewhere, what was is repeated under the client's id.
        for number in range(20):
            assert (await rig.ask(event_bytes(f"b{number}", key="k"))).status == 200
        again = Backend(host=two.host, port=two.port)
        await again.start()
        await asyncio.sleep(0.25)
        for number in range(20):
            assert (await rig.ask(event_bytes(f"c{number}", key="k"))).status == 200
        assert len(again.seen) >= 8
        assert rig.upstreams["old"].breaker.opened == 0
        again.stop()
        rig.check_ends()


@pytest.mark.asyncio
async def test_an_endpoint_that_answers_with_errors_is_left_out() -> None:
    async with (
        backends(2) as (good, bad),
        running(
            dials=OFF,
            backend={"other": SETTINGS | {"url": urls((good, bad)), "breaker": {"failures": 3, "reset": "60s"}}},
        ) as rig,
    ):
        bad.behave = always(reply(500))
        found = statuses(await asked(rig, 50))
        assert found == {500: 3, 200: 47}
        assert rig.upstreams["other"].breaker.opened == 0
        assert balanced(rig).endpoints(0.0)[1].trouble == "status 500"


@pytest.mark.asyncio
async def test_when_every_endpoint_fails_the_breaker_opens_and_closes_again() -> None:
    async with (
        backends(2) as two,
        running(make_route(on_authority_down="fail"), dials=OFF, backend={"old": SETTINGS | {"url": urls(two)}}) as rig,
    ):
        for each in two:
            each.behave = always(reply(500))
        for number in range(20):
            assert (await rig.ask(event_bytes(f"a{number}", key="k"))).status in (500, 503)
        upstream = rig.upstreams["old"]
        assert upstream.breaker.opened == 1
        assert sum(len(each.seen) for each in two) == 6
        trouble = upstream.breaker.trouble(monotonic())
        assert trouble is not None
        assert trouble.reason.endswith(": status 500")
        assert trouble.failures >= 3
        for each in two:
            each.behave = always(reply(200))
        await asyncio.sleep(0.12)
        for number in range(20):
            assert (await rig.ask(event_bytes(f"b{number}", key="k"))).status == 200
        assert upstream.breaker.is_closed


@pytest.mark.asyncio
async def test_all_down_is_a_502_and_opens_the_breaker() -> None:
    async with (
        backends(2, down=[0, 1]) as two,
        running(make_route(on_authority_down="fail"), dials=OFF, backend={"old": SETTINGS | {"url": urls(two)}}) as rig,
    ):
        found = [(await rig.ask(event_bytes(f"a{number}", key="k"))).status for number in range(6)]
        assert found[0] == 502
        assert found[-1] == 503
        assert rig.upstreams["old"].breaker.opened == 1


@pytest.mark.asyncio
async def test_the_limit_is_each_endpoints_own() -> None:
    settings = SETTINGS | {"connections": 2, "pending": 1}
    async with backends(2) as two, running(dials=OFF, backend={"other": settings | {"url": urls(two)}}) as rig:
        for each in two:
            each.behave = lambda seen, connection: None
        tasks = [asyncio.create_task(rig.ask(GET, "GET")) for _ in range(5)]
        await until(lambda: [len(each.seen) for each in two] == [2, 2], "two each")
        assert not rig.upstreams["other"].is_idle
        await until(lambda: len(rig.upstreams["other"]._waiting) == 1, "one waits")
        assert (await rig.ask(GET, "GET")).status == 503
        for each in two:
            each.behave = always(reply(200))
            for connection in each.connections:
                connection.write(reply(200))
        assert statuses(await asyncio.gather(*tasks)) == {200: 5}


@pytest.mark.asyncio
async def test_what_probes_say_of_an_endpoint() -> None:
    async with backends(2) as two, running(dials=OFF, backend={"other": SETTINGS | {"url": urls(two)}}) as rig:
        rig.upstreams["other"].set_health({f"127.0.0.2:{two[1].port}": False})
        assert statuses(await asked(rig, 10)) == {200: 10}
        assert [len(each.seen) for each in two] == [10, 0]
        assert states(rig) == {"1": "up", "2": "unhealthy"}
        rig.upstreams["other"].set_health({})
        await asked(rig, 10)
        assert [len(each.seen) for each in two] == [15, 5]


# names


@asynccontextmanager
async def named(server: DnsServer, url: str, **settings: Any) -> AsyncIterator[Rig]:
    backend = {"other": SETTINGS | {"url": url} | settings}
    async with running(dials=OFF, backend=backend, resolver=[server.address]) as rig:
        yield rig


@pytest.mark.asyncio
async def test_every_address_of_a_name_is_used() -> None:
    async with dns_server() as server, backends(3) as three:
        server.records["events.test", "A"] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        async with named(server, f"http://events.test:{three[0].port}") as rig:
            assert statuses(await asked(rig, 30)) == {200: 30}
            assert [len(each.seen) for each in three] == [10, 10, 10]


@pytest.mark.asyncio
async def test_a_name_that_moves_takes_new_events_with_it_and_drops_none() -> None:
    async with dns_server() as server, backends(2) as (one, two):
        server.records["events.test", "A"] = ["127.0.0.1"]
        async with named(server, f"http://events.test:{one.port}") as rig:
            held: list[BackendConnection] = []
            one.behave = lambda seen, connection: held.append(connection)
            waiting = asyncio.create_task(rig.ask(GET, "GET"))
            await until(lambda: held, "on its way")
            one.behave = always(reply(200))
            await asked(rig, 1)
            assert one.open == 2
            server.records["events.test", "A"] = ["127.0.0.2"]
            await until(lambda: one.open == 1, "the idle connection is closed")
            assert statuses(await asked(rig, 5)) == {200: 5}
            assert (len(one.seen), len(two.seen)) == (2, 5)
            held[0].write(reply(200, b"late"))
            assert (await waiting).body == b"late"
            await until(lambda: one.open == 0, "retired after its answer")
            assert rig.upstreams["other"].open == two.open


@pytest.mark.asyncio
async def test_a_resolver_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with dns_server() as server, backends(1) as (one,):
        server.records["events.test", "A"] = ["127.0.0.1"]
        async with named(server, f"http://events.test:{one.port}") as rig:
            await asked(rig, 1)
            for rcode in (dns.rcode.NXDOMAIN, dns.rcode.SERVFAIL):
                server.rcode = rcode
                before = balanced(rig).names.failures
                await until(lambda: balanced(rig).names.failures >= before + 2, "it failed")  # noqa: B023
                assert statuses(await asked(rig, 3)) == {200: 3}
            assert balanced(rig).names.trouble.startswith("events.test: ")
            warned = [record for record in caplog.records if "cannot look up" in record.getMessage()]
            assert len(warned) == 2, "once for each reason"
            server.rcode = None
            await until(lambda: not balanced(rig).names.trouble, "it is over")


@pytest.mark.asyncio
async def test_a_name_that_nobody_knows_yet() -> None:
    async with (
        dns_server() as server,
        backends(1) as (one,),
        named(server, f"http://events.test:{one.port}") as rig,
    ):
        answer = await rig.ask(GET, "GET")
        assert (answer.status, answer.detail) == (502, "cannot look up the backend other")
        server.records["events.test", "A"] = ["127.0.0.1"]
        await until(lambda: balanced(rig).names.addresses, "it is known")
        assert statuses(await asked(rig, 2)) == {200: 2}


@pytest.mark.asyncio
async def test_srv_records_give_ports_weights_and_priorities() -> None:
    async with dns_server() as server, backends(3, one_port=False) as three:
        for index in (1, 2, 3):
            server.records[f"host{index}.test", "A"] = ["127.0.0.1"]
        heavy, light, spare = (each.port for each in three)
        records = [f"1 30 {heavy} host1.test.", f"1 10 {light} host2.test.", f"2 1 {spare} host3.test."]
        server.records["_events._tcp.test", "SRV"] = [*records, "1 1 9 no.test."]
        async with named(server, "srv+http://_events._tcp.test") as rig:
            assert statuses(await asked(rig, 40)) == {200: 40}
            assert [len(each.seen) for each in three] == [30, 10, 0]
            three[0].stop()
            three[1].stop()
            assert statuses(await asked(rig, 5)) == {200: 5}
            assert len(three[2].seen) == 5
            server.records["_events._tcp.test", "SRV"] = ["0 0 0 ."]  # the service is not there (RFC 2782)
            await until(lambda: "has no address" in balanced(rig).names.trouble, "said")
            assert statuses(await asked(rig, 5)) == {200: 5}


@pytest.mark.asyncio
async def test_a_name_is_looked_up_no_sooner_than_its_records_end() -> None:
    async with dns_server() as server, backends(1) as (one,):
        server.records["events.test", "A"] = ["127.0.0.1"]
        server.ttl = 300
        async with named(server, f"http://events.test:{one.port}") as rig:
            await asked(rig, 1)
            await asyncio.sleep(0.2)
            assert server.asked.count(("events.test", "A")) == 1


@pytest.mark.asyncio
async def test_the_certificate_is_the_names(ca: Authority) -> None:
    async with dns_server() as server, backends(1, down=[0]) as (one,):
        one.tls = ca.server(ca.issue("backend", "events.test"))
        await one.start()
        server.records["events.test", "A"] = ["127.0.0.1"]
        async with named(server, f"https://events.test:{one.port}", tls={"ca": ca.file}) as rig:
            assert statuses(await asked(rig, 2)) == {200: 2}


@pytest.mark.asyncio
async def test_ipv6_and_ipv4_are_both_used() -> None:
    async with dns_server() as server, backends(1) as (four,):
        six = Backend(host="::1", port=four.port)
        await six.start()
        server.records["events.test", "A"] = ["127.0.0.1"]
        server.records["events.test", "AAAA"] = ["::1"]
        async with named(server, f"http://events.test:{four.port}") as rig:
            assert statuses(await asked(rig, 10)) == {200: 10}
            assert (len(four.seen), len(six.seen)) == (5, 5)
        six.stop()


@pytest.mark.asyncio
async def test_a_family_that_leads_nowhere_costs_a_quarter_of_a_second() -> None:
    async with dns_server() as server, backends(1) as (four,):
        server.records["events.test", "A"] = ["127.0.0.1"]
        server.records["events.test", "AAAA"] = ["::1"]
        nowhere = socket.socket(socket.AF_INET6)
        nowhere.bind(("::1", four.port))
        nowhere.listen(0)
        fillers = [socket.socket(socket.AF_INET6) for _ in range(3)]
        for filler in fillers:  # its queue is full now: whoever connects waits
            filler.setblocking(False)
            filler.connect_ex(("::1", four.port))
        async with named(server, f"http://events.test:{four.port}", connect_timeout="5s") as rig:
            begun = asyncio.get_running_loop().time()
            assert statuses(await asked(rig, 10)) == {200: 10}
            assert asyncio.get_running_loop().time() - begun < 2.0
            assert len(four.seen) == 10
        for each in (nowhere, *fillers):
            each.close()

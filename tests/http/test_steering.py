"""Events that do not follow the weight: the preview host, testers' overrides, pinned keys; who answered."""

from __future__ import annotations

import pytest

from proxy.core.event import NEW, OLD
from proxy.core.routing import Dials
from tests.http.backend import always, reply
from tests.http.rig import COMPLETE, DUAL, LIVE, OFF, SHADOW, SPLIT, Rig, event_bytes, key_for, make_route, running

STAGES = [OFF, SHADOW, DUAL, LIVE, SPLIT, COMPLETE]
LATCHED = Dials(0.0, "durable", latched=True)


def with_line(line: str, event_id: str, **body: str) -> bytes:
    """An event with a header line more."""
    return event_bytes(event_id, **body).replace(b"Host: a\r\n", f"Host: a\r\n{line}\r\n".encode())


def seen(rig: Rig) -> tuple[list[str], list[str]]:
    return rig.old.ids(), rig.new.ids()


@pytest.mark.asyncio
@pytest.mark.parametrize("dials", STAGES)
@pytest.mark.parametrize(("side", "name"), [(OLD, "old"), (NEW, "new")])
async def test_an_overridden_event_is_for_one_side_alone_at_every_stage(dials: Dials, side: int, name: str) -> None:
    async with running(make_route(override="header:X-Side", carry_over=True), dials=dials) as rig:
        rig.backends[side].behave = always(reply(201))
        for n, key in enumerate((key_for(OLD), key_for(NEW))):
            assert (await rig.ask(with_line(f"X-Side: {name}", f"e{n}", key=key))).status == 201
        await rig.settled()
        assert seen(rig)[side] == ["e0", "e1"]
        assert seen(rig)[1 - side] == []
        assert rig.story("e0") == rig.story("e1") == (("D", "-") if side == OLD else ("-", "D"))
        assert rig.plane.counters["forced"] == 2
        assert rig.plane.routes[0].chosen == [0, 0], "the observed weight is that of what follows the weight"
        rig.check_ends()


@pytest.mark.asyncio
@pytest.mark.parametrize("value", ["", "NEW", "newer", "both"])
async def test_other_words_override_nothing(value: str) -> None:
    async with running(make_route(override="header:X-Side")) as rig:
        assert (await rig.ask(with_line(f"X-Side: {value}", "e", key="k"))).status == 200
        await rig.settled()
        assert rig.story("e") == ("D", "D")


@pytest.mark.asyncio
async def test_without_the_setting_nobody_can_choose() -> None:
    async with running(dials=OFF) as rig:
        assert (await rig.ask(with_line("X-Side: new", "e", key="k"))).status == 200
        assert seen(rig) == (["e"], [])


@pytest.mark.asyncio
@pytest.mark.parametrize(("source", "line", "query"), [("cookie:side", "Cookie: a=b; side=new", ""),
                                                       ("query:side", "X-A: b", "?side=new")])  # fmt: skip
async def test_a_tester_says_so_by_cookie_or_query_too(source: str, line: str, query: str) -> None:
    async with running(make_route(override=source), dials=OFF) as rig:
        data = with_line(line, "e", key="k").replace(b"/events HTTP", f"/events{query} HTTP".encode())
        assert (await rig.ask(data)).status == 200
        assert seen(rig) == ([], ["e"])


@pytest.mark.asyncio
@pytest.mark.parametrize("on_authority_down", ["failover", "accept", "fail"])
async def test_a_forced_event_shows_its_sides_own_failure(on_authority_down: str) -> None:
    async with running(make_route(override="header:X-Side", on_authority_down=on_authority_down), dials=LIVE) as rig:
        rig.new.behave = always(reply(500, b"its own words"))
        answer = await rig.ask(with_line("X-Side: new", "e", key="k"))
        assert (answer.status, answer.body) == (500, b"its own words")
        await rig.settled()
        assert seen(rig) == ([], ["e"])
        assert rig.story("e") == ("-", "X")


@pytest.mark.asyncio
async def test_a_forced_event_waits_for_no_backlog() -> None:
    async with running(make_route(override="header:X-Side", drain_wait="60s")) as rig:
        rig.mark(NEW, "k")
        assert (await rig.ask(with_line("X-Side: new", "e", key="k"))).status == 200
        assert seen(rig) == ([], ["e"])


@pytest.mark.asyncio
@pytest.mark.parametrize("dials", [*STAGES, LATCHED])
async def test_the_preview_host_always_reaches_new(dials: Dials) -> None:
    async with running(make_route(preview_host="new.example"), dials=dials) as rig:
        data = event_bytes("e", key=key_for(OLD)).replace(b"Host: a", b"Host: New.Example:8080")
        assert (await rig.ask(data)).status == 200
        page = b"GET /page HTTP/1.1\r\nHost: new.example\r\n\r\n"
        assert (await rig.ask(page, "GET")).status == 200
        assert (await rig.ask(page.replace(b"new.example", b"a"), "GET")).status == 200
        await rig.settled()
        assert rig.old.seen == []
        assert [request.raw.split()[1] for request in rig.new.seen] == [b"/events", b"/page"]
        assert [request.raw.split()[1] for request in rig.other.seen] == [b"/page"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("dials", "to_old", "to_new"),
    [
        (OFF, ("D", "-"), ("-", "D")),
        (DUAL, ("D", "D"), ("D", "D")),
        (LIVE, ("D", "D"), ("D", "D")),
        (SPLIT, ("D", "-"), ("-", "D")),
        (COMPLETE, ("D", "-"), ("-", "D")),
    ],
)
@pytest.mark.parametrize("bucket_of", [OLD, NEW])
async def test_a_pinned_key_has_its_authority_at_every_weight_and_the_stages_copy(
    dials: Dials, to_old: tuple[str, str], to_new: tuple[str, str], bucket_of: int
) -> None:
    first, second = key_for(bucket_of), key_for(bucket_of, start=100)
    pins = {"old": (first,), "new": (second,)}
    async with running(make_route(pins=pins, backend_header="X-Backend"), dials=dials) as rig:
        for event_id, key, name in (("o", first, "old"), ("n", second, "new")):
            answer = await rig.ask(event_bytes(event_id, key=key))
            assert (answer.status, answer.headers.get("x-backend")) == (200, name)
        await rig.settled()
        assert rig.story("o") == to_old
        assert rig.story("n") == to_new


@pytest.mark.asyncio
async def test_in_split_with_carry_over_nothing_of_a_pinned_key_waits_for_old() -> None:
    pins = {"new": (key_for(OLD), key_for(NEW))}
    async with running(make_route(pins=pins, carry_over=True), dials=SPLIT) as rig:
        await rig.ask(event_bytes("a", key=key_for(OLD)))
        await rig.ask(event_bytes("b", key=key_for(NEW)))
        await rig.settled()
        assert rig.story("a") == ("-", "D"), "old's bucket: deferred to old would mean delivered at once"
        assert rig.story("b") == ("d", "D")


@pytest.mark.asyncio
async def test_a_latch_sends_keys_pinned_to_new_to_old() -> None:
    async with running(make_route(pins={"new": ("k",)}, backend_header="X-Backend"), dials=LATCHED) as rig:
        assert (await rig.ask(event_bytes("e", key="k"))).headers.get("x-backend") == "old"


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [b"short", b"long" * 100_000])
async def test_an_answer_says_who_gave_it_also_after_a_failover_and_never_our_own(body: bytes) -> None:
    async with running(make_route(backend_header="X-Backend", on_authority_down="failover"), dials=LIVE) as rig:
        for behave in rig.backends:
            behave.behave = always(reply(200, body))
        for side, name in ((OLD, "old"), (NEW, "new")):
            answer = await rig.ask(event_bytes(key=key_for(side)))
            assert (answer.headers.get("x-backend"), answer.body) == (name, body)
        rig.new.behave = always(reply(500))
        answer = await rig.ask(event_bytes(key=key_for(NEW)))
        # A copy's long answer is not kept for a failover: 202, in our own words.
        assert (answer.status, answer.headers.get("x-backend")) == ((200, "old") if body == b"short" else (202, None))
        assert "x-backend" not in str((await rig.ask(b"POST /events HTTP/1.1\r\n\r\n")).headers).lower()

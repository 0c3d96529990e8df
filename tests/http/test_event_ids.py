"""The X-Event-Id of events and of requests that are passed through, and ids that no header can carry."""

from __future__ import annotations

import pytest

from tests.http.rig import DUAL, OFF, event_bytes, make_route, running


def request(path: str, *lines: bytes) -> bytes:
    """A POST with these header lines."""
    return b"\r\n".join([f"POST {path} HTTP/1.1".encode(), b"Host: a", *lines, b"Content-Length: 2", b"", b"{}"])


def id_lines(head: bytes) -> list[bytes]:
    """The lines that name an event id."""
    return [line for line in head.split(b"\r\n") if line.lower().startswith(b"x-event-id:")]


LINES = [b"X-Event-Id: one", b"x-EVENT-id: One", b"X-Event-Id: a b\xe9 ~\tc", b"X-Event-Id: " + b"i" * 600]


@pytest.mark.asyncio
@pytest.mark.parametrize("around", [(), (b"A: 1", b"Accept: */*")], ids=["bare", "between"])
@pytest.mark.parametrize("line", LINES, ids=["plain", "spelled", "odd", "long"])
async def test_what_is_passed_through_keeps_its_event_id(line: bytes, around: tuple[bytes, ...]) -> None:
    async with running(dials=OFF) as rig:
        wire = await rig.wire()
        data = request("/x", *around, line)
        without = request("/x", *around)
        for one in (data, data, data, without, without, data):  # unknown, learnt, known, and beside another
            assert (await wire.ask(one)).status == 200
        found = [id_lines(seen.head) for seen in rig.other.seen]
        assert found == [[line], [line], [line], [], [], [line]]
        assert {seen.body for seen in rig.other.seen} == {b"{}"}


@pytest.mark.asyncio
async def test_fresh_event_ids_on_a_known_head_are_kept_too() -> None:
    async with running(dials=OFF) as rig:
        wire = await rig.wire()
        lines = [b"X-Event-Id: id-%d" % i for i in range(5)]
        fresh = [b"X-Other: %d" % i for i in range(5)]
        for line, other in zip(lines, fresh, strict=True):
            assert (await wire.ask(request("/x", other, line))).status == 200
            assert (await wire.ask(request("/x", b"X-Event-Id: same", other, b"Y: %b" % other))).status == 200
        assert [id_lines(seen.head) for seen in rig.other.seen[::2]] == [[line] for line in lines]
        assert [id_lines(seen.head) for seen in rig.other.seen[1::2]] == [[b"X-Event-Id: same"]] * 5
        assert [seen.header("X-Other") for seen in rig.other.seen[::2]] == ["0", "1", "2", "3", "4"]


@pytest.mark.asyncio
async def test_a_get_that_is_passed_through_keeps_its_event_id() -> None:
    async with running(dials=OFF) as rig:
        data = b"GET /x HTTP/1.1\r\nHost: a\r\nX-Event-Id: one\r\n\r\n"
        wire = await rig.wire()
        assert [(await wire.ask(data, "GET")).status for _ in range(3)] == [200] * 3
        assert [id_lines(seen.head) for seen in rig.other.seen] == [[b"X-Event-Id: one"]] * 3


@pytest.mark.asyncio
async def test_an_event_has_exactly_one_id_at_both_sides() -> None:
    async with running(dials=DUAL) as rig:
        wire = await rig.wire()
        for line in (b"X-Event-Id: one", b"x-event-id: two", b"X-Event-Id: one", b"x-event-id: two", b"X-Event-Id: 3"):
            assert (await wire.ask(request("/events", line))).status == 200
        assert (await wire.ask(request("/events"))).status == 200
        await rig.settled()
        wanted = ["one", "two", "one", "two", "3"]
        for backend in rig.backends:
            assert backend.ids()[:5] == wanted
            assert [len(id_lines(seen.head)) for seen in backend.seen] == [1] * 6
        assert rig.old.ids() == rig.new.ids()


# ids that no header can carry


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "unusable", ["a b", "line\r\nX-Evil: 1", "\u00e9", "i" * 513], ids=["space", "crlf", "e", "long"]
)
async def test_an_unusable_id_from_a_body_is_replaced(unusable: str) -> None:
    route = make_route(event_id=("header:X-Event-Id", "json:/id"))
    async with running(route, dials=DUAL) as rig:
        assert (await rig.ask(event_bytes(id=unusable, key="k"))).status == 200
        await rig.settled()
        (event_id,) = rig.fake.events
        assert event_id != unusable
        assert rig.old.ids() == rig.new.ids() == [event_id]
        assert not rig.fake.events[event_id].client_id, "so it is not sent again on a mere suspicion"
        assert rig.plane.counters["unusable_ids"] == 1
        assert (await rig.ask(event_bytes(id="usable", key="k"))).status == 200
        await rig.settled()
        assert rig.fake.events["usable"].client_id
        assert rig.plane.counters["unusable_ids"] == 1


@pytest.mark.asyncio
async def test_an_unusable_id_from_a_header_is_refused() -> None:
    route = make_route(event_id=("header:X-Event-Id", "json:/id"))
    async with running(route, dials=DUAL) as rig:
        assert (await rig.ask(event_bytes("a b", id="usable", key="k"))).status == 400
        assert rig.plane.counters == {"refused_bad_id": 1}
        assert rig.old.seen == rig.new.seen == []
        assert not rig.fake.events

"""What a retiring worker offers is its own until the successor can hear that it is not."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio

from proxy.fanout.moved import MovingRelay
from proxy.fanout.relay import Relay
from proxy.http.downstream import Client
from proxy.http.moved import MovingClient
from proxy.ledger.framing import LENGTH_BYTES
from proxy.websocket.kept import Kept
from proxy.websocket.moved import MovingSession
from proxy.websocket.session import Session
from proxy.worker.handover import (
    Accepted,
    Message,
    Offer,
    Refused,
    Release,
    ToSuccessor,
    Withdraw,
    _packed,
    _to_successor,
)
from proxy.worker.offers import ANSWER_WAIT, Movable, Offers
from tests.http.wire import until

LARGE = b"x" * 2**21
"""More than the socket takes at once."""

pytestmark = pytest.mark.asyncio


class Thing:
    """A connection without descriptors, and what became of it."""

    kind = "http"
    connection: Any = None

    def __init__(self, state: bytes = b"") -> None:
        self._state = state
        self.is_there = True
        self.breaks = False
        self.became: list[str] = []

    def freeze(self) -> tuple[bytes, list[int]]:
        return self._state, []

    def thaw(self) -> None:
        self.became.append("thawed")

    def depart(self, _: int) -> None:
        self.became.append("departed")
        if self.breaks:
            raise ValueError("it cannot")


def moving_client() -> Movable:
    return MovingClient(cast(Client, SimpleNamespace(transport=None)), [])


def moving_session() -> Movable:
    return MovingSession(cast(Session, SimpleNamespace(is_over=True, redeliver_window=5.0)), cast(Kept, FakeKept()))


def moving_relay() -> Movable:
    return MovingRelay(cast(Relay, SimpleNamespace(is_open=False)))


class FakeKept:
    """Of sessions that have moved."""

    def __init__(self) -> None:
        self.lost = 0

    def all_lost(self) -> None:
        self.lost += 1


class Ends:
    """Offers, and the successor's end of the conversation, which reads when it is told to."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair(socket.AF_UNIX)
        self.theirs.setblocking(False)
        self.counts: Counter[str] = Counter()
        self.refused: list[Movable] = []
        self.kept = FakeKept()
        self.offers = Offers(
            ours,
            asyncio.get_running_loop(),
            frozenset(),
            cast(Kept, self.kept),
            itertools.count(1),
            refused=self.refused.append,
            count=lambda name: self.counts.update([name]),
            wake=lambda: None,
        )

    def say(self, message: Message) -> None:
        self.theirs.send(_packed(message))

    def hears(self) -> Iterator[ToSuccessor]:
        """Everything up to now."""
        data = b""
        while True:
            try:
                data += self.theirs.recv(2**20)
            except BlockingIOError:
                break
        while data:
            end = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "big")
            yield _to_successor.decode(data[LENGTH_BYTES:end])
            data = data[end:]


@pytest_asyncio.fixture
async def ends() -> AsyncIterator[Ends]:
    found = Ends()
    yield found
    found.offers.close()
    found.theirs.close()


async def test_what_is_accepted_departs(ends: Ends) -> None:
    thing = Thing()
    assert ends.offers.offer(thing)
    ends.say(Accepted(1))
    await until(lambda: bool(thing.became), "an end")
    assert (thing.became, ends.counts) == (["departed"], {"moved_out_http": 1})
    assert [type(each) for each in ends.hears()][1:] == [Offer, Release]
    assert ends.offers.is_idle


async def test_what_is_refused_stays(ends: Ends) -> None:
    thing = Thing()
    assert ends.offers.offer(thing)
    ends.say(Refused(1, "no"))
    await until(lambda: bool(thing.became), "an end")
    assert (thing.became, ends.refused) == (["thawed"], [thing])


async def test_what_is_not_as_it_was_stays(ends: Ends) -> None:
    thing = Thing()
    assert ends.offers.offer(thing)
    thing.is_there = False
    ends.say(Accepted(1))
    await until(lambda: bool(thing.became), "an end")
    assert thing.became == ["thawed"]
    assert [type(each) for each in ends.hears()][1:] == [Offer, Withdraw]


async def test_a_successor_that_has_accepted_and_is_gone_has_nothing(ends: Ends) -> None:
    thing = Thing()
    assert ends.offers.offer(thing)
    assert len(list(ends.hears())) == 2
    ends.say(Accepted(1))
    ends.theirs.close()
    await until(lambda: not ends.offers.is_open, "the end")
    assert (thing.became, ends.kept.lost) == (["thawed"], 1)


async def backed_up(ends: Ends) -> tuple[Thing, Thing]:
    """The first is accepted, and the second, which the successor does not read, keeps that from being heard."""
    first, second = Thing(), Thing(LARGE)
    assert ends.offers.offer(first)
    assert ends.offers.offer(second)
    ends.say(Accepted(1))
    await until(lambda: 1 not in ends.offers._offered, "the answer is read")
    assert first.became == []
    assert not ends.offers.is_idle
    return first, second


async def test_it_is_the_successors_when_that_can_hear_of_it(ends: Ends) -> None:
    first, second = await backed_up(ends)

    def is_heard() -> bool:
        with suppress(BlockingIOError):
            ends.theirs.recv(2**16)
        return first.became == ["departed"]

    await until(is_heard, "the release")
    assert second.became == []


async def test_a_successor_that_ends_before_leaves_it_here(ends: Ends) -> None:
    first, second = await backed_up(ends)
    ends.theirs.close()
    await until(lambda: bool(second.became), "the end")
    assert (first.became, second.became) == (["thawed"], ["thawed"])
    assert "moved_out_http" not in ends.counts


async def test_one_that_fails_to_depart_harms_no_other(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    first, third, second = Thing(), Thing(), Thing(LARGE)
    for each in (first, third, second):
        assert ends.offers.offer(each)
    first.breaks = True
    ends.say(Accepted(1))
    ends.say(Accepted(2))
    await until(lambda: len(ends.offers._releasing) == 2, "the answers are read")

    def is_heard() -> bool:
        with suppress(BlockingIOError):
            ends.theirs.recv(2**16)
        return bool(third.became)

    await until(is_heard, "the releases")
    assert third.became == ["departed"]
    assert "did not depart" in caplog.text


async def test_one_that_reads_nothing_is_given_up_in_time(ends: Ends) -> None:
    first, second = await backed_up(ends)
    ends.offers._offered.clear()
    since = ends.offers._releasing[1][1]
    ends.offers.check_time(since + ANSWER_WAIT)
    assert ends.offers.is_open
    ends.offers.check_time(since + ANSWER_WAIT + 0.01)
    assert not ends.offers.is_open
    assert (first.became, second.became) == (["thawed"], [])


async def test_what_was_not_released_stays_at_the_end(ends: Ends) -> None:
    first, second = await backed_up(ends)
    ends.offers.withdraw()
    assert (first.became, second.became) == (["thawed"], ["thawed"])
    assert (ends.offers.is_open, ends.kept.lost) == (False, 1)


@pytest.mark.parametrize("make", [moving_client, moving_session, moving_relay])
async def test_what_has_ended_meanwhile_departs_no_more(make: Callable[[], Movable]) -> None:
    """Its descriptors and its share of the memory were given back as it ended."""
    make().depart(1)

"""The conversation in which connections are handed over: messages and descriptors, in order, or not at all."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from proxy.worker.handover import Accepted, Channel, Greeting, Lost, Message, Offer, Refused, Release, Settled, Withdraw
from tests.http.wire import until
from tests.worker.moving import descriptors


class Ends:
    """Both ends of one conversation, and what each has heard."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        self.heard: list[Message] = []
        self.answers: list[Message] = []
        self.arrived: list[socket.socket] = []
        self.why: list[str] = []
        loop = asyncio.get_running_loop()
        self.ours = Channel(ours, loop, is_successor=False, hear=self.answers.append, lost=self.why.append)
        self.theirs = Channel(theirs, loop, is_successor=True, hear=self._hear, lost=self.why.append)

    def _hear(self, message: Message) -> None:
        self.heard.append(message)
        if isinstance(message, Offer):
            self.arrived += self.theirs.sockets(message.sockets)


@asynccontextmanager
async def ends() -> AsyncIterator[Ends]:
    before = descriptors()
    found = Ends()
    yield found
    found.ours.close()
    found.theirs.close()
    for each in found.arrived:
        each.close()
    assert descriptors() == before, "none is left"


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


@pytest.mark.asyncio
async def test_everything_that_is_said_is_heard_in_its_order() -> None:
    async with ends() as found:
        said: list[Message] = [Greeting(1, [b"host"]), Release(3), Withdraw(4)]
        for message in said:
            found.ours.put(message)
        answers: list[Message] = [Accepted(1), Refused(2, "no"), Lost(3, 1), Settled(4, 0)]
        for message in answers:
            found.theirs.put(message)
        await until(lambda: found.heard == said and found.answers == answers, "heard")


@pytest.mark.asyncio
async def test_descriptors_arrive_with_the_offer_that_they_are_of() -> None:
    async with ends() as found:
        pairs = [pair() for _ in range(12)]
        for number in range(4):
            three = [inner.fileno() for _, inner in pairs[3 * number : 3 * number + 3]]
            assert found.ours.offer(Offer(number, "http", b"x" * number, 3), three)
        for _, inner in pairs:
            inner.close()
        await until(lambda: len(found.arrived) == 12, "arrived")
        for number, ((outer, _), arrived) in enumerate(zip(pairs, found.arrived, strict=True)):
            outer.send(b"%d" % number)
            assert arrived.recv(10) == b"%d" % number
            assert not os.get_inheritable(arrived.fileno())
            outer.close()


@pytest.mark.asyncio
async def test_a_state_that_is_larger_than_the_socket_goes_in_pieces_and_nothing_overtakes_it() -> None:
    async with ends() as found:
        outer, inner = pair()
        large = os.urandom(3 * 2**20)
        assert found.ours.offer(Offer(1, "websocket", large, 1), [inner.fileno()])
        assert not found.ours.offer(Offer(2, "websocket", b"", 1), [inner.fileno()]), "not while that is on its way"
        found.ours.put(Withdraw(1))
        await until(lambda: len(found.heard) == 2, "all of it")
        assert found.heard == [Offer(1, "websocket", large, 1), Withdraw(1)]
        assert len(found.arrived) == 1
        outer.close()
        inner.close()


@pytest.mark.asyncio
async def test_an_end_is_told_once_and_nothing_is_said_after_it() -> None:
    async with ends() as found:
        found.theirs.close("enough")
        await until(lambda: not found.ours.is_open, "ended")
        assert found.why == ["enough", "closed by the other end"]
        found.ours.put(Withdraw(1))
        assert not found.ours.offer(Offer(1, "http", b"", 0), [])


@pytest.mark.asyncio
async def test_descriptors_for_which_there_is_no_room_end_the_conversation() -> None:
    """Whose the others are is not known then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with ends() as found:
        pairs = [pair() for _ in range(3)]
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        filling: list[int] = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
            with suppress(OSError):
                while True:
                    filling.append(os.dup(0))
            os.close(filling.pop())  # room for one of three
            found.ours.put(Release(7))  # comes in the same piece
            assert found.ours.offer(Offer(1, "websocket", b"", 3), [inner.fileno() for _, inner in pairs])
            await until(lambda: not found.theirs.is_open, "ended")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in filling:
                os.close(descriptor)
        assert found.why[0] == "no descriptors left"
        assert [type(each) for each in found.heard] == [Release, Offer], "what is not touched by it is heard"
        assert len(found.arrived) < 3
        for one in pairs:
            for each in one:
                each.close()


@pytest.mark.asyncio
async def test_what_was_said_by_one_that_is_gone_is_heard_and_it_is_known_that_it_hears_nothing() -> None:
    async with ends() as found:
        found.theirs.put(Accepted(1))
        found.theirs.close()
        assert not found.ours.put(Release(1)), "it is not its connection then"
        assert found.ours.is_open
        await until(lambda: not found.ours.is_open, "its end is read")
        assert found.answers == [Accepted(1)]


@pytest.mark.asyncio
async def test_what_comes_before_that_is_no_message_is_heard() -> None:
    async with ends() as found:
        found.theirs.put(Accepted(1))
        found.theirs.put(Release(1))
        await until(lambda: not found.ours.is_open, "ended")
        assert found.answers == [Accepted(1)]


@pytest.mark.asyncio
async def test_what_is_no_message_ends_the_conversation() -> None:
    async with ends() as found:
        found.theirs.put(Release(1))  # a word of the other side
        await until(lambda: not found.ours.is_open, "ended")
        assert found.why[0].startswith("not a message: ")

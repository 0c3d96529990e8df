"""Batches by themselves: what goes out together, and what each event is told of what came back."""

from __future__ import annotations

import asyncio

import pytest

from config.deliver import Batch
from proxy.core.event import DELIVERED, DENIED, PAUSE, REFUSED, RETRY, UNREACHABLE, Outcome
from proxy.http.batching import Batching
from proxy.http.rendering import Rendered

pytestmark = pytest.mark.asyncio

RESULTS = {"items": "", "status": ""}
MIB = 2**20


class Peer:
    """A backend: the bodies that it got, and what it says to each."""

    def __init__(self, outcome: Outcome, answer: bytes = b"", **settings: object) -> None:
        self.outcome = outcome
        self.answer = answer
        self.got: list[bytes] = []
        batch = Batch.model_validate({"size": 4, "linger": "20ms"} | settings)
        self.batching = Batching(batch, self._send, asyncio.get_running_loop())

    async def _send(self, method: bytes, request: bytes) -> tuple[Outcome, bytes]:
        self.got.append(request.partition(b"\r\n\r\n")[2])
        return self.outcome, self.answer

    async def deliver(self, *bodies: bytes, number: int = 1) -> list[Outcome]:
        made = [Rendered(b"POST", b"POST /bulk HTTP/1.1\r\n", body) for body in bodies]
        return await asyncio.gather(*(self.batching.deliver(each, b"e", number) for each in made))


def text(size: int) -> bytes:
    return b'"%b"' % (b"x" * (size - 2))


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ([MIB] * 4, [4]),
        ([MIB] * 3 + [MIB + 1], [3, 1]),
        ([5 * MIB, 100, 100], [1, 2]),
        ([100, 5 * MIB, 100], [1, 1, 1]),
        ([100] * 6, [4, 2]),
    ],
)
async def test_a_request_has_so_many_events_and_bytes(sizes: list[int], batches: list[int]) -> None:
    peer = Peer(Outcome(DELIVERED, 200))
    outcomes = await peer.deliver(*map(text, sizes))
    assert {each.kind for each in outcomes} == {DELIVERED}
    assert [body.count(b'","') + 1 for body in peer.got] == batches
    assert sum(len(body) for body in peer.got) == sum(sizes) + len(sizes) + len(batches)


@pytest.mark.parametrize(
    ("failure", "answer"),
    [(Outcome(RETRY, 500), b""), (Outcome(RETRY, 504, "no answer"), b""), (Outcome(DELIVERED, 200), b"what?")],
)
async def test_the_failure_of_several_counts_once_and_for_each_alone(failure: Outcome, answer: bytes) -> None:
    peer = Peer(failure, answer, results=RESULTS)
    outcomes = await peer.deliver(b"1", b"2", b"3")
    assert [(each.kind, each.status, each.is_echo) for each in outcomes] == [
        (RETRY, failure.status, n > 0) for n in range(3)
    ]
    alone = await peer.deliver(b"1", b"2", number=2)
    assert [(each.kind, each.is_echo) for each in alone] == [(RETRY, False)] * 2


@pytest.mark.parametrize("kind", [PAUSE, UNREACHABLE])
async def test_what_keeps_all_from_the_backend_is_told_to_all(kind: int) -> None:
    peer = Peer(Outcome(kind, 401))
    assert await peer.deliver(b"1", b"2") == [Outcome(kind, 401)] * 2


async def test_each_event_has_its_own_status_and_none_speaks_for_the_backend() -> None:
    peer = Peer(Outcome(DELIVERED, 200), b"[201, 401, 404, 503]", results=RESULTS)
    outcomes = await peer.deliver(b"1", b"2", b"3", b"4")
    assert [(each.kind, each.status, each.is_echo) for each in outcomes] == [
        (DELIVERED, 201, False), (DENIED, 401, False), (DENIED, 404, False), (RETRY, 503, False),
    ]  # fmt: skip


async def test_a_batch_that_is_refused_is_asked_event_by_event() -> None:
    peer = Peer(Outcome(REFUSED, 400))
    assert await peer.deliver(b"1", b"2") == [Outcome(REFUSED, 400)] * 2
    assert peer.got == [b"[1,2]", b"[1]", b"[2]"]

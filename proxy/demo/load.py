"""A load of Home-Assistant-like state changes, and the client's own record of what it was promised.

A connection sends one event at a time. Keys are dealt out to the connections, so that an event is
answered before the next one of its key is sent; `shared` keys are drawn by all of them, so that
events of one key are on their way at the same time.

An event that is not answered with 2xx counts as a client error and is sent again under the same id,
as a careful client would.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import orjson

from config.units import Address
from proxy.demo.client import Answer, Connection, NoAnswerError
from proxy.demo.store import digest_of

TARGET = "/api/v1/events"
_LATE = 1.0  # a connection that is behind by more seconds forgets what it missed: no burst after a stall
_RETRY_WAIT = 0.1
_DOMAINS = (
    ("sensor", "temperature", "°C", 15, 30),
    ("sensor", "humidity", "%", 20, 90),
    ("sensor", "power", "W", 0, 3000),
    ("binary_sensor", "motion", "", 0, 1),
    ("light", "brightness", "", 0, 255),
)


class Promise(NamedTuple):
    """An event that was answered 2xx.

    by: the backend that says it answered, empty when it was the proxy itself; status: the answer's;
    sent, answered: monotonic seconds, sent being the first attempt's.
    """

    id: str
    key: str
    by: str
    status: int
    sent: float
    answered: float


@dataclass
class Record:
    """What the client knows.

    promises: in the order in which they were made; digests: XXH64 of the body by id, of everything
    sent; statuses: answers by status; failures: missing answers by kind (see `NoAnswerError`);
    retry_after: how many 503 said when to come back; reopened: requests that met a connection which
    the peer had just closed for idleness, and went out again at once; latencies: seconds of each answer.
    """

    promises: list[Promise] = field(default_factory=list)
    digests: dict[str, int] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    retry_after: int = 0
    reopened: int = 0

    @property
    def accepted(self) -> int:
        """How many events were answered 2xx."""
        return len(self.promises)

    @property
    def client_errors(self) -> int:
        """Answers that were not 2xx, and requests without an answer."""
        return sum(self.failures.values()) + sum(n for status, n in self.statuses.items() if not 200 <= status < 300)

    def accepted_ids(self) -> set[str]:
        """Every id that was answered 2xx."""
        return {promise.id for promise in self.promises}

    def errors_text(self) -> str:
        """The errors by kind, for a person."""
        kinds = {str(status): n for status, n in self.statuses.items() if not 200 <= status < 300} | self.failures
        return ", ".join(f"{n}x {kind}" for kind, n in sorted(kinds.items())) or "none"


class Events:
    """Makes state changes: unique ids, seeded values. keys: how many entities there are."""

    def __init__(self, seed: int, keys: int) -> None:
        self._random = random.Random(seed)
        self._made = 0
        self.keys = [f"{_DOMAINS[i % len(_DOMAINS)][0]}.{_DOMAINS[i % len(_DOMAINS)][1]}_{i:05d}" for i in range(keys)]

    def make(self, key: str) -> tuple[str, bytes]:
        """The id and the JSON body, about 300 bytes, of a new state of this entity."""
        _, kind, unit, low, high = _DOMAINS[int(key[-5:]) % len(_DOMAINS)]
        self._made += 1
        id = f"01{self._made:08X}{self._random.getrandbits(64):016X}"
        now = datetime.now(UTC).isoformat()
        body = {
            "entity_id": key,
            "state": str(round(self._random.uniform(low, high), 1)),
            "attributes": {"unit_of_measurement": unit, "device_class": kind, "friendly_name": key.replace("_", " ")},
            "last_changed": now,
            "last_updated": now,
            "context": {"id": id, "parent_id": None, "user_id": None},
        }
        return id, orjson.dumps(body)


class Load:
    """Sends events until `stop`; `record` grows meanwhile.

    rate: events per second over all connections, may be changed at any time; timeout: seconds an
    answer may take; patience: seconds for which one event is tried; pad: bytes added to each body;
    shared: every connection sends events of every key.
    """

    def __init__(
        self,
        address: Address,
        *,
        rate: float,
        keys: int = 1_200,
        connections: int = 24,
        seed: int = 1,
        timeout: float = 20.0,
        patience: float = 60.0,
        pad: int = 0,
        shared: bool = False,
    ) -> None:
        self.record = Record()
        self.rate = rate
        self._address = address
        self._events = Events(seed, keys)
        self._connections = connections
        self._seed = seed
        self._timeout = timeout
        self._patience = patience
        self._padding = b" " * pad
        self._shared = shared
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Open the connections and begin."""
        for index in range(self._connections):
            keys = self._events.keys if self._shared else self._events.keys[index :: self._connections]
            chosen = random.Random(self._seed * 1_000 + index)
            self._tasks.append(asyncio.create_task(self._send_all(index, keys, chosen)))

    async def stop(self) -> Record:
        """Send nothing new, wait for the answers that are due; the record. Raises what a sender raised."""
        self._stopping = True
        await asyncio.gather(*self._tasks)
        return self.record

    async def cancel(self) -> None:
        """End at once, whatever is in flight."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def check(self) -> None:
        """Raise what a sender raised, if one did."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _send_all(self, index: int, keys: list[str], chosen: random.Random) -> None:
        connection = Connection(self._address)
        due = time.monotonic() + index / self.rate
        try:
            while not self._stopping:
                now = time.monotonic()
                if now < due:
                    await asyncio.sleep(min(due - now, 0.1))
                    continue
                due = max(due, now - _LATE) + self._connections / self.rate
                await self._send_one(connection, chosen.choice(keys))
        finally:
            connection.close()

    async def _send_one(self, connection: Connection, key: str) -> None:
        """Send one new event until it is accepted, or for `patience` seconds."""
        id, body = self._events.make(key)
        body += self._padding
        self.record.digests[id] = digest_of(body)
        headers = {"Content-Type": "application/json", "X-Event-Id": id}
        began = time.monotonic()
        while (answer := await self._attempt(connection, headers, body)) is None:
            if time.monotonic() > began + self._patience:
                return
            await asyncio.sleep(_RETRY_WAIT)
        if 200 <= answer.status < 300:
            by = _answerer(answer.body)
            self.record.promises.append(Promise(id, key, by, answer.status, began, time.monotonic()))

    async def _attempt(self, connection: Connection, headers: dict[str, str], body: bytes) -> Answer | None:
        """One request; the final answer, or None when the event must be sent again."""
        record, began = self.record, time.monotonic()
        try:
            answer = await connection.post(TARGET, headers, body, seconds=self._timeout)
        except NoAnswerError as failure:
            if failure.untouched:
                record.reopened += 1
                return await self._attempt(connection, headers, body)
            record.failures[failure.kind] += 1
            return None
        record.latencies.append(time.monotonic() - began)
        record.statuses[answer.status] += 1
        record.retry_after += answer.status == 503 and "retry-after" in answer.headers
        return None if answer.status >= 500 else answer


def _answerer(body: bytes) -> str:
    try:
        return str(orjson.loads(body)["by"])
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return ""


async def until_accepted(load: Load, more: int, seconds: float = 60.0) -> None:
    """Wait until so many more events were accepted; raises TimeoutError, or what a sender raised."""
    wanted = load.record.accepted + more

    def are_accepted() -> bool:
        load.check()
        return load.record.accepted >= wanted

    await wait_until(are_accepted, seconds, f"{more} more events")


async def wait_until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until `true()`; raises TimeoutError naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {seconds:g} s")
        await asyncio.sleep(0.02)

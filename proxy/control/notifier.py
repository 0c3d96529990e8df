"""Tells others of every change. Nobody waits for that.

    Audit.write --> take(): a bounded queue for each receiver --> one task each: post, again after a while, in order

What is older than GIVE_UP has one try alone, so that a receiver which comes back soon hears what is new. What waits
when this process is killed is told to nobody: the audit trail has it.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec
import tenacity

from config.notifications import Receiver
from proxy.control.audit import Entry, iso
from proxy.control.gate_calls import authorization
from proxy.control.views import ReceiverView
from proxy.core.notification import as_slack, as_webhook
from proxy.net.live_context import reason

log = logging.getLogger(__name__)

MOST_WAITING: Final = 256
"""Entries that wait for a receiver; of more the oldest are dropped."""
FIRST_WAIT: Final = 0.5
MOST_WAIT: Final = 30.0
"""Seconds between two tries: rising from the first to the most, and up to FIRST_WAIT more by chance."""
GIVE_UP: Final = 300.0
"""Seconds after which an entry is tried no further time."""
FLUSH: Final = 2.0
"""Seconds that what waits has when this process stops."""
_AGAIN: Final = (408, 425, 429)
"""Refusals that are not for good."""

DELIVERED: Final = "delivered"
REFUSED: Final = "refused"
GIVEN_UP: Final = "given_up"
OVERFLOWED: Final = "overflowed"
STOPPED: Final = "stopped"
_DROPPED: Final = (REFUSED, GIVEN_UP, OVERFLOWED, STOPPED)


class _Told(NamedTuple):
    """One message on its way. at: monotonic seconds when it was written."""

    action: str
    body: bytes
    name: str
    at: float


class _TryAgain(Exception):
    """It was not taken; the message says why, without the url."""


class _Refused(Exception):
    """It will never be taken."""


class Notifier:
    """The receivers of an instance. name: the instance's; counts: gets `notifications:RECEIVER:OUTCOME`.

    clock: monotonic seconds; wall: seconds since 1970.
    """

    def __init__(
        self,
        receivers: Sequence[Receiver],
        name: str,
        counts: Counter[str],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._clock = clock
        self._lines = [_Line(receiver, counts, clock, wall) for receiver in receivers]
        self._tasks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None

    def take(self, entry: Entry) -> None:
        """This was written to the audit trail. Waits for nothing and raises nothing."""
        wanted = [line for line in self._lines if line.receiver.wants(entry.action)]
        if not wanted:
            return
        plain: Mapping[str, Any] = msgspec.to_builtins(entry)
        name = uuid.uuid4().hex
        for line in wanted:
            if line.receiver.kind == "slack":
                body = as_slack(plain, instance=self._name)
            else:
                body = as_webhook(plain, name=name, instance=self._name)
            line.put(_Told(entry.action, body, name, self._clock()))

    def health(self) -> list[ReceiverView]:
        """How it stands with each receiver, in the order of the configuration."""
        return [line.health() for line in self._lines]

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to post; the tasks that do, which never end by themselves."""
        if self._lines:
            connector = aiohttp.TCPConnector(force_close=True, limit=0, resolver=aiohttp.ThreadedResolver())
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
            self._tasks = [asyncio.create_task(line.run(self._session)) for line in self._lines]
        return self._tasks

    async def close(self) -> None:
        """Post what waits, for FLUSH at most, and drop the rest."""
        joined = [asyncio.create_task(line.queue.join()) for line in self._lines if self._tasks]
        if joined:
            await asyncio.wait(joined, timeout=FLUSH)
        for task in (*self._tasks, *joined):
            task.cancel()
        await asyncio.gather(*self._tasks, *joined, return_exceptions=True)
        for line in self._lines:
            line.drop_all()
        if self._session is not None:
            await self._session.close()


class _Line:
    """One receiver, what waits for it, and the one that posts it."""

    def __init__(
        self, receiver: Receiver, counts: Counter[str], clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self.receiver = receiver
        self.queue: asyncio.Queue[_Told] = asyncio.Queue(MOST_WAITING)
        self._counts = counts
        self._clock = clock
        self._wall = wall
        self._outcomes: Counter[str] = Counter()
        self._is_posting = False
        self._succeeded_at: str | None = None
        self._failed_at: str | None = None
        self._trouble = ""
        """Why the last try failed; empty when it did not."""
        self._headers = {"Content-Type": "application/json", "User-Agent": "crossfade", **receiver.headers}

    def put(self, told: _Told) -> None:
        """One more; the oldest that waits makes room for it."""
        if self.queue.full():
            dropped = self.queue.get_nowait()
            self.queue.task_done()
            self._drop(dropped, OVERFLOWED, f"{MOST_WAITING} wait already")
        self.queue.put_nowait(told)

    def health(self) -> ReceiverView:
        """What became of what it was to be told in this process; counters are of earlier ones as well."""
        return ReceiverView(
            name=self.receiver.name,
            kind=self.receiver.kind,
            waiting=self.queue.qsize() + self._is_posting,
            delivered=self._outcomes[DELIVERED],
            dropped=sum(self._outcomes[each] for each in _DROPPED),
            last_success=self._succeeded_at,
            last_failure=self._failed_at,
            trouble=self._trouble or None,
        )

    def drop_all(self) -> None:
        """Nothing of what waits is posted any more."""
        while not self.queue.empty():
            self._drop(self.queue.get_nowait(), STOPPED, "this instance stops")

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Post one after the other, for ever."""
        while True:
            told = await self.queue.get()
            self._is_posting = True
            try:
                await self._deliver(session, told)
            finally:
                self._is_posting = False
                self.queue.task_done()

    async def _deliver(self, session: aiohttp.ClientSession, told: _Told) -> None:
        again = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_TryAgain),
            stop=lambda _: self._clock() - told.at >= GIVE_UP,
            wait=tenacity.wait_exponential(FIRST_WAIT, MOST_WAIT) + tenacity.wait_random(0, FIRST_WAIT),
            before_sleep=self._say_once,
            reraise=True,
        )
        try:
            await again(self._try, session, told)
        except _TryAgain as error:
            self._drop(told, GIVEN_UP, str(error))
        except _Refused as error:
            self._drop(told, REFUSED, str(error))
        except asyncio.CancelledError:
            self._drop(told, STOPPED, "this instance stops")
            raise
        else:
            self._count(DELIVERED)

    async def _try(self, session: aiohttp.ClientSession, told: _Told) -> None:
        """Post it once, and note what came of that; raises as `_post` does."""
        try:
            await self._post(session, told)
        except (_TryAgain, _Refused) as error:
            self._failed_at, self._trouble = iso(self._wall()), str(error)
            raise
        self._succeeded_at, self._trouble = iso(self._wall()), ""

    async def _post(self, session: aiohttp.ClientSession, told: _Told) -> None:
        """One try; raises _TryAgain or _Refused."""
        try:
            async with asyncio.timeout(self.receiver.timeout):
                status = await self._request(session, told)
        except TimeoutError:
            raise _TryAgain(f"no answer within {self.receiver.timeout:g} s") from None
        except aiohttp.ClientOSError as error:
            raise _TryAgain(f"no connection: {reason(_system_error(error))}") from None
        except aiohttp.ClientError as error:
            # Its text may have the url.
            raise _TryAgain(type(error).__name__) from None
        except OSError as error:
            raise _TryAgain(f"its authorization_file cannot be read: {error.strerror}") from None
        except ValueError:
            raise _TryAgain("its authorization_file holds no value of a header") from None
        if 200 <= status < 300:
            return
        if status < 500 and status not in _AGAIN:
            raise _Refused(f"status {status}")
        raise _TryAgain(f"status {status}")

    async def _request(self, session: aiohttp.ClientSession, told: _Told) -> int:
        headers = self._headers | {"Idempotency-Key": told.name} | await authorization(self.receiver)
        asking = session.post(self.receiver.url, data=told.body, headers=headers, allow_redirects=False)
        async with asking as answer:
            return answer.status

    def _say_once(self, state: tenacity.RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            said = state.outcome.exception()
            log.warning("the receiver %s did not take a notification: %s; trying again", self.receiver.name, said)

    def _drop(self, told: _Told, outcome: str, why: str) -> None:
        log.warning("the receiver %s was not told of %s: %s", self.receiver.name, told.action, why)
        self._count(outcome)

    def _count(self, outcome: str) -> None:
        self._outcomes[outcome] += 1
        self._counts[f"notifications:{self.receiver.name}:{outcome}"] += 1


def _system_error(error: aiohttp.ClientOSError) -> BaseException:
    return error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error

"""Sends traces to a collector, as OTLP over HTTP. Nobody waits for that.

    workers, ledger --Spans, over the control link--> take(): a bounded queue --> one task: a batch, a post, again

Here, because workers and the ledger are to lose no time to it: they hand over what was told with their figures. What
cannot be sent is dropped and counted; what waits when this process is killed is told to nobody.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import aiohttp
import tenacity

from config.model import Settings
from config.tracing import Tracing
from proxy.control.gate_calls import authorization
from proxy.core.errors import RefuseToStart
from proxy.core.trace import Span
from proxy.net.live_context import reason
from proxy.net.resolving import SharedResolver

if TYPE_CHECKING:
    from proxy.control.otlp import Encoder

log = logging.getLogger(__name__)

MOST_WAITING: Final = 16_384
"""Spans that wait for the collector; of more the newest are dropped."""
BATCH: Final = 512
"""Spans of one request."""
EVERY: Final = 1.0
"""Seconds until a batch that is not full is sent."""
FIRST_WAIT: Final = 0.5
MOST_WAIT: Final = 5.0
GIVE_UP: Final = 30.0
"""Seconds after which a batch is tried no further time."""
FLUSH: Final = 1.0
"""Seconds that what waits has when this process stops."""
_AGAIN: Final = frozenset({429, 502, 503, 504})
"""Answers after which the protocol says to try again."""
_MOST_READ: Final = 2**16

EXPORTED: Final = "exported"
DROPPED: Final = "dropped"
REJECTED: Final = "rejected"


class _TryAgain(Exception):
    """It was not taken; the message says why, without the url. after: seconds that the collector asks for, or 0."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


class _Refused(Exception):
    """It will never be taken."""


def encoder_of(settings: Settings, instance: str, version: str) -> Encoder:
    """Raises RefuseToStart where what is needed for traces is not installed."""
    try:
        from proxy.control.otlp import Encoder
    except ImportError as error:
        raise RefuseToStart(
            f"tracing is configured, and {error.name} is not installed: pip install 'crossfade[otel]', or take "
            "`tracing` out of the configuration"
        ) from None
    return Encoder(settings, instance, version)


def _wait(state: tenacity.RetryCallState) -> float:
    """Longer after each try, and at least what the collector asks for, but never past the last one."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.after if isinstance(error, _TryAgain) else 0.0
    ours = tenacity.wait_exponential(FIRST_WAIT, MOST_WAIT) + tenacity.wait_random(0, FIRST_WAIT)
    return max(ours(state), min(asked, GIVE_UP))


class SpanExport:
    """Of one instance that tells traces. counts: gets `spans:OUTCOME`; clock: monotonic seconds."""

    def __init__(
        self,
        tracing: Tracing,
        encoder: Encoder,
        counts: Counter[str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tracing = tracing
        self._encoder = encoder
        self._counts = counts
        self._clock = clock
        self._waiting: deque[Span] = deque()
        self._full = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._trouble = ""

    def why(self) -> str:
        """Why the last batch could not be sent; empty when it could."""
        return self._trouble

    def take(self, spans: Sequence[Span], dropped: int) -> None:
        """These were told. dropped: by who told them. Waits for nothing and raises nothing."""
        room = max(0, MOST_WAITING - len(self._waiting))
        self._waiting.extend(spans[:room])
        self._count(DROPPED, dropped + len(spans) - min(room, len(spans)))
        if len(self._waiting) >= BATCH:
            self._full.set()

    def start(self) -> asyncio.Task[None]:
        """Begin to send; the task that does, which never ends by itself."""
        connector = aiohttp.TCPConnector(limit=2, resolver=SharedResolver())
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        self._task = asyncio.create_task(self._run(self._session), name="traces")
        return self._task

    async def close(self) -> None:
        """Send what waits, for FLUSH at most, and drop the rest."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._session is not None:
            try:
                async with asyncio.timeout(FLUSH):
                    while self._waiting and not self._trouble:
                        await self._send_batch(self._session)
            except TimeoutError:
                log.warning("traces were not sent in time when this instance stopped")
            await self._session.close()
        self._count(DROPPED, len(self._waiting))
        self._waiting.clear()

    async def _run(self, session: aiohttp.ClientSession) -> None:
        while True:
            try:
                async with asyncio.timeout(EVERY):
                    await self._full.wait()
            except TimeoutError:
                pass
            self._full.clear()
            while self._waiting:
                await self._send_batch(session)
                if len(self._waiting) < BATCH:
                    break

    async def _send_batch(self, session: aiohttp.ClientSession) -> None:
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        begun = self._clock()
        again = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_TryAgain),
            stop=lambda _: self._clock() - begun >= GIVE_UP,
            wait=_wait,
            reraise=True,
        )
        refused = len(batch)
        try:
            body = gzip.compress(self._encoder.encode(batch), 1)
            refused = await again(self._try, session, body)
        except (_TryAgain, _Refused) as error:
            self._count(DROPPED, len(batch))
            log.warning("traces are dropped: the collector did not take them", extra={"reason": str(error)})
            return
        except Exception:
            self._count(DROPPED, len(batch))
            log.exception("traces are dropped: they could not be made ready")  # nothing else waits for them
            return
        except asyncio.CancelledError:
            self._waiting.extendleft(reversed(batch))
            raise
        self._count(REJECTED, refused)
        self._count(EXPORTED, len(batch) - refused)

    async def _try(self, session: aiohttp.ClientSession, body: bytes) -> int:
        """Post a batch once, and note what came of that; how many spans of it are rejected."""
        try:
            answer = await self._post(session, body)
        except (_TryAgain, _Refused) as error:
            if not self._trouble:
                log.warning("the collector does not take traces", extra={"reason": str(error)})
            self._trouble = str(error)
            raise
        self._trouble = ""
        from proxy.control.otlp import rejected

        return rejected(answer)

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> bytes:
        """One try; raises _TryAgain or _Refused. Their text has no url and no header: both may hold a secret."""
        tracing = self._tracing
        try:
            async with asyncio.timeout(tracing.timeout):
                headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
                headers |= {"User-Agent": "crossfade", **tracing.headers, **await authorization(tracing)}
                async with session.post(tracing.url, data=body, headers=headers, allow_redirects=False) as answer:
                    status, said = answer.status, await answer.content.read(_MOST_READ)
                    after = answer.headers.get("Retry-After", "")
        except TimeoutError:
            raise _TryAgain(f"no answer within {tracing.timeout:g} s") from None
        except aiohttp.ClientConnectorError as error:
            raise _TryAgain(f"no connection: {reason(error.os_error)}") from None
        except aiohttp.ClientError as error:
            raise _TryAgain(type(error).__name__) from None
        except OSError as error:
            raise _TryAgain(error.strerror or type(error).__name__) from None
        except ValueError:
            raise _Refused("its authorization_file holds no value of a header") from None
        if 200 <= status < 300:
            return said
        if status not in _AGAIN:
            raise _Refused(f"status {status}")
        raise _TryAgain(f"status {status}", float(after) if after.isdecimal() else 0.0)

    def _count(self, outcome: str, more: int) -> None:
        if more:
            self._counts[f"spans:{outcome}"] += more

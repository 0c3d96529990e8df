"""How a gate is asked: a webhook by POST, a query by a Prometheus, a command by running it. Nothing here raises.

An answer is yes, no, or no answer: whoever hangs, is away or speaks of something else has not said no.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import orjson

from config.gates import Gate, Prometheus, PrometheusQuery, Resources, Webhook
from config.web import WebAddress
from proxy.control.credentials import credential
from proxy.core.gate import NO, NO_ANSWER, YES, Said
from proxy.net.resolving import SharedResolver

MOST_READ: Final = 2**20
"""Bytes that are read of an answer."""
MOST_TEXT: Final = 200
"""Characters that are kept of what somebody says."""
LAST_WORDS: Final = 0.2
"""Seconds for the output of a command that has ended; what it started may hold it open."""
UNDECIDED: Final = frozenset({401, 404, 407, 408, 425, 429})
"""Refusals that speak of us or of the moment, not of the rollout."""


class Question(NamedTuple):
    """What a gate is asked about. phase: `before`, `gates`, `after` or `revert`; step: from 1; weight, target: percent
    of new now, and at the step.
    """

    route: str
    phase: str
    step: int
    steps: int
    weight: float
    target: float
    epoch: int


class GateCalls:
    """folder: where commands run; use it as an async context manager or `close` it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def ask(self, gate: Gate, question: Question) -> Said:
        """What it says."""
        try:
            async with asyncio.timeout(gate.timeout):
                if gate.webhook is not None:
                    answer, text = await self._post(gate.name, gate.webhook, question)
                elif gate.soak is not None:
                    answer, text = NO_ANSWER, "a soak is told nothing"
                elif gate.prometheus is not None:
                    answer, text = judged(gate.prometheus, await self.values(gate.prometheus))
                else:
                    answer, text = await self._run(gate.name, gate.command or (), question)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            answer, text = NO_ANSWER, _why_not(error, gate.timeout)
        return Said(answer, _line(text), gate.on_fail)

    async def value(self, resources: Resources, query: str) -> float | str:
        """The one value of a query, or why there is none."""
        try:
            async with asyncio.timeout(resources.timeout):
                values = await self.series(resources, query)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _line(_why_not(error, resources.timeout))
        if len(values) != 1:
            return f"the query gives {len(values)} values, not one" if values else "the query gives nothing"
        return values[0] if math.isfinite(values[0]) else f"the query gives {values[0]}"

    # --- the web -------------------------------------------------------------------------------------------

    async def _post(self, name: str, webhook: Webhook, question: Question) -> tuple[str, str]:
        body = orjson.dumps({"gate": name, **question._asdict()})
        headers = {"Content-Type": "application/json"}
        status, said = await self._request(webhook, webhook.url, body, headers)
        text = f"{status} {said.decode(errors='replace')}"
        if 200 <= status < 300:
            return YES, text
        return (NO if 400 <= status < 500 and status not in UNDECIDED else NO_ANSWER), text

    async def values(self, query: PrometheusQuery) -> list[float]:
        """What a query gives, divided by what its second one does. Raises aiohttp.ClientError, OSError, and ValueError
        for an answer that is none.
        """
        values = await self.series(query, query.query)
        if query.of is None:
            return values
        divisor = await self.series(query, query.of)
        if len(divisor) != 1 or not divisor[0]:
            raise ValueError(f"`of` gives {', '.join(map(str, divisor[:5])) or 'nothing'}, not one value to divide by")
        return [value / divisor[0] for value in values]

    async def series(self, asked: Prometheus, text: str) -> list[float]:
        """What a query gives. Raises aiohttp.ClientError, OSError, and ValueError for an answer that is none."""
        address = f"{asked.url.rstrip('/')}/api/v1/query"
        body = aiohttp.FormData({"query": text})()
        status, said = await self._request(asked, address, body, {})
        try:
            told: Any = orjson.loads(said)
            found = values_of(told["data"]) if told["status"] == "success" else None
        except (KeyError, TypeError, IndexError, ValueError):
            raise ValueError(f"{status}, and no answer of a Prometheus to an instant query") from None
        if found is None:
            raise ValueError(f"{status} {told.get('error', '')}")
        return found

    async def _request(
        self, asked: WebAddress, address: str, body: object, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        if self._session is None:
            connector = aiohttp.TCPConnector(force_close=True, resolver=SharedResolver())
            self._session = aiohttp.ClientSession(connector=connector)
        sent = dict(headers) | asked.headers | await authorization(asked)
        asking = self._session.post(address, data=body, headers=sent, allow_redirects=False)
        async with asking as answer:
            said = bytearray()
            async for chunk in answer.content.iter_any():
                said += chunk
                if len(said) > MOST_READ:
                    raise ValueError(f"it says more than {MOST_READ // 2**20} MiB")
            return answer.status, bytes(said)

    # --- commands ------------------------------------------------------------------------------------------

    async def _run(self, name: str, command: tuple[str, ...], question: Question) -> tuple[str, str]:
        told = {f"CROSSFADE_{key.upper()}": f"{value}" for key, value in {"gate": name, **question._asdict()}.items()}
        end = _End()
        try:
            code = await self._finish(command, os.environ | told, end)
        except OSError as error:
            return NO_ANSWER, f"{command[0]}: {error.strerror}"
        finally:
            end.close()
        if code < 0:
            return NO_ANSWER, f"ended by {signal.Signals(-code).name}"
        return (YES if code == 0 else NO), f"exit {code} {end.line}"

    async def _finish(self, command: tuple[str, ...], environ: dict[str, str], end: _End) -> int:
        """Run it until it ends, or nobody waits for it any more. Raises OSError when it cannot be started."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=end.writable,
                stderr=end.writable,
                cwd=self._folder,
                env=environ,
                start_new_session=True,
            )
        finally:
            end.hand_over()
        try:
            code = await process.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS):
                    await end.has_come.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return code


class _End:
    """The last line of an output, of which no more is kept than may be told.

    By a pipe of our own: one that asyncio makes stays open as long as anything that a command left running, and is lost
    when nobody waits for it any more.
    """

    def __init__(self) -> None:
        self._readable, self.writable = os.pipe()
        self._kept = b""
        self.has_come = asyncio.Event()
        os.set_blocking(self._readable, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._readable, self._read)

    def _read(self) -> None:
        data = os.read(self._readable, 2**16)
        self._kept = (self._kept + data)[-4 * MOST_TEXT :]
        if not data:
            self._loop.remove_reader(self._readable)
            self.has_come.set()

    def hand_over(self) -> None:
        """Whoever writes has it now."""
        if self.writable >= 0:
            os.close(self.writable)
            self.writable = -1

    def close(self) -> None:
        """Read no more."""
        self.hand_over()
        self._loop.remove_reader(self._readable)
        os.close(self._readable)

    @property
    def line(self) -> str:
        """The last line that is not empty."""
        lines = self._kept.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


async def authorization(asked: WebAddress) -> dict[str, str]:
    """The header with the credential, from the file as it is now. Raises OSError, and ValueError for no text.

    To be called under a timeout: the file may be on a mount that does not answer.
    """
    if asked.authorization is not None:
        return {"Authorization": asked.authorization}
    if asked.authorization_file is None:
        return {}
    return {"Authorization": await credential(asked.authorization_file)}


def _why_not(error: Exception, timeout: float) -> str:
    """Why there was no answer within so many seconds, without what may be secret."""
    if isinstance(error, TimeoutError):
        return f"nothing within {timeout:g} s"
    if isinstance(error, (aiohttp.ClientResponseError, aiohttp.InvalidURL)):
        # Their text has the whole address, in which a secret may stand.
        return f"no answer in HTTP ({type(error).__name__})"
    return str(error) or type(error).__name__


def values_of(data: dict[str, Any]) -> list[float]:
    """The values of a query's `data`. Raises KeyError, TypeError, IndexError or ValueError for what is none."""
    if data["resultType"] == "scalar":
        return [float(data["result"][1])]
    if data["resultType"] == "vector":
        return [float(each["value"][1]) for each in data["result"]]
    raise ValueError("neither a scalar nor an instant vector")


def judged(query: PrometheusQuery, values: list[float]) -> tuple[str, str]:
    """Whether all values are within the limits."""
    if not values:
        return NO_ANSWER, "the query gives nothing"
    if any(math.isnan(value) for value in values):
        return NO_ANSWER, "the query gives NaN"
    if query.above is not None and (least := min(values)) <= query.above:
        return NO, f"{least:.6g} is not above {query.above:g}"
    if query.below is not None and (most := max(values)) >= query.below:
        return NO, f"{most:.6g} is not below {query.below:g}"
    return YES, f"{', '.join(f'{value:.6g}' for value in values[:5])}"


def _line(text: str) -> str:
    """One line of printable text."""
    line = " ".join(text.split())
    return "".join(each if each.isprintable() else "?" for each in line)[:MOST_TEXT]

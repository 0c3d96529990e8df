"""Backends: can they be reached, and do they speak HTTP and WebSocket as the proxy needs it?

Each endpoint is asked on a connection of its own, by hand, because what is looked at is what libraries smooth over:

    GET path -> HEAD path -> GET path      three answers on one connection: version, framing, keep-alive, Date
    GET path, Upgrade -> 101 -> Ping       where a route has sessions and a path that can be asked for

No event is made: only the health path, or `/`, is asked for, and sessions end before a message.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import websockets.asyncio.client
from websockets.exceptions import InvalidStatus, WebSocketException

from config.model import Backend, Settings
from config.units import format_duration
from proxy.control.doctor.finding import BACKENDS, Finding, fail, judged, ok, warn
from proxy.core.errors import RefuseToStart
from proxy.net.client_tls import ClientTls
from proxy.net.live_context import reason
from proxy.net.lookup import Address, Lookup
from proxy.net.names import Names

PATIENCE: Final = 3.0
"""Seconds for one endpoint, all told; and for the lookup of names before."""
_MOST: Final = 2**20
"""Bytes that are read of a body."""
_SLOW: Final = (0.5, 2.0)
_EXPIRES: Final = (-14 * 86400.0, 0.0)
"""Seconds after the end of a certificate."""
_WAIT_FOR_NAMES: Final = 0.02


class _Wrong(Exception):
    """It does not speak HTTP/1.1 as it should. advice: what to change."""

    def __init__(self, seen: str, advice: str) -> None:
        super().__init__(seen)
        self.advice = advice


@dataclass
class _Answer:
    version: str
    status: int
    headers: dict[str, str]
    is_kept: bool
    """May the connection be used again, by what it says?"""
    is_whole: bool = True
    """Was it read to its end?"""


@dataclass
class Seen:
    """What was found. dates: by backend, what `Date` said, and when it came, seconds since 1970."""

    findings: list[Finding] = field(default_factory=list)
    dates: dict[str, tuple[str, float]] = field(default_factory=dict)


async def look(settings: Settings) -> Seen:
    """All backends, at the same time."""
    lookup = Lookup(settings.resolver)
    try:
        found = await asyncio.gather(*(_backend(settings, name, lookup) for name in settings.backends))
    finally:
        await lookup.close()
    whole = Seen()
    for each in found:
        whole.findings += each.findings
        whole.dates |= each.dates
    return whole


async def _backend(settings: Settings, name: str, lookup: Lookup) -> Seen:
    backend, seen = settings.backends[name], Seen()
    if not backend.url:
        seen.findings.append(ok(BACKENDS, name, "a consumer: it connects to the proxy"))
        return seen
    addresses = await _addresses(name, backend, lookup)
    if not addresses:
        advice = "mend its url, or the name's record; `resolver` says whom to ask"
        seen.findings.append(fail(BACKENDS, name, "its names cannot be looked up", advice))
        return seen
    paths = _session_paths(settings, name)
    for address in addresses:
        await _endpoint(name, backend, address, paths, seen)
    if backend.health is None:
        advice = "give it `health: {path: /health}`: without it only events tell that it is down"
        seen.findings.append(warn(BACKENDS, f"{name}: health probe", "none", advice))
    return seen


async def _addresses(name: str, backend: Backend, lookup: Lookup) -> tuple[Address, ...]:
    names = Names(name, backend.url, lookup, backend.resolve_interval, lambda _: None)
    try:
        async with asyncio.timeout(PATIENCE):
            while not names.is_known:
                names.check(time.monotonic())
                await asyncio.sleep(_WAIT_FOR_NAMES)
    except TimeoutError:
        pass
    finally:
        names.close()
    return tuple(names.addresses)


def _session_paths(settings: Settings, name: str) -> list[str]:
    """Paths of routes of sessions to this backend that stand for one path alone."""
    routes = [each for each in settings.routes if each.websocket is not None and name in (each.old, each.new)]
    return [each.match.path for each in routes if not set("{*") & set(each.match.path)]


async def _endpoint(name: str, backend: Backend, address: Address, paths: Iterable[str], seen: Seen) -> None:
    at = f"{name} at {address.text}"
    tls: ClientTls | None = None
    try:
        tls = ClientTls(name, backend.tls) if backend.is_tls else None
        async with asyncio.timeout(PATIENCE):
            seen.findings += await _http(at, name, backend, address, tls, seen.dates)
    except TimeoutError:
        advice = "look whether it is overloaded, or takes connections and answers nobody"
        seen.findings.append(fail(BACKENDS, at, f"no answer within {PATIENCE:g} s", advice))
        return
    except _Wrong as wrong:
        seen.findings.append(fail(BACKENDS, at, str(wrong), wrong.advice))
        return
    except RefuseToStart as refusal:
        seen.findings.append(
            fail(BACKENDS, at, str(refusal), "mend the files of its tls: no instance starts with them")
        )
        return
    except ssl.SSLError as error:
        advice = "tls.ca says whom to believe, tls.server_name what its certificate is made out to"
        seen.findings.append(fail(BACKENDS, at, f"TLS: {reason(error)}", advice))
        return
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        said = reason(error) if isinstance(error, OSError) else "it ended in the middle of an answer"
        advice = "start it, or mend its url; a firewall in between refuses or drops"
        seen.findings.append(fail(BACKENDS, at, f"cannot be asked: {said}", advice))
        return
    for path in paths:
        seen.findings.append(await _websocket(at, backend, address, path, tls))


# --- HTTP ---------------------------------------------------------------------------------------------------


class _Line:
    """One connection, spoken to by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self.reader = reader
        self.writer = writer
        self._host = host

    async def ask(self, method: str, path: str) -> _Answer:
        """A request, and its whole answer."""
        self.writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nUser-Agent: crossfade-doctor\r\n\r\n".encode()
        )
        while True:
            answer = await self._head()
            if answer.status >= 200:
                break
        if method != "HEAD" and answer.status not in (204, 304):
            await self._body(answer)
        return answer

    async def _head(self) -> _Answer:
        try:
            raw = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.LimitOverrunError:
            raise _Wrong("the head of its answer has no end", "it is to speak HTTP/1.1") from None
        first, *lines = raw.split("\r\n")[:-2]
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise _Wrong(
                f"it does not speak HTTP/1.1: {first[:40]!r}", "its url names a port that speaks something else"
            )
        headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        said = headers.get("connection", "").lower()
        is_kept = "close" not in said if version == "HTTP/1.1" else "keep-alive" in said
        return _Answer(version, int(rest[:3]), headers, is_kept)

    async def _body(self, answer: _Answer) -> None:
        if answer.headers.get("transfer-encoding", "").lower() == "chunked":
            answer.is_whole = await self._chunks()
        elif "content-length" in answer.headers:
            text = answer.headers["content-length"]
            if not text.isdigit():
                raise _Wrong(f"its Content-Length is {text[:20]!r}", "it is to send a whole number")
            await self.reader.readexactly(min(int(text), _MOST))
            answer.is_whole = int(text) <= _MOST
        else:
            answer.is_kept = False
            await self.reader.read(_MOST)

    async def _chunks(self) -> bool:
        """Up to the end, trailers too; false when that is too far away."""
        left = _MOST
        while True:
            line = (await self.reader.readuntil(b"\r\n"))[:-2]
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError:
                raise _Wrong(
                    f"its chunked answer is malformed: {line[:20]!r}", "mend what frames its answers"
                ) from None
            if not size:
                break
            if size > left:
                return False
            left -= size
            await self.reader.readexactly(size)
            if await self.reader.readexactly(2) != b"\r\n":
                raise _Wrong("its chunked answer is malformed: a chunk has no end", "mend what frames its answers")
        while await self.reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return True


async def _http(
    at: str, name: str, backend: Backend, address: Address, tls: ClientTls | None, dates: dict[str, tuple[str, float]]
) -> list[Finding]:
    begun = time.monotonic()
    line, found = await _connect(at, backend, address, tls)
    took = time.monotonic() - begun
    path = backend.health.path if backend.health is not None else "/"
    try:
        answer = await line.ask("GET", path)
        if "date" in answer.headers or name not in dates:
            dates[name] = answer.headers.get("date", ""), time.time()
        advice = "each new connection takes that long: put it nearer, or look at its machine"
        found.append(judged(BACKENDS, at, took, _SLOW, f"connected in {took * 1000:.0f} ms", advice))
        found.append(_version(at, answer))
        if backend.health is not None:
            found.append(_healthy(at, path, answer.status))
        found.append(await _kept(at, path, line, answer))
    finally:
        line.writer.close()
    return found


async def _connect(at: str, backend: Backend, address: Address, tls: ClientTls | None) -> tuple[_Line, list[Finding]]:
    server_name = (backend.tls.server_name or address.name) if tls is not None else None
    context = tls.live.context if tls is not None else None
    reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context, server_hostname=server_name)
    host = address.text if address.name == address.host else address.name
    found: list[Finding] = []
    if tls is not None:
        found.append(_certificate(at, writer.get_extra_info("peercert") or {}))
        if backend.tls.insecure:
            advice = "take tls.insecure out: whoever is in between reads and changes events"
            found.append(warn(BACKENDS, f"{at}: TLS", "any certificate is believed", advice))
    return _Line(reader, writer, host), found


def _certificate(at: str, certificate: Mapping[str, object]) -> Finding:
    name = f"{at}: certificate"
    ends = certificate.get("notAfter")
    if not isinstance(ends, str):
        return warn(BACKENDS, name, "not looked at: it is not verified", "take tls.insecure out")
    left = ssl.cert_time_to_seconds(ends) - time.time()
    seen = f"expires in {format_duration(float(round(left / 3600)) * 3600)}" if left > 0 else "has expired"
    return judged(BACKENDS, name, -left, _EXPIRES, seen, "renew it: without it every event fails")


def _version(at: str, answer: _Answer) -> Finding:
    name = f"{at}: version"
    if answer.version == "HTTP/1.1":
        return ok(BACKENDS, name, answer.version)
    advice = "let it speak HTTP/1.1: with 1.0 each event may cost a connection"
    return warn(BACKENDS, name, answer.version, advice)


def _healthy(at: str, path: str, status: int) -> Finding:
    name, seen = f"{at}: health path", f"GET {path} is answered {status}"
    if 200 <= status < 400:
        return ok(BACKENDS, name, seen)
    return fail(BACKENDS, name, seen, "mend health.path, or the backend: with this answer it counts as down")


async def _kept(at: str, path: str, line: _Line, first: _Answer) -> Finding:
    """Is the connection kept, and does HEAD leave it in order?"""
    name = f"{at}: keep-alive"
    advice = "let it keep connections open (keep-alive) and frame its answers: else each event costs a new connection"
    if not first.is_kept:
        return warn(BACKENDS, name, "it closes the connection after an answer", advice)
    if not first.is_whole:
        return ok(BACKENDS, name, f"not looked at: its answer to {path} is longer than {_MOST >> 20} MiB")
    try:
        head = await line.ask("HEAD", path)
        if not head.is_kept:
            return warn(BACKENDS, name, f"it closes the connection after HEAD (status {head.status})", advice)
        await line.ask("GET", path)
    except _Wrong as wrong:
        return fail(BACKENDS, name, f"after HEAD: {wrong}", "it sends a body to HEAD, and must not (RFC 9110, 9.3.2)")
    except (OSError, asyncio.IncompleteReadError):
        return warn(BACKENDS, name, "it says that it keeps the connection, and ends it", advice)
    return ok(BACKENDS, name, "three answers on one connection, one of them to HEAD")


# --- WebSocket ----------------------------------------------------------------------------------------------


async def _websocket(at: str, backend: Backend, address: Address, path: str, tls: ClientTls | None) -> Finding:
    """A session without a message, and a Ping in it."""
    name = f"{at}: sessions at {path}"
    host = address.text if address.name == address.host else address.name
    over_tls: dict[str, Any] = {}
    if tls is not None:
        over_tls = {"ssl": tls.live.context, "server_hostname": backend.tls.server_name or address.name}
    headers = {} if backend.authorization is None else {"Authorization": backend.authorization}
    connecting = websockets.asyncio.client.connect(
        f"{'wss' if tls is not None else 'ws'}://{host if ':' in host else f'{host}:{address.port}'}{path}",
        host=address.host,
        port=address.port,
        additional_headers=headers,
        compression=None,
        open_timeout=PATIENCE,
        close_timeout=0.2,
        ping_interval=None,
        proxy=None,
        **over_tls,
    )
    try:
        async with connecting as session:
            try:
                async with asyncio.timeout(PATIENCE):
                    await (await session.ping())
            except TimeoutError:
                advice = "receipts are Pongs: let it answer Pings, or set websocket.receipt of the route"
                return fail(BACKENDS, name, "it agrees, and answers no Ping", advice)
    except InvalidStatus as error:
        status = error.response.status_code
        if status in (401, 403):
            return warn(
                BACKENDS, name, f"the handshake is answered {status}", "not looked at: it wants a client's credential"
            )
        return fail(
            BACKENDS, name, f"the handshake is answered {status}", "mend match.path, or let it take sessions there"
        )
    except (OSError, TimeoutError, WebSocketException) as error:
        said = reason(error) if isinstance(error, OSError) else str(error) or type(error).__name__
        return fail(BACKENDS, name, f"no session: {said}", "let it take WebSocket sessions there (RFC 6455)")
    return ok(BACKENDS, name, "it agrees, and answers a Ping")

"""The admin API's HTTP side: every request is checked here before a handler sees it.

request --> host, origin --> token, role --> a hook's limit --> content type, body, query --> handler --> JSON
                |                |                 |                    |                     |
                +------ 403 -----+------ 401 ------+------- 429 --------+----- 415, 422 ------+--> problem+json
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from aiohttp import web

from config.model import Settings
from config.units import parse_address
from proxy.control.access import Caller, check_caller, check_origin, is_loopback
from proxy.control.changes import Who
from proxy.control.inherit import places_of
from proxy.control.instance import Instance
from proxy.control.json_body import is_text, read_body
from proxy.control.operations import OPERATIONS, Operation
from proxy.control.pages import add_pages
from proxy.control.problems import Problem, problem_of, respond
from proxy.control.sockets import address_text, listen_tcp, listen_unix
from proxy.core.errors import RefuseToStart

MAX_BODY: Final = 2**20
SHUTDOWN: Final = 1.0
"""Seconds that open requests get when the supervisor stops."""


@dataclass(frozen=True)
class Call:
    """One checked request. body: of the operation's type, or None; query: only parameters that it has; token: its
    name, empty for who came without one; role: what he may do; may_still: whether he still may, for what takes long.
    """

    operation: Operation
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    who: Who
    token: str = ""
    role: str = "operator"
    may_still: Callable[[], bool] = lambda: True

    def integer(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number of the query; raises Problem 422."""
        text = self.query.get(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > 18 or not least <= int(text) <= most:
            raise Problem(422, f"{name} must be a whole number from {least} to {most}, not {text!r}")
        return int(text)

    def moment(self, name: str) -> float | None:
        """A time of the query, seconds since 1970, None without it; raises Problem 422."""
        text = self.query.get(name)
        if text is None:
            return None
        seconds = nanoseconds(text, name) / 1e9
        if not 0 <= seconds < 1e11:
            raise Problem(422, f"{name} is no time of this world: {text!r}")
        return seconds

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        """One of some words of the query; raises Problem 422."""
        text = self.query.get(name)
        if text is not None and text not in choices:
            raise Problem(422, f"{name} must be one of {', '.join(choices)}, not {text!r}")
        return text


Handler = Callable[[Call], Awaitable[Any]]


def nanoseconds(moment: float | str, name: str = "since") -> int:
    """`2026-01-31T12:00:00Z`, or seconds since 1970, as nanoseconds since 1970; raises Problem 422 that names it."""
    try:
        try:
            seconds = float(moment)
        except ValueError:
            when = datetime.fromisoformat(str(moment))
            seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
        return int(seconds * 1e9)
    except (ValueError, OverflowError):
        raise Problem(422, f"{name} must be an ISO 8601 moment or seconds since 1970, not {moment!r}") from None


def build(instance: Instance, handlers: Mapping[str, Handler], *, trusted: bool) -> web.Application:
    """The web application of one listener. trusted: it is the Unix socket."""
    believed = believed_hosts(instance.settings)

    @web.middleware
    async def problems(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            check_origin(request.headers.get("Host"), request.headers.get("Origin"), believed)
            response: web.StreamResponse = await handler(request)
        except Exception as error:  # noqa: BLE001 - the border: everything becomes an answer, the unexpected is logged
            return respond(problem_of(error))
        return response

    app = web.Application(middlewares=[problems], client_max_size=MAX_BODY)
    add_pages(app)
    for operation in OPERATIONS:
        app.router.add_route(
            operation.method, operation.path, _endpoint(instance, operation, handlers[operation.name], trusted)
        )
    return app


def _endpoint(
    instance: Instance, operation: Operation, handler: Handler, trusted: bool
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    known = {each.name for each in operation.parameters if each.place == "query"}

    def caller_of(request: web.Request) -> Caller:
        return check_caller(
            operation.access,
            trusted=trusted,
            authorization=request.headers.get("Authorization"),
            tokens=instance.tokens,
            socket=str(places_of(instance.settings).admin_socket.resolve()),
        )

    def may_still(request: web.Request, caller: Caller) -> bool:
        try:
            return caller_of(request) == caller
        except Problem:
            return False

    async def endpoint(request: web.Request) -> web.StreamResponse:
        caller = caller_of(request)
        unknown = sorted(set(request.query) - known)
        if unknown and operation.access != "open":
            raise Problem(422, f"unknown parameter {unknown[0]}; this takes {', '.join(sorted(known)) or 'none'}")
        with _limited(instance, operation, caller):
            body = await read_body(request, operation)
            who = _who(request, caller, body)
            again = partial(may_still, request, caller)
            call = Call(operation, request.match_info, request.query, body, who, caller.name, caller.role, again)
            result = await handler(call)
        if isinstance(result, web.StreamResponse):
            return result
        return web.Response(status=operation.status, body=msgspec.json.encode(result), content_type="application/json")

    return endpoint


def _limited(instance: Instance, operation: Operation, caller: Caller) -> AbstractContextManager[None]:
    """What hooks take has a limit, which a notification enters before it is read; raises Problem 429."""
    if operation.access != "hook":
        return nullcontext()
    return instance.hook_limits.entered(operation.name.removeprefix("hook_"), caller.name)


def _who(request: web.Request, caller: Caller, body: Any) -> Who:
    said = request.headers.get("X-Actor", "")
    if not is_text(said):
        raise Problem(400, "X-Actor must be UTF-8")
    name = f"token {caller.name}" if caller.name else ""
    # Without a token it came over the Unix socket: no change gets here otherwise.
    actor = f"{name} ({said})" if name and said else name or said or "unix socket"
    return Who(
        actor=actor,
        reason=getattr(body, "reason", ""),
        expected=_expected(request.headers.get("If-Match")),
        dry_run=getattr(body, "dry_run", False),
    )


def _expected(header: str | None) -> int | None:
    if header is None or header.strip() == "*":
        return None
    text = header.strip().removeprefix("W/").strip('"')
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Problem(422, f"If-Match must be an epoch, not {header!r}")
    return int(text)


def believed_hosts(settings: Settings) -> frozenset[str]:
    """Host names of this instance beside loopback: those of `admin.hosts` and the address that it listens on."""
    own = "" if settings.admin.tcp == "off" else parse_address(settings.admin.tcp).host
    # "All addresses" is no address: browsers take 0.0.0.0 for this machine.
    names = settings.admin.hosts if own in ("", "0.0.0.0", "::") else (*settings.admin.hosts, own)  # noqa: S104
    return frozenset(name.lower() for name in names)


class _Bound(NamedTuple):
    """A listening socket and how far it is believed."""

    listener: socket.socket
    trusted: bool
    tls: ssl.SSLContext | None


class AdminServer:
    """The API on its listeners. `bind` raises RefuseToStart, naming the address."""

    def __init__(self, instance: Instance, handlers: Mapping[str, Handler]) -> None:
        self._instance = instance
        self._handlers = handlers
        self._bound: list[_Bound] = []
        self._runners: list[web.AppRunner] = []
        self.tcp = ""
        """`http://127.0.0.1:9900` with the real port, empty when TCP is off."""

    def bind(self, unix_path: Path) -> None:
        """Take the Unix socket and, when configured, the TCP address; nobody is answered yet."""
        admin = self._instance.settings.admin
        if admin.tcp != "off":
            tls = check_exposure(self._instance)
            try:
                listener = listen_tcp(admin.tcp)
            except OSError as error:
                raise RefuseToStart(
                    f"the admin API cannot listen on {admin.tcp}: {error.strerror or error}; "
                    "set admin.tcp to another address, or off"
                ) from None
            self.tcp = f"{'https' if tls else 'http'}://{address_text(listener)}"
            self._bound.append(_Bound(listener, trusted=False, tls=tls))
        self._bound.append(_Bound(listen_unix(unix_path), trusted=True, tls=None))

    async def serve(self) -> None:
        """Answer."""
        for each in self._bound:
            app = build(self._instance, self._handlers, trusted=each.trusted)
            runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN)
            await runner.setup()
            self._runners.append(runner)
            await web.SockSite(runner, each.listener, ssl_context=each.tls).start()

    async def close(self) -> None:
        """Stop listening; open requests get SHUTDOWN seconds."""
        for runner in self._runners:
            await runner.cleanup()
        for each in self._bound:
            each.listener.close()


def check_exposure(instance: Instance) -> ssl.SSLContext | None:
    """The TLS context, if configured; raises RefuseToStart for an open address without TLS and tokens."""
    admin = instance.settings.admin
    tls = _tls(admin.tls_cert, admin.tls_key) if admin.tls_cert and admin.tls_key else None
    if is_loopback(parse_address(admin.tcp).host) or (tls is not None and instance.tokens.any):
        return tls
    missing = "TLS (admin.tls_cert, admin.tls_key)" if tls is None else "a token (proxyctl token create)"
    raise RefuseToStart(f"the admin API would listen on {admin.tcp}, which is not loopback, without {missing}")


def _tls(cert: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key)
    except OSError as error:
        raise RefuseToStart(f"the admin API's certificate {cert} or key {key} cannot be used: {error}") from None
    return context

"""One request to the admin API, over a Unix socket or TCP, and what its status means here.

A change is sent once and never repeated: when its answer is lost, a person looks before acting again.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
from typing import Any
from urllib.parse import urlencode

from proxy.cli.endpoints import Endpoint, Target
from proxy.cli.failure import BLOCKED, CONFLICT, FAILED, TIMEOUT, UNREACHABLE, USAGE, Failure

Json = dict[str, Any]
CONNECT_TIMEOUT = 3.0
ANSWER_TIMEOUT = 20.0
"""Seconds. The API itself gives workers 2 s to apply a change and the ledger 5 s to answer."""
_CODES = {409: CONFLICT, 422: USAGE, 400: USAGE, 423: BLOCKED}


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix stream socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self.timeout)
        try:
            connection.connect(self._path)
        except BaseException:
            connection.close()
            raise
        self.sock = connection


class Admin:
    """The admin API of one instance."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._found: Endpoint | None = None
        self.label = ""
        """What lines about it begin with where there are several."""

    @property
    def address(self) -> str:
        """The endpoint in use; before the first request the first one that will be tried."""
        return (self._found or self._target.endpoints[0]).text

    def get(self, path: str, **query: object) -> Json:
        """Read. query: parameters, left out when None."""
        given = {name: value for name, value in query.items() if value is not None}
        return self._request("GET", f"{path}?{urlencode(given)}" if given else path, None, {})

    def change(self, method: str, path: str, body: Json, if_epoch: int | None = None) -> Json:
        """Change something. if_epoch: only when this is the epoch."""
        headers = {"X-Actor": _actor()}
        if if_epoch is not None:
            headers["If-Match"] = str(if_epoch)
        return self._request(method, path, body, headers)

    def _request(self, method: str, path: str, body: Json | None, headers: dict[str, str]) -> Json:
        connection = self._connect()
        try:
            return self._exchange(connection, method, path, body, headers)
        except TimeoutError:
            raise Failure(
                TIMEOUT,
                f"{self.address} did not answer within {ANSWER_TIMEOUT:g} s",
                hint="" if method == "GET" else "it may have been done: look with proxyctl history",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise Failure(
                UNREACHABLE, f"{self.address} broke off: {reason}", tried=[_tried(self.address, reason)]
            ) from None
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        """A connection to the first endpoint that takes one; Failure (exit 6) that lists why each did not."""
        tried = []
        for endpoint in (self._found,) if self._found else self._target.endpoints:
            connection = _connection(endpoint)
            try:
                connection.connect()
            except OSError as error:
                connection.close()
                tried.append(_tried(endpoint.text, error.strerror or str(error) or type(error).__name__))
                continue
            self._found = endpoint
            connection.sock.settimeout(ANSWER_TIMEOUT)
            return connection
        lines = "\n".join(f"  {attempt['admin']}: {attempt['why']}" for attempt in tried)
        raise Failure(
            UNREACHABLE,
            f"no admin API could be reached; tried\n{lines}",
            hint="is the instance running? name its endpoint with --admin unix:STATE_DIR/admin.sock or PROXYCTL_ADMIN",
            tried=tried,
        )

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Json | None, headers: dict[str, str]
    ) -> Json:
        sent = headers | {"Accept": "application/json", "Connection": "close"} | self._authorization()
        if body is not None:
            sent["Content-Type"] = "application/json"
        connection.request(method, path, None if body is None else json.dumps(body).encode(), sent)
        response = connection.getresponse()
        content = response.read()
        if 200 <= response.status < 300 and not content:
            return {}
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Failure(
                FAILED,
                f"{self.address} answered {response.status} {response.reason} without a JSON object",
                hint="is that the admin address of a Crossfade instance?",
            )
        if not 200 <= response.status < 300:
            if response.status == 401 and self._may_move_to(answer.get("admin_socket")):
                return self._request(method, path, body, headers)
            raise _refusal(response.status, answer, self.address)
        return answer

    def _may_move_to(self, path: object) -> bool:
        """Found at the default address and refused for want of a token: its own socket may take us without.

        Nothing was done yet, so asking again there repeats nothing. An address that somebody gave is kept.
        """
        is_default = len(self._target.endpoints) > 1 and self._target.token is None
        if not is_default or not isinstance(path, str) or self.address.startswith("unix:"):
            return False
        if not os.access(path, os.R_OK | os.W_OK):
            return False
        self._found = Endpoint("unix", path, 0, f"unix:{path}")
        return True

    def _authorization(self) -> dict[str, str]:
        endpoint, token = self._found, self._target.token
        if endpoint is None or token is None or endpoint.scheme == "unix":
            return {}
        loopback = endpoint.target in ("localhost", "::1") or endpoint.target.startswith("127.")
        if endpoint.scheme == "http" and not loopback:
            print(f"proxyctl: warning: the token travels unencrypted to {endpoint.text}", file=sys.stderr)
        return {"Authorization": f"Bearer {token}"}


def _connection(endpoint: Endpoint) -> http.client.HTTPConnection:
    if endpoint.scheme == "unix":
        return _UnixConnection(os.path.expanduser(endpoint.target), CONNECT_TIMEOUT)
    if endpoint.scheme == "https":
        return http.client.HTTPSConnection(endpoint.target, endpoint.port, timeout=CONNECT_TIMEOUT)
    return http.client.HTTPConnection(endpoint.target, endpoint.port, timeout=CONNECT_TIMEOUT)


def _tried(address: str, why: str) -> dict[str, str]:
    return {"admin": address, "why": why}


def _refusal(status: int, problem: Json, address: str) -> Failure:
    """What an error answer means: its detail, what to do, and an exit code."""
    detail = str(problem.get("detail") or problem.get("title") or "no reason given")
    # A 404 that lists the routes is about a name that was mistyped; others are about what is not there any more.
    code = USAGE if status == 404 and "routes" in problem else _CODES.get(status, FAILED)
    return Failure(code, detail, hint=_hint(status, problem), status=status, admin=address, problem=problem)


def _hint(status: int, problem: Json) -> str:
    if status in (401, 403):
        return (
            "make a token where the instance runs: "
            "proxyctl --admin unix:STATE_DIR/admin.sock token create NAME --role operator\n"
            "then: export PROXYCTL_TOKEN=cf_..."
        )
    if status == 409 and "epoch" in problem:
        return f"the epoch is {problem['epoch']} now; see what changed it: proxyctl history"
    if status == 423 and problem.get("frozen"):
        return f"it ends by itself; to end it now: proxyctl freeze --off --route {problem['frozen']}"
    if status == 423 and problem.get("drilled"):
        return f"it ends by itself; to end it now: proxyctl rehearse --end --route {problem['drilled']}"
    if status == 423 and "switch" in problem:
        return "see how far it is: proxyctl status -w"
    if status == 423 and "drilled" not in problem:
        return "see why: proxyctl why; then: proxyctl rearm"
    return ""


def _actor() -> str:
    """user@host for the audit trail, as the system names them."""
    import pwd  # only changes need it

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}".encode("ascii", "replace").decode()

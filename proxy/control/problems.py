"""Errors of the admin API, as RFC 9457 problem details.

What we raise ourselves, and what it becomes:

Problem             its own status
BadPlan             422, with the place in the plan
BadChange           422, or 423 when a latch, a freeze or a drill stands in the way
Conflict            409 with the present epoch
LedgerUnavailable   503
LedgerRefused       422
OSError             507: what had to be durable could not be written
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from proxy.control.peers import LedgerRefused, LedgerUnavailable
from proxy.control.state import Conflict
from proxy.core.errors import BadChange, BadPlan, Drilled, Frozen, NoDrill

log = logging.getLogger(__name__)


class Problem(Exception):
    """An answer that is an error. retry_after: seconds; more: further members of the problem object."""

    def __init__(self, status: int, detail: str, *, retry_after: int | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after = retry_after
        self.more = more


def problem_of(error: Exception) -> Problem:
    """The problem that an exception stands for; what nobody expected is logged and becomes a 500."""
    match error:
        case Problem():
            return error
        case Conflict():
            return Problem(409, f"{error}; look at what changed and try again", epoch=error.current)
        case BadPlan():
            return Problem(422, str(error), at=list(error.at))
        case Frozen():
            return Problem(423, str(error), frozen=error.route)
        case Drilled():
            return Problem(423, str(error), drilled=error.route)
        case NoDrill():
            return Problem(423, str(error), drilled=None)
        case BadChange():
            return Problem(423 if error.blocked else 422, str(error))
        case LedgerUnavailable():
            return Problem(503, str(error))
        case LedgerRefused():
            return Problem(422, str(error))
        case web.HTTPException():
            return Problem(error.status, error.reason)
        case ConnectionError():
            return Problem(400, "the connection ended within the request")
        case OSError():
            log.error("a change could not be written: %s", error)
            return Problem(507, f"nothing was changed, because it could not be written: {error.strerror or error}")
        case _:
            log.error("a request failed", exc_info=error)
            return Problem(500, "unexpected error; the supervisor's log has it")


def respond(problem: Problem) -> web.Response:
    """The response with its application/problem+json body."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        # It may quote what somebody sent, which need not be text that can be written.
        "detail": problem.detail.encode(errors="backslashreplace").decode(),
        **problem.more,
    }
    headers = {"WWW-Authenticate": "Bearer"} if problem.status == 401 else {}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    return web.Response(
        status=problem.status,
        body=msgspec.json.encode(body),
        content_type="application/problem+json",
        headers=headers,
    )

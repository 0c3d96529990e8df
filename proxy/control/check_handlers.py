"""The operations that compare what both stores hold: each is one request to a checker process of its own.

One at a time: a check reads whole stores, and a second one beside it would take twice as long. The process goes by the
configuration file as it is now, at a low priority.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.control import views
from proxy.control.admin import Call, nanoseconds
from proxy.control.bodies import Backfill, Repair
from proxy.control.instance import Instance
from proxy.control.ledger_handlers import Record
from proxy.control.problems import Problem
from proxy.control.status import answers_of, checks

NICE: Final = 10
MOST_SECONDS: Final = 3600.0
"""Of one request; whoever has more to look at uses `proxyctl verify`."""


class CheckHandlers:
    """record: writes the audit line of a change."""

    def __init__(self, instance: Instance, record: Record) -> None:
        self._instance = instance
        self._record = record
        self._command = CheckerCommand(instance.config_path)

    async def consistency(self, _call: Call) -> views.Checks:
        """The live checks, and what both sides answer."""
        return views.Checks(checks(self._instance), answers_of(self._instance))

    async def verify(self, call: Call) -> dict[str, Any]:
        """Compare, and change nothing."""
        return await self._command.ask(self._asked(call, "verify") | _live(call))

    async def diff(self, call: Call) -> dict[str, Any]:
        """The same, and what differs by class or field."""
        found = {"class": call.query.get("class"), "field": call.query.get("field")}
        return await self._command.ask(self._asked(call, "diff") | found | _live(call))

    async def suggest(self, call: Call) -> dict[str, Any]:
        """The same, and rules for what looks like noise."""
        return await self._command.ask(self._asked(call, "suggest"))

    async def repair(self, call: Call) -> dict[str, Any]:
        """Write what one store lacks and the other has."""
        body: Repair = call.body
        span = _span(body.since, body.until)
        await self._record(call, "repair", {"since": body.since, "until": body.until}, body.route or "")
        asked = {"do": "verify", "repair": True, "dry_run": body.dry_run, "route": body.route}
        return await self._command.ask(asked | span)

    async def backfill(self, call: Call) -> dict[str, Any]:
        """Copy what one store lacks of the other one's history."""
        body: Backfill = call.body
        span = _span(body.since, body.until)
        evidence = {"source": body.source, "target": body.target, "since": body.since, "until": body.until}
        await self._record(call, "backfill", evidence, body.route or "")
        asked = {"do": "backfill", "source": body.source, "target": body.target, "rate": body.rate}
        return await self._command.ask(asked | {"dry_run": body.dry_run, "route": body.route} | span)

    def _asked(self, call: Call, do: str) -> dict[str, Any]:
        is_full = call.choice("full", ("true", "false")) == "true"
        span = _span(call.query.get("since"), call.query.get("until"))
        top = call.integer("limit", 20, 1, 1000)
        return {"do": do, "route": call.query.get("route"), "full": is_full, "top": top} | span


class CheckerCommand:
    """Starts the checker for a request. path: of the configuration file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._one = asyncio.Lock()

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Its answer. Raises Problem: 409 while it is busy, 422 for what it will not do, 500, 504."""
        if self._one.locked():
            raise Problem(409, "a check is running already; try again when it has ended")
        async with self._one:
            text = orjson.dumps({"config": str(self._path)} | request).decode()
            process = await asyncio.create_subprocess_exec(
                *("nice", "-n", str(NICE), sys.executable, "-P", "-m", "consistency", text),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                async with asyncio.timeout(MOST_SECONDS):
                    said, _ = await process.communicate()
            except TimeoutError:
                raise Problem(504, f"the check took more than {MOST_SECONDS:g} s: name a shorter span") from None
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
        try:
            answer: dict[str, Any] = orjson.loads(said)
        except ValueError:
            raise Problem(500, f"the checker ended with {process.returncode} and without an answer") from None
        error = answer.get("error")
        if isinstance(error, dict):  # what kept a backfill from its end, or a probe from its stores, is text
            raise Problem(422, ": ".join(part for part in (error["message"], error["hint"]) if part))
        return answer


def _live(call: Call) -> dict[str, bool]:
    return {"live": call.choice("live", ("true", "false")) == "true"}


def _span(since: float | str | None, until: float | str | None) -> dict[str, int | None]:
    """Raises Problem 422."""
    return {
        "from_ns": None if since is None else nanoseconds(since),
        "to_ns": None if until is None else nanoseconds(until),
    }

"""Puts the demo together and takes it apart again, whatever happens; judges it at the end."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from proxy.core.errors import CrossfadeError
from proxy.demo.admin import AdminDownError, AdminError, Status
from proxy.demo.children import Child, free_port
from proxy.demo.clients import Clients
from proxy.demo.comparison import compare
from proxy.demo.instance import Instance, add_sessions, basic_config
from proxy.demo.outcome import Injection, Outcome, parse_injection
from proxy.demo.story import CALM, FAST, Pace, Story, figures
from proxy.demo.toy import ToyBackend
from proxy.demo.verify import consistency_of, verify
from proxy.demo.view import LiveView, View

_REDRAW = 0.25
_KEEP_RATE = 50.0
"""Requests per second, and messages."""


@dataclass
class _Parts:
    """Everything that runs, so that everything is stopped."""

    directory: Path
    old: ToyBackend
    new: ToyBackend
    instance: Instance
    clients: Clients
    console: str
    """The address of the page that shows it all."""

    @classmethod
    def make(cls, directory: Path, pace: Pace) -> _Parts:
        old, new = ToyBackend("old", directory), ToyBackend("new", directory)
        config = basic_config(old.url, new.url)
        add_sessions(config)
        config["consistency"] = [consistency_of(directory)]
        admin = f"127.0.0.1:{free_port()}"
        config["admin"] = {"tcp": admin}
        instance = Instance(directory, config)
        clients = Clients(instance.address, requests=pace.requests, messages=pace.messages)
        return cls(directory, old, new, instance, clients, f"http://{admin}/")

    async def start(self) -> None:
        await self.old.ready()
        await self.new.ready()
        await self.instance.start()

    def children(self) -> list[Child]:
        launcher = [self.instance.launcher] if self.instance.launcher is not None else []
        return [*launcher, self.old.child, self.new.child]

    async def stop(self) -> None:
        """Stop all, the proxy before its backends; raises the first failure after all are stopped."""
        results = [
            await asyncio.gather(each, return_exceptions=True)
            for each in (self.clients.cancel(), self.instance.stop(), self.old.stop(), self.new.stop())
        ]
        for [result] in results:
            if isinstance(result, BaseException):
                raise result


async def run(fast: bool, keep: bool, output: str = "text", inject: str | None = None) -> int:
    """Run the demo; 0 when nothing was lost, no client saw an error, and the revert was seen; else 1.

    fast: within 30 seconds; keep: leave everything running until Ctrl-C; output: text, or json or
    yaml for one object on stdout and the story on stderr; inject: see `parse_injection`, whose ValueError it raises.
    """
    injection = parse_injection(inject)
    out = sys.stdout if output == "text" else sys.stderr
    view = LiveView(out, shutil.get_terminal_size().columns) if out.isatty() else View(out)
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    directory = Path(tempfile.mkdtemp(prefix="cf-"))
    try:
        code = await _run_in(directory, fast, keep, output, injection, view)
    except asyncio.CancelledError:
        view.end("interrupted: everything is stopped")
        code = 1
    except (CrossfadeError, TimeoutError) as error:
        view.end(f"FAILED: {error}")
        code = 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
    if code == 0:
        shutil.rmtree(directory)
    else:
        print(f"logs and stores are kept in {directory}", file=sys.stderr)
    return code


async def _run_in(directory: Path, fast: bool, keep: bool, output: str, injection: Injection, view: View) -> int:
    began = time.monotonic()
    pace = FAST if fast else CALM
    parts = _Parts.make(directory, pace)
    story = Story(parts.instance.admin, parts.new, parts.clients, view, pace)
    try:
        view.say("starting two toy backends, and the proxy with two workers before them")
        await parts.start()
        view.say(f"ready at {_url(parts)}: stage off, old would get everything")
        view.say(f"the console, in a browser on this machine: {parts.console}")
        redraw = asyncio.create_task(_redraw(parts, view))
        try:
            await story.play()
            if injection.total:
                await story.damage(injection.lost, injection.different)
            status = await story.finish()
        finally:
            redraw.cancel()
            await asyncio.gather(redraw, return_exceptions=True)
        outcome = await _judge(parts, story, status, injection, began)
        _report(outcome, view, output)
        if keep:
            await _keep(parts, view)
    finally:
        await parts.stop()
    return 0 if outcome.is_ok else 1


def _url(parts: _Parts) -> str:
    return f"http://{parts.instance.address.host}:{parts.instance.address.port}"


async def _redraw(parts: _Parts, view: View) -> None:
    while True:
        # The supervisor may be busy or restarting; the story itself notices when it stays away.
        with contextlib.suppress(AdminDownError, AdminError):
            view.show(figures(await parts.instance.admin.status(), parts.clients))
        await asyncio.sleep(_REDRAW)


async def _judge(parts: _Parts, story: Story, status: Status, injection: Injection, began: float) -> Outcome:
    """Compare both stores, read from their files, with what the client was promised, and have the checker compare them
    with the ledger.
    """
    clients, record = parts.clients, parts.clients.record
    now = time.time_ns()
    begun = now - round((time.monotonic() - began) * 1e9)
    verification = await verify(parts.instance.config_path, begun, now, injection.total + 10)
    return Outcome(
        requests=clients.http.record.accepted,
        messages=clients.sessions.record.accepted,
        sessions=clients.sessions.count,
        closed=record.closed,
        client_errors=record.client_errors,
        errors_text=record.errors_text(),
        old=compare(record, parts.old.stored()),
        new=compare(record, parts.new.stored()),
        reverts=story.reverts,
        time_to_revert=story.time_to_revert,
        weights=story.weights,
        injected=story.injected,
        status=status,
        verification=verification,
        duration=time.monotonic() - began,
    )


def _report(outcome: Outcome, view: View, output: str) -> None:
    view.say("both stores are read from their files and compared, id by id, with the client's record and by the ledger")
    for line in outcome.problems():
        view.end(f"  {line}")
    view.end(outcome.summary())
    if output != "text":
        print(encoded(outcome.as_dict(), output), flush=True)


def encoded(result: dict[str, Any], output: str) -> str:
    """The demo's result as JSON or YAML."""
    if output == "json":
        return orjson.dumps(result).decode()
    return str(yaml.safe_dump(result, sort_keys=False, allow_unicode=True, explicit_start=True)).rstrip("\n")


async def _keep(parts: _Parts, view: View) -> None:
    """Leave it all running, under a light load, until we are cancelled; what to try is printed."""
    admin = f"proxyctl --admin unix:{parts.instance.admin.socket}"
    for line in (
        "",
        f"everything keeps running, with {2 * _KEEP_RATE:g} events/s, until Ctrl-C. Try in another terminal:",
        f"  {parts.console}    # in a browser: the same on one page",
        f"  {admin} token create me --role operator    # for that page, to act there",
        f"  {admin} status -w",
        f"  {admin} set-weight 50 --route events    # the sessions' route is called stream",
        f"""  curl -d '{{"fault": "errors"}}' {parts.new.control_url}    # break new; "none" mends it""",
        f"  {admin} why --route events",
        f"  {admin} rearm --route events",
        f"  {admin} ledger status",
        f"  curl -i -H 'X-Event-Id: my-1' -d '{{\"entity_id\": \"light.desk\"}}' {_url(parts)}/api/v1/events",
        f"configuration, logs and stores: {parts.directory}",
    ):
        view.end(line)
    parts.clients = Clients(parts.instance.address, requests=_KEEP_RATE, messages=_KEEP_RATE, seed=int(time.time()))
    parts.clients.start()
    try:
        while True:
            for child in parts.children():
                child.check()
            await asyncio.sleep(0.5)
    except asyncio.CancelledError:
        view.end("stopping everything")

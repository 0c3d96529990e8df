"""Puts the demo together and takes it apart again, whatever happens; judges it at the end."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import aiohttp

from deploy.home_assistant.demo.outcome import Outcome, judge
from deploy.home_assistant.demo.parts import Parts
from deploy.home_assistant.demo.story import CALM, FAST, Story
from deploy.influxdb import InfluxError
from proxy.core.errors import CrossfadeError
from proxy.demo.run import encoded
from proxy.demo.view import View

_EXPECTED: Final = (CrossfadeError, InfluxError, aiohttp.ClientError, OSError, RuntimeError, TimeoutError, ValueError)
"""What ends it with a line that says why: of Home Assistant, an InfluxDB, a package, the proxy, or a wait in vain."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run(fast: bool, output: str, lose: int, is_timed: bool = True) -> int:
    """Run the demo; 0 when all that Home Assistant recorded is in both stores, and everything else came as it should.

    fast: in its short form; output: text, or json or yaml for one object on stdout and the story on stderr;
    lose: points that are taken away from new's store at the end, to see that it is noticed; is_timed: how long changes
    took is judged, and not only told.
    """
    view = View(sys.stdout if output == "text" else sys.stderr)
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, task.cancel)
    directory = Path(tempfile.mkdtemp(prefix="cf-"))
    try:
        outcome = await _outcome(directory, fast, lose, view, is_timed)
        code = report(outcome, view, output)
    except asyncio.CancelledError:
        view.end("interrupted: everything is stopped")
        code = 1
    except _EXPECTED as error:
        view.end(f"FAILED: {error}")
        code = 1
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
    if code == 0:
        shutil.rmtree(directory)
    else:
        print(f"logs and stores are kept in {directory}", file=sys.stderr)
    return code


async def _outcome(directory: Path, fast: bool, lose: int, view: View, is_timed: bool) -> Outcome:
    began = time.monotonic()
    parts = Parts(directory)
    try:
        story = Story(parts, view, FAST if fast else CALM)
        await story.play()
        if lose:
            view.say(f"DAMAGE   behind the proxy's back new's store loses {lose} points")
            await parts.lose(lose, story.span)
        view.say("VERIFY   both stores are compared with each other, and with what Home Assistant recorded")
        return await judge(parts, story, view, began, is_timed)
    finally:
        await parts.stop()


def report(outcome: Outcome, view: View, output: str) -> int:
    """Say how it went; the exit code."""
    for line in outcome.problems():
        view.end(f"  {line}")
    view.end(outcome.summary())
    if output != "text":
        print(encoded(outcome.as_dict(), output), flush=True)
    return 0 if outcome.is_ok else 1

"""The live checker's process: `python -m consistency.live`, started where stores or answers are compared.

It tells the supervisor its figures over the control link and asks it about the ledger through the admin API, like
anybody. Nothing waits for this process: events flow and the ledger delivers whether or not it runs.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

import uvloop

from consistency.admin import Admin
from consistency.answers import AnswerCheck, Asking, answer_checks
from consistency.live.check import LiveCheck
from consistency.live.journal import journal_of
from consistency.live.probing import LiveProbe
from consistency.probe import url_of
from proxy.control.duty import Duty, relief_of
from proxy.control.inherit import Inherited, stop_requested
from proxy.control.link import (
    CHECKER_INTERVAL,
    AnsweredPairs,
    Applied,
    CheckerStats,
    FromSupervisor,
    Register,
    SetLogLevel,
    SetRouting,
)
from proxy.control.link_client import LinkClient
from proxy.control.logs import LogLevel, setup_logging
from proxy.core.checked import CheckStats
from proxy.core.errors import RefuseToStart
from proxy.core.loop_lag import LoopLag
from proxy.net.kernel import resident_bytes

log = logging.getLogger(__name__)

NICE: Final = 10
"""Lower priority than those who serve."""


class CheckerProcess:
    """All live checks of an instance."""

    def __init__(self, inherited: Inherited) -> None:
        places, settings = inherited.places, inherited.settings
        self._settings = settings
        self._answers: dict[str, AnswerCheck] = {}
        self._admin = Admin(places.admin_socket)
        folder = places.checker
        self._checks = [
            # No event came before the instance began.
            LiveCheck(check, self._admin, journal_of(folder, check), begin=inherited.started_ns)
            for check in settings.consistency
            if check.is_live
        ]
        self._probes = {
            check.routes: LiveProbe(check, check.probe, url_of(settings, check.probe), self._admin)
            for check in settings.consistency
            if check.probe is not None and check.probe.every is not None
        }
        register = Register("checker", 0, os.getpid(), secrets.token_hex(8))
        self._log_level = LogLevel(settings.log)
        self._lag = LoopLag()
        self._link = LinkClient(places.control_socket, register, self._on_message)

    async def run(self, stopping: asyncio.Task[str], serving: Callable[[], object] = bool) -> str:
        """Check until `stopping` says why to stop; why. serving: called when it has begun."""
        async with self._admin, AsyncExitStack() as stack:
            asking = Asking()
            stack.push_async_callback(asking.close)
            self._answers = answer_checks(self._settings, asking)
            self._link.start()
            all_of_it: list[LiveCheck | LiveProbe | AnswerCheck]
            all_of_it = [*self._checks, *self._probes.values(), *self._answers.values()]
            tasks: list[asyncio.Task[None]] = [
                *(asyncio.create_task(each.run()) for each in all_of_it),
                asyncio.create_task(self._report()),
            ]
            try:
                serving()
                # A check never ends by itself: if one does, it is with an error that must be seen.
                await asyncio.wait((stopping, *tasks), return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    if task.done():
                        task.result()
                log.info("%s: stopping", stopping.result())
                return stopping.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for check in self._checks:
                    check.close()
                await self._link.close()

    def _on_message(self, message: FromSupervisor) -> None:
        if isinstance(message, SetRouting):
            for check in self._checks:
                check.on_routing(message.routing)
            for probe in self._probes.values():
                probe.on_routing(message.routing)
            self._link.send(Applied(message.routing.epoch))
        elif isinstance(message, SetLogLevel):
            self._log_level.set(message.level, message.seconds)
        elif isinstance(message, AnsweredPairs):
            for pair in message.pairs:
                if pair.route in self._answers:
                    self._answers[pair.route].take(pair)

    async def _report(self) -> None:
        while True:
            self._lag.expect(time.monotonic() + CHECKER_INTERVAL)
            await asyncio.sleep(CHECKER_INTERVAL)
            lag = self._lag.ran(time.monotonic())
            checks = [self._with_probe(check.stats()) for check in self._checks]
            answers = [each.stats for each in self._answers.values()]
            self._link.send(CheckerStats(checks, answers, resident_bytes(), lag))

    def _with_probe(self, stats: CheckStats) -> CheckStats:
        probe = self._probes.get(tuple(stats.routes))
        stats.probe = probe.stats if probe is not None else None
        return stats


async def _main(inherited: Inherited, serving: Callable[[], None]) -> str:
    stopping = asyncio.create_task(stop_requested(inherited, relief_of("checker")))
    return await CheckerProcess(inherited).run(stopping, serving)


def main() -> int:
    """Run the checker; its exit code."""
    logging.basicConfig(level=logging.INFO)
    try:
        inherited = Inherited.from_environment()
    except RefuseToStart as refusal:
        log.error("%s", refusal)
        return 1  # a checker never keeps an instance from starting
    setup_logging(inherited.settings.log, "checker")
    os.nice(NICE)
    gc.freeze()  # what lives as long as the process is not looked at again
    duty = Duty(inherited, "checker")
    return duty.run(lambda inherited: uvloop.run(_main(inherited, duty.serving)))


if __name__ == "__main__":
    sys.exit(main())

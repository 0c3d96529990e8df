"""`python -m proxy.worker --index I`: one worker, started by the launcher."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import closing

import uvloop

from proxy.control.duty import Duty, relief_of
from proxy.control.inherit import EXIT_REFUSED, RELIEVED, Inherited, Stops, say_refusal
from proxy.control.logs import setup_logging
from proxy.core.errors import RefuseToStart
from proxy.worker.worker import Worker

log = logging.getLogger(__name__)


async def _serve(inherited: Inherited, index: int, serving: Callable[[], None]) -> str:
    with closing(Stops(inherited, relief_of("worker"))) as stops:
        return await _until_told(inherited, index, serving, stops)


async def _until_told(inherited: Inherited, index: int, serving: Callable[[], None], stops: Stops) -> str:
    stopping = asyncio.create_task(stops.next())
    worker = Worker(inherited, index, asyncio.get_running_loop())
    starting = asyncio.create_task(worker.start())
    await asyncio.wait({stopping, starting}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
        serving()
    else:
        starting.cancel()
    reason = await stopping
    log.info("worker retires" if reason == RELIEVED else "worker stops", extra={"reason": reason})
    if reason == RELIEVED and worker.is_serving:
        reason = await _retire(worker, stops)
    else:
        await worker.stop(is_relieved=reason == RELIEVED)
    return reason


async def _retire(worker: Worker, stops: Stops) -> str:
    """Let another worker have its place; why this one ends, which may be told to stop meanwhile."""
    stopping = asyncio.create_task(stops.next())
    retiring = asyncio.create_task(worker.retire())
    await asyncio.wait({stopping, retiring}, return_when=asyncio.FIRST_COMPLETED)
    if retiring.done():
        retiring.result()
        if not stopping.done():
            stopping.cancel()
            return RELIEVED
        return stopping.result()
    reason = await stopping
    log.info("worker stops", extra={"reason": reason})
    retiring.cancel()
    await asyncio.gather(retiring, return_exceptions=True)
    await worker.stop()
    return reason


def main(arguments: list[str]) -> int:
    """Serve until told to stop; 0, or 78 when this process cannot start."""
    index = int(arguments[arguments.index("--index") + 1])
    try:
        inherited = Inherited.from_environment()
        setup_logging(inherited.settings.log, f"worker-{index}")
        duty = Duty(inherited, "worker", index)
        return duty.run(lambda inherited: uvloop.run(_serve(inherited, index, duty.serving)))
    except RefuseToStart as error:
        log.error("refusing to start: %s", error)
        say_refusal(error)
        return EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

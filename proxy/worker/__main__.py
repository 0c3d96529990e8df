"""`python -m proxy.worker --index I`: one worker, started by the launcher."""

from __future__ import annotations

import asyncio
import logging
import sys

import uvloop

from proxy.control.inherit import EXIT_REFUSED, Inherited, say_refusal, stop_requested
from proxy.control.logs import setup_logging
from proxy.core.errors import RefuseToStart
from proxy.worker.worker import Worker

log = logging.getLogger(__name__)


async def _serve(inherited: Inherited, index: int) -> None:
    stopping = asyncio.create_task(stop_requested(inherited))
    worker = Worker(inherited, index, asyncio.get_running_loop())
    starting = asyncio.create_task(worker.start())
    await asyncio.wait({stopping, starting}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
    else:
        starting.cancel()
    log.info("worker stops", extra={"reason": await stopping})
    await worker.stop()


def main(arguments: list[str]) -> int:
    """Serve until told to stop; 0, or 78 when this process cannot start."""
    index = int(arguments[arguments.index("--index") + 1])
    try:
        inherited = Inherited.from_environment()
        setup_logging(inherited.settings.log, f"worker-{index}")
        uvloop.run(_serve(inherited, index))
    except RefuseToStart as error:
        log.error("refusing to start: %s", error)
        say_refusal(error)
        return EXIT_REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

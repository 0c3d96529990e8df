"""The way from Home Assistant to a monolith without a proxy: one subscription, and each event is posted as it comes.

It keeps no order and no record and tries nothing again: the least that stands between the two, to measure against.
Started as `python -m deploy.home_assistant.demo.direct --home URL --token-file FILE --to URL`; says `subscribed` once
it is.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
import uvloop

from deploy.home_assistant.session import Session
from proxy.demo.backends import EVENTS_PATH

AT_ONCE: Final = 32
"""As many as a source of the proxy posts at a time."""
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)


async def forward(session: Session, to: str) -> None:
    """Post every state change to a backend's URL, until cancelled. Raises ApiError, aiohttp.ClientError."""
    room = asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as http, asyncio.TaskGroup() as group:

        async def post(event: dict[str, Any]) -> None:
            headers = {"X-Event-Id": event["context"]["id"], "Content-Type": "application/json"}
            async with http.post(f"{to}{EVENTS_PATH}", data=orjson.dumps(event), headers=headers) as answer:
                if not answer.ok:
                    print(f"{answer.status}: {await answer.text()}", flush=True)
            room.release()

        async with session.events("state_changed") as events:
            print("subscribed", flush=True)
            async for event in events:
                await room.acquire()
                group.create_task(post(event))


async def run(arguments: argparse.Namespace) -> None:
    """Forward until SIGTERM."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    session = Session(arguments.home, arguments.token_file.read_text())
    try:
        await forward(session, arguments.to)
    except asyncio.CancelledError:
        pass
    finally:
        await session.close()


def main() -> None:
    """Entry of the process."""
    parser = argparse.ArgumentParser(description="Posts Home Assistant's state changes to a backend, without a proxy.")
    parser.add_argument("--home", required=True, help="Home Assistant's URL")
    parser.add_argument("--token-file", required=True, type=Path, help="file that has a token of it")
    parser.add_argument("--to", required=True, help="URL of the backend")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()

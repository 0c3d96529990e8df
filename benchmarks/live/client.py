"""`python -m benchmarks.live.client`: one kind of client in a process of its own, until SIGTERM; its record is a file.

Requests and messages do not wait for each other's processor so, and are of two routes, whose order is each its own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import pickle
import signal
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.live.sessions import Sessions
from config.units import Address, parse_address
from proxy.demo.children import Child, ChildError, python
from proxy.demo.load import Load
from proxy.demo.record import Record

REQUESTS: Final = "requests"
MESSAGES: Final = "messages"
CONNECTIONS: Final = {REQUESTS: 64, MESSAGES: 16}
_KEYS: Final = 4_000
_STOP_SECONDS: Final = 120.0


class Client:
    """Such a process, seen from outside."""

    def __init__(
        self, kind: str, address: Address, rate: float, directory: Path, number: int, connections: int = 0
    ) -> None:
        """rate: events per second; number: of the load, which it names its keys by; connections: 0: as CONNECTIONS."""
        self._path = directory / f"{kind}-{number}.record"
        where = f"{address.host}:{address.port}"
        command = ["--kind", kind, "--address", where, "--rate", str(rate), "--seed", str(number)]
        command += ["--record", str(self._path), "--connections", str(connections or CONNECTIONS[kind])]
        self.child = Child(kind, python("benchmarks.live.client", *command), directory / f"{kind}.log")

    async def stop(self) -> Record:
        """Send nothing new, wait for what was sent; the record. Raises ChildError when it failed."""
        self.child.check()
        if await self.child.stop(_STOP_SECONDS):
            raise ChildError(f"{self.child.name} failed; the last lines of its log:\n{self.child.tail()}")
        found: Record = pickle.loads(self._path.read_bytes())  # noqa: S301 - our own child's
        return found

    async def cancel(self) -> None:
        """End it, whatever it does."""
        if self.child.exit_code is None:
            self.child.kill_group()
            await self.child.ended(5.0)


async def serve(kind: str, address: Address, rate: float, seed: int, connections: int) -> Record:
    """Send until SIGTERM."""
    load: Load | Sessions
    if kind == REQUESTS:
        load = Load(address, rate=rate, keys=_KEYS, connections=connections, seed=seed)
    else:
        load = Sessions(address, rate=rate, keys=_KEYS, sessions=connections, seed=seed)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    gc.disable()  # a record only grows, and looking through it stops everything for longer and longer
    load.start()
    await stopped.wait()
    load.check()
    return await load.stop()


def main() -> None:
    """Entry of the process."""
    parser = argparse.ArgumentParser(description="Clients of a benchmark.")
    parser.add_argument("--kind", choices=(REQUESTS, MESSAGES), required=True)
    parser.add_argument("--address", type=parse_address, required=True)
    parser.add_argument("--rate", type=float, required=True, help="events per second")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True, help="or sessions")
    parser.add_argument("--record", type=Path, required=True, help="file that it writes in the end")
    options = parser.parse_args()
    record = uvloop.run(serve(options.kind, options.address, options.rate, options.seed, options.connections))
    options.record.write_bytes(pickle.dumps(record))


if __name__ == "__main__":
    main()

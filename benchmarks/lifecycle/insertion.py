"""The proxy put between clients and a service, and taken out, under load: as MIGRATION.md has it, command for command.

    network of the clients            this network
    callers ──────── veth ─────────► :service   nft leads new connections to the proxy, and later to new
                                     old ◄── proxy ──► new

`python -m benchmarks.lifecycle.insertion` prints one JSON object. It makes both networks itself, and touches nothing
outside of them; that needs root, or a kernel that lets others be root in a namespace of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from benchmarks.lifecycle.figures import Moved, quantile
from benchmarks.live.stand import NEVER_REVERT
from benchmarks.processes import BenchmarkFailed
from deploy.lists import sections
from deploy.packages import program
from proxy.core.errors import CrossfadeError
from proxy.demo.children import Child, free_port, python
from proxy.demo.instance import Instance, basic_config
from proxy.demo.toy import ToyBackend

HERE: Final = "10.213.0.1"
CALLERS: Final = "10.213.0.2"
_OPEN: Final = "0.0.0.0"
_PATIENCE: Final = 60.0


class Traffic(NamedTuple):
    """rate: events per second; lanes: connections at a time; seconds: of each phase."""

    rate: float
    lanes: int
    seconds: float


FULL: Final = Traffic(3_000, 64, 5.0)
QUICK: Final = Traffic(200, 12, 1.0)


def apart(traffic: Traffic) -> Moved:
    """Measure in a network of its own. Raises BenchmarkFailed with what was said."""
    for name, package in (("nft", "nftables"), ("ip", "iproute2"), ("ss", "iproute2")):
        program(name, package)
    owner = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    inside = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    words = [str(value) for value in traffic]
    command = [*python("benchmarks.lifecycle.insertion"), "--inside", *words]
    done = subprocess.run(
        ["unshare", *owner, "--net", "--", *inside, *command], capture_output=True, text=True, cwd=_root(), check=False
    )
    if done.returncode != 0:
        raise BenchmarkFailed(f"insertion and removal could not be measured:\n{done.stderr[-4000:]}")
    return msgspec.json.decode(done.stdout, type=Moved)


def _root() -> Path:
    return Path(__file__).parents[2]


# --- inside -------------------------------------------------------------------------------------------------


@contextmanager
def network_of_callers() -> Iterator[str]:
    """Another network with a way to this one; what a command begins with that is to run there."""
    with subprocess.Popen(["unshare", "--net", "--", "sleep", "infinity"], stdin=subprocess.DEVNULL) as holder:
        try:
            _until_apart(holder.pid)
            there = f"nsenter --net=/proc/{holder.pid}/ns/net --"
            for line in (
                f"ip link add cf0 type veth peer name cf1 netns {holder.pid}",
                f"ip address add {HERE}/24 dev cf0",
                "ip link set cf0 up",
                f"{there} ip address add {CALLERS}/24 dev cf1",
                f"{there} ip link set cf1 up",
            ):
                _run(line)
            yield there
        finally:
            holder.kill()


def _until_apart(pid: int) -> None:
    """Until the process is in a network of its own."""
    deadline = time.monotonic() + _PATIENCE
    while os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        if time.monotonic() > deadline:
            raise BenchmarkFailed("no other network could be made")
        time.sleep(0.01)


def _run(line: str) -> str:
    """A command's output; raises BenchmarkFailed."""
    done = subprocess.run(shlex.split(line), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchmarkFailed(f"{line}: {done.stderr or done.stdout}")
    return done.stdout


class Place:
    """Everything that runs here. The service's port is old's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.old, self.new = (ToyBackend(name, directory, _OPEN) for name in ("old", "new"))
        config = basic_config(self.old.url, self.new.url, stage="off", trigger=NEVER_REVERT)
        self.port = free_port()
        self.accepted = 0
        """By the proxy, at its end."""
        config["listen"] = [f"{_OPEN}:{self.port}"]
        self.instance = Instance(directory, config)

    def steps(self, section: str) -> list[str]:
        """Root's commands of a section of MIGRATION.md, with the ports that they have here."""
        ports = {"8000": self.old.address.port, "8080": self.port, "9002": self.new.address.port}
        found = [step.command for step in sections()[section] if step.kind == "root"]
        for before, after in ports.items():
            found = [line.replace(f" {before} ", f" {after} ").replace(f":{before}", f":{after}") for line in found]
        return found

    async def until(self, condition: Any, what: str) -> None:
        """Poll; raises BenchmarkFailed."""
        deadline = time.monotonic() + _PATIENCE
        while not await condition():
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"{what} did not happen within {_PATIENCE:g} s")
            await asyncio.sleep(0.05)

    async def no_clients(self) -> bool:
        """Is nobody connected to the proxy?"""
        status = await self.instance.admin.ask("GET", "/api/v1/status")
        return not any(worker["clients"] for worker in status["workers"])


@asynccontextmanager
async def place() -> AsyncIterator[Place]:
    """Both backends, started; the instance is not."""
    directory = Path(tempfile.mkdtemp(prefix="cf-"))
    made = Place(directory)
    try:
        await made.old.ready()
        await made.new.ready()
        yield made
    finally:
        await made.instance.stop()
        await made.old.stop()
        await made.new.stop()
        shutil.rmtree(directory)


async def measure(traffic: Traffic) -> Moved:
    """Direct, put in, copied, moved, taken out, direct again; the load goes on all the time."""
    with network_of_callers() as there:
        async with place() as here:
            record = here.directory / "callers.json"
            options = ["--address", f"{HERE}:{here.old.address.port}", "--rate", str(traffic.rate)]
            options += ["--lanes", str(traffic.lanes), "--record", str(record)]
            command = [*shlex.split(there), *python("benchmarks.lifecycle.callers", *options)]
            callers = Child("callers", command, here.directory / "callers.log")
            try:
                return await _moved(here, callers, record, traffic)
            finally:
                callers.kill_group()
                await callers.ended(5.0)


async def _moved(here: Place, callers: Child, record: Path, traffic: Traffic) -> Moved:
    async def phase() -> float:
        """Some time as it is now; when it ended."""
        await asyncio.sleep(traffic.seconds)
        callers.check()
        return time.monotonic()

    await phase()
    await here.instance.start()
    put_in = await phase(), await _put_in(here)
    await phase()
    await here.instance.admin.stage("dualwrite", 0, "parallel")
    both = time.monotonic()  # every worker has applied it: the answer came after that
    await phase()
    await here.instance.admin.stage("live", 50, "switch")
    await phase()
    both_until = time.monotonic()
    await here.instance.admin.stage("complete", 100, "clean-up")
    taken_out = await phase(), await _taken_out(here)
    through = here.accepted
    await phase()
    if await callers.stop():
        raise BenchmarkFailed(f"the callers failed:\n{callers.tail()}")
    return _seen(here, record, through, (both, both_until), (put_in, taken_out))


async def _put_in(here: Place) -> float:
    """As the list has it, until nobody is connected to old but the proxy; when it was."""
    *leads, connected = here.steps("Insertion")
    for line in leads:
        _run(line)

    async def only_proxy() -> bool:
        return CALLERS not in await asyncio.to_thread(_run, connected)

    await here.until(only_proxy, "that clients leave old")
    return time.monotonic()


async def _taken_out(here: Place) -> float:
    """As the list has it: past the proxy, until it has no clients, and its end; when it was."""
    for line in here.steps("Removal"):
        _run(line)
    await here.until(here.no_clients, "that clients leave the proxy")
    here.accepted = (await here.instance.admin.status()).routes[0].accepted_total
    await here.instance.admin.ask("POST", "/api/v1/drain", {"reason": "removal"})
    assert here.instance.launcher is not None
    await here.instance.launcher.ended(_PATIENCE)
    return time.monotonic()


def _seen(
    here: Place, record: Path, through: int, both: tuple[float, float], moving: tuple[tuple[float, float], ...]
) -> Moved:
    told = json.loads(record.read_text())
    old, new = ({row.id for row in backend.stored()} for backend in (here.old, here.new))
    accepted = [(id, sent, answered - sent, answered) for id, sent, answered in told["told"]]
    direct = [took for _, _, took, answered in accepted if answered < moving[0][0]]
    switching = [took for _, sent, took, done in accepted if any(sent < end and begin < done for begin, end in moving)]
    owed_to_both = {id for id, sent, _, answered in accepted if both[0] < sent and answered < both[1]}
    return Moved(
        events=len(accepted),
        failed=len(told["failures"]),
        failures=told["failures"][:20],
        reopened=told["reopened"],
        through=through,
        lost=len({id for id, *_ in accepted} - old - new),
        one_sided=len(owed_to_both - (old & new)),
        p99_direct=round(quantile(direct, 0.99), 6),
        p99_moving=round(quantile(switching, 0.99), 6),
        spans=[round(end - begin, 3) for begin, end in moving],
    )


def main() -> int:
    """Entry of the process; the exit code. With --inside it is in its own network already."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lifecycle.insertion", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a second of each phase, at 200 events/s")
    parser.add_argument("--inside", nargs=3, type=float, metavar=("RATE", "LANES", "SECONDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        if options.inside:
            rate, lanes, seconds = options.inside
            moved = asyncio.run(measure(Traffic(rate, int(lanes), seconds)))
        else:
            moved = apart(QUICK if options.quick else FULL)
    except (BenchmarkFailed, CrossfadeError, TimeoutError) as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1
    print(msgspec.json.encode(moved).decode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

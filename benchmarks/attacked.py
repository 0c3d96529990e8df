"""What slowhttptest does to the p99 of healthy clients, beside what it does to those of nginx.

Attacker, proxy, backend and clients share one machine, maybe with others, and what takes the processor from the client
that measures is in its p99 as well. So two instances of the same proxy stand side by side before one backend, one of
them is attacked, and the same client asks both in the same moments: what the two have in common cancels out, and what
is left is what the attacked proxy itself lets its clients wait for.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from deploy.packages import program
from proxy.demo.children import Child, free_port
from proxy.demo.instance import Instance
from tests.boundary.slow import ATTACKS, attack, configuration, healthy

RATE: Final = 20
"""New attackers a second. More slow readers are a load of so many times 6 MB, whatever their pace."""
_LARGE: Final = 6_000_000

_NGINX: Final = """daemon off; worker_processes 1; pid {directory}/{name}.pid; error_log stderr; {user}
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 100000000; root {directory}; client_body_temp_path {directory}/{name}b;
    proxy_temp_path {directory}/{name}p; fastcgi_temp_path {directory}/{name}f; uwsgi_temp_path {directory}/{name}u;
    scgi_temp_path {directory}/{name}s;
    {servers}
}}
"""
_BACKEND: Final = """keepalive_timeout 600s;
    server {{ listen 127.0.0.1:{port} backlog=1024; location = /large {{ }} location / {{ return 200 ok; }} }}"""
_PEER: Final = """client_header_timeout 1s; client_body_timeout 1s; send_timeout 1s; keepalive_timeout 1s;
    proxy_max_temp_file_size 0;
    upstream up {{ server 127.0.0.1:{backend}; keepalive 64; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}"""


class Standing(NamedTuple):
    """A proxy. pid: of its one worker."""

    port: int
    pid: int

    def cpu(self) -> float:
        """Seconds of processor time that its worker has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Round(NamedTuple):
    """p99: seconds, of the attacked one's clients and of the other's; cpu: shares of a core of the two."""

    p99: tuple[float, float]
    cpu: tuple[float, float]

    @property
    def ratio(self) -> float:
        """What the attack makes of the p99."""
        return self.p99[0] / self.p99[1]


class Measured(NamedTuple):
    """Medians over rounds: what disturbs one of them says nothing. ratio: of the two p99s, see Round."""

    p99: tuple[float, float]
    cpu: tuple[float, float]
    ratio: float

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> Measured:
        """What rounds say together."""
        return cls(
            (median(each.p99[0] for each in rounds), median(each.p99[1] for each in rounds)),
            (median(each.cpu[0] for each in rounds), median(each.cpu[1] for each in rounds)),
            median(each.ratio for each in rounds),
        )


@asynccontextmanager
async def nginx(directory: Path, name: str, servers: str, port: int) -> AsyncIterator[Standing]:
    """An nginx with one worker."""
    user = "user root;" if os.geteuid() == 0 else ""
    (directory / f"{name}.conf").write_text(
        _NGINX.format(directory=directory, name=name, servers=servers, user=user), encoding="utf-8"
    )
    command = [program("nginx", "nginx-light"), "-p", str(directory), "-c", f"{name}.conf", "-e", "stderr"]
    child = Child(name, command, directory / f"{name}.log")

    async def is_listening() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await child.until(is_listening, 20)
        yield Standing(port, worker_of(child.pid))
    finally:
        await child.stop()


def worker_of(master: int) -> int:
    """The only child of nginx's first process."""
    (worker,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    return int(worker)


@asynccontextmanager
async def crossfade(directory: Path, backend: int) -> AsyncIterator[Standing]:
    """The daemon with one worker."""
    instance = Instance(directory, configuration(backend))
    try:
        await instance.start()
        (pid,) = instance.pids("worker")
        yield Standing(instance.address.port, pid)
    finally:
        await instance.stop()


@asynccontextmanager
async def pairs() -> AsyncIterator[tuple[Path, dict[str, tuple[Standing, Standing]]]]:
    """Two of each proxy before one backend."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cf-")))
        (directory / "large").write_bytes(b"x" * _LARGE)
        port = free_port()
        backend = await stack.enter_async_context(nginx(directory, "backend", _BACKEND.format(port=port), port))
        homes = [directory / f"crossfade{n}" for n in range(2)]
        for home in homes:
            home.mkdir()
        ours = [await stack.enter_async_context(crossfade(home, backend.port)) for home in homes]
        peers = []
        for n in range(2):
            port = free_port()
            servers = _PEER.format(backend=backend.port, port=port)
            peers.append(await stack.enter_async_context(nginx(directory, f"peer{n}", servers, port)))
        yield directory, {"crossfade": (ours[0], ours[1]), "nginx": (peers[0], peers[1])}


def p99(taken: list[float]) -> float:
    """In seconds."""
    return sorted(taken)[len(taken) * 99 // 100]


async def measure(kind: str, pair: tuple[Standing, Standing], directory: Path, number: int, seconds: float) -> Round:
    """Attack one of the two, in turn."""
    first = number % 2
    attacked, beside = pair[first], pair[1 - first]
    running = asyncio.create_task(attack(kind, attacked.port, directory, RATE, int(RATE * (seconds + 2))))
    await asyncio.sleep(1.5)  # the first ones have run out of time, and new ones come all the while
    before = attacked.cpu(), beside.cpu()
    # In the same order whichever is attacked: who is asked first has its answers a little later than they came.
    both = await asyncio.gather(*(healthy(each.port, seconds) for each in pair))
    spent = (attacked.cpu() - before[0]) / seconds, (beside.cpu() - before[1]) / seconds
    await running
    return Round((p99(both[first]), p99(both[1 - first])), spent)


async def compare(*, rounds: int, seconds: float) -> dict[str, dict[str, Measured]]:
    """By kind of attack, what it does to us and to nginx. seconds: of measuring, in each round."""
    compared = {}
    async with pairs() as (directory, proxies):
        gc.collect()
        gc.freeze()  # a collection of this process would be in everybody's figures
        try:
            for pair in proxies.values():
                await asyncio.gather(*(healthy(each.port, 0.5) for each in pair))
            for kind in ATTACKS:
                compared[kind] = {
                    name: Measured.of([await measure(kind, pair, directory, each, seconds) for each in range(rounds)])
                    for name, pair in proxies.items()
                }
        finally:
            gc.unfreeze()
    return compared

"""What stands around a proxy of sessions: two backends and the clients; and the proxies themselves.

clients, backends: LOAD_CORE          proxies: PROXY_CORE
"""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.peers import (
    FILES,
    RELAY,
    Proxy,
    admin_of,
    start_crossfade,
    start_nginx,
    wait_for,
    wait_for_port,
    wait_until_ready,
)
from benchmarks.processes import Started, free_ports

TUNNEL: Final = "nginx tunnel to one backend"
WEBSOCKETS: Final = "dual write with `websockets`"


def _module(name: str) -> list[str]:
    """The command of one of our processes; -P: so that PYTHONPATH, and not this folder, says whose frames it uses."""
    return [sys.executable, "-P", "-m", f"benchmarks.websocket.{name}"]


class SessionBackend:
    """A backend of sessions. ids_log: the id of each message, if that was asked for."""

    def __init__(self, name: str, core: int, directory: Path, *, writes_ids: bool = False) -> None:
        directory.mkdir(parents=True)
        (self.port,) = free_ports(1)
        self.ids_log = directory / "ids.log"
        command = [*_module("backend"), str(self.port), *(["--ids", str(self.ids_log)] if writes_ids else [])]
        self.started = Started(f"backend {name}", command, core=core, log=directory / "log")
        wait_for_port(self.started, self.port)

    def _counts(self) -> dict[str, int]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/")
            counts: dict[str, int] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return counts

    def messages(self) -> int:
        """Messages that it has had so far."""
        return self._counts()["messages"]

    def sessions(self) -> int:
        """Sessions that are open."""
        return self._counts()["sessions"]


class Done(NamedTuple):
    """What the clients did. messages: acknowledged, which is all that were sent; p50, p99, p999: seconds until that."""

    sessions: int
    messages: int
    seconds: float
    p50: float
    p99: float
    p999: float

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.messages / self.seconds


class Clients:
    """The clients' process: does what its arguments say, then stays with its sessions until it is stopped."""

    def __init__(self, port: int, *arguments: object, core: int, log: Path) -> None:
        # Backends on the same core go first, so that what they take to answer is not the clients' work.
        command = ["nice", "-n", "5", *_module("clients"), str(port), *map(str, arguments)]
        self.started = Started("clients", command, core=core, log=log)

    def is_done(self) -> bool:
        """Whether its work is done; raises BenchmarkFailed when it has failed."""
        self.started.pids()
        return self.started.log.read_bytes().endswith(b"}\n")

    def wait(self, seconds: float) -> Done:
        """What it did; it may take this long."""
        wait_for(self.started, self.is_done, "finish", timeout=seconds)
        return Done(**json.loads(self.started.tail()))


@contextmanager
def clients(port: int, *arguments: object, core: int, log: Path) -> Iterator[Clients]:
    """The clients, as long as this lasts."""
    made = Clients(port, *arguments, core=core, log=log)
    try:
        yield made
    finally:
        made.started.stop()


class SessionPeers:
    """Starts proxies of sessions between two backends, each in a directory of its own below `directory`."""

    def __init__(self, directory: Path, old: SessionBackend, new: SessionBackend, core: int) -> None:
        self._directory = directory
        self._ports: dict[str, object] = {"OLD": old.port, "NEW": new.port}
        self._core = core
        self.started: list[Proxy] = []

    def _folder(self) -> Path:
        return self._directory / f"p{len(self.started)}"

    def nginx_tunnel(self) -> Proxy:
        """nginx, which tunnels to old alone."""
        (port,) = free_ports(1)
        started = start_nginx("nginx", "tunnel.conf", self._core, self._folder(), {"LISTEN": port, **self._ports})
        return self._keep(Proxy(TUNNEL, started, port, share_new=0.0, copies=False))

    def dual_websockets(self) -> Proxy:
        """A dual writer made of the `websockets` library."""
        return self._script(WEBSOCKETS, "dual_websockets.py", self._ports.values(), copies=True)

    def relay(self) -> Proxy:
        """Bytes to old on uvloop."""
        return self._script(RELAY, "relay.py", [self._ports["OLD"]], copies=False)

    def _script(self, name: str, script: str, backends: Iterable[object], *, copies: bool) -> Proxy:
        (port,) = free_ports(1)
        directory = self._folder()
        directory.mkdir(parents=True)
        command = [sys.executable, str(FILES / script), str(port), *map(str, backends)]
        started = Started(name, command, core=self._core, log=directory / "log")
        return self._keep(Proxy(name, started, port, share_new=0.0, copies=copies))

    def _keep(self, proxy: Proxy) -> Proxy:
        self.started.append(proxy)
        wait_for_port(proxy.started, proxy.port)
        return proxy

    def crossfade(
        self, name: str, template: str = "sessions.yaml", *, code: Path | None = None, **values: object
    ) -> Proxy:
        """Ours with one worker, sessions in stage `dualwrite`: `proxyctl run` of a file of peers/."""
        (port,) = free_ports(1)
        directory = self._folder()
        filled = {"LISTEN": port, **self._ports, **values}
        started = start_crossfade(name, template, self._core, directory, filled, code=code)
        admin = admin_of(directory)
        proxy = Proxy(name, started, port, share_new=0.0, copies=True, durability="before-ack", admin=admin)
        self.started.append(proxy)
        wait_until_ready(started)
        return proxy

    def stop(self) -> None:
        """Stop all of them, the last one first."""
        while self.started:
            self.started.pop().started.stop()

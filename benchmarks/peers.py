"""The two backends and the proxies between them and wrk, each started from its file in peers/.

wrk, backends: LOAD_CORE          proxies: PROXY_CORE
"""

from __future__ import annotations

import getpass
import http.client
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.admin import Admin
from benchmarks.processes import BenchmarkFailed, Started, free_ports, is_listening, wait_until

FILES: Final = Path(__file__).parent / "peers"
PROXYCTL: Final = Path(sys.executable).parent / "proxyctl"


def cores() -> tuple[int, int]:
    """The proxy's core and the load's; raises BenchmarkFailed on a machine with a single one."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise BenchmarkFailed("the benchmark needs two cores: one for the proxy, one for load and backends")
    return usable[0], usable[1]


def nginx_binary() -> str:
    """Debian keeps it where an ordinary user's PATH does not look."""
    for folder in [*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/usr/local/sbin"]:
        path = Path(folder) / "nginx"
        if folder and os.access(path, os.X_OK):
            return str(path)
    raise BenchmarkFailed("nginx is missing; benchmarks/install.sh installs it")


def fill(template: str, values: dict[str, object]) -> str:
    """Put values in for @NAMES@; raises BenchmarkFailed for a name without a value."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise BenchmarkFailed(f"no value for @{match[1]}@")
        return str(values[match[1]])

    return re.sub(r"@([A-Z_]+)@", value, template)


def start_nginx(name: str, template: str, core: int, directory: Path, values: dict[str, object]) -> Started:
    """nginx from this file of peers/, in a directory of its own; it may not listen yet."""
    directory.mkdir(parents=True)
    config = directory / "nginx.conf"
    config.write_text(fill((FILES / template).read_text(), {"DIR": directory, "USER": getpass.getuser(), **values}))
    command = [nginx_binary(), "-p", str(directory), "-c", str(config), "-e", "stderr"]
    return Started(name, command, core=core, log=directory / "log")


def wait_for(started: Started, condition: Callable[[], bool], what: str, *, timeout: float = 20.0) -> None:
    """Wait until it is so; the failure holds the process's last words."""

    def holds() -> bool:
        started.pids()
        return condition()

    try:
        wait_until(holds, f"{started.name} to {what}", timeout=timeout)
    except BenchmarkFailed as failure:
        raise BenchmarkFailed(f"{failure}\n{started.tail()}") from None


def wait_for_port(started: Started, port: int) -> None:
    """Wait until it listens there."""
    wait_for(started, lambda: is_listening(port), "listen")


def start_crossfade(name: str, template: str, core: int, directory: Path, values: dict[str, object]) -> Started:
    """`proxyctl run` of this file of peers/, in a directory of its own; it may not be ready yet."""
    directory.mkdir(parents=True)
    config = directory / "crossfade.yaml"
    config.write_text(fill((FILES / template).read_text(), {"DIR": directory, **values}))
    return Started(name, [str(PROXYCTL), "run", str(config)], core=core, log=directory / "log")


def admin_of(directory: Path) -> Admin:
    """The admin API of the one that was started there."""
    return Admin(directory / "state" / "admin.sock")


def wait_until_ready(started: Started) -> None:
    """Wait until ours says that it is ready."""
    wait_for(started, lambda: "crossfade is ready" in started.tail(100_000), "be ready")


class Backend:
    """An nginx that answers at once: at `body` with a small JSON body, at `empty` with 204."""

    def __init__(self, name: str, core: int, directory: Path) -> None:
        self.name = name
        self.body, self.empty, self._status = free_ports(3)
        self.ids_log = directory / "ids.log"
        ports: dict[str, object] = {"BODY": self.body, "EMPTY": self.empty, "STATUS": self._status}
        self.started = start_nginx(f"backend {name}", "backend.conf", core, directory, ports)
        wait_for_port(self.started, self._status)

    def requests(self) -> int:
        """Requests it has seen so far, without our own questions."""
        connection = http.client.HTTPConnection("127.0.0.1", self._status, timeout=10)
        try:
            connection.request("GET", "/")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        self._asked += 1
        return parse_stub_status(text) - self._asked

    _asked = 0


def parse_stub_status(text: str) -> int:
    """The number of requests in what nginx's stub_status module answers."""
    match = re.search(r"^ \d+ \d+ (\d+)", text, re.MULTILINE)
    if match is None:
        raise BenchmarkFailed(f"this is not what stub_status answers:\n{text}")
    return int(match[1])


class Proxy:
    """A proxy under test. share_new, copies: what it is to do with the events, checked after each round.

    share_new: percent of events whose authority is new; copies: whether the other side gets them too;
    durability: what a copy is promised, off where it may be lost.
    """

    def __init__(
        self,
        name: str,
        started: Started,
        port: int,
        *,
        share_new: float,
        copies: bool,
        durability: str = "off",
        admin: Admin | None = None,
    ) -> None:
        self.name = name
        self.started = started
        self.port = port
        self.share_new = share_new
        self.copies = copies
        self.durability = durability
        self.admin = admin


class Peers:
    """Starts proxies between two given backends, each in a directory of its own below `directory`."""

    def __init__(self, directory: Path, old: Backend, new: Backend, core: int) -> None:
        self._directory = directory
        self._old, self._new = old, new
        self._core = core
        self.started: list[Proxy] = []

    def _folder(self) -> Path:
        return self._directory / f"p{len(self.started)}"

    def _ports(self, *, empty: bool) -> dict[str, object]:
        if empty:
            return {"OLD": self._old.empty, "NEW": self._new.empty}
        return {"OLD": self._old.body, "NEW": self._new.body}

    def nginx_split(self) -> Proxy:
        """nginx with split_clients, 25 % to new."""
        return self._nginx("nginx split_clients", "split.conf", share_new=25.0, copies=False, empty=False)

    def nginx_mirror(self, *, empty: bool) -> Proxy:
        """nginx with mirror; `empty`: backends answer 204, which is when nginx can keep the copy's connection."""
        name = "nginx mirror, answers 204" if empty else "nginx mirror, answers with a body"
        return self._nginx(name, "mirror.conf", share_new=0.0, copies=True, empty=empty)

    def _nginx(self, name: str, template: str, *, share_new: float, copies: bool, empty: bool) -> Proxy:
        (port,) = free_ports(1)
        values = {"LISTEN": port, **self._ports(empty=empty)}
        started = start_nginx(name, template, self._core, self._folder(), values)
        proxy = Proxy(name, started, port, share_new=share_new, copies=copies)
        self.started.append(proxy)
        wait_for_port(started, port)
        return proxy

    def crossfade(
        self,
        name: str,
        *,
        stage: str,
        weight: float = 0.0,
        durability: str = "before-ack",
        carry_over: bool = False,
        empty: bool = False,
    ) -> Proxy:
        """Our proxy with one worker: `proxyctl run` of peers/crossfade.yaml."""
        (port,) = free_ports(1)
        directory = self._folder()
        values: dict[str, object] = {"LISTEN": port, **self._ports(empty=empty)}
        values |= {"STAGE": stage, "WEIGHT": f"{weight:g}" if stage in ("live", "split") else "null"}
        values |= {"DURABILITY": durability, "CARRY_OVER": str(carry_over).lower()}
        started = start_crossfade(name, "crossfade.yaml", self._core, directory, values)
        copies, admin = stage in ("dualwrite", "live"), admin_of(directory)
        proxy = Proxy(name, started, port, share_new=weight, copies=copies, durability=durability, admin=admin)
        self.started.append(proxy)
        wait_until_ready(started)
        return proxy

    def stop(self) -> None:
        """Stop all of them, the last one first."""
        while self.started:
            self.started.pop().started.stop()

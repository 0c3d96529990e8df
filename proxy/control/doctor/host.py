"""The host: open files, memory, and what the kernel allows."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from config.model import Settings
from proxy.control import descriptors
from proxy.control.doctor.finding import HOST, Finding, fail, judged, ok, size_text, warn
from proxy.control.sockets import BACKLOG

_PROC: Final = Path("/proc")
_SYS: Final = Path("/sys")
_FULL: Final = (0.8, 0.95)
"""Share of its descriptors that a process may have in use."""
_PORTS: Final = 4
"""Times as many local ports as connections to backends there are to be: closed ones keep theirs for a minute."""
_MEMORY: Final = (0.5, 0.9)
"""Share of the host's memory that clients may make the instance hold."""


class Kernel(NamedTuple):
    """What the kernel allows. somaxconn: connections that wait at a listener; ports: local ones; memory: bytes, of the
    host or of its control group. None where it is not known.
    """

    somaxconn: int | None
    ports: int | None
    memory: int | None


def kernel(proc: Path = _PROC, sys: Path = _SYS) -> Kernel:
    """As it is now."""
    ports = _text(proc / "sys/net/ipv4/ip_local_port_range").split()
    limit = _number(_text(sys / "fs/cgroup/memory.max"))
    found = [line.split()[1] for line in _text(proc / "meminfo").splitlines() if line.startswith("MemTotal:")]
    total = int(found[0]) * 1024 if found else None
    known = [each for each in (limit, total) if each is not None]
    return Kernel(
        _number(_text(proc / "sys/net/core/somaxconn")),
        int(ports[1]) - int(ports[0]) + 1 if len(ports) == 2 else None,
        min(known) if known else None,
    )


def limits(settings: Settings, kernel: Kernel) -> list[Finding]:
    """What the kernel allows, beside what the configuration wants."""
    found = []
    if kernel.somaxconn is not None:
        advice = f"sysctl net.core.somaxconn={BACKLOG}, or clients are turned away in a burst"
        seen = f"{kernel.somaxconn} clients may wait at a listener"
        short = kernel.somaxconn < BACKLOG
        found.append(warn(HOST, "somaxconn", seen, advice) if short else ok(HOST, "somaxconn", seen))
    if kernel.ports is not None:
        found.append(_ports(settings, kernel.ports))
    if kernel.memory is not None:
        share = settings.limits.memory / kernel.memory
        seen = f"limits.memory is {size_text(settings.limits.memory)}, the host has {size_text(kernel.memory)}"
        advice = "lower limits.memory, or give the host (its container) more: it is killed when that is used up"
        found.append(judged(HOST, "memory", share, _MEMORY, seen, advice))
    return found


def _ports(settings: Settings, ports: int) -> Finding:
    most = settings.workers * max((each.connections for each in settings.backends.values()), default=0)
    seen = f"{ports:,} local ports for at most {most:,} connections to one backend"
    advice = 'widen it: sysctl net.ipv4.ip_local_port_range="1024 65535", or lower backends\' `connections`'
    return ok(HOST, "local ports", seen) if ports >= _PORTS * most else warn(HOST, "local ports", seen, advice)


def open_files(settings: Settings, limit: tuple[int, int]) -> Finding:
    """The limit of open files beside what the configuration needs. limit: soft and hard, to which it is raised."""
    name, most = "open files", max(limit)
    wanted, clients = settings.limits.max_connections, descriptors.most_clients(settings, most)
    seen = f"at most {most:,}: room for {max(0, clients):,} clients of each worker"
    advice = f"raise it (ulimit -n, LimitNOFILE=): limits.max_connections is {wanted:,}"
    if clients < min(descriptors.LEAST, wanted):
        return fail(HOST, name, f"{seen}; an instance refuses to start", advice)
    return warn(HOST, name, seen, advice) if clients < wanted else ok(HOST, name, seen)


def limit_of_open_files() -> tuple[int, int]:
    """(soft, hard) of this process."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def in_use(processes: Mapping[str, int]) -> list[Finding]:
    """Descriptors that processes (name to process id) have open now."""
    return [found for name, pid in sorted(processes.items()) if (found := _in_use(name, pid)) is not None]


def _in_use(name: str, pid: int) -> Finding | None:
    try:
        count = len(os.listdir(_PROC / str(pid) / "fd"))
        most = resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
    except OSError:
        return None  # it ended just now, or is not ours to look at
    advice = "clients are turned away when none is left: raise the limit (ulimit -n, LimitNOFILE=), or look who leaks"
    return judged(HOST, f"open files of {name}", count / most, _FULL, f"{count:,} of {most:,}", advice)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None

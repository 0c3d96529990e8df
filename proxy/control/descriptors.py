"""Open files: how many this instance may have, and how many clients that leaves room for."""

from __future__ import annotations

import logging
import resource
from typing import Final

from config.model import Settings
from proxy.core.errors import RefuseToStart

log = logging.getLogger(__name__)

OTHERS: Final = 192
"""Descriptors of a worker beside clients and backends: listeners, links, a reserve, clients that are turned away."""
LEAST: Final = 64
"""Clients per worker below which starting makes no sense."""


def raise_limit() -> None:
    """Raise this process's limit to what the system allows it; its children inherit that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit() -> int:
    """How many descriptors a process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def most_clients(settings: Settings, descriptors: int) -> int:
    """How many clients a worker may have: `limits.max_connections`, or fewer when that is more than it can open."""
    return min(settings.limits.max_connections, (descriptors - _needed_beside(settings)) // _of_a_client(settings))


def check(settings: Settings, descriptors: int) -> None:
    """Say when clients will be turned away sooner than the settings mean it; raises RefuseToStart without room for any.

    A backend's name may stand for several endpoints, each with connections of its own: these are not known here.
    """
    clients, wanted = most_clients(settings, descriptors), settings.limits.max_connections
    needed = _needed_beside(settings) + wanted * _of_a_client(settings)
    if clients < min(LEAST, wanted):
        raise RefuseToStart(
            f"the limit of open files is {descriptors}, which leaves no room for clients beside the backends' "
            f"connections; raise it to {needed} (ulimit -n, LimitNOFILE=), or lower backends' `connections`"
        )
    if clients < wanted:
        log.warning(
            "the limit of open files is %d: a worker takes %d clients instead of limits.max_connections %d; "
            "raise it to %d (ulimit -n, LimitNOFILE=)",
            descriptors,
            clients,
            wanted,
            needed,
        )


def _of_a_client(settings: Settings) -> int:
    """Descriptors that one client may take: a session has connections of its own to both backends."""
    return 3 if any(route.websocket is not None for route in settings.routes) else 1


def _needed_beside(settings: Settings) -> int:
    return OTHERS + sum(backend.connections * len(backend.url) for backend in settings.backends.values())

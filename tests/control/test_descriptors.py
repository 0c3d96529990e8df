"""What the limit of open files leaves for clients."""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import Any

import pytest

from config.model import Settings
from proxy.control.descriptors import OTHERS, check, limit, most_clients
from proxy.core.errors import RefuseToStart


def settings(clients: int = 1000, connections: int = 100, **route: Any) -> Settings:
    backend = {"url": ("http://127.0.0.1:1", "http://127.0.0.1:2"), "connections": connections}
    return Settings.model_validate(
        {
            "version": 1,
            "salt": "a-salt-for-tests",
            "backends": {"old": backend, "new": backend},
            "routes": ({"name": "events", "match": {"path": "/"}} | route,),
            "limits": {"max_connections": clients},
        }
    )


NEEDED = OTHERS + 4 * 100 + 1000


@pytest.mark.parametrize(("descriptors", "clients"), [(NEEDED + 1, 1000), (NEEDED, 1000), (NEEDED - 1, 999)])
def test_clients_are_as_many_as_fit(descriptors: int, clients: int) -> None:
    assert most_clients(settings(), descriptors) == clients


def test_a_session_takes_three(caplog: pytest.LogCaptureFixture) -> None:
    sessions = settings(websocket={})
    assert most_clients(sessions, NEEDED + 2000) == 1000
    assert most_clients(sessions, NEEDED) == 333
    check(sessions, NEEDED)
    assert f"raise it to {NEEDED + 2000}" in caplog.text


def test_nothing_is_said_when_all_fit(caplog: pytest.LogCaptureFixture) -> None:
    check(settings(), NEEDED)
    assert caplog.text == ""


def test_it_is_said_when_not_all_fit(caplog: pytest.LogCaptureFixture) -> None:
    check(settings(), NEEDED - 400)
    assert "a worker takes 600 clients instead of limits.max_connections 1000; raise it to 1592" in caplog.text


def test_without_room_for_clients_it_refuses() -> None:
    with pytest.raises(RefuseToStart, match="raise it to 1592"):
        check(settings(), NEEDED - 1000)


def test_the_limit_is_raised_to_what_is_allowed() -> None:
    code = "import proxy.control.descriptors as d; d.raise_limit(); print(d.limit())"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def low() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))

    done = subprocess.run([sys.executable, "-c", code], preexec_fn=low, capture_output=True, text=True, check=True)
    assert int(done.stdout) == hard >= limit()

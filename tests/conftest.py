"""What all tests share: the short seeded form, and the full counts of `make soak`."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Mapping

import pytest
import uvloop
from hypothesis import HealthCheck, settings

from benchmarks import compiled
from tests.harness.bounds import bound

SOAK = os.environ.get("CROSSFADE_SOAK") == "1"

# The short form is the same on every run, so a failure is never a matter of luck; the soak looks for new ones.
# No deadline: how long one example takes says more about the machine than about the code.
settings.register_profile(
    "short", max_examples=60, stateful_step_count=30, derandomize=True, deadline=None, database=None
)
settings.register_profile(
    "soak",
    max_examples=1200,
    stateful_step_count=60,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("soak" if SOAK else "short")


def pytest_sessionstart() -> None:
    """Under CROSSFADE_COMPILED the modules under test must be the compiled ones."""
    if os.environ.get("CROSSFADE_COMPILED") == "1":
        from proxy.http import head

        assert str(head.__file__).endswith(".so"), head.__file__


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without `make soak`, what is marked for it does not run.

    Under CROSSFADE_EVERY=N every N-th test runs, the same ones each time: what runs whole elsewhere is run again.
    """
    if not SOAK:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("soak")])
        items[:] = [item for item in items if not item.get_closest_marker("soak")]
    every = int(os.environ.get("CROSSFADE_EVERY", "1"))
    if every > 1:
        config.hook.pytest_deselected(items=[item for number, item in enumerate(items) if number % every])
        items[:] = items[::every]
    for item in items:
        bound(item, least=3600.0 if SOAK else 0.0)  # full counts take their time; what hangs ends all the same


def pytest_collection_finish(session: pytest.Session) -> None:
    """What runs end to end is compiled; that takes a core for a minute, which the tests before it leave idle."""
    gc.collect()
    gc.freeze()  # thousands of tests, which live as long as the process
    if not session.config.option.collectonly and any(item.path.parent.name == "e2e" for item in session.items):
        compiled.begin()


def pytest_sessionfinish() -> None:
    """Also when nobody got as far as to need it."""
    compiled.end()


@pytest.fixture(scope="session")
def soak() -> bool:
    """True under `make soak`: tests that count take their full counts."""
    return SOAK


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that every process has: uvloop differs from asyncio's where it matters to us."""
    return {"uvloop": uvloop.new_event_loop}

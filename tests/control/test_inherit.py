"""What a child reads from its environment, and when it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.control.code_place import NAMED
from proxy.control.holdings import Holdings
from proxy.control.inherit import RELIEVED, Inherited, Stops, read_all, say_refusal, stop_requested
from proxy.control.outfit import outfit_of
from proxy.core.errors import RefuseToStart
from tests.control.helpers import make_settings

CONFIG = """\
version: 1
salt: a-salt-for-tests
state_dir: state
listen: ["127.0.0.1:0"]
backends: {old: {url: "http://127.0.0.1:9"}, new: {url: "http://127.0.0.1:9"}}
routes: [{name: events, match: {path: /e}}]
admin: {tcp: off}
"""


def environment_of(holdings: Holdings) -> dict[str, str]:
    return dict(outfit_of(holdings, NAMED, started_ns=1).environment)


@pytest.fixture
def holdings(state_dir: Path) -> Iterator[Holdings]:
    path = state_dir / "crossfade.yaml"
    path.write_text(CONFIG)
    held = Holdings(make_settings(state_dir / "state"), path)
    yield held
    held.close()


def test_reads_the_text_that_was_loaded_not_the_file(holdings: Holdings) -> None:
    holdings.config_path.write_text("edited: and broken")
    inherited = Inherited.from_environment(environment_of(holdings))
    assert inherited.settings.routes[0].name == "events"
    assert inherited.places.root == holdings.places.root
    assert inherited.config_path == holdings.config_path
    assert inherited.listen_fds == (holdings.sockets[0].fileno(),)
    assert inherited.marks_fd == holdings.marks_fd
    assert inherited.ready_fd == holdings.ready_fd
    assert inherited.launcher_pid == os.getpid()
    assert inherited.started_ns > 0


def test_a_process_started_by_hand_is_refused() -> None:
    with pytest.raises(RefuseToStart, match="proxyctl run"):
        Inherited.from_environment({})


def test_a_descriptor_that_is_not_there_is_refused(holdings: Holdings) -> None:
    closed = os.dup(holdings.marks_fd)
    os.close(closed)
    with pytest.raises(RefuseToStart, match="proxyctl run"):
        Inherited.from_environment(environment_of(holdings) | {"CROSSFADE_CONFIG_FD": str(closed)})


def test_read_all_does_not_move_the_shared_offset() -> None:
    descriptor = os.memfd_create("test")
    os.write(descriptor, b"x" * 3_000_000)
    assert read_all(descriptor) == read_all(descriptor) == b"x" * 3_000_000
    os.close(descriptor)


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_asks_to_stop(holdings: Holdings, number: signal.Signals) -> None:
    inherited = Inherited.from_environment(environment_of(holdings))
    waiting = asyncio.create_task(stop_requested(inherited))
    await asyncio.sleep(0)
    os.kill(os.getpid(), number)
    assert await waiting == number.name
    asyncio.get_running_loop().remove_signal_handler(number)


@pytest.mark.asyncio
async def test_the_lifelines_end_asks_to_stop(holdings: Holdings) -> None:
    inherited = Inherited.from_environment(environment_of(holdings))
    child_end = os.dup(inherited.lifeline_fd)
    waiting = asyncio.create_task(stop_requested(_with_lifeline(inherited, child_end)))
    await asyncio.sleep(0)
    assert not waiting.done()
    holdings.close()
    assert await waiting == "the launcher died"
    os.close(child_end)


@pytest.mark.asyncio
async def test_what_comes_while_nobody_waits_is_waited_for_next(holdings: Holdings) -> None:
    """A worker is told to stop just as it begins to retire."""
    inherited, me = Inherited.from_environment(environment_of(holdings)), os.getpid()
    with closing(Stops(inherited, signal.SIGUSR1)) as stops:
        os.kill(me, signal.SIGUSR1)
        assert await stops.next() == RELIEVED
        os.kill(me, signal.SIGUSR1)  # again is no news
        os.kill(me, signal.SIGTERM)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            assert await stops.next() == "SIGTERM"
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)


def _with_lifeline(inherited: Inherited, descriptor: int) -> Inherited:
    return Inherited(**{**vars(inherited), "lifeline_fd": descriptor})


def test_a_refusal_reaches_the_launcher_on_one_line(holdings: Holdings) -> None:
    say_refusal("no\nroom " + "x" * 5000, environment_of(holdings))
    said = os.read(holdings.ready_read_fd, 10_000)
    assert said.startswith(f"refused {os.getpid()} no\\nroom xxx".encode())
    assert (said.count(b"\n"), said[-1:]) == (1, b"\n")
    assert len(said) < 4096


def test_a_refusal_that_nobody_can_hear_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    say_refusal("no", {})
    assert "the launcher could not be told the reason" in caplog.text

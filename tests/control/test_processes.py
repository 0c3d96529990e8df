"""A process that was known once, and what is left of it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

from proxy.control.processes import GONE, UNKNOWN, end, is_stopped, started
from tests.control.helpers import wait_for


def test_a_process_has_one_start_for_its_life() -> None:
    first = started(os.getpid())
    assert first > GONE
    assert started(os.getpid()) == first


def test_a_name_may_have_anything_in_it(tmp_path: Path) -> None:
    """The kernel writes it in parentheses, as it is."""
    program = tmp_path / "a) Z 1 ("
    program.symlink_to(sys.executable)
    child = subprocess.Popen([program, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        wait_for(lambda: started(child.pid) >= started(os.getpid()), "it runs")
        assert started(child.pid) < started(os.getpid()) + 10**7
    finally:
        child.communicate(b"\n")
    assert started(child.pid) == GONE


def test_one_that_has_ended_is_gone_before_its_parent_looks() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    wait_for(lambda: started(child.pid) == GONE, "only a zombie is left")
    assert child.poll() == 0
    assert started(2**22 + 1) == GONE


def test_one_that_is_stopped_does_nothing_and_can_be_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert not is_stopped(child.pid)
        child.send_signal(signal.SIGSTOP)
        wait_for(lambda: is_stopped(child.pid), "it is stopped")
        end(child.pid)
        assert child.wait(10) == -signal.SIGKILL
        end(child.pid)
        assert not is_stopped(child.pid)
    finally:
        child.kill()
        child.communicate()


def test_without_a_descriptor_nothing_is_known_of_it() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))  # none is free below it
    try:
        found = started(os.getpid())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == UNKNOWN

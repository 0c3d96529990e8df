"""CPU time and memory of a process and all of its children."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.processes import (
    BenchmarkFailed,
    Started,
    Stat,
    cpu_seconds,
    free_ports,
    is_listening,
    parse_stat,
    read_stat,
    role,
    rss_bytes,
    tree,
    wait_until,
)

# A parent that waits for its child; the child burns 0.2 s of CPU time and then waits to be ended.
CHILD = "import time\nwhile time.process_time() < 0.2: pass\nprint('burnt', flush=True)\ntime.sleep(600)"
PARENT = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {CHILD!r}])"


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Started]:
    core = min(os.sched_getaffinity(0))
    started = Started("a family", [sys.executable, "-c", PARENT], core=core, log=tmp_path / "log")
    yield started
    for pid in tree(started.pid) - {started.pid}:
        os.kill(pid, signal.SIGKILL)
    started.stop()


def test_a_name_with_spaces_and_parentheses_does_not_shift_the_fields() -> None:
    fields = " ".join(str(number) for number in range(5, 53))
    assert parse_stat(f"77 (a) b (c)) S 42 {fields}") == Stat(parent=42, ticks=14 + 15, rss_pages=24)


def test_the_cpu_time_of_a_child_is_counted(family: Started) -> None:
    wait_until(lambda: "burnt" in family.tail(), "the child to burn its time")
    pids = family.pids()
    assert len(pids) == 2
    assert cpu_seconds(pids) >= 0.19
    assert cpu_seconds(pids) > cpu_seconds({family.pid})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["proxy.worker", "--index", "0"], "worker"),
        (["proxy.worker.ledger_process"], "ledger"),
        (["proxy.control.supervisor"], "supervisor"),
        (["/somewhere/proxyctl", "run"], "launcher"),
        (["nothing of ours"], "other"),
    ],
)
def test_roles_are_told_by_the_command_line(words: list[str], expected: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)", *words]
    started = Started("p", command, core=0, log=tmp_path / "log")
    try:
        wait_until(lambda: "up" in started.tail(), "it to start")
        assert role(started.pid) == expected
    finally:
        started.stop()


def test_memory_is_that_of_all_processes(family: Started) -> None:
    wait_until(lambda: "burnt" in family.tail(), "the child to start")
    assert rss_bytes(family.pids()) > rss_bytes({family.pid}) > 2**20


def test_processes_are_pinned(family: Started) -> None:
    wait_until(lambda: "burnt" in family.tail(), "the child to start")
    assert {frozenset(os.sched_getaffinity(pid)) for pid in family.pids()} == {
        frozenset({min(os.sched_getaffinity(0))})
    }


def test_a_process_that_ended_is_a_failure_with_its_last_words(tmp_path: Path) -> None:
    started = Started("a brief one", [sys.executable, "-c", "print('no room')"], core=0, log=tmp_path / "log")
    with pytest.raises(BenchmarkFailed, match=r"(?s)a brief one ended with 0.*no room"):
        wait_until(lambda: not started.pids(), "its end")


def test_a_process_that_is_gone_cannot_be_measured(tmp_path: Path) -> None:
    started = Started("gone", [sys.executable, "-c", ""], core=0, log=tmp_path / "log")
    started.stop()
    assert read_stat(started.pid) is None
    with pytest.raises(BenchmarkFailed, match="ended while it was measured"):
        cpu_seconds({started.pid})


def test_a_stopped_process_is_woken_to_be_ended(tmp_path: Path) -> None:
    started = Started("stalled", [sys.executable, "-c", "import time; time.sleep(600)"], core=0, log=tmp_path / "log")
    started.signal_all(signal.SIGSTOP)
    started.stop()
    assert read_stat(started.pid) is None


def test_free_ports_are_different_and_nobody_listens() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert not any(is_listening(port) for port in ports)


def test_waiting_ends_with_what_was_waited_for() -> None:
    with pytest.raises(BenchmarkFailed, match="for the moon"):
        wait_until(lambda: False, "the moon", timeout=0.05)

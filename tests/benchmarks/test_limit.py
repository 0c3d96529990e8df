"""System calls as strace counts them."""

from __future__ import annotations

import pytest

from benchmarks.limit import Calls, parse_strace, table
from benchmarks.processes import BenchmarkFailed

PRINTED = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 62.10    0.210000           4     50000           write
 30.00    0.100000           2     51000      1000 recvfrom
  7.90    0.030000          30      1000         1 epoll_wait
------ ----------- ----------- --------- --------- ----------------
100.00    0.340000           3    102000      1001 total
"""


def test_calls_are_read_with_and_without_errors() -> None:
    assert parse_strace(PRINTED) == {"write": 50_000, "recvfrom": 51_000, "epoll_wait": 1_000}


def test_anything_else_is_a_failure() -> None:
    with pytest.raises(BenchmarkFailed, match="not what strace -c prints"):
        parse_strace("strace: attach: Operation not permitted")


def test_calls_are_told_by_their_number() -> None:
    ours = Calls("crossfade split", {"a": 0.1, "b": 0.2, "c": 1.0, "d": 2.0, "e": 0.3, "f": 0.4, "g": 0.01, "h": 0.02})
    (row,) = table([ours]).rows
    assert row == [
        "crossfade split", "4.03", "d 2.00, c 1.00, f 0.40, e 0.30, b 0.20, a 0.10, others 0.03",
    ]  # fmt: skip

"""What wrk prints, and what is read from it."""

from __future__ import annotations

import pytest

from benchmarks.measure_wrk import WrkResult, parse
from benchmarks.processes import BenchmarkFailed

GOOD = """\
Running 2s test @ http://127.0.0.1:8080/api/v1/events
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.49ms  412.11us  12.34ms   91.00%
    Req/Sec    42.80k     1.20k   44.10k    85.00%
  Latency Distribution
     50%  950.00us
     75%    1.61ms
     90%    1.90ms
     99%    1.20s
  85601 requests in 2.01s, 20.11MB read
Requests/sec:  42587.56
Transfer/sec:     10.01MB
"""


def test_a_good_run() -> None:
    result = parse(GOOD)
    assert result == WrkResult(requests=85601, seconds=2.01, p50=0.00095, p99=1.2, errors=0)
    assert result.rate == pytest.approx(85601 / 2.01)


def test_socket_errors_and_bad_answers_are_added_up() -> None:
    troubles = (
        "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 50000\nRequests/sec"
    )
    assert parse(GOOD.replace("Requests/sec", troubles)).errors == 54321


def test_a_run_of_minutes() -> None:
    assert parse(GOOD.replace("in 2.01s", "in 1.50m")).seconds == 90.0


@pytest.mark.parametrize(
    "text", ["", "unable to connect to 127.0.0.1:8080 Connection refused", GOOD.replace("99%", "98%")]
)
def test_anything_else_is_a_failure(text: str) -> None:
    with pytest.raises(BenchmarkFailed, match="not what wrk prints"):
        parse(text)

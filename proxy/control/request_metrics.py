"""The metrics of requests, as text: with fifty routes they are nine tenths of an exposition.

Written by hand, because prometheus-client makes an object, a dictionary and a check of every label of each line: 4,700
lines took it five times as long as all that it is still left with. What a histogram is made of, a sketch's buckets, is
put to its bound by a table; the buckets are 2 % wide, so a count may be in the neighbouring bucket when its duration is
within 2 % of a bound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate
from math import fsum
from typing import Final

from proxy.control.sums import Answers, Series, Sums

BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds in seconds."""
GROWTH: Final = 1.02
"""Of a sketch's buckets; see proxy.core.sketch."""
_ALWAYS: Final = ("2xx", "5xx", "error")
"""Code classes that are there from the first answer on: a rate is blind to how high a series begins."""
_REQUESTS: Final = "crossfade_requests_total"
_DURATION: Final = "crossfade_request_duration_seconds"
_LABELS: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_ENDS: Final = tuple([f'",le="{bound}"}} ' for bound in (*BOUNDS, "+Inf")])


class _Places(dict[int, tuple[int, float]]):
    """By a sketch's bucket, the histogram's and the duration that it stands for."""

    def __missing__(self, index: int) -> tuple[int, float]:
        middle = GROWTH ** (index - 0.5)
        self[index] = found = bisect_left(BOUNDS, middle), middle
        return found


_places: Final = _Places()


def histogram(sketch: Mapping[int, int]) -> tuple[list[int], float]:
    """Cumulative counts up to each bound, the last one of all, and the sum of all durations (to 1 %)."""
    counts, durations, places = [0] * (len(BOUNDS) + 1), [], _places
    for index, count in sketch.items():
        place, middle = places[index]
        counts[place] += count
        durations.append(count * middle)
    return list(accumulate(counts)), fsum(durations)  # the same in any order: by a rounding error it would go back


def request_text(total: Sums) -> str:
    """Both families, each line ended."""
    series = [(_labels(each), answers) for each, answers in sorted(total.requests.items())]
    return "".join([
        f"# HELP {_REQUESTS} Answers and failures of a backend\n# TYPE {_REQUESTS} counter\n",
        *(line for labels, answers in series for line in _counts(labels, answers)),
        f"# HELP {_DURATION} From sending an event to the end of the backend's answer\n# TYPE {_DURATION} histogram\n",
        *(line for labels, answers in series for line in _durations(labels, answers)),
    ])  # fmt: skip


def _labels(series: Series) -> str:
    """Without the last quote, which what follows begins with."""
    route, backend, role = (text.translate(_LABELS) for text in (series.route, series.backend, series.role))
    return f'route="{route}",backend="{backend}",role="{role}'


def _counts(labels: str, answers: Answers) -> Iterator[str]:
    classes = answers.classes
    for name in sorted({*_ALWAYS, *classes}):
        yield f'{_REQUESTS}{{{labels}",code_class="{name}"}} {classes[name]}.0\n'


def _durations(labels: str, answers: Answers) -> Iterator[str]:
    counts, summed = histogram(answers.latency)
    start = f"{_DURATION}_bucket{{{labels}"
    for end, count in zip(_ENDS, counts, strict=True):
        yield f"{start}{end}{count}.0\n"
    yield f'{_DURATION}_count{{{labels}"}} {counts[-1]}.0\n{_DURATION}_sum{{{labels}"}} {summed}\n'

"""What a check found, for people and programs: gathered window by window in bounded memory, told as one JSON object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from config.rules import FieldRule
from consistency.classes import MISMATCHES, Class
from consistency.compare import Counts, Finding
from consistency.judge import Judged
from consistency.rows import Span
from consistency.shown import KEPT, small

BY_ROWS: Final = "rows"
BY_SUMS: Final = "sums"
"""How deep a check looked: at every row, or at those alone of which sums over many of them differ."""
MOST_REASONS: Final = 20
"""Windows that could not be read that are told."""
ALWAYS: Final = MISMATCHES | {Class.EQUAL}
"""Classes that are told also when nothing is of them."""
MOST_BINS: Final = 120
"""Of the span, in which counts are told over time."""


class Report:
    """One check of a span. record: what the ledger had to say, `three-way` or why it had not; wanted: findings that are
    told by themselves, where not all are.
    """

    def __init__(
        self, routes: Sequence[str], span: Span, record: str, wanted: Callable[[Finding], bool] = lambda _: True
    ) -> None:
        self._wanted = wanted
        self.routes = tuple(routes)
        self.span = span
        self.record = record
        self._judged: dict[int, Judged] = {}
        self._unread: dict[int, tuple[Span, str]] = {}
        self._kept: Counter[Class] = Counter()
        self.unseen: set[str] = set()
        """`json_fields` that no row has."""
        self.broken_repair = ""
        """Why a repair broke off."""
        self.unlisted = 0
        """Findings that a repair did not look at."""
        self.timeless = 0
        """Events whose own time could not be believed: that of their arrival stands in its place."""
        self.depth = BY_ROWS
        self._counts: Counts | None = None

    def add(self, judged: Judged) -> None:
        """One window; in the place of what was found in it before."""
        start = judged.window.start
        before = self._judged.pop(start, None)
        self._unread.pop(start, None)
        self._counts = None
        if before is not None:
            self._kept.subtract(finding.kind for finding in before.findings)
        if judged.inconclusive:
            self.fail_to_read(judged.window, judged.inconclusive)
            return
        few = []
        for finding in judged.findings:
            if self._kept[finding.kind] < KEPT and self._wanted(finding):
                self._kept[finding.kind] += 1
                few.append(small(finding))
        self._judged[start] = Judged(judged.window, judged.counts, few, latest=judged.latest)

    def fail_to_read(self, window: Span, reason: str) -> None:
        """Of a window, or the whole span, nothing can be said."""
        self._unread[window.start] = window, reason

    @property
    def counts(self) -> Counts:
        """Over all windows."""
        if self._counts is None:
            self._counts = Counts()
            for judged in self._judged.values():
                self._counts.merge(judged.counts)
        return self._counts

    @property
    def verdict(self) -> str:
        """`fail` with a mismatch, whatever else; `inconclusive` when something could not be read or is still pending,
        or nothing that is there was ours; `nodata` when there was nothing at all; else `pass`.
        """
        counts = self.counts
        if counts.mismatches:
            return "fail"
        if self._unread or counts.classes[Class.PENDING]:
            return "inconclusive"
        if counts.settled:
            return "pass"
        return "inconclusive" if counts.classes.total() else "nodata"

    def findings(self) -> list[Finding]:
        """Those that were kept, mismatches first, each class in order of time."""
        found: dict[Class, list[Finding]] = {}
        for _, judged in sorted(self._judged.items()):
            for finding in judged.findings:
                found.setdefault(finding.kind, []).append(finding)
        ordered = sorted(Class, key=lambda kind: kind not in MISMATCHES)
        return [finding for kind in ordered for finding in found.get(kind, ())]

    def as_dict(self, unused: Sequence[FieldRule], top: int) -> dict[str, Any]:
        """The whole as JSON. unused: rules that nothing matched; top: findings and fields that are told."""
        counts, found = self.counts, self.findings()
        return {
            "result": self.verdict,
            "routes": list(self.routes),
            "from": iso(self.span.start),
            "to": iso(self.span.end),
            "record": self.record,
            "depth": self.depth,
            "windows": {
                "judged": len(self._judged),
                "pending": sum(judged.is_pending for judged in self._judged.values()),
                "inconclusive": len(self._unread),
            },
            "classes": {str(kind): counts.classes[kind] for kind in Class if counts.classes[kind] or kind in ALWAYS},
            "settled": counts.settled,
            "mismatches": counts.mismatches,
            "mismatch_rate": counts.rate,
            "enriched_fields": counts.enriched,
            "fields": {
                "different": dict(counts.fields.most_common(top)),
                "tolerated": dict(counts.tolerated.most_common(top)),
            },
            "unused_rules": [str(rule) for rule in unused] if counts.settled else [],
            "unseen_json_fields": sorted(self.unseen) if counts.settled else [],
            "timeless_events": self.timeless,
            "timeline": self._timeline(),
            "inconclusive": self._reasons(),
            "findings": [told(finding) for finding in found[:top]],
            "findings_untold": max(0, len(found) - top),
        }

    def _timeline(self) -> list[dict[str, Any]]:
        """Counts by window, or of several that lie together where there are many; where nothing was judged is none."""
        width = max(1, -(-(self.span.end - self.span.start) // MOST_BINS))
        bins: dict[int, _Bin] = {}
        for start, judged in sorted(self._judged.items()):
            bins.setdefault((start - self.span.start) // width, _Bin(judged.window)).add(judged)
        return [each.as_dict() for each in bins.values()]

    def _reasons(self) -> list[dict[str, Any]]:
        """Each reason once, with the first window that has it and how many there are."""
        found: dict[str, dict[str, Any]] = {}
        for _, (window, reason) in sorted(self._unread.items()):
            told = found.setdefault(reason, {"from": iso(window.start), "windows": 0, "reason": reason})
            told["windows"] += 1
        return list(found.values())[:MOST_REASONS]


class _Bin:
    """Windows that are told as one; the first one begins it."""

    def __init__(self, window: Span) -> None:
        self._start = window.start
        self._end = window.end
        self._counts = Counts()
        self._latest = 0.0

    def add(self, judged: Judged) -> None:
        """One window more, later than those before."""
        self._end = judged.window.end
        self._counts.merge(judged.counts)
        self._latest = max(self._latest, judged.latest)

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "from": iso(self._start),
            "to": iso(self._end),
            "settled": self._counts.settled,
            "classes": {str(kind): number for kind, number in self._counts.classes.items() if number},
            "latest_s": self._latest,
        }


def told(finding: Finding) -> dict[str, Any]:
    """One finding as JSON."""
    return {
        "identity": finding.key.identity,
        "time": iso(finding.key.at),
        "class": str(finding.kind),
        "by": list(finding.by),
        "ids": list(finding.ids),
        "differences": [
            {"path": each.path, "reason": each.reason, "old": each.old, "new": each.new} for each in finding.differences
        ],
    }


def iso(at: int) -> str:
    """Nanoseconds since the epoch as ISO 8601 in UTC, with as many digits as it needs."""
    seconds, nanos = divmod(at, 1_000_000_000)
    try:
        text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{at} ns"
    digits = f"{nanos:09d}".rstrip("0")
    return f"{text}.{digits}Z" if digits else f"{text}Z"

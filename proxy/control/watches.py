"""What the guard looks at in one route: each watch knows one kind of trouble at new, and says what it found.

A watch takes the figures of all processes from the tally whenever it is asked, and forgets what it has seen when the
weight changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from config.model import Route
from proxy.control.check_watch import CheckWatch
from proxy.control.downtime_watch import DowntimeWatch
from proxy.control.lag_watch import LagWatch
from proxy.control.link import LedgerStats
from proxy.control.probes import Probes
from proxy.control.silence_watch import SilenceWatch
from proxy.control.tally import Tally, wilson
from proxy.control.watch import Cause, Watch, run_of_failures, told
from proxy.core.breaker import BreakerTrouble
from proxy.core.event import NEW, OLD
from proxy.core.gate import PAUSE, REVERT, SEVERITY
from proxy.core.sequential import OF_ERRORS, CountedTest, Counts, Suspicion
from proxy.core.slower import Slower, SlowerTest
from proxy.core.verdict import Verdict, verdict

BREAKER: Final = "breaker"
HEALTH: Final = "health"
DEPENDENCY: Final = "dependency"
ERROR_RATE: Final = "error-rate"
SLOWER: Final = "slower"
ALERT: Final = "alert"
"""A person is told, and that is all."""
WAITING: Final = 3
"""Events that wait for new behind a shut gate: it is not one that is never taken."""

_LOOK_AT_LATENCY: Final = 1.0
"""Seconds between looks at latencies."""
_LOOK_BACK: Final = 600.0
_LOOK_CLOSE: Final = 0.2
"""Seconds of old's answers that are known, and how closely."""
QUIET: Final = 60.0
"""Seconds without an answer of new after which nothing is known of it."""


class Watches:
    """Everything that is looked at in a route. is_checked: a live checker looks at its stores."""

    def __init__(self, route: Route, tally: Tally, probes: Probes, *, is_checked: bool) -> None:
        trigger = route.trigger
        self._errors = ErrorWatch(route, tally)
        breaker: list[Watch] = [BreakerWatch(route, tally)] if trigger.on_breaker else []
        health: list[Watch] = [HealthWatch(route, probes)] if trigger.on_health else []
        down: list[Watch] = [DowntimeWatch(route, probes)] if trigger.on_health and trigger.downtime else []
        silence: list[Watch] = [SilenceWatch(route, tally, probes)] if trigger.silence else []
        latency: list[Watch] = [LatencyWatch(route, tally)] if trigger.slower else []
        lag: list[Watch] = [LagWatch(route, tally)] if trigger.lag_age else []
        self._check = CheckWatch(route, tally)
        check: list[Watch] = [self._check] if is_checked else []
        self._on_fail: Mapping[str, str] = dict(trigger.on_fail.items())
        self._all = [*breaker, *health, *silence, *down, self._errors, *check, *latency, *lag]
        """In the order in which causes are named."""

    def begin(self, epoch: int) -> None:
        """The traffic is another one, since this epoch."""
        for watch in self._all:
            watch.begin(epoch)

    def forgive(self) -> None:
        """A person begins anew at the same weight: what the checker found before that is known to him."""
        self._check.forgive()

    def judge(self, now: float) -> tuple[Verdict, Cause | None]:
        """What is thought of new now, and for what the weight should go back."""
        causes = [self._ruled(cause) for watch in self._all if (cause := watch.judge(now)) is not None]
        failed = sorted((cause for cause in causes if not cause.is_alert), key=lambda cause: SEVERITY.index(cause.act))
        alerts = [cause.text for cause in causes if cause.is_alert or cause.act == PAUSE]
        doubts = [doubt for watch in self._all for doubt in watch.doubts()]
        found = verdict([cause.text for cause in failed], alerts, doubts, self._errors.samples)
        found = found._replace(failed=self._errors.failed, act=failed[0].act if failed else "")
        return found, failed[0] if failed else None

    def _ruled(self, cause: Cause) -> Cause:
        """As the configuration has it."""
        act = self._on_fail.get(cause.kind, REVERT)
        return cause._replace(is_alert=True) if act == ALERT else cause._replace(act=act)


class _Opened(NamedTuple):
    """An open breaker. workers: none where it is the ledger's; trouble: of the one that fails longest, None unknown."""

    workers: list[int]
    trouble: BreakerTrouble | None


class BreakerWatch:
    """New's breakers: as soon as one is open. Where one of old is open as well, going back is no help."""

    def __init__(self, route: Route, tally: Tally) -> None:
        self._old, self._new = route.old, route.new
        self._tally = tally

    def begin(self, epoch: int) -> None:
        """A breaker is as it is."""

    def judge(self, now: float) -> Cause | None:
        """By what the processes that are there said last."""
        found = self._opened(self._new)
        if found is None:
            return None
        where = f"worker {', '.join(map(str, found.workers))}" if found.workers else "the ledger"
        text = f"the breaker of {self._new} is open in {where}"
        evidence: dict[str, Any] = {"workers": found.workers}
        if found.trouble is not None:
            text = f"{text}: {found.trouble.reason}"
            evidence |= run_of_failures(found.trouble.reason, found.trouble.failures, found.trouble.lasts)
        if self._opened(self._old) is not None:
            text = f"{text}; one of {self._old} as well, so nothing is reverted"
            return Cause(BREAKER, text, evidence, is_alert=True)
        return Cause(BREAKER, text, evidence)

    def _opened(self, backend: str) -> _Opened | None:
        """Where a backend's breaker is open, and why; None where it is not."""
        reports = {index: stats for index, stats in self._tally.present() if stats.breakers.get(backend) == "open"}
        if reports:
            troubles = [stats.breaker_troubles.get(backend) for stats in reports.values()]
            known = [trouble for trouble in troubles if trouble is not None]
            return _Opened([*reports], max(known, key=lambda trouble: trouble.lasts, default=None))
        ledger = self._tally.ledger
        if ledger is not None and self._is_open_in(ledger, backend):
            return _Opened([], ledger.breaker_troubles.get(backend))
        return None

    def _is_open_in(self, ledger: LedgerStats, backend: str) -> bool:
        """With few keys workers soon hand everything to the ledger, and it alone still sees that a backend is down.

        Its breaker hears of what it delivers itself, which may be one event that is never taken, again and again. So
        its gate must be shut as well, which hears of the events that workers deliver, too, and knows how many failed;
        with few keys that may be one event, while others wait behind it.
        """
        shut = [side for side in ledger.sides if side.backend == backend and not side.is_open]
        is_certain = any(side.is_failing or side.balance.get("pending", 0) >= WAITING for side in shut)
        return is_certain and ledger.breakers.get(backend) == "open"

    def doubts(self) -> list[str]:
        """A breaker that is not closed yet."""
        states = {stats.breakers.get(self._new) for _, stats in self._tally.present()}
        return [f"the breaker of {self._new} is half-open"] if "half-open" in states else []


class HealthWatch:
    """New's health probe, and what new depends on, with the same patience; the last look at that alone is a doubt."""

    def __init__(self, route: Route, probes: Probes) -> None:
        self._old, self._new = route.old, route.new
        self._probes = probes

    def begin(self, epoch: int) -> None:
        """A backend is as it is."""

    def judge(self, now: float) -> Cause | None:
        """By what the probes found last."""
        healthy = self._probes.healthy
        if healthy.get(self._new) is not False:
            return self._depends(now)
        text, evidence = f"the health probe of {self._new} fails", dict[str, Any]()
        trouble = self._probes.trouble(self._new, now)
        if trouble is not None:
            text = f"{text}: {trouble.detail} ({trouble.failures} in a row, for {trouble.lasts:.1f} s)"
            evidence = run_of_failures(trouble.detail, trouble.failures, trouble.lasts)
        if healthy.get(self._old) is False:
            text = f"{text}; that of {self._old} as well, so nothing is reverted"
            return Cause(HEALTH, text, evidence, is_alert=True)
        return Cause(HEALTH, text, evidence)

    def _depends(self, now: float) -> Cause | None:
        """On something that is down. Where old depends on the same, or is down itself, going back is no help."""
        down = [each for each in self._probes.dependencies if each.standing.is_healthy is False]
        trouble_of_new = next((each for each in down if each.backend == self._new), None)
        if trouble_of_new is None:
            return None
        text, evidence = f"{trouble_of_new.name} behind {self._new} is down", dict[str, Any]()
        trouble = trouble_of_new.standing.trouble(now)
        if trouble is not None:
            text = f"{text}: {trouble.detail} ({trouble.failures} in a row, for {trouble.lasts:.1f} s)"
            evidence = run_of_failures(trouble.detail, trouble.failures, trouble.lasts)
        of_old = {name for each in down if each.backend == self._old for name in (each.name, each.address)}
        if of_old & {trouble_of_new.name, trouble_of_new.address} or self._probes.healthy.get(self._old) is False:
            text = f"{text}; it is no better behind {self._old}, so nothing is reverted"
            return Cause(DEPENDENCY, text, evidence, is_alert=True)
        return Cause(DEPENDENCY, text, evidence)

    def doubts(self) -> list[str]:
        """What new depends on and is not well."""
        return [
            f"{each.name} behind {each.backend} is not well: {each.detail}"
            for each in self._probes.dependencies
            if each.backend == self._new and each.healthy is False
        ]


class ErrorWatch:
    """Failed events, of new and of old: where old fails as well it is not new's doing, and going back is no help."""

    def __init__(self, route: Route, tally: Tally) -> None:
        self._route = route.name
        self._limit = route.trigger.error_rate
        self._hold = route.trigger.error_hold
        self._tests = {side: CountedTest(self._limit, budget=OF_ERRORS) for side in (OLD, NEW)}
        self._tally = tally
        self._first: tuple[int, int] | None = None
        self.samples = self.failed = 0
        """Answers of new since the weight was changed, and those that were failures."""
        self._old: deque[Counts] = deque()
        self._answered_at = self._now = 0.0
        self._is_alarm = False

    def begin(self, epoch: int) -> None:
        """What was answered before says nothing of this weight."""
        for test in self._tests.values():
            test.reset()
        self._first = None
        self.samples = self.failed = 0
        self._old.clear()

    def judge(self, now: float) -> Cause | None:
        """By the answers of both sides."""
        found = {}
        for side, test in self._tests.items():
            counts = Counts(now, *self._tally.judged(self._route, side))
            found[side] = test.observe(counts)
            if side == NEW:
                self._count(Counts(now, *self._tally.answered(self._route, side)))
            elif not self._old or now - self._old[-1].at >= _LOOK_CLOSE:
                self._old.append(counts)
                while self._old[0].at < now - _LOOK_BACK:
                    self._old.popleft()
        suspicion = found[NEW]
        self._is_alarm = suspicion is not None
        if suspicion is None:
            return None
        counted = f"{suspicion.failed} of {suspicion.total} events failed at new in {now - suspicion.since:.1f} s"
        text = f"{counted} ({suspicion.share:.2%}, limit {self._limit:.2%})"
        evidence = {"test": told(suspicion, self._limit, now)}
        if self._tests[OLD].is_suspected and suspicion.share <= self._old_at_most(suspicion.since, found[OLD]):
            return Cause(ERROR_RATE, f"{text}; old fails as well, so nothing is reverted", evidence, is_alert=True)
        return Cause(ERROR_RATE, text, evidence)

    def _count(self, counts: Counts) -> None:
        total, failed = counts.total, counts.failed
        if self._first is None or total < self._first[0] or failed < self._first[1]:
            self._first = total, failed
            self._answered_at = counts.at
        if total - self._first[0] > self.samples:
            self._answered_at = counts.at
        self._now = counts.at
        self.samples, self.failed = total - self._first[0], failed - self._first[1]

    def _old_at_most(self, since: float, alarm: Suspicion | None) -> float:
        """The share of old's events that fail at most, by those since then, and by its own alarm; 0 without any."""
        total, failed = self._tally.judged(self._route, OLD)
        first = next((each for each in reversed(self._old) if each.at < since), self._old[0])
        since_then = wilson(failed - first.failed, total - first.total)
        by_alarm = wilson(alarm.failed, alarm.total) if alarm is not None and since_then is not None else None
        return max(each.high / 100 if each is not None else 0.0 for each in (since_then, by_alarm))

    def doubts(self) -> list[str]:
        """Failures beyond what is let pass, or so many lately that there may be too many."""
        found = []
        if self.failed > self._hold * self.samples:
            share = f"{self.failed / self.samples:.2%}, and {self._hold:.2%} holds"
            found.append(f"{self.failed} of {self.samples} events failed at new since the weight was changed ({share})")
        if self._tests[NEW].is_suspected and not self._is_alarm:
            found.append("more events fail at new than should, as it looks; that is not certain yet")
        silent = self._now - self._answered_at
        if self.samples and silent > QUIET:
            found.append(f"new has answered nothing for {silent:.0f} s")
        return found


class LatencyWatch:
    """New's answers that take longer than old's do at the same time: an alert before it is a revert."""

    def __init__(self, route: Route, tally: Tally) -> None:
        trigger = route.trigger
        self._route = route.name
        self._ratio = trigger.slower
        self._revert = SlowerTest(self._ratio, trigger.slower_by)
        self._alert = SlowerTest(self._ratio / 2, trigger.slower_by / 2)
        self._tally = tally
        self._looked = 0.0
        self._found: Cause | None = None

    def begin(self, epoch: int) -> None:
        """What was answered before says nothing of this weight."""
        self._revert.reset()
        self._alert.reset()
        self._found = None

    def judge(self, now: float) -> Cause | None:
        """By the latencies of both sides."""
        if now - self._looked < _LOOK_AT_LATENCY:
            return self._found
        self._looked = now
        old, new = (self._tally.latencies(self._route, side) for side in (OLD, NEW))
        slower, hint = self._revert.observe(old, new, now), self._alert.observe(old, new, now)
        self._found = None
        if slower is not None:
            self._found = self._cause(slower, self._ratio, now)
        elif hint is not None:
            self._found = self._cause(hint, self._ratio / 2, now)._replace(is_alert=True)
        return self._found

    def doubts(self) -> list[str]:
        """There is an alert before it is certain."""
        return []

    def _cause(self, slower: Slower, ratio: float, now: float) -> Cause:
        suspicion, limit = slower.suspicion, f"{1000 * slower.limit:.3g} ms"
        share = f"{suspicion.share:.1%} of {suspicion.total} answers took longer than {limit}"
        allowed = f"old's p{100 * slower.quantile:g} and {ratio:.0%}, which {1.0 - slower.quantile:.0%} may"
        text = f"new is slower: {share} ({allowed})"
        test = told(suspicion, 1.0 - slower.quantile, now)
        return Cause(SLOWER, text, {"test": test | {"quantile": slower.quantile, "seconds_allowed": slower.limit}})

"""What the live checker found in both stores, as the guard sees it: losses, the share of mismatches, its probes."""

from __future__ import annotations

from typing import Any, Final

from config.model import Route
from proxy.control.tally import Tally
from proxy.control.watch import Cause, told
from proxy.core.checked import CheckStats, Trial
from proxy.core.sequential import OF_MISMATCHES, CountedTest, Counts, Suspicion

LOST: Final = "lost"
MISMATCH_RATE: Final = "mismatch-rate"
PROBE: Final = "probe"
SILENT: Final = 15.0
"""Seconds after which a checker that says something every second is away, or stands still."""


class CheckWatch:
    """What the live checker found of this weight.

    It tells of its windows as it judges them, so mismatches come many at a time. Their share is judged as that of
    failures is: a share in a sliding window is above any limit sooner or later, when few are looked at often.
    """

    def __init__(self, route: Route, tally: Tally) -> None:
        trigger = route.trigger
        self._route = route
        self._tally = tally
        self._test = CountedTest(trigger.mismatch_rate, budget=OF_MISMATCHES)
        self._since = 0
        self._is_based = False
        """The test knows where its counts begin."""
        self._counted = (0, 0)
        """What the checker had counted when it was looked at last: settled events, mismatches."""
        self._alarm: Suspicion | None = None
        """That there are too many by these counts, and when it was found."""
        self._alarm_at = 0.0
        self._forgiven = Trial(-1)
        self._doubts: list[str] = []

    def begin(self, epoch: int) -> None:
        """What was judged before says nothing of this weight."""
        self._since, self._counted, self._is_based = epoch, (0, 0), False
        self._alarm, self._doubts = None, []
        self._test.reset()

    def forgive(self) -> None:
        """What was found so far at this weight is not held against new any more."""
        check = self._check()
        if check is not None:
            self._forgiven = check.trial
        self.begin(self._since)

    def judge(self, now: float) -> Cause | None:
        """By the trial: what was judged since the weight was changed."""
        route, trigger = self._route.name, self._route.trigger
        check = self._check()
        self._doubts = self._absence(check, now)
        if check is None or check.epoch < self._since:
            return None  # it goes by an earlier routing
        trial = check.trial
        forgiven = self._forgiven if self._forgiven.epoch == trial.epoch else Trial()
        lost = trial.lost - forgiven.lost
        evidence: dict[str, Any] = {"checked": trial.settled, "mismatches": trial.mismatches, "lost": trial.lost}
        evidence |= {"record": check.record, "samples": trial.samples}
        if trigger.lost and lost >= trigger.lost:
            events, are = ("event", "is") if lost == 1 else ("events", "are")
            reason = f"{lost} {events} that new acknowledged {are} not in its store, says the checker"
            return Cause(LOST, reason, evidence)
        probe, most = check.probe, trigger.probe_failures
        if probe is not None and probe.route == route and most and probe.against_new >= most:
            reason = f"{probe.against_new} probes in a row failed at new and not at old, the last one at {probe.error}"
            return Cause(PROBE, reason, evidence | {"visible": probe.visible})
        alarm = self._mismatches(trial, forgiven, now)
        settled, mismatches = trial.settled - forgiven.settled, trial.mismatches - forgiven.mismatches
        if alarm is not None and settled >= trigger.mismatch_samples:
            limit = trigger.mismatch_rate
            counted = f"{alarm.failed} of {alarm.total} settled events differ at new"
            text = f"{counted} in {self._alarm_at - alarm.since:.1f} s ({alarm.share:.2%}, limit {limit:.2%})"
            return Cause(MISMATCH_RATE, text, evidence | {"test": told(alarm, limit, self._alarm_at)})
        if mismatches > trigger.mismatch_hold * settled:
            # One that was settled before may turn out to differ when its window is judged once more.
            share = f"{mismatches / max(settled, mismatches):.2%}, and {trigger.mismatch_hold:.2%} holds"
            self._doubts.append(f"{mismatches} of {settled} events differ at new, says the checker ({share})")
        elif self._test.is_suspected:
            self._doubts.append("more events differ at new than should, as it looks; that is not certain yet")
        return None

    def doubts(self) -> list[str]:
        """Mismatches that are not too many, and that nobody looks for them."""
        return self._doubts

    def _check(self) -> CheckStats | None:
        return next((each for each in self._tally.checks if self._route.name in each.routes), None)

    def _absence(self, check: CheckStats | None, now: float) -> list[str]:
        """What is wanting of the checker."""
        silent = now - self._tally.checked_at
        if check is None:
            return ["the checker has not said anything yet"]
        if silent > SILENT:
            return [f"the checker has said nothing for {silent:.0f} s"]
        trouble = f": {check.trouble}" if check.trouble else ""
        if check.epoch < self._since or not check.trial.settled:
            return [f"the checker has judged nothing of this weight yet{trouble}"]
        if check.late or trouble:
            return [f"the checker could not judge {check.late or 'some'} windows{trouble}"]
        return []

    def _mismatches(self, trial: Trial, forgiven: Trial, now: float) -> Suspicion | None:
        """The alarm of what the checker counted last, which stands until it counts more."""
        if not self._is_based:
            self._is_based = True
            if forgiven.epoch == trial.epoch:
                self._test.observe(Counts(now, forgiven.settled, forgiven.mismatches))
            elif trial.epoch >= self._since:  # all of it is of now; else it may be of weeks
                self._test.observe(Counts(now, 0, 0))
        counts = trial.settled, trial.mismatches
        if counts != self._counted:
            self._counted, self._alarm_at = counts, now
            self._alarm = self._test.observe(Counts(now, *counts))
        return self._alarm

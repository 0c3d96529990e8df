"""Triggers from outside: an alert or a webhook pauses a route's rollout or reverts the route. None raises a weight.

    notification --> proxy.core.alerts.asked --> revert: Changes.turn | pause: Rollouts.pause --> remembered --> answer

What an alert did is remembered after it was done: a supervisor that dies in between does it again, which changes
nothing, as the route is at 0 already. A revert that finds the weight at 0 pauses the rollout under way, which would
raise it under the alert. An alert that found nothing to do is not remembered, so that it counts when its repeated
notification finds the weight above 0; one that found the latch closed is, for whoever opens it knows why.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from config.hooks import EVERY_ROUTE
from proxy.control.audit import Entry
from proxy.control.changes import Who
from proxy.control.hook_limit import Bucket
from proxy.control.hook_memory import HookMemory
from proxy.control.instance import Instance
from proxy.control.problems import Problem
from proxy.control.reverts import Reverts, back
from proxy.control.rollouts import Rollouts
from proxy.core import alerts
from proxy.core.alerts import Asked, Done, Due, Ended, Firing, Notification
from proxy.core.errors import BadChange, CrossfadeError
from proxy.core.rollout import PAUSED

log = logging.getLogger(__name__)

REVERTED: Final = "reverted"
PAUSED_NOW: Final = "paused"
NOTHING: Final = "nothing"
FAILED: Final = "failed"
UNNOTED: Final = "unnoted"
"""Alerts whose end was not written to the audit trail: there were too many."""
ENDS: Final = 60
"""Lines of the audit trail an hour that say that an alert has ended."""
WARN_FOR: Final = 3600.0
"""Seconds for which an alert of the future stands in the status, unless its time comes before."""


@dataclass(frozen=True)
class Outcome:
    """What became of one trigger at one route. is_settled: the same alert is not to do this again."""

    due: Due
    outcome: str
    detail: str
    is_settled: bool = False

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.due.action} of {self.due.route}: {self.detail}"


class Hooks:
    """The hooks of an instance. path: of the file that remembers what alerts did.

    Raises RefuseToStart for a file that cannot be read.
    """

    def __init__(self, instance: Instance, rollouts: Rollouts, path: Path) -> None:
        self._instance = instance
        self._rollouts = rollouts
        self._reverts = Reverts(instance.changes, instance.tally, instance.settings.workers)
        self._memory = HookMemory(path)
        self._ends = Bucket(ENDS, ENDS / 3600, instance.clock)
        self._one_at_a_time: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """By the name of a token, of which there are few."""
        self._latest = self._latest_at = 0.0
        instance.hooks_trouble = self._trouble

    # --- alerts --------------------------------------------------------------------------------------------

    async def alertmanager(
        self, notification: Notification, actor: str, token: str = ""
    ) -> tuple[list[Outcome], Mapping[str, int]]:
        """What was done, and how many alerts did nothing, by the reason. token: name of the one that it came with.

        Raises Problem: 404 without such a hook, 503 when something could not be done or kept, or is of the future.
        """
        hook = self._instance.settings.hooks.alertmanager
        if hook is None:
            raise Problem(404, "the configuration file has no hooks.alertmanager")
        async with self._one_at_a_time[token]:
            now = self._instance.wall()
            known, routes = self._memory.done, tuple(self._instance.routes)
            # In a thread: an Alertmanager without max_alerts may send thousands.
            asked = await asyncio.to_thread(alerts.asked, hook, notification, routes, known, now, token)
            outcomes = await asyncio.gather(
                *(self._tried(due, self._of_alert(due, notification, asked, actor)) for due in asked.due)
            )
            unkept = await self._keep(notification, asked, outcomes, actor, token, oldest=now - hook.max_age)
        for name, count in asked.counts.items():
            self._count("alertmanager", name, count)
        for each in outcomes:
            self._count("alertmanager", each.outcome, len(asked.due[each.due]))
        self._log(notification, outcomes, asked)
        # Alertmanager sends it again for any 5xx; what was done is remembered.
        _check(outcomes, [*unkept, *self._future(asked)])
        return list(outcomes), asked.counts

    async def _of_alert(self, due: Due, notification: Notification, asked: Asked, actor: str) -> Outcome:
        first, *others = asked.due[due]
        evidence = alerts.evidence(notification.group_key, first.alert, further=len(others))
        evidence["seconds_to_detect"] = round(max(0.0, self._instance.wall() - first.started), 3)
        return await self._act(due, Who(actor, alerts.reason(first)), "alert", evidence)

    async def _keep(
        self,
        notification: Notification,
        asked: Asked,
        outcomes: Sequence[Outcome],
        actor: str,
        token: str,
        *,
        oldest: float,
    ) -> list[str]:
        """Remember what was done, and note what has ended; what could not be written, for people."""
        done = {
            alerts.key(token, notification.group_key, each.due): _done(each, asked.due[each.due], token)
            for each in outcomes
            if each.is_settled
        }
        try:
            if done:
                await self._memory.remember(done, oldest=oldest)
            await self._note_ended(asked, actor)
        except OSError as error:
            log.error("what alerts did or that they have ended could not be kept: %s", error)
            why = error.strerror or error
            return [f"what alerts did, or that they have ended, could not be kept, so it may be done again: {why}"]
        return []

    async def _note_ended(self, asked: Asked, actor: str) -> None:
        """Alerts that did something have ended: that is kept once, and nothing else comes of it. Raises OSError."""
        ended: dict[str, list[Ended]] = {}
        for each in asked.ended:
            ended.setdefault(each.route, []).append(each)
        for route, those in ended.items():
            if self._ends.take():
                log.warning("the end of an alert is not noted: there were %d within the hour", ENDS)
                self._count("alertmanager", UNNOTED, len(those))
                continue
            epoch, alert = self._instance.epoch, those[0].alert
            reason = f"the alert {alerts.title(alert)} is resolved; the weight stays as it is"
            evidence = alerts.reference(alert)
            await self._instance.audit.write(
                Entry("", epoch, epoch, actor, "alert-resolved", route, reason=reason, evidence=evidence)
            )
        await self._memory.end({each.key: alerts.named(each.alert) for each in asked.ended})

    def _future(self, asked: Asked) -> list[str]:
        """What to say of alerts that are still to come."""
        count = asked.counts[alerts.FUTURE]
        if not count:
            return []
        self._latest, self._latest_at = asked.latest, self._instance.clock()
        return [f"{count} alerts did nothing yet: {self._trouble()}"]

    def _trouble(self) -> str:
        """What the status says."""
        ahead = self._latest - self._instance.wall()
        if ahead <= alerts.AHEAD or self._instance.clock() - self._latest_at > WARN_FOR:
            return ""
        return f"an alert begins in {ahead:.0f} s: the clock of this machine is behind, or another one's is ahead"

    def _log(self, notification: Notification, outcomes: Sequence[Outcome], asked: Asked) -> None:
        if notification.truncated_alerts:
            log.warning("Alertmanager left out %d alerts, by its max_alerts", notification.truncated_alerts)
        if asked.counts[alerts.IGNORED]:
            log.warning("%d alerts are too old and did nothing", asked.counts[alerts.IGNORED])
        if asked.counts[alerts.FUTURE]:
            log.warning("%d alerts are of the future and did nothing yet", asked.counts[alerts.FUTURE])
        for each in outcomes:
            log.info("an alert: %s: %s", each.outcome, each.detail, extra={"route": each.due.route})

    # --- the plain webhook ---------------------------------------------------------------------------------

    async def webhook(self, action: str, route: str, who: Who, token: str = "") -> list[Outcome]:
        """What was done to a route, or to all with `*`. token: name of the one that it came with.

        Raises Problem: 404 without such a hook or route, 403 for what it may not do, 503.
        """
        hook = self._instance.settings.hooks.webhook
        if hook is None:
            raise Problem(404, "the configuration file has no hooks.webhook")
        routes = self._instance.routes
        allowed = hook.routes or tuple(routes)
        # Whoever holds a hook's token learns no other names: those of routes that it may not touch are refused alike.
        if not hook.routes and route not in (EVERY_ROUTE, *routes):
            raise Problem(404, f"there is no route {route!r}")
        if action not in hook.actions or route not in (EVERY_ROUTE, *allowed):
            raise Problem(403, f"the configuration file does not let hooks.webhook {action} {route!r}")
        who = Who(who.actor, who.reason, dry_run=who.dry_run)
        async with self._one_at_a_time[token]:
            due = [Due(name, action) for name in (allowed if route == EVERY_ROUTE else (route,))]
            outcomes = await asyncio.gather(*(self._tried(each, self._act(each, who, "webhook", {})) for each in due))
        for each in outcomes if not who.dry_run else ():
            self._count("webhook", each.outcome)
        _check(outcomes, [])
        return list(outcomes)

    # --- what is done --------------------------------------------------------------------------------------

    async def _tried(self, due: Due, act: Awaitable[Outcome]) -> Outcome:
        try:
            return await act
        except (CrossfadeError, OSError) as error:
            log.error("%s by a hook failed: %s", due.action, error, extra={"route": due.route})
            return Outcome(due, FAILED, str(error))
        except Exception:
            # What one trigger meets is nothing to the others, which must be done and remembered.
            log.exception("%s by a hook failed", due.action, extra={"route": due.route})
            return Outcome(due, FAILED, "unexpected error; the supervisor's log has it")

    async def _act(self, due: Due, who: Who, kind: str, evidence: Mapping[str, Any]) -> Outcome:
        evidence = {"trigger": kind, **evidence}
        return await (self._revert if due.action == "revert" else self._pause)(due, who, evidence)

    async def _revert(self, due: Due, who: Who, evidence: Mapping[str, Any]) -> Outcome:
        reverted = await self._revert_weight(due, who, evidence)
        if reverted.outcome == REVERTED or reverted.is_settled:
            return reverted
        paused = await self._pause(due, who, evidence)
        if paused.outcome != PAUSED_NOW:
            return reverted
        # It may have raised the weight just before.
        again = await self._revert_weight(due, who, evidence)
        if again.outcome == REVERTED:
            return again
        return Outcome(due, PAUSED_NOW, f"{reverted.detail}; the rollout is paused {paused.detail}", is_settled=True)

    async def _revert_weight(self, due: Due, who: Who, evidence: Mapping[str, Any]) -> Outcome:
        changed = await self._instance.changes.turn(
            due.route,
            "revert",
            back,
            who,
            latch_reason=who.reason,
            evidence=evidence,
        )
        if not changed.is_change:
            latched = changed.before.latched
            why = "the route is latched already" if latched else "the weight is 0 already"
            return Outcome(due, NOTHING, why, is_settled=latched)
        if not who.dry_run:
            log.warning("reverted: %s", who.reason, extra={"route": due.route})
            self._instance.tally.count_revert(evidence["trigger"])
            await self._reverts.note_applied(changed)
        return Outcome(due, REVERTED, f"from {changed.before.weight:g} % to 0 %", is_settled=True)

    async def _pause(self, due: Due, who: Who, evidence: Mapping[str, Any]) -> Outcome:
        found = self._rollouts.of(due.route)
        if found is None or found.progress.is_over:
            return Outcome(due, NOTHING, "no rollout is under way")
        if found.progress.phase == PAUSED:
            return Outcome(due, NOTHING, "the rollout is paused already", is_settled=True)
        step = {"step": found.progress.step + 1, "of": len(found.plan.steps)}
        try:
            paused = await self._rollouts.pause(due.route, who, {**evidence, **step})
        except BadChange as over:
            return Outcome(due, NOTHING, str(over))
        return Outcome(due, PAUSED_NOW, f"at step {paused.progress.step + 1}", is_settled=True)

    def _count(self, hook: str, outcome: str, count: int = 1) -> None:
        self._instance.tally.own[f"alerts:{hook}:{outcome}"] += count


def _done(outcome: Outcome, firing: Sequence[Firing], token: str) -> Done:
    """What is remembered of it: the audit trail names the first alert, where anything was done."""
    alert = alerts.named(firing[0].alert) if outcome.outcome in (REVERTED, PAUSED_NOW) else ""
    return Done(token, max(each.started for each in firing), alert)


def _check(outcomes: Sequence[Outcome], more: Sequence[str]) -> None:
    """Raises Problem 503 when something failed, with what was done all the same. more: what else went wrong."""
    wrong = [each.text for each in outcomes if each.outcome == FAILED] + [*more]
    done = [each.text for each in outcomes if each.outcome in (REVERTED, PAUSED_NOW)]
    if wrong:
        raise Problem(503, "; ".join(wrong) + (f" (done: {', '.join(done)})" if done else ""))

"""The one way in which a route's weight goes to 0 for what was found, whoever found it: latched, counted and timed.

How long it took until every worker had applied it is known only afterwards, so that is an audit line of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from proxy.control.changes import Changed, Changes, Who
from proxy.control.tally import Tally
from proxy.core.errors import CrossfadeError
from proxy.core.routing import Dials, rolled_back

log = logging.getLogger(__name__)


def back(dials: Dials) -> Dials:
    """To 0 and latched, where there is a weight to take back."""
    return rolled_back(dials, latch=True) if dials.weight > 0 else dials


def shut(dials: Dials) -> Dials:
    """The same, and latched at 0 as well: nobody raises the weight before a person has looked."""
    return rolled_back(dials, latch=True)


class Reverts:
    """workers: how many there are to be."""

    def __init__(self, changes: Changes, tally: Tally, workers: int) -> None:
        self._changes = changes
        self._tally = tally
        self._workers = workers

    async def revert(
        self, route: str, kind: str, who: Who, evidence: Mapping[str, Any], *, is_shut: bool = False
    ) -> Changed | None:
        """Revert a route. who: with the reason; kind: of the trigger; is_shut: latch it at weight 0, too.

        None when it could not be written, which is logged and counted: whoever has cause for it tries again.
        """
        log.warning("reverting: %s", who.reason, extra={"route": route})
        turn = shut if is_shut else back
        try:
            changed = await self._changes.turn(
                route, "revert", turn, who, latch_reason=who.reason, evidence={"trigger": kind, **evidence}
            )
        except (CrossfadeError, OSError):
            self._tally.own["reverts_failed"] += 1
            log.exception("the revert could not be written; trying again", extra={"route": route})
            return None
        if changed.is_change:
            self._tally.count_revert(kind)
            await self.note_applied(changed)
        return changed

    async def note_applied(self, changed: Changed) -> None:
        """Write down how long it took; what cannot be written is logged and counted."""
        took = changed.seconds if changed.workers >= self._workers else None
        evidence = {"seconds_to_recover": took, "workers": changed.workers, "of": self._workers}
        try:
            await self._changes.note(changed, "revert-applied", evidence)
        except OSError as error:
            self._tally.own["reverts_not_timed"] += 1
            log.warning("how long the revert took could not be recorded: %s", error)

"""How it went: judged, as one line and as one JSON object."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from deploy.home_assistant.demo.commands import Commands
from deploy.home_assistant.demo.compared import Comparison, Span, compare, stored_states
from deploy.home_assistant.demo.latency import Latency
from deploy.home_assistant.demo.parts import Parts
from deploy.home_assistant.demo.story import Story
from proxy.core.event import SIDES
from proxy.demo.admin import Status
from proxy.demo.verify import classes, lines
from proxy.demo.view import View

_SETTLED = 6.0
"""Seconds: what is younger than five `verify` leaves out."""


@dataclass(frozen=True)
class Outcome:
    """How it went.

    recorded: state changes that Home Assistant recorded while both sides were owed everything; stores: by side, what is
    there of them; gaps: how often Home Assistant was away; weights: those that were in force, in order; status: the
    proxy's at the end; verification: what `proxyctl verify` says of both stores; is_timed: is `latency` judged as well?
    """

    recorded: int
    stores: dict[str, Comparison]
    gaps: int
    weights: list[int]
    reverts: int
    time_to_revert: float
    latency: Latency | None
    status: Status
    verification: dict[str, Any]
    duration: float
    is_timed: bool = True

    @property
    def lost(self) -> int:
        """Recorded changes that a store lacks."""
        return sum(len(store.lost) for store in self.stores.values())

    @property
    def recovered(self) -> int:
        """States that were told after a gap."""
        return sum(source.recovered for source in self.status.sources)

    @property
    def refused(self) -> int:
        """Events of Home Assistant that were refused for good."""
        return sum(source.refused for source in self.status.sources)

    @property
    def pending(self) -> int:
        """Events of either side that are not settled."""
        return sum(route.pending for route in self.status.routes)

    @property
    def is_balanced(self) -> bool:
        """The ledger's own word for it, and our sum over its states, with nothing dead or lost among them."""
        sides = [side.ledger for route in self.status.routes for side in route.sides.values()]
        return self.status.ledger.balanced is True and all(
            side.owed == side.in_states and side.dead == side.lost == side.refused == 0 for side in sides
        )

    @property
    def is_ok(self) -> bool:
        """Everything that the demo promises."""
        return not self.problems()

    def problems(self) -> list[str]:
        """What is wrong, one line each."""
        found = [f"{side}: {line}" for side, store in self.stores.items() for line in store.problems()]
        wanted = {
            "Home Assistant recorded nothing": self.recorded > 0,
            "nothing was reverted": self.reverts > 0,
            "Home Assistant was never away, or nothing was recovered": self.gaps > 0 and self.recovered > 0,
            f"the weight is {min(self.weights[-1], self._weight):g} % at the end": (
                self.weights[-1] == self._weight == 100
            ),
            f"{self.refused} events of Home Assistant were refused": self.refused == 0,
            f"ledger: {self.pending} pending, balanced: {self.is_balanced}": self.pending == 0 and self.is_balanced,
        }
        found += [line for line, is_so in wanted.items() if not is_so]
        if self.latency is None:
            found.append("the way without the proxy was not measured")
        elif self.is_timed:
            found += self.latency.problems()
        if self.verification["result"] != "pass":
            found += lines(self.verification)
        return found

    @property
    def _weight(self) -> float:
        return self.status.routes[0].weight_target

    def as_dict(self) -> dict[str, Any]:
        """The object of `-o json`."""
        return {
            "result": "ok" if self.is_ok else "failed",
            "recorded": self.recorded,
            "lost": self.lost,
            **{side: self._of(store) for side, store in self.stores.items()},
            "source": {"gaps": self.gaps, "recovered": self.recovered, "refused": self.refused},
            "weights": self.weights,
            "reverts": self.reverts,
            "time_to_revert_s": round(self.time_to_revert, 3),
            "ledger": {"pending": self.pending, "balanced": self.is_balanced},
            "latency": None if self.latency is None else self.latency.as_dict(),
            "verify": {name: self.verification[name] for name in ("result", "record", "classes", "findings")},
            "duration_s": round(self.duration, 1),
        }

    @staticmethod
    def _of(store: Comparison) -> dict[str, int]:
        counted = ("lost", "different", "superseded")
        return {
            "stored": store.stored,
            **{name: len(getattr(store, name)) for name in counted},
            "unrecorded": store.unrecorded,
        }

    def summary(self) -> str:
        """The last line."""
        stores = ", ".join(f"{side} stored {store.stored:,}" for side, store in self.stores.items())
        superseded = max(len(store.superseded) for store in self.stores.values())
        latency = "" if self.latency is None else f"{self.latency.text()}; "
        return (
            f"{'ok' if self.is_ok else 'FAILED'}: lost {self.lost} of {self.recorded:,} state changes that Home "
            f"Assistant recorded ({superseded} of them told as the later state at the end of a gap); {stores}; "
            f"source gaps {self.gaps}, recovered {self.recovered}, refused {self.refused}; "
            f"reverts {self.reverts} (after {self.time_to_revert:.1f} s); "
            f"ledger pending {self.pending}, {'balanced' if self.is_balanced else 'NOT BALANCED'}; "
            f"verify {self.verification['result']}: {classes(self.verification)}; {latency}{self.duration:.0f} s"
        )


async def judge(parts: Parts, story: Story, view: View, began: float, is_timed: bool) -> Outcome:
    """Hold both stores against Home Assistant's recorder, and against each other. began: monotonic seconds."""
    recorded = [each for each in parts.home.recorded() if story.span.has(each.at)]
    await asyncio.sleep(max(0.0, _SETTLED - _age(story.span)))
    verification = await Commands(parts.instance, view).verify(*story.span)
    stores = {
        side: compare(recorded, stored_states(await parts.points(side)), story.span, story.gaps) for side in SIDES
    }
    return Outcome(
        recorded=len(recorded),
        stores=stores,
        gaps=len(story.gaps),
        weights=story.weights,
        reverts=story.reverts,
        time_to_revert=story.time_to_revert,
        latency=story.latency,
        status=await parts.instance.admin.status(),
        verification=verification,
        duration=time.monotonic() - began,
        is_timed=is_timed,
    )


def _age(span: Span) -> float:
    """Seconds since its end."""
    return time.time() - span.ended / 1e6

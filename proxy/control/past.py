"""Where a route stood at an earlier epoch, as the audit trail has it.

Each change says what was before it, and which epoch it came after. So the trail is a chain that is walked back from
the present, and what was written and never took effect is no part of it:

    present: 9 <-- 9 came after 8 <-- 8 came after 6 <-- 6 came after 5
                                       7 came after 6, and was never applied
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from proxy.control.audit import Entry
from proxy.core.errors import BadChange
from proxy.core.routing import COPY_BEST_EFFORT, COPY_DURABLE, COPY_NONE, Dials, check_weight

RECONCILED: Final = frozenset({"route-added", "route-dropped"})
"""Actions of which there may be several in one epoch, for several routes."""


class Link(NamedTuple):
    """One link of the chain. before: the epoch that it came after."""

    entry: Entry
    before: int


def dials_at(entries: Iterable[Entry], route: str, present: Dials, epoch: int, wanted: int) -> Dials:
    """The dials of a route at the epoch `wanted`. entries: newest first; present: what holds now, at `epoch`.

    Raises BadChange for an epoch that never was, and for one that the trail does not reach.
    """
    if not 1 <= wanted <= epoch:
        raise BadChange(f"there is no epoch {wanted}: they go from 1 to the present one, {epoch}")
    if wanted == epoch:
        return present
    undone: Entry | None = None
    reached = epoch
    for link in chain(entries, epoch):
        if link.entry.epoch <= wanted:
            reached = link.entry.epoch
            break
        reached = link.before
        if link.entry.route == route:
            undone = link.entry
    if reached > wanted:
        raise BadChange(
            f"the audit trail does not say what epoch {reached} changed, so nothing before it can be restored"
        )
    if reached < wanted:
        raise BadChange(f"epoch {wanted} was never live: {reached} is the last one before it; see proxyctl history")
    return present if undone is None else _dials(undone, wanted)


def chain(entries: Iterable[Entry], epoch: int) -> Iterator[Link]:
    """The changes that took effect, from the present epoch back, up to the first that is missing."""
    latest, wanted = -1, epoch
    for entry in entries:
        is_next = entry.epoch == wanted
        is_beside = entry.epoch == latest and entry.previous_epoch == wanted and entry.action in RECONCILED
        if entry.epoch == entry.previous_epoch or not (is_next or is_beside or entry.epoch < wanted):
            continue
        if entry.epoch < wanted:
            return
        latest, wanted = entry.epoch, entry.previous_epoch
        yield Link(entry, wanted)


def _dials(undone: Entry, wanted: int) -> Dials:
    """The position before a change."""
    before = undone.before
    if not before:
        raise BadChange(f"there was no route {undone.route} at epoch {wanted}")
    weight, copy = before.get("weight"), before.get("copy")
    if not isinstance(weight, int | float) or copy not in (COPY_NONE, COPY_BEST_EFFORT, COPY_DURABLE):
        raise BadChange(f"the audit trail does not say where {undone.route} stood before epoch {undone.epoch}")
    return Dials(check_weight(weight), copy, bool(before.get("latched")))

"""When a message waits for its authority, and how long, instead of going elsewhere or to the ledger.

For the first handshake, because the dials were just turned, in any case; when it is lost, for that of the side that
takes over. For a backlog, where the session would end, or its client miss a reply that it waits for: nothing goes past
an older message of the session meanwhile.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.core.authority_down import Remedy
from proxy.core.choose import Choice
from proxy.websocket.upstream import OPEN, Link

if TYPE_CHECKING:
    from proxy.websocket.session import Session

_MOST_IN_VAIN: Final = 64
_NONE: Final[frozenset[tuple[int, int]]] = frozenset()
"""Nearly every session's: one of its own would be a fifth of a KiB of each."""


class Patience:
    """Of one session, with the authority of the message at its head."""

    __slots__ = ("_in_vain", "_session", "_since")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._since = 0.0
        """Since when that message waits; 0 when none does."""
        self._in_vain = _NONE
        """Side and bucket of each backlog that was waited for, and not drained in time."""

    def waits(self, link: Link, choice: Choice, bucket: int) -> bool:
        """Is a message to wait until its authority, which cannot have it now, can? For `drain_wait` at most."""
        awaited = self._awaited(link, choice, bucket)
        if awaited is None:
            return False
        now = monotonic()
        if not self._since:
            self._since = now
            if not awaited.is_new:
                self._session.service.count("waited_for_backlog")
        if now - self._since < self._session.route.settings.drain_wait:
            return True
        awaited.is_new = False
        if awaited is link:
            before = self._in_vain if len(self._in_vain) <= _MOST_IN_VAIN else _NONE
            self._in_vain = before | {(link.side, bucket)}
        return False

    def taken(self, link: Link, bucket: int, *, can_take: bool) -> None:
        """A message of this bucket waits no more. can_take: its authority can have it, and may be waited for again."""
        self._since = 0.0
        if can_take and self._in_vain:
            self._in_vain = self._in_vain - {(link.side, bucket)} or _NONE

    def _awaited(self, link: Link, choice: Choice, bucket: int) -> Link | None:
        """Whose handshake or backlog a message waits for; None when it does not."""
        if link.is_by_ledger:
            return None
        if link.is_new:
            link.open()
        if link.is_new:
            return link
        if link.state == OPEN:
            is_in_vain = (link.side, bucket) in self._in_vain
            return link if not is_in_vain and self._is_worth_it(choice, bucket) else None
        session = self._session
        other = session.links[1 - link.side]
        if session.choosing.takes_over(other) and session.choosing.remedy_of(choice) is Remedy.FAILOVER:
            other.open()
            return other if other.is_new else None
        return None

    def _is_worth_it(self, choice: Choice, bucket: int) -> bool:
        """Would it otherwise cost more than time that its authority has older messages of this bucket to come?"""
        chosen = self._session.choosing.remedy_of(choice)
        if chosen is Remedy.FAILOVER and self._session.links[1 - choice.authority].can_take(bucket):
            return False
        return chosen is Remedy.FAIL or self._session.replies is not None

"""Where a session's messages go: as the dials are, or where its handshake or its first choice sends them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from config.units import BODY_KINDS, parse_source
from proxy.core.authority_down import Remedy, remedy
from proxy.core.choose import Choice
from proxy.core.event import BOTH, NEW, OLD
from proxy.core.routing import COPY_NONE
from proxy.http.head import RequestHead
from proxy.websocket.upstream import Link

if TYPE_CHECKING:
    from proxy.websocket.session import Session

_MOST_BUCKETS: Final = 64
"""Of which a session remembers something."""
_OLD_ALONE: Final = Choice(OLD, 1 << OLD, 0, False)


class Choosing:
    """Of one session. head, params, peer: of its handshake, where keys may be; name: the session's, and the key of what
    has none.
    """

    __slots__ = ("_buckets", "_session", "fixed", "head", "is_forced", "name", "params", "peer")

    def __init__(self, session: Session, head: RequestHead, params: Mapping[str, str], peer: str, name: str) -> None:
        self._session = session
        self._buckets: dict[str, int] = {}
        self.head = head
        self.params = params
        self.peer = peer
        self.name = name
        self.fixed: int | None = None
        """The side that was chosen once, with `unit: connection`."""
        self.is_forced = False
        """Was the last choice for one side alone, also while it fails?"""

    def first(self) -> Choice:
        """Where a message would go whose key is that of the handshake."""
        route = self._session.route
        key, _ = route.read_key_and_id(self.head, b"", self.params, self.peer)
        # What is in messages alone is not missing yet.
        is_missing = key is None and parse_source(route.settings.key).kind not in BODY_KINDS
        choice = self.choose(self.bucket(key or self.name), key, is_missing=is_missing)
        if self._session.settings.unit == "connection":
            self.fixed = choice.authority
        return choice

    def bucket(self, key: str) -> int:
        """That of a key, which a session asks for often."""
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) > _MOST_BUCKETS:
                self._buckets.clear()
            bucket = self._buckets[key] = self._session.plane.bucket(key)
        return bucket

    def choose(self, bucket: int, key: str | None, *, is_missing: bool) -> Choice:
        """Where a message goes. key: None without one; is_missing: as `key_missing` means it."""
        route = self._session.route
        self.is_forced = False
        if route.steering is not None:
            steered = route.steer(self.head, self.params, bucket, key)
            if steered is not None:
                self.is_forced = steered.is_forced
                return steered.choice
        if is_missing and route.settings.key_missing == "old":
            return _OLD_ALONE
        if self.fixed is not None and route.dials.weight > 0:
            return route.plan.new if self.fixed == NEW else route.plan.old
        return route.plan.choose(bucket)

    # which sides are to be there

    @property
    def possible_sides(self) -> int:
        """Mask of the sides that messages may go to as the dials are; 0 where the handshake names a side for all."""
        if self.is_forced:
            return 0
        dials = self._session.route.dials
        if dials.copy != COPY_NONE:
            return BOTH
        return (1 << OLD if dials.weight < 100 else 0) | (1 << NEW if dials.weight > 0 else 0)

    @property
    def wanted_sides(self) -> int:
        """Mask of those that are to be connected: of a session that has one side the other one only takes over."""
        dials = self._session.route.dials
        if self.fixed is not None and dials.copy == COPY_NONE and dials.weight > 0 and not self.is_forced:
            return 1 << self.fixed
        return self.possible_sides

    def takes_over(self, link: Link) -> bool:
        """Is this side to be connected for the first time when the other one, which the session has, is lost?"""
        spare = self.possible_sides & ~self.wanted_sides
        return link.is_new and not link.is_by_ledger and bool(spare >> link.side & 1)

    # what comes when that of the choice is not there

    def remedy_of(self, choice: Choice) -> Remedy:
        """What `on_authority_down` says of a message of this choice."""
        return self.remedy(choice.authority, copy_on=choice.owed == BOTH and not choice.deferred)

    def remedy(self, side: int, *, copy_on: bool) -> Remedy:
        """What it says of a message that was not sent to this side, its authority."""
        if self.is_forced:
            return Remedy.FAIL  # who asks for a side wants no other one
        route = self._session.route
        return remedy(
            route.settings.on_authority_down,
            authority=side,
            weight=route.dials.weight,
            latched=route.dials.latched,
            copy_on=copy_on,
            sent=False,
            client_id=False,
        )

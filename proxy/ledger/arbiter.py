"""Who is first among events with one id: the claims of all workers, and what each route remembers.

    claim(a) --> FIRST     claim(b), the same id --> waits     answered(a, 201) --> DONE 201 for b
                                                               answered(a, 500) --> FIRST for b

A claim belongs to a *place*: a worker's stream and the number that its event has or will have there. It may be
asked for again at any time (a worker does so when it comes back), and is answered again.

Pure: no clock, no I/O; what is to be said to workers is collected in `said`. In flight an id costs some 600 bytes,
bounded by what is in flight; afterwards see `remembered`.

After a start nobody is told FIRST until `release`: what a worker that is not back yet is on, and what the receipts
say, is not known before. What is known is answered at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from proxy.core.dedupe import CONFLICT, DONE, FIRST, body_digest, fingerprint, id_digest, is_accepted, recorded_status
from proxy.core.owed import DELIVERED
from proxy.ledger.entry import Entry
from proxy.ledger.protocol import Verdict
from proxy.ledger.remembered import Remembered
from proxy.ledger.turns import Place


class Policy(NamedTuple):
    """A route that has a window."""

    ack: str
    accepted: int
    """What a client hears of an event that is durable and that nobody has answered yet."""
    remembered: Remembered


Name: TypeAlias = tuple[str, bytes]
"""Route and digest of an id."""


class Claim:
    """One id in flight. holder: whose event it is; waiting: its twins, oldest first.

    is_granted: the holder was told FIRST, or has recorded its event; has_event: it has; is_unsure: what its
    client is told is not known or not the whole truth, so the record decides.
    """

    __slots__ = ("name", "fingerprint", "at_ns", "holder", "waiting", "is_granted", "has_event", "is_unsure")

    def __init__(self, name: Name, fingerprint: bytes, at_ns: int, holder: Place, *, is_granted: bool) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.at_ns = at_ns
        self.holder = holder
        self.waiting: dict[Place, bytes] = {}
        """With their fingerprints: while nobody is known to be first, they may differ."""
        self.is_granted = is_granted
        self.has_event = False
        self.is_unsure = False


class Arbiter:
    """All routes that have a window, by name. said: (stream id, verdict), for whoever sends them."""

    def __init__(self, routes: Mapping[str, Policy]) -> None:
        self.routes = routes
        self.said: list[tuple[int, Verdict]] = []
        self._claims: dict[Name, Claim] = {}
        self._places: dict[Place, Claim] = {}
        self._is_holding = True

    def __len__(self) -> int:
        """How many ids are in flight."""
        return len(self._claims)

    # what workers say

    def claim(self, place: Place, route: str, id: bytes, fingerprint: bytes, granted: bool, now_ns: int) -> None:
        """A worker has an event with this id (its digest). granted: it was told FIRST, by our predecessor perhaps."""
        known = self._places.get(place)
        if known is not None:
            if known.holder == place:
                if granted and not known.is_granted:
                    known.is_granted = True
                    self._refuse_others(known)
                if known.is_granted:
                    self._say(place, FIRST)
            return
        claim = self._claims.get((route, id))
        if claim is not None:
            self._join(claim, place, fingerprint, granted)
            return
        memory = None if granted else self.routes[route].remembered.get(id, now_ns)
        if memory is None:
            is_first = granted or not self._is_holding
            self._hold(Claim((route, id), fingerprint, now_ns, place, is_granted=is_first))
            if is_first:
                self._say(place, FIRST)
        elif memory.fingerprint == fingerprint:
            self._say(place, DONE, memory.status)
        else:
            self._say(place, CONFLICT)

    def _join(self, claim: Claim, place: Place, fingerprint: bytes, granted: bool) -> None:
        """Another event of an id in flight: a twin, or the one that was first all along."""
        if granted:
            if not claim.is_granted:
                self._displace(claim, place, fingerprint)
            # else both go on: one of them was away for longer than anybody waits, which is as if it was lost
            self._say(place, FIRST)
        elif claim.is_granted and claim.fingerprint != fingerprint:
            self._say(place, CONFLICT)
        else:
            claim.waiting[place] = fingerprint
            self._places[place] = claim

    def _displace(self, claim: Claim, place: Place, fingerprint: bytes) -> None:
        """Nobody was told FIRST yet, and here is who was, before our start."""
        claim.waiting = {claim.holder: claim.fingerprint, **claim.waiting}
        claim.holder, claim.fingerprint, claim.is_granted = place, fingerprint, True
        self._places[place] = claim
        self._refuse_others(claim)

    def _refuse_others(self, claim: Claim) -> None:
        """Who waits for this event with another content is told no."""
        for place, print_ in list(claim.waiting.items()):
            if print_ != claim.fingerprint:
                del self._places[place], claim.waiting[place]
                self._say(place, CONFLICT)

    def recorded(self, entry: Entry) -> None:
        """An event was recorded: its claim needs not be asked for again. It is known from this, if not before."""
        place = (entry.stream, entry.n)
        claim = self._places.get(place)
        if claim is None:
            line = entry.context[: entry.context.find(b"\r\n")]
            self._found(place, entry.route, entry.id, line, body_digest(entry.body), entry.accepted_ns)
            claim = self._places.get(place)
        if claim is not None and claim.holder == place:
            claim.is_granted = claim.has_event = True

    def found(self, place: Place, route: str, id: str, line: bytes, digest: bytes, at_ns: int) -> None:
        """On disk a worker is on this event, and nobody will say again what was said of it before: see `is_unsure`.

        To be told oldest first: of several with one id the last one was let through because the others were over.
        """
        name = (route, id_digest(id))
        before = self._claims.get(name)
        if before is not None:
            del self._places[before.holder]
        claim = Claim(name, fingerprint(line, digest), at_ns, place, is_granted=True)
        claim.has_event = claim.is_unsure = True
        self._hold(claim)

    def _found(self, place: Place, route: str, id: str, line: bytes, digest: bytes, at_ns: int) -> None:
        name = (route, id_digest(id))
        print_ = fingerprint(line, digest)
        claim = self._claims.get(name)
        if claim is None:
            self._hold(Claim(name, print_, at_ns, place, is_granted=True))
        elif not claim.is_granted:
            self._displace(claim, place, print_)
            claim.at_ns = at_ns

    def _hold(self, claim: Claim) -> None:
        self._claims[claim.name] = self._places[claim.holder] = claim

    def withdraw(self, place: Place) -> None:
        """Its client has gone, or its event will not be sent: the next one's turn, if it held the claim."""
        claim = self._places.get(place)
        if claim is None:
            return
        if claim.holder == place:
            if not claim.has_event:
                self._pass_on(claim)
        else:
            del self._places[place], claim.waiting[place]

    def keep_only(self, stream: int, asked: set[int]) -> None:
        """A worker that came back said everything that it asks for: the rest of its claims is over."""
        for place in self.of_stream(stream):
            if place[1] not in asked:
                self.withdraw(place)

    # outcomes

    def answered(self, place: Place, status: int) -> None:
        """The holder's client was told this, or the record says so. Of others nothing is to be known."""
        claim = self._places.get(place)
        if claim is None or claim.holder != place:
            return
        if not is_accepted(status):
            self._pass_on(claim)
            return
        route, id = claim.name
        self.routes[route].remembered.put(id, claim.fingerprint, status, claim.at_ns)
        self._end(claim, claim.fingerprint, status)

    def _end(self, claim: Claim, fingerprint: bytes, status: int) -> None:
        """An outcome for everybody: the same content gets the same status."""
        del self._claims[claim.name]
        self._places.pop(claim.holder, None)
        for place, print_ in claim.waiting.items():
            self._places.pop(place, None)
            if print_ == fingerprint:
                self._say(place, DONE, status)
            else:
                self._say(place, CONFLICT)

    def _pass_on(self, claim: Claim) -> None:
        """The claim is its oldest twin's now; nobody's when there is none."""
        route, id = claim.name
        memory = self.routes[route].remembered.get(id, claim.at_ns)
        if memory is not None:  # of the same event: its worker asked again, and the record had its outcome
            self._end(claim, memory.fingerprint, memory.status)
            return
        del self._places[claim.holder]
        if not claim.waiting:
            del self._claims[claim.name]
            return
        claim.holder = next(iter(claim.waiting))
        claim.fingerprint = claim.waiting.pop(claim.holder)
        claim.is_granted = claim.has_event = claim.is_unsure = False
        if not self._is_holding:
            self._grant(claim)  # whose twins are alike: others were refused when it was granted before

    def _grant(self, claim: Claim) -> None:
        claim.is_granted = True
        self._say(claim.holder, FIRST)

    def holds(self, place: Place) -> bool:
        """Is an outcome of this event awaited?"""
        claim = self._places.get(place)
        return claim is not None and claim.holder == place

    def has_event(self, place: Place) -> bool:
        """Does it hold a claim, and was it recorded?"""
        claim = self._places.get(place)
        return claim is not None and claim.holder == place and claim.has_event

    def doubt(self, place: Place) -> None:
        """Its answer is not the whole truth: the record decides."""
        claim = self._places.get(place)
        if claim is not None and claim.holder == place:
            claim.is_unsure = True

    def verdict_of_record(self, entry: Entry) -> int | None:
        """What the record says of a doubtful event, see `recorded_status`; None: not known yet, or not asked for.

        Asked for once: the caller says `answered` when it is on disk.
        """
        claim = self._places.get((entry.stream, entry.n))
        if claim is None or not claim.is_unsure:
            return None
        if entry.held >> entry.authority & 1:
            return None
        is_both = self.routes[entry.route].ack == "both"
        if is_both and entry.held and entry.state(entry.authority) == DELIVERED:
            return None  # the other side's answer counts, too
        claim.is_unsure = False
        return self.status_of(entry)

    def status_of(self, entry: Entry) -> int:
        """`recorded_status` of an entry."""
        policy = self.routes[entry.route]
        return recorded_status(
            policy.ack, policy.accepted, entry.authority, entry.old_state, entry.old_status, entry.new_state,
            entry.new_status,
        )  # fmt: skip

    def of_stream(self, stream: int) -> list[Place]:
        """Every place of a stream that holds a claim or waits for one."""
        return [place for place in self._places if place[0] == stream]

    # after a start

    def release(self, now_ns: int) -> None:
        """Everybody had time to come back, and the receipts are read: whoever is first now is told so."""
        self._is_holding = False
        for claim in [claim for claim in self._claims.values() if not claim.is_granted]:
            route, id = claim.name
            memory = self.routes[route].remembered.get(id, now_ns)
            if memory is None:
                self._refuse_others(claim)
                self._grant(claim)
            else:
                claim.waiting = {claim.holder: claim.fingerprint, **claim.waiting}
                self._end(claim, memory.fingerprint, memory.status)

    def recall(self, route: str, id: bytes, fingerprint: bytes, status: int, at_ns: int) -> None:
        """The record says that this was accepted; newer ones were said before. Who claims it waits for `release`."""
        self.routes[route].remembered.put_older(id, fingerprint, status, at_ns)

    # figures

    def figures(self, now_ns: int) -> dict[str, int]:
        """How many ids each route remembers."""
        for policy in self.routes.values():
            policy.remembered.trim(now_ns, _TRIM)
        return {route: len(policy.remembered) for route, policy in self.routes.items()}

    @property
    def dropped(self) -> int:
        """Ids that were forgotten before their time, because there were too many."""
        return sum(policy.remembered.dropped for policy in self.routes.values())

    def _say(self, place: Place, kind: int, status: int = 0) -> None:
        self.said.append((place[0], (place[1], kind, status)))


_TRIM: Final = 10_000
"""Expired ids that one look at the figures lets go at most."""

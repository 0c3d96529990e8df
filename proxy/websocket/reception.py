"""A client's handshake, until the authority has agreed: then its connection is the session's.

begin --> Link of the authority, and of the other side where that may get messages, too
an authority to which the ledger alone delivers --> 101 of our own, with the first subprotocol that is offered
authority agrees --> wait up to `copy_wait` for the other side --> 101, with what the authority said
authority refuses --> its answer is the client's
authority is away or fails --> the same; or the other side takes over (`on_authority_down`)
authority is away, and what it gets is accepted for it --> what the other side agrees to is the client's answer
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from proxy.core.authority_down import Remedy, remedy
from proxy.core.choose import Choice
from proxy.core.event import BOTH, OLD
from proxy.http.leg import Leg
from proxy.websocket.frames import NORMAL
from proxy.websocket.opening import Agreed, Opening, switching, with_protocol
from proxy.websocket.upstream import OPEN, OPENING, OTHER_PROTOCOL, Link

if TYPE_CHECKING:
    from proxy.http.downstream import Client
    from proxy.websocket.session import Session


class Reception:
    """Of one session. client: waits for the answer."""

    __slots__ = ("_asked", "_client", "_opening", "_session", "_timer")

    def __init__(self, session: Session, client: Client, opening: Opening) -> None:
        self._session = session
        self._client: Client | None = client
        self._opening = opening
        self._asked = OLD
        """The side whose answer is the client's."""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, choice: Choice) -> None:
        """Shake hands with the backends that messages may go to."""
        session = self._session
        session.answering = self._asked = choice.authority
        both = session.choosing.wanted_sides == BOTH
        authority, other = session.links[choice.authority], session.links[1 - choice.authority]
        if authority.is_by_ledger:
            self._agree(authority, with_other=both)
            return
        if both:
            other.open()  # first, for the authority may fail at once
        authority.open()

    def _agree(self, link: Link, *, with_other: bool) -> None:
        """Nobody is there to agree: we do. The other side is asked then, for the same subprotocol."""
        session = self._session
        link.agreement = Agreed(session.protocols[0] if session.protocols else "", b"")

        def switch() -> None:
            self._switch()
            if with_other and not session.is_over:
                session.links[1 - link.side].open()

        session.service.loop.call_soon(switch)  # its client must have heard of us before it lets its connection go

    def opened(self, link: Link) -> None:
        """A backend has agreed."""
        session = self._session
        asked = session.links[self._asked]
        if asked.state != OPEN:
            return
        if link is asked and session.links[1 - link.side].state == OPENING and self._timer is None:
            self._timer = session.service.loop.call_later(session.route.settings.copy_wait, self._switch)
        else:
            self._switch()

    def not_opened(self, link: Link) -> None:
        """A backend cannot be reached, or will not."""
        session = self._session
        if link.side != self._asked:
            session.refused(link)
            return
        other = session.links[1 - link.side]
        answer, link.answer = link.answer, None
        if answer is None or answer.head is None:  # else its word is the client's, and nothing is wrong with it
            session.refused(link)
        may_be_asked = other.state in (OPENING, OPEN) or other.is_by_ledger or session.choosing.takes_over(other)
        if may_be_asked and self._other_may_answer(link.side, answer):
            self.stop()  # nobody is asked who has agreed
            self._asked = other.side
            if other.is_by_ledger:
                self._agree(other, with_other=False)
            elif other.state == OPEN:
                self._switch()
            else:
                other.open()  # nothing, where it is being asked
            return
        self._answer(answer, link.reason)

    def _other_may_answer(self, side: int, answer: Leg | None) -> bool:
        """Apply `on_authority_down`. answer: what the side has said, if it has."""
        session = self._session
        if side != session.answering:
            return True  # it was asked for want of the authority, which is tried again
        if answer is not None and answer.head is not None and answer.status < 500:
            return False
        dials = session.route.dials
        chosen = remedy(
            session.route.settings.on_authority_down,
            authority=side,
            weight=dials.weight,
            latched=dials.latched,
            copy_on=True,
            sent=False,
            client_id=False,
        )
        if chosen is Remedy.FAILOVER:
            session.service.count("failovers")
            session.answering = 1 - side
            return True
        # A status without a head is of our own making: the backend is away, and has not said anything that counts.
        is_away = answer is not None and answer.head is None and answer.status > 0
        return chosen is Remedy.ACCEPT and is_away

    def _answer(self, answer: Leg | None, reason: str) -> None:
        """There will be no session: what the authority said is the answer."""
        client = self._leave()
        if client is None:
            return
        if answer is not None and answer.head is not None and not answer.is_overfull:
            self._session.route.count_answer(answer.status)
            client.answer_kept(answer)
        else:
            status = answer.status if answer is not None and answer.head is None else 0
            self._session.route.count_answer(status or 502)
            client.answer_problem(status or 502, reason or "the backend failed")

    def _leave(self) -> Client | None:
        """The session is over before it began; who waits for an answer."""
        client, self._client = self._client, None
        self._session.finish(NORMAL)
        if client is not None:
            client.let_go_of(self)
        return client

    def _switch(self) -> None:
        """Who was asked has agreed: the client's connection is the session's now."""
        session = self._session
        self.stop()
        client, asked = self._client, session.links[self._asked]
        if client is None or session.is_over or not (asked.state == OPEN or asked.is_by_ledger):
            return
        if client.has_more:
            self._leave()
            session.service.count("refused_400")
            session.route.count_answer(400)
            client.last_call()
            client.answer_problem(400, "bytes behind a WebSocket handshake, before its answer")
            return
        agreement = asked.agreement
        session.protocols = (agreement.protocol,) if agreement.protocol else ()
        session.handshake = with_protocol(self._opening.context, agreement.protocol)
        session.route.count_answer(101)
        session.begin(client.hand_over(), switching(self._opening, agreement))
        self._client = None
        if self._asked != session.answering:
            session.service.count("websocket_opened_without_authority")
        other = session.links[1 - self._asked]
        if other.state == OPEN and other.agreement.protocol != agreement.protocol:
            session.service.count("websocket_protocols_differ")
            other.refusal = OTHER_PROTOCOL
            other.drop(NORMAL, OTHER_PROTOCOL)
        for link in session.links:
            link.resume_reading()

    def client_gone(self) -> None:
        """The client left."""
        self._client = None
        self._session.client_gone()

    def refuse(self, reason: str) -> None:
        """Answer 503."""
        client = self._leave()
        if client is not None:
            client.last_call()
            self._session.route.count_answer(503)
            client.answer_problem(503, reason)

    def stop(self) -> None:
        """Wait for no copy."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

"""A client's handshake, until the authority has agreed: then its connection is the session's.

begin --> Link of the authority, and of the other side where that may get messages, too
authority agrees --> wait up to `copy_wait` for the other side --> 101, with what the authority said
authority refuses, or is away --> its answer is the client's; or the other side takes over (`on_authority_down`)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from proxy.core.authority_down import Remedy, remedy
from proxy.core.choose import Choice
from proxy.core.event import BOTH
from proxy.http.leg import Leg
from proxy.websocket.frames import NORMAL
from proxy.websocket.opening import Opening, switching, with_protocol
from proxy.websocket.upstream import OPEN, OPENING, Link

if TYPE_CHECKING:
    from proxy.http.downstream import Client
    from proxy.websocket.session import Session


class Reception:
    """Of one session. client: waits for the answer; forced: the side chosen is the only one."""

    __slots__ = ("_client", "_is_forced", "_opening", "_session", "_timer")

    def __init__(self, session: Session, client: Client, opening: Opening, *, is_forced: bool) -> None:
        self._session = session
        self._client: Client | None = client
        self._opening = opening
        self._is_forced = is_forced
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, choice: Choice) -> None:
        """Shake hands with the backends that messages may go to."""
        session = self._session
        session.answering = choice.authority
        both = choice.owed == BOTH or choice.shadow or 0 < session.route.dials.weight < 100
        session.links[choice.authority].open()
        if both and not self._is_forced and not session.is_over:
            session.links[1 - choice.authority].open()

    def opened(self, link: Link) -> None:
        """A backend has agreed."""
        session = self._session
        authority = session.links[session.answering]
        if authority.state != OPEN:
            return
        if link is authority and session.links[1 - link.side].state == OPENING and self._timer is None:
            self._timer = session.service.loop.call_later(session.route.settings.copy_wait, self._switch)
        else:
            self._switch()

    def not_opened(self, link: Link) -> None:
        """A backend cannot be reached, or will not."""
        session = self._session
        if link.side != session.answering:
            session.service.count("websocket_handshakes_refused")
            return
        other = session.links[1 - link.side]
        answer, link.answer = link.answer, None
        is_down = answer is None or answer.head is None or answer.status >= 500
        if is_down and other.state in (OPENING, OPEN) and self._may_fail_over(link.side):
            session.service.count("failovers")
            session.answering = other.side
            if other.state == OPEN:
                self._switch()
            return
        self._answer(answer, link.reason)

    def _may_fail_over(self, side: int) -> bool:
        dials = self._session.route.dials
        chosen = remedy(
            self._session.route.settings.on_authority_down,
            authority=side,
            weight=dials.weight,
            latched=dials.latched,
            copy_on=True,
            sent=False,
            client_id=False,
        )
        return chosen is Remedy.FAILOVER

    def _answer(self, answer: Leg | None, reason: str) -> None:
        """There will be no session: what the authority said is the answer."""
        client = self._leave()
        if client is None:
            return
        if answer is not None and answer.head is not None and not answer.is_overfull:
            client.answer_kept(answer)
        else:
            status = answer.status if answer is not None and answer.head is None else 0
            client.answer_problem(status or 502, reason or "the backend failed")

    def _leave(self) -> Client | None:
        """The session is over before it began; who waits for an answer."""
        client, self._client = self._client, None
        self._session.finish(NORMAL)
        if client is not None:
            client.let_go_of(self)
        return client

    def _switch(self) -> None:
        """The authority has agreed: the client's connection is the session's now."""
        session = self._session
        self.stop()
        client = self._client
        if client is None or session.is_over:
            return
        if client.has_more:
            self._leave()
            session.service.count("refused_400")
            client.last_call()
            client.answer_problem(400, "bytes behind a WebSocket handshake, before its answer")
            return
        agreement = session.links[session.answering].agreement
        session.protocols = (agreement.protocol,) if agreement.protocol else ()
        session.handshake = with_protocol(self._opening.context, agreement.protocol)
        session.begin(client.hand_over(), switching(self._opening, agreement))
        self._client = None
        other = session.links[1 - session.answering]
        if other.state == OPEN and other.agreement.protocol != agreement.protocol:
            session.service.count("websocket_protocols_differ")
            other.drop(NORMAL, "it chose another subprotocol than the authority")
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
            client.answer_problem(503, reason)

    def stop(self) -> None:
        """Wait for no copy."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

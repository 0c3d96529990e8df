"""A body that is passed on as it comes, of a route with `stream: true`: too long for an event, or without an end.

    Client --> Upload.receive --> a connection of its own --> authority
           <-- answer, also before the body's end <--

It goes to the authority alone: no record, no copy, nothing owed, and no second try, because what has been passed
on is not here any more. It waits for no backlog of its key. The backend sets the pace: what it does not take, the
client is not asked for.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.core.authority_down import Remedy, remedy
from proxy.http.budget import PIECE, Budget, charge
from proxy.http.chunked import BadChunk
from proxy.http.leg import Leg
from proxy.http.passing import Passing
from proxy.http.request import streamed_request
from proxy.http.request_body import RequestBody
from proxy.http.route import STREAM, EventRoute

if TYPE_CHECKING:
    from proxy.http.connection import Connection
    from proxy.http.downstream import Client

_KEPT: Final = 256 * 1024
"""Bytes that wait for the connection to be made, before the client is asked for no more."""
_HELD: Final = 2 * _KEPT
"""Bytes that wait for a backend that takes nothing, at most, beside what was kept: what two loop iterations read."""
_WRITE_HIGH: Final = 16 * 1024
"""Bytes that wait for the backend before they are counted, and before the client is asked for no more."""


def side_for_upload(route: EventRoute, authority: int, *, is_forced: bool, now: float) -> int | None:
    """The side that takes a body in pieces; None when neither may. There is no ledger to accept it for later."""
    if route.sides[authority].is_ready(now, route.is_for_load):
        return authority
    dials = route.dials
    chosen = remedy(
        route.settings.on_authority_down,
        authority=authority,
        weight=dials.weight,
        latched=dials.latched,
        copy_on=False,
        sent=False,
        client_id=False,
    )
    other = 1 - authority
    if chosen is not Remedy.FAILOVER or is_forced:
        return None
    return other if route.sides[other].is_ready(now, route.is_for_load) else None


class Upload(Passing):
    """One such request. It is its leg's owner, and the outflow of its body.

    is_whole: all of the body was given to the connection; progress_at: when a piece was, or the backend took some
    is_held: the client is asked for no more
    kept, kept_size: what came before there was a connection; the size counts until the backend has taken it
    keep_alive: the client's connection may go on once it is whole
    """

    __slots__ = (
        "_body",
        "_budget",
        "_by_chunks",
        "_connection",
        "_contribution",
        "_has_outcome",
        "is_held",
        "_kept",
        "_kept_size",
        "_queued",
        "_route",
        "_side",
        "is_whole",
        "keep_alive",
        "progress_at",
    )

    def __init__(
        self, client: Client, method: bytes, body: RequestBody, route: EventRoute, side: int, budget: Budget
    ) -> None:
        Passing.__init__(self, client, method)
        self._body = body
        self._budget = budget
        self._route = route
        self._side = side
        self._contribution = client.contributions_to(route.index)[side]
        self._connection: Connection | None = None
        self._by_chunks = False
        self._kept: list[bytes] = []
        self._kept_size = 0
        self._queued = 0
        self.is_held = False
        self._has_outcome = False
        self.is_whole = False
        self.keep_alive = False
        self.progress_at = monotonic()

    def start(self, context: bytes, event_id: bytes, length: int) -> None:
        """Send the head. length: bytes of body, -1 when that is not known."""
        upstream = self._route.sides[self._side]
        self._by_chunks = length < 0
        if upstream.rewrite is not None:
            context = upstream.rewrite.apply(context)
        request = streamed_request(context, event_id, length)
        leg = Leg(self, upstream, self._side, STREAM, self.method, request, False)
        leg.outflow = self
        leg.is_for_load = self._route.is_for_load
        self._leg = leg
        upstream.send(leg)

    # the body

    def take_over(self, kept: list[bytes], rest: bytes) -> None:
        """Begin with what came before it was known that the body is passed on. rest: of which nothing was read yet."""
        for piece in kept:
            self._feed(piece)
        if rest:
            self.receive(rest)
        elif self._body.is_whole:
            self._end()

    def receive(self, data: bytes) -> None:
        """Bytes from the client."""
        client = self.client
        if client is None:
            return
        try:
            piece = self._body.take(data)
        except BadChunk as error:
            client.spoil(400, str(error))
            return
        self._feed(piece)
        if self._body.is_whole:
            self._end()
            return
        self._queued += len(piece)
        if self._queued > _KEPT:
            # One iteration may read megabytes before the tick's write can say that the backend is slow.
            self._queued = 0
            client.hold()
            client.once_written(self._resume)

    def _resume(self) -> None:
        """What was passed on so far was written: the backend has it, or has said that it takes no more."""
        if self._connection is None or self.is_held:
            return
        if self._kept_size:
            self._kept_size = 0
            self._count()
        if self.client is not None and not self.is_whole:
            self.client.proceed()

    def _count(self) -> None:
        """Tell the budget what waits for the backend, here or in its connection's buffer."""
        leg = self._leg
        if leg is not None:
            leg.request_charge = None
            held = _HELD if self.is_held and self._connection is not None else 0
            leg.request_charge = charge(self._budget, self._kept_size + held)

    def _feed(self, data: bytes) -> None:
        """Pass a piece on."""
        if not data:
            return
        piece = b"%x\r\n%b\r\n" % (len(data), data) if self._by_chunks else data
        self.progress_at = monotonic()
        if self._connection is not None:
            self._connection.write(piece)
            return
        self._kept.append(piece)
        self._kept_size += len(piece) + PIECE
        if self._kept_size > _KEPT:
            self.hold()
        else:
            self._count()

    def _end(self) -> None:
        """The body is whole."""
        if self._by_chunks:
            if self._connection is not None:
                self._connection.write(b"0\r\n\r\n")
            else:
                self._kept.append(b"0\r\n\r\n")
        self.is_whole = True
        self.progress_at = monotonic()
        if self.client is not None:
            self.client.upload_is_whole(self._body.rest, self.keep_alive)

    def begun(self, connection: Connection) -> None:
        """The head was given to a connection: what waited follows it."""
        if self.client is None:
            connection.abort()  # it left while we connected
            return
        self._connection = connection
        connection.limit_unwritten(_WRITE_HIGH)
        self.progress_at = monotonic()
        for piece in self._kept:
            connection.write(piece)
        self._kept = []
        self.is_held = False
        self.client.once_written(self._resume)

    def hold(self) -> None:
        """Nothing more is taken for now."""
        self.is_held = True
        self._count()
        self.progress_at = monotonic()
        if self.client is not None and not self.is_whole:
            self.client.hold()

    def proceed(self) -> None:
        """The backend takes more again."""
        self.is_held = False
        self._kept_size = 0
        self._count()
        self.progress_at = monotonic()
        if self.client is not None and not self.is_whole:
            self.client.proceed()

    def waits_since(self, now: float) -> float:
        """Since when it is the backend's turn; now while it is the client's, monotonic seconds."""
        return self.progress_at if self.is_whole or self.is_held else now

    # the answer

    def leg_started(self, leg: Leg) -> None:
        """A long answer, perhaps before the body's end."""
        self._take_outcome(leg)
        Passing.leg_started(self, leg)

    def leg_done(self, leg: Leg) -> None:
        """The end of the answer, or a failure. A body that is not whole by then goes nowhere any more."""
        self._take_outcome(leg)
        self._connection = None
        Passing.leg_done(self, leg)

    def _take_outcome(self, leg: Leg) -> None:
        if self._has_outcome or leg.is_abandoned:
            return
        self._has_outcome = True
        figures = self._route.figures[self._side][STREAM]
        if leg.head is not None or not leg.is_ours:
            is_failed = leg.head is None or leg.status >= 500
            self._route.contributions[self._side].count(self._contribution, 1, int(is_failed))
        self._route.count_answer(leg.status or 502)
        if leg.head is None:
            figures.classes[0] += not leg.is_ours
        else:
            lines = self._route.answer_lines
            if lines is not None:
                leg.head = leg.head.with_line(lines[self._side])
            figures.classes[leg.status // 100] += 1
            if self.is_whole:
                figures.latency.add(max(leg.answered_at - self.progress_at, 0.0))

"""Traces of sessions and of their messages."""

from __future__ import annotations

import pytest

from proxy.core.trace import MESSAGE, SESSION, Sampler, Span
from proxy.http.tracing import Tracer
from tests.http.wire import until
from tests.websocket.rig import Opens, text

pytestmark = pytest.mark.asyncio


async def test_a_session_is_a_span_and_its_messages_are_linked_with_it(paired: Opens) -> None:
    async with paired() as rig:
        tracer = rig.rig.plane.tracer = Tracer(Sampler(1.0, follows=True))
        client = await rig.opened()
        for number in range(3):
            await client.send(text(number))
        found: list[Span] = []

        def told(count: int) -> bool:
            found.extend(tracer.take())
            return len(found) == count

        await until(lambda: told(3), "the messages")
        await client.close()
        await until(lambda: told(4), "the session")
        *messages, session = found
        assert (session.kind, session.status, session.parent) == (SESSION, 101, "")
        assert {span.kind for span in messages} == {MESSAGE}
        assert [span.event_id for span in messages] == ["m0", "m1", "m2"]
        assert {span.links for span in messages} == {((session.trace, session.id),)}
        assert len({span.trace for span in found}) == 4
        assert all(span.start_ns <= span.end_ns and span.route == "events" for span in found), found
        context = rig.rig.fake.events["m0"].context
        assert f"traceparent: 00-{session.trace}-{session.id}-01\r\n".encode() in context


async def test_a_handshake_that_comes_to_nothing_is_no_session(paired: Opens) -> None:
    async with paired(down=("old", "new")) as rig:
        tracer = rig.rig.plane.tracer = Tracer(Sampler(1.0, follows=True))
        with pytest.raises(Exception, match="502"):
            await rig.client()
        (span,) = tracer.take()
        assert (span.status, span.reason) == (0, "no session came of its handshake")

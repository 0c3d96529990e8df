"""A context that many messages have in common travels, and is written, once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import apsw
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.event import Event
from proxy.ledger import received_rows
from proxy.ledger.client import LedgerClient
from proxy.ledger.group import ReceivedRow
from proxy.ledger.protocol import RECEIVED, LedgerFrame, to_ledger
from tests.ledger.support import SECOND, Desk, event, frame, rows

CONTEXTS = st.sampled_from([b"", b"GET /a HTTP/1.1\r\n", b"GET /b HTTP/1.1\r\n", b"GET /c HTTP/1.1\r\n" * 20])
ROWS = st.lists(st.tuples(st.integers(1, 2**40), st.integers(0, 3), CONTEXTS, st.binary(max_size=40)), max_size=30)


@given(rows=ROWS)
def test_rows_come_back_as_they_were(rows: list[ReceivedRow]) -> None:
    assert received_rows.unpack(received_rows.pack(rows, shares_context=True)) == rows
    assert received_rows.unpack(received_rows.pack(rows, shares_context=False)) == rows


def test_a_context_in_common_is_packed_once() -> None:
    context = b"x" * 500
    rows: list[ReceivedRow] = [(n, 3, context, b"body") for n in range(100)]
    assert len(received_rows.pack(rows, shares_context=True)) < 100 * 20 + 600
    assert len(received_rows.pack(rows, shares_context=False)) > 100 * 500


def test_a_message_is_told_without_the_context_of_the_one_before(tmp_path: Path) -> None:
    one, other = b"GET /a HTTP/1.1\r\n\r\n", b"GET /b HTTP/1.1\r\n\r\n"
    client = _client(tmp_path)
    for n, context in enumerate([one, one, other, other, one], 1):
        client.add_message(event(n, context=context, transport="websocket"))
    client.flush()
    client.add_message(event(6, context=one, transport="websocket"))
    client.flush()
    assert [len(each.context) for each in _said(client)] == [19, 0, 19, 0, 19, 19], "each frame is whole by itself"


def test_what_follows_a_request_keeps_its_context(tmp_path: Path) -> None:
    """Also one that is the same: a request's is needed for its copies."""
    context = b"POST /a HTTP/1.1\r\n"
    client = _client(tmp_path)
    first, second = event(1, context=context), event(2, context=context)
    client.add(first)
    client.add(second)
    client.add_message(event(3, context=b"GET /b HTTP/1.1\r\n\r\n"))
    client.flush()
    assert first.context == second.context == context
    assert all(each.context for each in _said(client))


def test_the_ledger_gives_each_its_own(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger", window=5.0)
    stream = desk.book.hello("s1", 0)
    contexts = [b"GET /a HTTP/1.1\r\n", b"", b"GET /b HTTP/1.1\r\n", b""]
    events = [event(n, context=context) for n, context in enumerate(contexts, 1)]
    desk.book.take_frame(stream, frame(1, events, [(1, 0, RECEIVED, 3), (1, 1, RECEIVED, 3)]))
    desk.commit()
    kept = {row["id"]: row["context"] for row in desk.store.received_rows(5 * SECOND)}
    assert kept == {f"id-{n}": contexts[(n - 1) // 2 * 2] for n in range(1, 5)}
    desk.store.close()


def test_a_file_of_the_schema_before_has_each_context(tmp_path: Path) -> None:
    """Which made it, and may have it back."""
    desk = Desk(tmp_path / "ledger", window=5.0)
    desk.store.close()
    connection = apsw.Connection(str(tmp_path / "ledger" / "segment-00000001.db"))
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    desk.open()
    stream = desk.book.hello("s1", 0)
    context = b"GET /a HTTP/1.1\r\n"
    events = [event(1, context=context), event(2, context=b"")]
    desk.book.take_frame(stream, frame(1, events, [(1, 0, RECEIVED, 1), (1, 1, RECEIVED, 1)]))
    desk.commit()
    ((packed,),) = rows(desk.store.newest.path, "SELECT events FROM received")
    assert [row[2] for row in msgspec.msgpack.decode(packed)] == [context, context]
    desk.store.close()


def _client(tmp_path: Path) -> LedgerClient:
    """One whose ledger is away, so that what it says is kept; it has said that it understands."""
    client = LedgerClient(tmp_path / "l.sock", "stream", 0, cast(asyncio.AbstractEventLoop, None))
    client._shares_context = True
    return client


def _said(client: LedgerClient) -> list[Event]:
    """The events of all its frames."""
    found = []
    for _, data in client._kept:
        message = to_ledger.decode(data[4:])
        assert isinstance(message, LedgerFrame)
        found += [Event(*row) for row in message.events]
    return found

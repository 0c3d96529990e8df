"""Messages of any server: what of them are events, and what each is acknowledged with."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from config.sources import WebSocketSource
from proxy.sources.plain import PlainServer


def plain(**settings: Any) -> tuple[PlainServer, Counter[str]]:
    counts: Counter[str] = Counter()

    def count(name: str) -> None:
        counts[name] += 1

    return PlainServer(WebSocketSource.model_validate({"url": "ws://h"} | settings), count), counts


def bodies(server: PlainServer, message: str | bytes) -> list[bytes]:
    return [event.body for event in server.take(message)]


@pytest.mark.parametrize("entry", [b'{"n":123456789012345678901234}', b'{"d": 1.10, "e":1E5}', b'{"a":"\\u00e4"}'])
def test_an_entry_of_a_list_is_as_it_was_written(entry: bytes) -> None:
    server, _ = plain()
    assert bodies(server, entry) == [entry]
    assert bodies(server, b" [%b , %b]" % (entry, entry)) == [entry, entry]


def test_an_entry_that_is_no_event_costs_the_others_nothing() -> None:
    server, counts = plain()
    deep = b'{"n":' + b"[" * 500 + b"]" * 500 + b"}"
    assert bodies(server, b'[{"n":1},%b,{"n":3}]' % deep) == [b'{"n":1}', deep, b'{"n":3}']
    assert bodies(server, b'[{"n":1},7,{"n":"\xff"},[{"n":2}],{"n":3}]') == [b'{"n":1}', b'{"n":3}']
    assert counts == {"unreadable": 3}


@pytest.mark.parametrize("message", ["", "[", '[{"n":1}', '[{"n":1}]]', "[" * 5000 + "]" * 5000, "7", "null"])
def test_what_is_no_json_or_no_object_is_counted(message: str) -> None:
    server, counts = plain()
    assert (bodies(server, message), counts) == ([], {"unreadable": 1})


def test_an_acknowledgement_by_id_needs_an_id_of_theirs() -> None:
    server, counts = plain(id="/id", acknowledge={"ack": "{{id}}", "n": "{{/n}}"})
    (named,) = server.take('{"id":"a","n":1}')
    (unnamed,) = server.take('{"n":2}')
    assert (named.id, named.acknowledgement) == ("a", '{"ack":"a","n":1}')
    assert (unnamed.id, unnamed.acknowledgement) == ("", "")
    assert counts == {"without_id": 1, "unacknowledgeable": 1}

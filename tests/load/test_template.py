"""Templates: what they make, and where they are wrong."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from config.units import Address
from proxy.load.requests import BODY_SIZE, Requests, default_body
from proxy.load.target import plain
from proxy.load.template import PLACEHOLDERS, BadTemplate, Template, looks_like_json, parse, parse_body

TARGET = plain(Address("127.0.0.1", 8080))


def made(text: str, *, n: int = 7, keys: int = 10) -> tuple[str, bytes]:
    event = Requests(TARGET, parse_body(text.encode(), "t", is_json=False), keys=keys).make(n, 0)
    assert event.request.endswith(b"Content-Length: %d\r\n\r\n%b" % (len(event.body), event.body))
    return event.id, event.body


def test_every_placeholder_is_filled_in() -> None:
    id, body = made("{{id}} {{ key }} {{n}} {{time}} {{random}} 100 % {} }} ü")
    found = re.fullmatch(r"(\w+) sensor.meter_00003 7 (\S+) (\d\d\.\d\d) 100 % {} }} ü", body.decode())
    assert found is not None
    assert found[1] == id
    assert abs(datetime.fromisoformat(found[2]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_ids_of_a_run_are_unique_and_begin_alike() -> None:
    requests = Requests(TARGET, keys=10)
    ids = [requests.make(n, 0).id for n in range(1_000)]
    assert len(set(ids)) == 1_000
    assert {id[:18] for id in ids} == {requests.run}
    assert Requests(TARGET, keys=10).run != requests.run


@pytest.mark.parametrize("keys", [1, 2, 1_000, 7_919, 15_838])
def test_all_keys_are_used(keys: int) -> None:
    requests = Requests(TARGET, parse("x", "t"), keys=keys)
    assert len({requests.make(n, 0).key for n in range(keys)}) == keys


def test_a_text_without_placeholders_is_itself() -> None:
    assert made("100 %s")[1] == b"100 %s"


def test_the_default_body_is_a_state_change_of_known_size() -> None:
    event = Requests(TARGET, keys=100_000).make(99_999, 0)
    fields = json.loads(event.body)
    assert len(event.body) == BODY_SIZE
    assert (fields["entity_id"], fields["context"]["id"]) == (event.key, event.id)
    assert len(Requests(TARGET, default_body(pad=10), keys=1).make(0, 0).body) == BODY_SIZE + 10


def test_headers_are_templates_too() -> None:
    event = Requests(TARGET, keys=3, headers=("X-Event-Id: {{id}}", "X-Key: {{key}}")).make(1, 0)
    head = event.request.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert head[:2] == ["POST /api/v1/events HTTP/1.1", "Host: 127.0.0.1:8080"]
    assert f"X-Event-Id: {event.id}" in head
    assert f"X-Key: {event.key}" in head


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n "b": "{{kye}}"}', "t.json:2:8: unknown placeholder {{kye}}; did you mean {{key}}?"),
        (b"a\nb {{ id", "t.json:2:3: {{ begins no placeholder"),
        (b"{{}}", "t.json:1:1: unknown placeholder"),
        (b"{{id} }", "t.json:1:1: {{ begins no placeholder"),
        (b'{"a":\n  {{id}}}', "t.json:2:3: not JSON: Expecting value"),
        (b'{"key": "{{key}}",\n}', "t.json:2:1: not JSON"),
        (b'{"a": {{n}} {{n}}}', "t.json:1:13: not JSON: Expecting ',' delimiter"),
        (b'{"\xc3\xbc": "\xff"}', "t.json:1:8: not UTF-8"),
        (b" \n", "t.json:1:1: empty"),
    ],
)
def test_a_bad_template_is_named_by_its_place(content: bytes, message: str) -> None:
    with pytest.raises(BadTemplate) as error:
        parse_body(content, "t.json", is_json=True)
    assert str(error.value).startswith(message)


def test_numbers_need_no_quotes_in_json() -> None:
    template = parse_body(b'{"n": {{n}}, "r": {{random}}, "s": "{{id}}"}', "t", is_json=True)
    assert isinstance(template, Template)
    assert set(template.names) <= set(PLACEHOLDERS)
    body = Requests(TARGET, template, keys=1).make(5, 0).body
    assert json.loads(body)["n"] == 5


@pytest.mark.parametrize(
    ("content", "expected"), [(b' {"a"', True), (b"[1]", True), (b"{{id}}", False), (b"cpu v=1", False)]
)
def test_what_looks_like_json(content: bytes, expected: bool) -> None:
    assert looks_like_json(content) == expected

"""`deliver`: what a backend may be given, and what is refused with its place."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from config.deliver import DeliveryForm, HttpForm
from tests.config.cases import BASE, errors, marked, settings

NEW = '{url: "http://127.0.0.1:9002"}'


def new(deliver: str, route: str = "", more: str = "") -> str:
    """The base, whose new backend has this `deliver`, and more keys in its route and at the top."""
    text = BASE.replace(NEW, f'{{url: "http://127.0.0.1:9002", deliver: {deliver}}}')
    return f"{text}    {route}\n{more}\n"


def loaded(deliver: str, route: str = "", more: str = "") -> DeliveryForm:
    return settings(new(deliver, route, more)).backends["new"].deliver


def test_the_default_changes_nothing_and_can_be_said() -> None:
    assert settings(BASE).backends["new"].deliver == loaded("as_received") == DeliveryForm()
    form = DeliveryForm()
    assert [(form.by(each), form.is_by_ledger(each)) for each in ("http", "websocket")] == [
        ("http", False),
        ("websocket", False),
    ]


def test_a_request_of_its_own() -> None:
    form = loaded('{http: {method: PUT, path: "/v2/{{/type}}", headers: {X-A: "{{id}}"}, body: {s: ["{{/s}}", 1]}}}')
    assert form.http is not None
    assert form.http.body == {"s": ("{{/s}}", 1)}
    assert (form.by("websocket"), form.is_by_ledger("http"), form.is_by_ledger("websocket")) == ("http", False, True)


def test_messages_and_batches_are_the_ledgers() -> None:
    assert loaded("{websocket: {path: /ws}}").is_by_ledger("websocket")
    assert loaded("{websocket: {path: /ws}}").by("http") == "websocket"
    assert loaded("{http: {batch: {size: 50}}}").is_by_ledger("http")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (new("§asreceived"), "expected"),
        (new("§{}"), "expected as_received, http: {...} or websocket: {...}"),
        (new("§{http: {}, websocket: {path: /}}"), "both are given"),
        (new("{http: {path: §v2}}"), "a path starts with '/'"),
        (new('{http: {path: §"/a b"}}'), "percent-encoded"),
        (new('{http: {path: §"/a/../b"}}'), "a segment . or .."),
        (new('{http: {path: §"/{{entity_id}}"}}'), "unknown placeholder {{entity_id}}"),
        (new('{http: {path: §"/{{/a}"}}'), "{{ begins no placeholder"),
        (new('{http: {path: §"/{{/a~2}}"}}'), "~ is written ~0"),
        (new('{http: {headers: {X-A: §" a"}}}'), "a header's value"),
        (new('{http: {headers: {X-A: §"a\\nb"}}}'), "a header's value"),
        (new('{http: {headers: {§Content-Length: "5"}}}'), "is the proxy's own"),
        (new('{http: {body: §{a: ["{{x}}"]}}}'), "unknown placeholder {{x}}"),
        (new('{http: {body: §{"{{/a}}": 1}}}'), "a name in a JSON template is fixed"),
        (new("{http: {body: §{a: .nan}}}"), "no number of JSON"),
        (new("{http: {headers: {X-A: §'Bearer {{/a}'}}}"), "{{ begins no placeholder at character 8: expected"),
        (new("{http: {method: §HEAD}}"), "HEAD asks for an answer without its body"),
        (new("{http: {missing: §ignore}}"), "reject"),
        (new("{http: {batch: {size: §1}}}"), "at least 2"),
        (new("{http: {batch: {size: §65}}}"), "no more than ledger.replay_concurrency, 64"),
        (new('{http: {path: "/{{/a}}", §batch: {size: 2}}}'), "one request has one path"),
        (new("{websocket: §{}}"), "missing key 'path'"),
        (new('{websocket: {path: §"/{{/a}}"}}'), "the path of a session is fixed"),
        (new("{websocket: §{path: /, receipt: reply}}"), "need each other"),
        (new("{http: {path: /a}}, §rewrite_prefix: {prefix: /a, to: /b}"), "means nothing beside the path"),
        (new("{websocket: {path: /}}", "ack: §both"), "nobody waits for its answer"),
        (new("{websocket: {path: /}}", "durability: §off"), "never gets there"),
        (new("{websocket: {path: /}}", "stream: §true"), "no streams"),
        (new("{http: {}}", "stream: §true"), "no streams"),
        (new("{websocket: {path: /}}", "preview_host: §a.example"), "takes messages alone"),
        (new("{websocket: {path: /}}", "§compare_answers: {when: always}"), "nobody hears its answers"),
        (new("{websocket: {path: /}}", more="default: §new"), "takes messages alone"),
        (new("{websocket: {path: /}}", "old: §new\n    new: old"), "say `ack: accepted`"),
        (
            new("{http: {}}", "websocket: {receipt: §reply, reply: {message_id: /id, reply_id: /id}}"),
            "wait for its replies in vain",
        ),
        (
            new("{http: {method: POST}}").replace("path: /events}", "path: /events, methods: §[HEAD]}"),
            "no answer to HEAD",
        ),
    ],
)
def test_what_cannot_hold_is_refused_at_its_place(text: str, says: str) -> None:
    plain, [place] = marked(text)
    [error] = errors(plain)
    assert ((error.line, error.column), says in error.message) == (place, True), error


@pytest.mark.parametrize(
    "text",
    [
        new("{websocket: {path: /}}", "old: new\n    new: old\n    ack: accepted"),
        new("{websocket: {path: /}}", "ack: authority"),
        new("{http: {batch: {size: 64}}}", "websocket: {}"),
        new("{websocket: {path: /}}", "websocket: {}"),
    ],
)
def test_what_can_hold_is_taken(text: str) -> None:
    assert settings(text).backends["new"].deliver != DeliveryForm()


def test_credentials_are_in_no_representation_and_no_error() -> None:
    text = new('{http: {headers: {X-Token: "Bearer SECRET"}}}, headers: {set: {X-Key: "SECRET"}}')
    assert "SECRET" not in repr(settings(text))
    [error] = errors(text.replace("Bearer SECRET", "Bearer SECRET {{/a"))
    assert "begins no placeholder" in error.message
    assert "SECRET" not in f"{error}{error.message}"


@pytest.mark.parametrize("name", [1, None, True])
def test_names_of_a_body_are_strings(name: object) -> None:
    with pytest.raises(ValidationError, match="a name in a JSON template is a string"):
        HttpForm.model_validate({"body": {"a": [{name: "x"}]}})

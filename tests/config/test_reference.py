"""The reference page is the model's, complete, and its examples can be pasted."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, create_model

from config.describe import Section, keys, sections
from config.document import read
from config.model import Settings
from config.reference import REFERENCE_FILE, reference

EVERY_KEY = [(section, key) for section in sections() for key in keys(section.model)]


def field_alone(section: Section, name: str) -> type[BaseModel]:
    """A model with this one key of the section."""
    field = section.model.model_fields[name]
    definition: dict[str, Any] = {name: (field.annotation, field)}
    return create_model("Alone", __config__=section.model.model_config, **definition)


def test_page_is_fresh() -> None:
    assert REFERENCE_FILE.read_text() == reference(), "write it anew: python -m config.reference"


def test_every_section_is_there() -> None:
    assert [section.path for section in sections()] == [
        "",
        "listen[]",
        "listen[].tls",
        "listen[].tls.sni[]",
        "backends.NAME",
        "backends.NAME.consumer",
        "backends.NAME.tls",
        "backends.NAME.health",
        "backends.NAME.breaker",
        "backends.NAME.headers",
        "backends.NAME.rewrite_prefix",
        "backends.NAME.deliver",
        "backends.NAME.deliver.http",
        "backends.NAME.deliver.http.batch",
        "backends.NAME.deliver.http.batch.results",
        "backends.NAME.deliver.websocket",
        "backends.NAME.deliver.websocket.reply",
        "backends.NAME.deliver.websocket.reply.only",
        "routes[]",
        "routes[].match",
        "routes[].pins",
        "routes[].websocket",
        "routes[].websocket.reply",
        "routes[].websocket.reply.only",
        "routes[].websocket.broadcast[]",
        "routes[].fanout",
        "routes[].trigger",
        "routes[].rollout",
        "routes[].rollout.latency",
        "routes[].rollout.improvement",
        "routes[].rollout.steps[]",
        "routes[].compare_answers",
        "routes[].compare_answers.rules[]",
        "routes[].compare_answers.rules[].when",
        "limits",
        "ledger",
        "consistency[]",
        "consistency[].old",
        "consistency[].old.sqlite",
        "consistency[].old.postgres",
        "consistency[].old.influxdb1",
        "consistency[].old.influxdb2",
        "consistency[].old.http",
        "consistency[].old.files",
        "consistency[].old.plugin",
        "consistency[].rules[]",
        "consistency[].rules[].when",
        "consistency[].probe",
        "consistency[].probe.checkpoints[]",
        "gates[]",
        "gates[].webhook",
        "gates[].prometheus",
        "gates[].soak",
        "gates[].soak.resources",
        "admin",
        "hooks",
        "hooks.alertmanager",
        "hooks.alertmanager.rules[]",
        "hooks.webhook",
        "sources[]",
        "sources[].home_assistant",
        "sources[].websocket",
        "sources[].websocket.only",
        "notifications[]",
        "log",
        "log.access",
        "drain",
        "tracing",
    ]


@pytest.mark.parametrize(("section", "key"), EVERY_KEY, ids=[f"{s.path}.{k.name}".lstrip(".") for s, k in EVERY_KEY])
def test_key_is_explained_and_its_example_works(section: Section, key: Any) -> None:
    assert key.meaning
    assert key.type
    assert key.example
    assert f"| `{key.name}` |" in reference()
    adapter = TypeAdapter(field_alone(section, key.name))
    for text in {key.example, key.default} - {""}:
        document = read(
            f"{key.name}: {text}",
            {"CROSSFADE_SALT": "long enough", "OLD_PASSWORD": "x"}
            | dict.fromkeys(("NEW_TOKEN", "HOOK_TOKEN", "HOME_ASSISTANT_TOKEN", "CONSUMER_TOKEN"), "a-token"),
        )
        assert document.problems == []
        loaded = getattr(adapter.validate_python(document.data), key.name)
        if text == key.default:
            assert loaded == section.model.model_fields[key.name].get_default(call_default_factory=True)


def test_types_in_words() -> None:
    words = {f"{section.path}.{key.name}": key.type for section, key in EVERY_KEY}
    assert words[".workers"] == "whole number, 1 to 64"
    assert words[".listen"] == "list of address or listen"
    assert words["limits.head_timeout"] == "duration"
    assert words["ledger.min_free"] == "size"
    assert words["routes[].weight"] == "number, 0 to 100"
    assert words["routes[].ack"] == "`authority` or `both` or `accepted`"
    assert words["backends.NAME.dependencies"] == "mapping of name to URL"
    assert words["routes[].match.host"] == "host name"


def test_required_keys_are_said_to_be() -> None:
    page = reference()
    for name, field in Settings.model_fields.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        assert ("| required |" in row) == field.is_required()

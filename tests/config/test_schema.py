"""The JSON Schema: it is the model's, and agrees with the loader about good and bad files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from config.document import read
from config.schema import SCHEMA_FILE, schema_text
from tests.config.cases import BASE, errors, old, route, settings, top

SCHEMA: dict[str, Any] = json.loads(schema_text())
VALIDATOR = Draft202012Validator(SCHEMA)


def complaints(text: str) -> list[str]:
    """What an editor would underline: references to the environment are not replaced there."""
    data: Any = read(text.replace("$", "$$"), {}).data
    return [error.message for error in VALIDATOR.iter_errors(json.loads(json.dumps(data)))]


def test_schema_file_is_fresh() -> None:
    assert SCHEMA_FILE.read_text() == schema_text(), "write it anew: python -m config.schema"


def test_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        BASE,
        BASE.replace("salt: a-salt-of-the-tests", "salt: ${SALT}"),
        top("workers: 3\nlisten: ['${LISTEN}']\nstop_grace: 1h30m"),
        top("workers: ${WORKERS:-2}"),
        top("admin: {tcp: off}\nlimits: {max_event_size: 64KiB, max_headers: 5}"),
        route(
            "durability: off\n    trigger: {error_rate: 5%, on_fail: {slower: alert}}\n    weight: 2.5\n    stage: live"
        ),
        route("trigger: {error_rate: 0.05}\n    carry_over: false\n    event_time: json:/t"),
        old("url: ['http://h:1', 'srv+http://_h._tcp.h']"),
        old("url: 'http://h:1', health: {path: /h}, dependencies: {db: 'tcp://h:1'}"),
    ],
)
def test_good_files(text: str) -> None:
    assert complaints(text) == []
    assert settings(text, {"SALT": "long enough", "LISTEN": "127.0.0.1:1"}).version == 1


@pytest.mark.parametrize(
    "text",
    [
        top("lisen: [a]"),
        route("wieght: 5"),
        top("workers: 0"),
        top("workers: two"),
        top("stop_grace: 5"),
        top("stop_grace: 5 minutes"),
        top("limits: {max_event_size: 1000}"),
        route("durability: false"),
        route("weight: 101"),
        route("trigger: {error_rate: 5}"),
        BASE.replace("version: 1", "version: 2"),
        BASE.replace("name: events", "name: My Events"),
        BASE.replace("new:", "New One:"),
        BASE.replace("salt: a-salt-of-the-tests\n", ""),
        top("salt_file: both"),
        BASE.replace("{path: /events}", "{methods: [POST]}"),
        BASE.replace("/events}", "/events, methods: [post]}"),
        old("connections: 5"),
    ],
)
def test_bad_files(text: str) -> None:
    assert complaints(text) != []
    assert errors(text) != []


def test_defaults_are_said_as_they_are_written() -> None:
    made = SCHEMA
    assert made["properties"]["stop_grace"]["default"] == "20s"
    assert made["$defs"]["Limits"]["properties"]["max_event_size"]["default"] == "1MiB"
    assert made["$defs"]["Trigger"]["properties"]["error_rate"]["default"] == "1%"


def test_every_default_satisfies_the_schema() -> None:
    made = SCHEMA
    for owner in (made, *made["$defs"].values()):
        for name, prop in owner.get("properties", {}).items():
            for value in [prop["default"]] if "default" in prop else []:
                assert Draft202012Validator({**prop, "$defs": made["$defs"]}).is_valid(value), name


def test_every_example_satisfies_the_schema() -> None:
    made = SCHEMA
    owners = (made, *made["$defs"].values())
    examples = [(n, p, e) for o in owners for n, p in o.get("properties", {}).items() for e in p.get("examples", ())]
    assert len(examples) > 20
    for name, prop, example in examples:
        assert Draft202012Validator({**prop, "$defs": made["$defs"]}).is_valid(example), name


EXAMPLES = sorted(path for path in Path(SCHEMA_FILE.parent, "examples").glob("*.yaml") if path.stem != "rollout")
"""Of configurations; rollout.yaml is a staged plan."""


def test_there_are_examples() -> None:
    assert [path.stem for path in EXAMPLES] == [
        "consistency",
        "deliver",
        "edge",
        "fanout",
        "home-assistant",
        "influxdb",
        "quickstart",
        "sidecar",
        "websocket",
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_satisfies_its_schema(path: Path) -> None:
    text = path.read_text()
    first = text.partition("\n")[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("=")[2]).resolve() == SCHEMA_FILE.resolve()
    assert complaints(text) == []

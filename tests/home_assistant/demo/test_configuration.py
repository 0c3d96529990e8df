"""The proxy's configuration of the demo is the example's, and is accepted."""

from __future__ import annotations

from pathlib import Path

import yaml

from config.loader import load
from deploy.home_assistant.demo.configuration import EXAMPLE, configuration
from deploy.home_assistant.services import ENRICHMENT


def test_it_is_the_example_with_the_addresses_of_what_runs(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    sides = {"old": "http://127.0.0.1:1001", "new": "http://127.0.0.1:1002"}
    stores = {"old": "http://127.0.0.1:1003", "new": "http://127.0.0.1:1004"}
    document = configuration(sides, stores, "home", ("http://127.0.0.1:1005", token))
    example = yaml.safe_load(EXAMPLE.read_text())
    (route,), (own,) = document["routes"], example["routes"]
    assert {name: route[name] for name in own} == own
    path = tmp_path / "crossfade.yaml"
    path.write_text(yaml.safe_dump(document))
    settings = load(path)
    (source,) = settings.sources
    assert source.home_assistant is not None
    assert source.home_assistant.url == "ws://127.0.0.1:1005/api/websocket"
    assert source.home_assistant.event_types == ("state_changed",)
    (check,) = settings.consistency
    assert {rule.path for rule in check.rules} == {"/id", *(f"/{name}" for name in ENRICHMENT)}

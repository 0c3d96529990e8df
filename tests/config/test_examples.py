"""The example files are loaded as a user would load them."""

from __future__ import annotations

from pathlib import Path

import pytest

import config
from config.loader import load

FOLDER = Path(config.__file__).parent / "examples"


CONFIGURATIONS = sorted(path for path in FOLDER.glob("*.yaml") if path.stem != "rollout")
"""rollout.yaml is a staged plan."""


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_example_is_loaded_without_any_environment(path: Path) -> None:
    loaded = load(path, environ={})
    assert loaded.default in (*loaded.backends, None)
    assert loaded.state_dir == str(FOLDER / "crossfade-state")


def test_quickstart_is_what_the_readme_says() -> None:
    loaded = load(FOLDER / "quickstart.yaml", environ={})
    (events,) = loaded.routes
    assert [str(each) for each in loaded.listen] == ["127.0.0.1:8080"]
    assert {name: backend.where for name, backend in loaded.backends.items()} == {
        "old": "http://127.0.0.1:9001",
        "new": "http://127.0.0.1:9002",
    }
    assert (events.name, events.match.path, events.match.methods) == ("events", "/api/v1/events", ("POST",))
    assert (events.key, events.event_id) == ("json:/entity_id", ("header:X-Event-Id", "json:/context/id"))
    assert loaded.default == "old"


def test_sidecar_takes_its_addresses_from_the_environment() -> None:
    environ = {"OLD_URL": "http://old.test:1", "NEW_URL": "http://new.test:2", "CROSSFADE_WORKERS": "7"}
    loaded = load(FOLDER / "sidecar.yaml", environ=environ)
    assert [backend.where for backend in loaded.backends.values()] == ["http://old.test:1", "http://new.test:2"]
    assert (loaded.workers, loaded.admin.tcp) == (7, "off")
    assert {route.stage for route in loaded.routes} == {"dualwrite"}


def test_edge_reads_its_salt_from_a_file() -> None:
    loaded = load(FOLDER / "edge.yaml", environ={})
    assert loaded.salt == (FOLDER / "edge.salt").read_text().strip()
    assert [(route.name, route.stage, route.weight) for route in loaded.routes] == [
        ("telemetry", "split", 5),
        ("orders", "dualwrite", None),
        ("webhooks", "dualwrite", None),
    ]


def test_influxdb_dual_writes_line_protocol_of_both_versions() -> None:
    loaded = load(FOLDER / "influxdb.yaml", environ={"OLD_URL": "http://old.test:8086", "CROSSFADE_STATE": "/s"})
    assert [(route.match.path, route.key, route.stage) for route in loaded.routes] == [
        ("/write", "line:series", "dualwrite"),
        ("/api/v2/write", "line:series", "dualwrite"),
    ]
    assert [backend.where for backend in loaded.backends.values()] == ["http://old.test:8086", "http://127.0.0.1:8087"]
    assert loaded.state_dir == "/s"
    assert loaded.limits.max_decoded_size >= loaded.limits.max_event_size

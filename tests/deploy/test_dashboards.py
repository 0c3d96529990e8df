"""The dashboards: what is in git is what the code makes, and what the SDK's types say a dashboard is."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.written import encoded, texts
from proxy.cli.monitoring import DASHBOARDS
from tests.control.test_metrics import GOLDEN
from tests.harness.grafana import queries

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
LIVE = {"crossfade_check_behind_seconds", "crossfade_check_late_windows", "crossfade_check_pending_windows"}
LIVE |= {"crossfade_mismatches_total", "crossfade_checked_events_total", "crossfade_judged_events_total"}
"""Metrics of a live check, which the golden list of an instance without one has not."""


def loaded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return found


def test_what_is_in_git_is_what_the_code_makes() -> None:
    made = texts()
    assert tuple(made) == DASHBOARDS
    assert {path.name for path in FOLDER.glob("*.json")} == made.keys()
    assert [name for name, text in made.items() if (FOLDER / name).read_text() != text] == []


def test_it_was_made_by_the_version_that_is_pinned() -> None:
    assert version("grafana-foundation-sdk").removeprefix("v") == "0.0.21"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_types_of_the_sdk_take_all_of_it(name: str) -> None:
    register_default_plugins()
    assert json.loads(encoded(Dashboard.from_json(loaded(name)))) == loaded(name)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_a_place_an_id_and_words(name: str) -> None:
    panels = loaded(name)["panels"]
    assert sorted(panel["id"] for panel in panels) == list(range(1, len(panels) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["description"]
        assert panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_uids_are_their_own() -> None:
    assert len({loaded(name)["uid"] for name in DASHBOARDS}) == len(DASHBOARDS)


def test_every_query_goes_by_the_variables() -> None:
    """So that a dashboard shows the instances and routes that were chosen, of the Prometheus that was."""
    for name in DASHBOARDS:
        for query in queries(loaded(name)):
            assert query.source == {"type": "prometheus", "uid": "${datasource}"}, query
            assert query.is_variable or 'instance=~"$instance"' in query.expr, query


def test_what_they_ask_for_is_exported() -> None:
    asked = {
        metric
        for name in DASHBOARDS
        for query in queries(loaded(name))
        for metric in re.findall(r"\bcrossfade_\w+", query.expr)
    }
    known = {line.split("{")[0] for line in GOLDEN.split()} | LIVE
    assert len(asked) > 40
    assert asked <= known


def test_the_overview_has_each_backend_beside_the_other() -> None:
    panels = {panel["title"]: panel for panel in loaded("crossfade-overview.json")["panels"]}
    for title in ("Rate: $backend", "Errors: $backend", "Duration: $backend"):
        assert (panels[title]["repeat"], panels[title]["repeatDirection"]) == ("backend", "h")
        assert all("role" in target["expr"] for target in panels[title]["targets"])

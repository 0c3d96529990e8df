"""The dashboards as the files that are in git."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.internals import internals
from deploy.grafana.migration import migration
from deploy.grafana.overview import overview


def texts() -> dict[str, str]:
    """The text of each file by its name."""
    built = {"overview": overview(), "migration": migration(), "internals": internals()}
    return {f"crossfade-{name}.json": encoded(_numbered(each.build())) for name, each in built.items()}


def _numbered(dashboard: Dashboard) -> Dashboard:
    """With an id for each panel: by itself the SDK gives all rows the same one, and panels none."""
    for number, panel in enumerate(dashboard.panels or [], 1):
        panel.id_val = number
    return dashboard


def encoded(model: Any) -> str:
    """A model of the SDK as JSON, with its keys in order."""
    return JSONEncoder(sort_keys=True, indent=2).encode(model) + "\n"

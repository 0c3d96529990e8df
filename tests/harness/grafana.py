"""What Grafana asks Prometheus for a dashboard: its panels, annotations and variables, with the variables put in."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

VALUES = {
    "$__rate_interval": "15s",
    "$instance": ".+",
    "$route": ".+",
    "$backend": ".+",
}
"""As Grafana puts them in where all are chosen, and Prometheus scrapes once a second or so."""


class Query(NamedTuple):
    """where: of which panel, annotation or variable; source: the data source; expr: with variables still in it."""

    where: str
    source: dict[str, str]
    expr: str
    is_variable: bool = False

    @property
    def asked(self) -> str:
        """As Prometheus is asked."""
        text = self.expr
        for name, value in VALUES.items():
            text = text.replace(name, value)
        assert "$" not in text, f"{self.where}: a variable is not known in {text}"
        return text


def queries(dashboard: dict[str, Any]) -> list[Query]:
    """Every query of a dashboard."""
    found = [
        Query(f"panel {panel['title']}, {target['refId']}", target["datasource"], target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]
    found += [
        Query(f"annotation {each['name']}", each["datasource"], each["expr"])
        for each in dashboard["annotations"]["list"]
    ]
    for each in dashboard["templating"]["list"]:
        if each["type"] == "query":
            found.append(Query(f"variable {each['name']}", each["datasource"], each["query"], is_variable=True))
    return found


def label_values(query: str) -> tuple[str, str]:
    """The metric, with its matchers, and the label that `label_values(METRIC, LABEL)` asks for."""
    match = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
    assert match is not None, query
    return match[1], match[2]

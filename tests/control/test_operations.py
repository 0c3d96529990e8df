"""The table of operations and the document made from it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from proxy.control.operations import OPERATIONS, openapi

CONTRACT = """
GET /healthz
GET /readyz
GET /metrics
GET /api/v1/openapi.json
GET /api/v1/status
GET /api/v1/doctor
GET /api/v1/status/stream
GET /api/v1/routes
PUT /api/v1/routes/{route}/weight
PUT /api/v1/routes/{route}/stage
POST /api/v1/routes/{route}/rollback
POST /api/v1/routes/{route}/restore
POST /api/v1/routes/{route}/rearm
GET /api/v1/routes/{route}/drill
POST /api/v1/routes/{route}/drill
DELETE /api/v1/routes/{route}/drill
GET /api/v1/routes/{route}/baseline
POST /api/v1/routes/{route}/baseline
GET /api/v1/routes/{route}/rollout
POST /api/v1/routes/{route}/rollout
POST /api/v1/routes/{route}/rollout/pause
POST /api/v1/routes/{route}/rollout/resume
POST /api/v1/routes/{route}/rollout/promote
POST /api/v1/routes/{route}/rollout/abort
PUT /api/v1/freeze
DELETE /api/v1/freeze
GET /api/v1/routes/{route}/figures
GET /api/v1/decommission
GET /api/v1/history
GET /api/v1/why
GET /api/v1/ledger
GET /api/v1/ledger/events
GET /api/v1/ledger/events/{id}
GET /api/v1/ledger/recorded
GET /api/v1/ledger/settled
GET /api/v1/ledger/covered
POST /api/v1/ledger/replay
GET /api/v1/dead
POST /api/v1/dead/requeue
POST /api/v1/dead/discard
GET /api/v1/consistency
GET /api/v1/consistency/verify
GET /api/v1/consistency/diff
GET /api/v1/consistency/suggest
POST /api/v1/consistency/repair
POST /api/v1/consistency/backfill
POST /api/v1/hooks/alertmanager
POST /api/v1/hooks/webhook
GET /api/v1/config
GET /api/v1/switch
POST /api/v1/upgrade
POST /api/v1/reload
PUT /api/v1/log-level
POST /api/v1/drain
GET /api/v1/tokens
POST /api/v1/tokens
DELETE /api/v1/tokens/{name}
"""


def test_the_operations_are_those_that_clients_rely_on() -> None:
    assert [f"{each.method} {each.path}" for each in OPERATIONS] == CONTRACT.split("\n")[1:-1]


def test_reads_read_and_changes_need_an_operator_or_are_a_hooks() -> None:
    for each in OPERATIONS:
        assert (each.access in ("operator", "hook")) == (each.method != "GET"), each.name
        assert (each.access == "hook") == ("/hooks/" in each.path), each.name
        assert (each.body is not None) == (each.method != "GET"), each.name


def test_names_are_unique() -> None:
    assert len({each.name for each in OPERATIONS}) == len(OPERATIONS)


def test_every_path_parameter_is_described() -> None:
    for each in OPERATIONS:
        described = {parameter.name for parameter in each.parameters if parameter.place == "path"}
        assert described == set(re.findall(r"{(\w+)}", each.path)), each.name


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(json.dumps(openapi("1.2.3")))


def test_every_reference_of_the_document_leads_somewhere(document: Any) -> None:
    references = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(document)))
    assert references
    assert references <= set(document["components"]["schemas"])


def test_the_document_describes_a_change(document: Any) -> None:
    weight = document["paths"]["/api/v1/routes/{route}/weight"]["put"]
    assert weight["requestBody"]["required"] is True
    assert weight["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/SetWeight"}
    schema = document["components"]["schemas"]["SetWeight"]
    assert schema["properties"]["weight"]["maximum"] == 100
    assert schema["required"] == ["weight"]
    assert {each["name"] for each in weight["parameters"]} == {"route", "If-Match", "X-Actor"}
    rollback = document["paths"]["/api/v1/routes/{route}/rollback"]["post"]
    assert rollback["requestBody"]["required"] is False
    assert document["paths"]["/healthz"]["get"]["security"] == []
    assert document["info"]["version"] == "1.2.3"


def test_summaries_are_there() -> None:
    for each in OPERATIONS:
        assert each.summary
        assert each.summary[-1] != "."

"""The table of the admin API's operations. Routes, access and openapi.json are all made from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

import msgspec

from proxy.control import bodies, views
from proxy.core.alerts import Notification

PREFIX: Final = "/api/v1"
Access = Literal["open", "viewer", "operator", "hook"]


@dataclass(frozen=True)
class Parameter:
    """A path or query parameter. schema: JSON Schema."""

    name: str
    place: Literal["path", "query"]
    schema: dict[str, Any]
    summary: str


@dataclass(frozen=True)
class Operation:
    """One operation. name: its handler and operationId; access: open to all, or the least role.

    body: type of the request body, None without one; result: type of the answer, None for plain text; misfit: status
    for a body that is JSON and not of that type; media: type of the answer where that is not None.
    """

    method: str
    path: str
    name: str
    summary: str
    access: Access
    result: type | None
    body: type | None = None
    status: int = 200
    parameters: tuple[Parameter, ...] = ()
    misfit: int = 422
    media: str = "application/json"


_STRING: Final = {"type": "string"}
_MOMENT: Final = {"type": "string", "description": "ISO 8601 or seconds since 1970"}
_ROUTE_PATH: Final = Parameter("route", "path", _STRING, "name of a route; - when there is exactly one")
_ROUTE: Final = Parameter("route", "query", _STRING, "only this route")
_SIDE: Final = Parameter("side", "query", {"type": "string", "enum": ["old", "new"]}, "only this side")
_LIMIT: Final = Parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 1000}, "at most so many")
_STATE: Final = Parameter("state", "query", _STRING, "only events in this state at the side, or at either")
_SINCE: Final = Parameter("since", "query", _MOMENT, "accepted since")
_AFTER: Final = Parameter("after_seq", "query", {"type": "integer", "minimum": 0}, "only after this number")
_ROWS: Final = Parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 5000}, "at most so many")
_SEQS: Final = Parameter("seqs", "query", _STRING, "numbers of receipts with commas between them, at most 500")
_UNTIL: Final = Parameter("until", "query", _MOMENT, "event time; until a moment ago when absent")
_FROM: Final = Parameter("since", "query", _MOMENT, "event time; an hour before the end when absent")
_FULL: Final = Parameter("full", "query", {"type": "string", "enum": ["true", "false"]}, "read every row")
_LIVE: Final = Parameter(
    "live", "query", {"type": "string", "enum": ["true", "false"]}, "tell what the live checker found, read no store"
)
_CLASS: Final = Parameter("class", "query", _STRING, "only events of this class, or of several: lost,unrecorded")
_FIELD: Final = Parameter("field", "query", _STRING, "only events that differ there or beneath, a JSON pointer")
_OF_CHECK: Final = (_ROUTE, _FROM, _UNTIL, _FULL, _LIMIT)
_FIGURES_FROM: Final = Parameter("since", "query", _MOMENT, "an hour before the end when absent")
_FIGURES_TO: Final = Parameter("until", "query", _MOMENT, "now when absent")
_POINTS: Final = Parameter(
    "points", "query", {"type": "integer", "minimum": 1, "maximum": 1000}, "at most so many; 200 when absent"
)
_QUIET: Final = Parameter(
    "quiet",
    "query",
    {"type": "integer", "minimum": 0, "maximum": 2_592_000},
    "seconds without an event to old that are wanted; 60 when absent",
)
_WRITTEN_SINCE: Final = Parameter("since", "query", _MOMENT, "only what was written then or later")
_WRITTEN_BEFORE: Final = Parameter("until", "query", _MOMENT, "only what was written before")
_OFFSET: Final = Parameter("offset", "query", {"type": "integer", "minimum": 0}, "leave out so many of the newest")
_TOKEN: Final = Parameter("name", "path", _STRING, "name of a token")
_EVENT: Final = Parameter("id", "path", _STRING, "event id")


def _change(method: str, what: str, name: str, summary: str, body: type) -> Operation:
    path = f"{PREFIX}/routes/{{route}}/{what}"
    return Operation(method, path, name, summary, "operator", views.RoutingChanged, body, parameters=(_ROUTE_PATH,))


def _rollout(what: str, summary: str) -> Operation:
    path = f"{PREFIX}/routes/{{route}}/rollout/{what}"
    result = views.RolloutView
    return Operation(
        "POST", path, f"rollout_{what}", summary, "operator", result, bodies.Change, parameters=(_ROUTE_PATH,)
    )


OPERATIONS: Final = (
    Operation("GET", "/healthz", "healthz", "The supervisor answers", "open", views.Health),
    Operation("GET", "/readyz", "readyz", "Ready for traffic; 503 with the reasons when not", "open", views.Readiness),
    Operation("GET", "/metrics", "metrics", "Prometheus exposition", "open", None),
    Operation("GET", f"{PREFIX}/openapi.json", "openapi", "This description", "viewer", dict),
    Operation("GET", f"{PREFIX}/status", "status", "Everything at a glance", "viewer", views.Status),
    Operation("GET", f"{PREFIX}/doctor", "doctor", "What may be wrong, and what to change", "viewer", views.Diagnosis),
    Operation(
        "GET",
        f"{PREFIX}/status/stream",
        "status_stream",
        "Server-sent events: welcome (who is asking), then snapshot twice a second and history with each change",
        "viewer",
        views.Snapshot,
        media="text/event-stream",
    ),
    Operation("GET", f"{PREFIX}/routes", "routes", "Settings of all routes", "viewer", views.Routes),
    _change("PUT", "weight", "set_weight", "Turn the weight", bodies.SetWeight),
    _change("PUT", "stage", "set_stage", "Set both dials to a named position", bodies.SetStage),
    _change("POST", "rollback", "rollback", "Weight 0 at once, or down to one; always allowed", bodies.Rollback),
    _change("POST", "restore", "restore", "Both dials as they were at an earlier epoch", bodies.Restore),
    _change("POST", "rearm", "rearm", "Open the latch that a revert closed", bodies.Change),
    Operation(
        "GET",
        f"{PREFIX}/routes/{{route}}/drill",
        "drill",
        "The last drill of a route",
        "viewer",
        views.DrillView,
        parameters=(_ROUTE_PATH,),
    ),
    Operation(
        "POST",
        f"{PREFIX}/routes/{{route}}/drill",
        "drill_begin",
        "Let the copies to new fail for a time, as if new did",
        "operator",
        views.DrillView,
        bodies.Drill,
        status=201,
        parameters=(_ROUTE_PATH,),
    ),
    Operation(
        "DELETE",
        f"{PREFIX}/routes/{{route}}/drill",
        "drill_end",
        "End that",
        "operator",
        views.DrillView,
        bodies.Change,
        parameters=(_ROUTE_PATH,),
    ),
    Operation(
        "GET",
        f"{PREFIX}/routes/{{route}}/baseline",
        "baseline",
        "What old's answers were like",
        "viewer",
        views.BaselineView,
        parameters=(_ROUTE_PATH,),
    ),
    Operation(
        "POST",
        f"{PREFIX}/routes/{{route}}/baseline",
        "record_baseline",
        "Record what old's answers are like from now on",
        "operator",
        views.BaselineView,
        bodies.RecordBaseline,
        status=202,
        parameters=(_ROUTE_PATH,),
    ),
    Operation(
        "GET",
        f"{PREFIX}/routes/{{route}}/rollout",
        "rollout",
        "The staged plan of a route, and how far it is",
        "viewer",
        views.RolloutView,
        parameters=(_ROUTE_PATH,),
    ),
    Operation(
        "POST",
        f"{PREFIX}/routes/{{route}}/rollout",
        "rollout_start",
        "Begin a staged plan",
        "operator",
        views.RolloutView,
        bodies.StartRollout,
        status=201,
        parameters=(_ROUTE_PATH,),
    ),
    _rollout("pause", "Stay where it is"),
    _rollout("resume", "Go on from where it was paused"),
    _rollout("promote", "To the next step at once"),
    _rollout("abort", "End it, and weight 0"),
    Operation(
        "PUT",
        f"{PREFIX}/freeze",
        "freeze",
        "No change of the routing but back, for a time",
        "operator",
        views.FreezeChanged,
        bodies.Freeze,
    ),
    Operation("DELETE", f"{PREFIX}/freeze", "unfreeze", "End that", "operator", views.FreezeChanged, bodies.Unfreeze),
    Operation(
        "GET",
        f"{PREFIX}/routes/{{route}}/figures",
        "figures",
        "Figures of the last month: every 10 s of a day, then every minute",
        "viewer",
        views.FiguresView,
        parameters=(_ROUTE_PATH, _FIGURES_FROM, _FIGURES_TO, _POINTS),
    ),
    Operation(
        "GET",
        f"{PREFIX}/decommission",
        "decommission",
        "What still depends on old",
        "viewer",
        views.DecommissionView,
        parameters=(_ROUTE, _QUIET),
    ),
    Operation(
        "GET",
        f"{PREFIX}/history",
        "history",
        "Audit trail, newest first",
        "viewer",
        views.History,
        parameters=(_LIMIT, _ROUTE, _WRITTEN_SINCE, _WRITTEN_BEFORE, _OFFSET),
    ),
    Operation("GET", f"{PREFIX}/why", "why", "The last revert", "viewer", views.Why, parameters=(_ROUTE,)),
    Operation("GET", f"{PREFIX}/ledger", "ledger", "Balance of the record", "viewer", views.LedgerSummary),
    Operation(
        "GET",
        f"{PREFIX}/ledger/events",
        "ledger_events",
        "Receipts of events",
        "viewer",
        views.Receipts,
        parameters=(_ROUTE, _SIDE, _STATE, _SINCE, _AFTER, _LIMIT),
    ),
    Operation(
        "GET",
        f"{PREFIX}/ledger/events/{{id}}",
        "ledger_event",
        "Everything recorded of one event",
        "viewer",
        views.ReceiptsOfEvent,
        parameters=(_EVENT,),
    ),
    Operation(
        "GET",
        f"{PREFIX}/ledger/recorded",
        "recorded",
        "Receipts of a route as short rows, for the consistency checker",
        "viewer",
        views.Recorded,
        parameters=(_ROUTE, _SINCE, _AFTER, _ROWS),
    ),
    Operation(
        "GET",
        f"{PREFIX}/ledger/settled",
        "settled",
        "What became of receipts, by their numbers",
        "viewer",
        views.Settled,
        parameters=(_SEQS,),
    ),
    Operation(
        "GET",
        f"{PREFIX}/ledger/covered",
        "covered",
        "Of which times the record says everything",
        "viewer",
        views.Covered,
    ),
    Operation(
        "POST",
        f"{PREFIX}/ledger/replay",
        "replay",
        "Deliver again what a restored backend is missing",
        "operator",
        views.Replayed,
        bodies.Replay,
    ),
    Operation(
        "GET",
        f"{PREFIX}/dead",
        "dead",
        "Dead letters",
        "viewer",
        views.Receipts,
        parameters=(_ROUTE, _SIDE, _AFTER, _LIMIT),
    ),
    Operation(
        "POST", f"{PREFIX}/dead/requeue", "dead_requeue", "Try again", "operator", views.Moved, bodies.DeadLetters
    ),
    Operation(
        "POST", f"{PREFIX}/dead/discard", "dead_discard", "Give up on them", "operator", views.Moved, bodies.DeadLetters
    ),
    Operation("GET", f"{PREFIX}/consistency", "consistency", "The live checks", "viewer", views.Checks),
    Operation(
        "GET",
        f"{PREFIX}/consistency/verify",
        "verify",
        "Compare what both stores hold with each other and the record",
        "viewer",
        dict,
        parameters=(*_OF_CHECK, _LIVE),
    ),
    Operation(
        "GET",
        f"{PREFIX}/consistency/diff",
        "diff",
        "Events of which both stores say something else",
        "viewer",
        dict,
        parameters=(*_OF_CHECK, _LIVE, _CLASS, _FIELD),
    ),
    Operation(
        "GET",
        f"{PREFIX}/consistency/suggest",
        "suggest",
        "Rules for what looks like noise; none is applied",
        "viewer",
        dict,
        parameters=_OF_CHECK,
    ),
    Operation(
        "POST",
        f"{PREFIX}/consistency/repair",
        "repair",
        "Write what one store lacks and the other has",
        "operator",
        dict,
        bodies.Repair,
    ),
    Operation(
        "POST",
        f"{PREFIX}/consistency/backfill",
        "backfill",
        "Copy what one store lacks of the other one's history",
        "operator",
        dict,
        bodies.Backfill,
    ),
    Operation(
        "POST",
        f"{PREFIX}/hooks/alertmanager",
        "hook_alertmanager",
        "Alerts that pause or revert a route, as an Alertmanager posts them (version 4)",
        "hook",
        views.HookDone,
        Notification,
        misfit=400,
    ),
    Operation(
        "POST",
        f"{PREFIX}/hooks/webhook",
        "hook_webhook",
        "Pause or revert a route",
        "hook",
        views.HookDone,
        bodies.Hook,
        misfit=400,
    ),
    Operation("GET", f"{PREFIX}/config", "config", "Which configuration is served", "viewer", views.ConfigView),
    Operation("GET", f"{PREFIX}/switch", "switch", "The last replacement of processes", "viewer", views.SwitchView),
    Operation(
        "POST",
        f"{PREFIX}/upgrade",
        "upgrade",
        "Let the code on the disk take over, process by process",
        "operator",
        views.SwitchView,
        bodies.Change,
        status=202,
    ),
    Operation(
        "POST",
        f"{PREFIX}/reload",
        "reload",
        "Read the configuration file again, and apply it",
        "operator",
        views.ReloadView,
        bodies.Reload,
        status=202,
    ),
    Operation(
        "PUT",
        f"{PREFIX}/log-level",
        "log_level",
        "Log more, or less, for a while",
        "operator",
        views.LogLevelSet,
        bodies.LogLevel,
    ),
    Operation(
        "POST", f"{PREFIX}/drain", "drain", "Stop gracefully", "operator", views.Draining, bodies.Drain, status=202
    ),
    Operation("GET", f"{PREFIX}/tokens", "tokens", "All tokens, without their secrets", "viewer", views.TokenList),
    Operation(
        "POST",
        f"{PREFIX}/tokens",
        "token_create",
        "Make a token; its secret is shown this once",
        "operator",
        views.TokenCreated,
        bodies.CreateToken,
        status=201,
    ),
    Operation(
        "DELETE",
        f"{PREFIX}/tokens/{{name}}",
        "token_revoke",
        "Make a token worthless",
        "operator",
        views.TokenRevoked,
        bodies.Change,
        parameters=(_TOKEN,),
    ),
)


@cache
def openapi(version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the table; not to be changed. The first time it takes a tenth of a second."""
    types = [views.ProblemView, *(t for each in OPERATIONS for t in (each.body, each.result))]
    unique = list(dict.fromkeys(t for t in types if t is not None and t is not dict))
    schemas, components = msgspec.json.schema_components(unique, ref_template="#/components/schemas/{name}")
    refs = dict(zip(unique, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in OPERATIONS:
        paths.setdefault(each.path, {})[each.method.lower()] = _describe(each, refs)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Crossfade admin API", "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _describe(operation: Operation, refs: dict[type, dict[str, Any]]) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": refs[views.ProblemView]}}
    result: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    if operation.result is not None:
        result = {operation.media: {"schema": refs.get(operation.result, {"type": "object"})}}
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [
            {
                "name": each.name,
                "in": each.place,
                "required": each.place == "path",
                "schema": each.schema,
                "description": each.summary,
            }
            for each in operation.parameters
        ],
        "responses": {
            str(operation.status): {"description": operation.summary, "content": result},
            "default": {"description": "what went wrong", "content": problem},
        },
        "security": [] if operation.access == "open" else [{"token": []}],
    }
    if operation.access == "operator":
        described["parameters"].extend(_CHANGE_HEADERS)
    if operation.body is not None:
        described["requestBody"] = {
            "required": any(field.required for field in msgspec.structs.fields(operation.body)),
            "content": {"application/json": {"schema": refs[operation.body]}},
        }
    return described


_CHANGE_HEADERS: Final = (
    {"name": "If-Match", "in": "header", "schema": _STRING, "description": "epoch that must still stand, else 409"},
    {"name": "X-Actor", "in": "header", "schema": _STRING, "description": "who asks, for the audit trail"},
)

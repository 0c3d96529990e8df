"""A small admin API to test proxyctl against, over a Unix socket or TCP.

It keeps the two dials by the core's own rules and knows who may do what; the record, the trail and the
status are what a test puts into it.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from proxy.core.errors import BadChange
from proxy.core.routing import Dials, lowered, rearmed, restored, rolled_back, with_stage, with_weight

Json = dict[str, Any]
Answer = tuple[int, Json]


class Problem(Exception):
    """An error answer."""

    def __init__(self, status: int, detail: str, **extras: object) -> None:
        super().__init__(detail)
        self.answer = status, {"type": "about:blank", "title": "Problem", "status": status, "detail": detail} | extras


def side(**values: Any) -> Json:
    """One healthy side of a status."""
    states = ("owed", "pending", "deferred", "delivered", "refused", "dead", "discarded", "lost", "released")
    ledger = dict.fromkeys(states, 0) | {"oldest_age_s": 0.0, "marked_buckets": 0}
    figures = {"rate": 90.1, "error_rate": 0.0, "p50": 0.0012, "p95": 0.0034, "p99": 0.0056}
    state = {"breaker": "closed", "healthy": True, "paused": ""}
    return {"backend": "b", "url": "http://127.0.0.1:9001"} | figures | state | {"ledger": ledger} | values


def receipt(seq: int, **values: Any) -> Json:
    """One event's receipt, delivered to both sides."""
    sent = {"state": "delivered", "status": 201, "attempts": 1}
    head = {"seq": seq, "id": f"event-{seq}", "route": "events", "key": f"light.{seq}", "bucket": 17, "epoch": 6}
    body = {"transport": "http", "method": "POST", "target": "/api/v1/events", "accepted_at": "2026-01-31T12:00:00Z"}
    rest = {"event_time": "", "identities": ["a", "b"], "digest": "00ff", "body_size": 290}
    return head | {"authority": "old"} | body | rest | {"old": dict(sent), "new": dict(sent)} | values


def switch(number: int = 1, **changes: object) -> Json:
    """A switch as the API tells it: one that runs, or with a `result` one that has ended."""
    steps = [("supervisor", "done"), ("worker 0", "starts")]
    ended = {"phase": "ended", "ended_at": "2026-01-31T12:00:09.000Z"} if changes.get("result") else {}
    shown: Json = {
        "number": number,
        "kind": "upgrade",
        "phase": "replacing",
        "result": "",
        "reason": "",
        "began_at": "2026-01-31T12:00:00.000Z",
        "ended_at": None,
        "version_before": "1",
        "version_after": "2",
        "processes": [{"name": name, "state": state, "pid": 7, "reason": ""} for name, state in steps],
        "detail": {},
        "dry_run": False,
    }
    return shown | ended | changes


class FakeAdmin:
    """The state of the instance. before_status: functions called one by one, each before one look at the status."""

    def __init__(self, routes: tuple[str, ...] = ("events",)) -> None:
        self.dials = dict.fromkeys(routes, Dials())
        self.past = {3: Dials(25.0, "durable")}
        self.rollout: Json | None = None
        self.frozen: Json | None = None
        self.file: Json | None = None
        self.drill: Json | None = None
        self.on_drill: deque[Callable[[Json], None]] = deque()
        """Functions called one by one with the drill, each before one look at it."""
        self.verdict: Json = {"name": "pass", "reasons": [], "samples": 1204}
        self.epoch = 6
        self.accepted = 1204
        self.workers = [self.worker(0), self.worker(1)]
        self.sides = {"old": side(backend="old"), "new": side(backend="new", url="http://127.0.0.1:9002")}
        self.ledger: Json = {"alive": True, "pid": 7, "pending": 0, "deferred": 0, "dead": 0, "balanced": True}
        self.ledger |= {"segments": 1, "bytes_on_disk": 4096, "disk_free": 2**33, "low_disk": False, "gaps": 0}
        self.ledger |= {"commit_p99_s": 0.003, "receipts": 1204}
        self.status: Json = {"ready": True, "draining": False, "dependencies": [], "warnings": []}
        self.before_status: deque[Callable[[], None]] = deque()
        self.requests: list[tuple[str, str, Json, Json]] = []
        self.tokens: dict[str, tuple[str, str]] = {}
        self.receipts = [receipt(1), receipt(2)]
        self.entries: list[Json] = []
        self.forced: Callable[[str, str], Answer | None] = lambda method, path: None
        self.applied_late = False
        self.socket = ""
        self.moves: Json | None = None
        self.figures: Json = {"route": "events", "began": None, "step_s": 10, "points": [], "total": None}
        self.differences: Json = {"findings": [], "findings_untold": 0, "inconclusive": []}

    def worker(self, index: int) -> Json:
        """One worker of the status, at the present epoch."""
        figures: Json = {"in_flight": 3, "clients": 64, "rss_bytes": 40 * 2**20, "alive": True, "restarts": 0}
        figures |= {"held_bytes": 3 * 2**20, "budget_bytes": 256 * 2**20, "sheds": None}
        return {"index": index, "pid": 100 + index, "epoch": self.epoch} | figures

    def answer(self, method: str, target: str, headers: Json, body: Json, trusted: bool) -> Answer:
        """Answer one request. trusted: it came over the Unix socket."""
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        self.requests.append((method, target, headers, body))
        try:
            self._admit(method, headers, trusted)
            forced = self.forced(method, parts.path)
            return forced or self._dispatch(method, parts.path.split("/")[3:], query, headers, body)
        except BadChange as error:
            return Problem(423 if error.blocked else 422, str(error)).answer
        except Problem as problem:
            return problem.answer

    def _admit(self, method: str, headers: Json, trusted: bool) -> None:
        if trusted:
            return
        given = headers.get("authorization", "").removeprefix("Bearer ")
        roles = {token: role for role, token in self.tokens.values()}
        if given and given not in roles:
            raise Problem(401, "the token is not known")
        if not given and (method != "GET" or roles):
            raise Problem(401, "a token is needed", admin_socket=self.socket)
        if method != "GET" and roles.get(given) != "operator":
            raise Problem(403, "a viewer may not change anything")

    def _dispatch(self, method: str, path: list[str], query: Json, headers: Json, body: Json) -> Answer:
        if method != "GET" and headers.get("if-match", str(self.epoch)) != str(self.epoch):
            raise Problem(409, f"the epoch is {self.epoch}, not {headers['if-match']}", epoch=self.epoch)
        match method, path:
            case "GET", ["status"]:
                return 200, self._status()
            case _, ["routes", name, "drill"]:
                return self._drill(method, name, body)
            case (("PUT" | "POST"), ["routes", name, what]):
                return 200, self._turn(unquote(name), what, body)
            case (("PUT" | "DELETE"), ["freeze"]):
                return 200, self._freeze(method, body)
            case "GET", ["routes", _, "figures"]:
                return 200, self.figures
            case "GET", ["consistency", "diff"]:
                return 200, self.differences
            case "GET", ["decommission"]:
                return 200, {"clear": True, "epoch": self.epoch, "quiet_s": 60, "dependents": [], "last_events": []}
            case "GET", ["history"]:
                return 200, {"entries": self._history(query)}
            case "GET", ["why"]:
                return 200, self._why(query.get("route", "events"))
            case _, ["ledger" | "dead", *_]:
                return self._record(method, path, body)
            case _, ["tokens", *rest]:
                return self._token(method, rest, body)
            case "GET", ["config"]:
                return 200, {"digest": "x", "workers": 2, "of": 2, "switch": None}
            case "POST", ["reload"]:
                nothing = {"changes": [], "refused": [], "begun": False, "dry_run": body.get("dry_run", False)}
                return 202, {"file": "/etc/crossfade.yaml", "digest": "x", "epoch": self.epoch} | nothing
            case "POST", ["upgrade"]:
                return 202, switch(dry_run=body.get("dry_run", False))
            case "PUT", ["log-level"]:
                level, process = body["level"] or "info", body["process"]
                until = "2026-01-31T12:10:00Z" if body["level"] else None
                return 200, {"level": level, "process": process, "told": 4, "until": until, "dry_run": body["dry_run"]}
            case "POST", ["drain"]:
                return 202, {"draining": True}
        raise Problem(404, f"there is no {'/'.join(path)}")

    def _history(self, query: Json) -> list[Json]:
        begin, end, offset = query.get("since", ""), query.get("until", "~"), int(query.get("offset", 0))
        found = [each for each in self.entries if begin <= each["at"] < end]
        return found[offset : offset + int(query["limit"])]

    def _status(self) -> Json:
        if self.before_status:
            self.before_status.popleft()()
        routes = []
        for name, dials in self.dials.items():
            state = {"name": name, "stage": dials.stage, "copy": dials.copy, "latched": dials.latched}
            weight = {"weight_target": dials.weight, "weight_observed": 24.7, "weight_observed_interval": [23.9, 25.6]}
            reason = "breaker open at new" if dials.latched else None
            totals = {"rate": 120.0, "accepted_total": self.accepted, "sides": self.sides, "latch_reason": reason}
            routes.append(
                state
                | weight
                | totals
                | {"verdict": self.verdict, "rollout": self.rollout, "frozen": self.frozen, "file": self.file}
                | {"drill": self.drill if self.drill and self.drill["running"] else None}
            )
        head = {"version": "0.1.0", "epoch": self.epoch, "started_at": "2026-01-31T12:00:00+00:00", "counters": {}}
        return head | self.status | {"routes": routes, "workers": self.workers, "ledger": self.ledger}

    def _turn(self, name: str, what: str, body: Json) -> Json:
        if name == "-" and len(self.dials) == 1:
            name = next(iter(self.dials))
        if name not in self.dials:
            status = 422 if name == "-" else 404
            raise Problem(status, f"no route {name}; routes are {', '.join(self.dials)}", routes=list(self.dials))
        before = self.dials[name]
        if what == "weight":
            after = with_weight(before, body["weight"])
        elif what == "stage":
            after = with_stage(before, body["stage"], body.get("weight"))
        elif what == "rollback":
            after = lowered(before, body["weight"]) if "weight" in body else rolled_back(before)
        elif what == "restore":
            after = restored(before, self.past[body["epoch"]])
        else:
            after = rearmed(before)
        dry = body.get("dry_run", False)
        previous = self.epoch
        if after != before and not dry:
            self.dials[name] = after
            self.epoch += 1
            for worker in self.workers[: 1 if self.applied_late else None]:
                worker["epoch"] = self.epoch
        of = len(self.workers)
        applied = None if dry else {"workers": 1 if self.applied_late else of, "of": of, "seconds": 0.004}
        shown: Json = {
            "route": name,
            "before": self._dials(before),
            "after": self._dials(after),
            "changed": after != before and not dry,
        }
        epochs = {"epoch": self.epoch, "previous_epoch": previous}
        return (
            shown
            | epochs
            | {"moves": self.moves if dry else None}
            | {"dry_run": dry, "applied": applied, "notes": ["a note"], "next": "proxyctl status --wait"}
        )

    def _freeze(self, method: str, body: Json) -> Json:
        freeze = {"since": "2026-01-31T12:00:00.000Z", "until": "2026-01-31T14:00:00.000Z", "actor": "ann@host"}
        freeze["reason"] = body.get("reason", "")
        before, after = (None, freeze) if method == "PUT" else (freeze, None)
        routes = [{"route": name, "before": before, "after": after, "changed": True} for name in self.dials]
        dry = body.get("dry_run", False)
        return {"routes": routes, "epoch": self.epoch, "changed": not dry, "dry_run": dry, "notes": []}

    def _drill(self, method: str, name: str, body: Json) -> Answer:
        if method == "POST":
            made: Json = {"route": name, "running": True, "delay_s": 0.0, "actor": "ann@host", "epoch": self.epoch}
            made |= {"began_at": "2026-01-31T12:00:00.000Z", "ended_at": None, "noticed_s": None, "cause": None}
            made |= {"reverted_epoch": None, "dry_run": False, "reason": ""} | body
            if not made["dry_run"]:
                self.drill = made
            return 201, made
        if self.drill is None:
            raise Problem(404, f"there was no drill of {name} since the supervisor started")
        if method == "DELETE" and not body.get("dry_run"):
            self.end_drill()
        elif self.on_drill and self.drill["running"]:
            self.on_drill.popleft()(self.drill)
        return 200, self.drill | {"dry_run": body.get("dry_run", False)}

    def end_drill(self) -> None:
        """It is over."""
        if self.drill is not None:
            self.drill |= {"running": False, "ended_at": self.drill["ended_at"] or "2026-01-31T12:00:09.000Z"}

    @staticmethod
    def _dials(dials: Dials) -> Json:
        return {"weight": dials.weight, "copy": dials.copy, "stage": dials.stage, "latched": dials.latched}

    def _why(self, route: str) -> Json:
        entry = next((entry for entry in self.entries if entry["action"] == "revert"), None)
        text = "reverted: breaker open at new" if entry else "no revert yet"
        return {"route": route, "entry": entry, "latched": self.dials[route].latched, "text": text}

    def _record(self, method: str, path: list[str], body: Json) -> Answer:
        match method, path:
            case "GET", ["ledger"]:
                return 200, self._ledger()
            case "GET", ["ledger", "events"] | ["dead"]:
                return 200, {"events": self.receipts, "next_after_seq": 2 if path[0] == "ledger" else None}
            case "GET", ["ledger", "events", name]:
                found = [entry for entry in self.receipts if entry["id"] == unquote(name)]
                if found:
                    return 200, {"receipts": found}
                raise Problem(404, f"no event {unquote(name)}")
            case "POST", ["ledger", "replay"]:
                return 200, {"replayed": 1204, "without_body": 3}
            case "POST", ["dead", _]:
                return 200, {"moved": len(body.get("ids", self.receipts))}
        raise Problem(404, "no such record")

    def _ledger(self) -> Json:
        balance = {"owed": 5, "pending": 2, "delivered": 3}
        each = {"route": "events", "backend": "b", "oldest_pending_age": 12.0, "marked": 1, "balance": balance}
        sides = [each | {"side": 0, "paused": ""}, each | {"side": 1, "paused": "401"}]
        return {"balanced": True, "sides": sides, "segments": 2, "gaps": [{"from": "a", "to": "b", "reason": "power"}]}

    def _token(self, method: str, rest: list[str], body: Json) -> Answer:
        if method == "GET":
            listed = [{"name": n, "role": r, "created_at": "2026-01-31"} for n, (r, _) in self.tokens.items()]
            return 200, {"tokens": listed}
        if method == "POST":
            if body.get("dry_run"):
                return 200, {"name": body["name"], "role": body["role"]}
            self.tokens[body["name"]] = body["role"], f"cf_{body['name']}"
            return 201, {"name": body["name"], "role": body["role"], "token": f"cf_{body['name']}"}
        if rest[0] not in self.tokens:
            raise Problem(404, f"no token {rest[0]}")
        if not body.get("dry_run"):
            del self.tokens[rest[0]]
        return 200, {}


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class _TcpServer(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = True


def _handler(fake: FakeAdmin, trusted: bool) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Tests look at `requests`."""

        def respond(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else {}
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, answer = fake.answer(self.command, self.path, headers, body, trusted)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = respond  # noqa: N815 - the base class looks for these names

    return Handler


@contextmanager
def serving(fake: FakeAdmin, socket_path: str | None = None) -> Iterator[str]:
    """Serve on a Unix socket, or on a free TCP port; the endpoint as --admin takes it."""
    server: socketserver.BaseServer
    if socket_path is None:
        tcp = _TcpServer(("127.0.0.1", 0), _handler(fake, trusted=False))
        server, endpoint = tcp, f"http://127.0.0.1:{tcp.server_address[1]}"
    else:
        server, endpoint = _UnixServer(socket_path, _handler(fake, trusted=True)), f"unix:{socket_path}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""The few words of our admin API that the benchmark needs, over its Unix socket."""

from __future__ import annotations

import http.client
import json
import re
import socket
from pathlib import Path
from typing import Any

from benchmarks.processes import BenchmarkFailed, wait_until


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Admin:
    """One instance's admin API. Answers are its JSON; anything but a 2xx raises BenchmarkFailed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _ask(self, method: str, target: str, body: dict[str, Any] | None = None) -> Any:
        return json.loads(self._text(method, target, body))

    def _text(self, method: str, target: str, body: dict[str, Any] | None = None) -> str:
        connection = _UnixConnection(self._path)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, target, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            raise BenchmarkFailed(f"{method} {target} gave {answer.status}: {text}")
        return text

    def balance(self) -> dict[str, int]:
        """What the ledger says of all routes' sides together: owed, delivered, pending, lost, ..."""
        routes = self._told()["routes"]
        sides = [side["ledger"] for route in routes for side in route["sides"].values()]
        words = ("owed", "delivered", "pending", "deferred", "refused", "dead", "discarded", "lost", "released")
        return {word: sum(int(side[word]) for side in sides) for word in words}

    def receipts(self) -> int:
        """How many events the ledger has written a receipt of since it started; up to 0.3 s old."""
        return int(self._told()["ledger"]["receipts"])

    def _told(self) -> Any:
        """The status, once the ledger has told of itself: a moment after the instance is ready."""
        found: list[Any] = []

        def is_told() -> bool:
            found[:] = [self._ask("GET", "/api/v1/status")]
            return found[0]["ledger"]["receipts"] is not None

        wait_until(is_told, "the ledger to tell of itself", timeout=10)
        return found[0]

    def metrics(self) -> str:
        """The exposition for Prometheus."""
        return self._text("GET", "/metrics")

    def handed(self) -> int:
        """How many deliveries the workers have left to the ledger since they started; up to 0.3 s old."""
        found = re.search(r'^crossfade_counts_total\{name="handed"\} (\S+)$', self.metrics(), re.MULTILINE)
        return int(float(found[1])) if found else 0

    def set_weight(self, percent: float) -> float:
        """Change the weight; seconds until every worker had applied it. Raises BenchmarkFailed unless all did."""
        change = self._ask("PUT", "/api/v1/routes/-/weight", {"weight": percent, "reason": "benchmark"})
        applied = change["applied"]
        if not change["changed"] or applied["workers"] != applied["of"]:
            raise BenchmarkFailed(f"the weight {percent:g} was not applied everywhere: {change}")
        return float(applied["seconds"])

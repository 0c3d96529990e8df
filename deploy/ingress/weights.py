"""Turns the canary weight of an ingress to the weight of a route, as it is told by Crossfade's notifications.

    Crossfade ──POST entry──► here ──PATCH──► Kubernetes: an Ingress's annotation, or the weights of an HTTPRoute

WEIGHTS_TARGET               ingress/NAME or httproute/NAME
WEIGHTS_ROUTE                route whose weight it is (default: events)
WEIGHTS_AUTHORIZATION_FILE   what a notification must have as Authorization
WEIGHTS_LISTEN               default: 0.0.0.0:9910
WEIGHTS_API                  Kubernetes' API (default: as a pod finds it), with the pod's own account

Entries come one by one and in order; `at` says which is newer where one is sent again. 204: it is so, or it is of no
weight; 401: not from Crossfade; 400: no entry; 503: Kubernetes does not take it, so it is to be sent again.
Nothing but the standard library, so that it runs in any image with Python.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import ssl
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple

log = logging.getLogger("weights")

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ANNOTATION: Final = "nginx.ingress.kubernetes.io/canary-weight"
MOST_BYTES: Final = 1 << 20
_TIMEOUT: Final = 4.0
"""Seconds; less than `timeout` of the receiver in the configuration."""


class Patch(NamedTuple):
    """What is sent to Kubernetes."""

    path: str
    content_type: str
    body: Any


def patch_of(target: str, namespace: str, weight: float) -> Patch:
    """What turns a target to a weight. weight: percent 0-100. Raises ValueError for a target that is none."""
    kind, _, name = target.partition("/")
    if kind == "ingress" and name:
        path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/{name}"
        annotations = {ANNOTATION: str(whole_percent(weight))}
        return Patch(path, "application/merge-patch+json", {"metadata": {"annotations": annotations}})
    if kind == "httproute" and name:
        path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes/{name}"
        new = round(weight * 100)
        place = "/spec/rules/0/backendRefs/{}/weight"
        shares = enumerate((10_000 - new, new))
        steps = [{"op": "add", "path": place.format(index), "value": share} for index, share in shares]
        return Patch(path, "application/json-patch+json", steps)
    raise ValueError(f"WEIGHTS_TARGET is ingress/NAME or httproute/NAME, not {target!r}")


def whole_percent(weight: float) -> int:
    """An ingress knows whole percent: the nearest one, but all or nothing only where it is that."""
    return round(weight) if weight in (0, 100) else min(99, max(1, round(weight)))


class Weights:
    """What is known of the route's weight, and the way to Kubernetes. token: of the pod's account, as a file."""

    def __init__(self, target: str, namespace: str, route: str, api: str, token: Path, ca: Path | None) -> None:
        patch_of(target, namespace, 0.0)
        self._target = target
        self._namespace = namespace
        self._route = route
        self._api = api
        self._token = token
        self._tls = ssl.create_default_context(cafile=str(ca)) if ca is not None else None
        self._lock = threading.Lock()
        self._newest = ""
        self._before: float | None = None

    def take(self, entry: dict[str, Any]) -> None:
        """One entry of the audit trail. Raises OSError when Kubernetes does not take it, KeyError for no entry."""
        with self._lock:
            at = str(entry["at"])
            if entry.get("route") != self._route or at < self._newest:
                return
            weight, before = _weight(entry.get("after")), _weight(entry.get("before"))
            if entry["action"] == "not-applied":
                weight = self._before
            if weight is None:
                return
            self._turn(weight)
            self._newest, self._before = at, before
            log.info("%s is at %g %% (%s at %s)", self._target, weight, entry["action"], at)

    def _turn(self, weight: float) -> None:
        patch = patch_of(self._target, self._namespace, weight)
        request = urllib.request.Request(  # noqa: S310 - where it goes is the operator's word
            self._api + patch.path,
            data=json.dumps(patch.body).encode(),
            method="PATCH",
            headers={"Content-Type": patch.content_type, "Authorization": f"Bearer {self._token.read_text().strip()}"},
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT, context=self._tls):  # noqa: S310
            pass


def _weight(position: object) -> float | None:
    """Of a position of a route: percent."""
    weight = position.get("weight") if isinstance(position, dict) else None
    return float(weight) if isinstance(weight, int | float) else None


def server_of(weights: Weights, authorization: str, host: str, port: int) -> ThreadingHTTPServer:
    """The server, bound. authorization: what a notification must have."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """For probes."""
            self._answer(204 if self.path == "/healthz" else 404)

        def do_POST(self) -> None:
            """A notification."""
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if 0 < length <= MOST_BYTES else b""
            if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), authorization.encode()):
                self._answer(401)
                return
            try:
                weights.take(json.loads(body))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("no entry of an audit trail: %r", error)
                self._answer(400)
            except OSError as error:
                log.warning("Kubernetes does not take it: %s", error)
                self._answer(503)
            else:
                self._answer(204)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """What was taken is logged elsewhere."""

    return ThreadingHTTPServer((host, port), Handler)


def main() -> int:
    """Entry of the process; the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    environ = os.environ
    try:
        authorization = Path(environ["WEIGHTS_AUTHORIZATION_FILE"]).read_text().strip()
        target = environ["WEIGHTS_TARGET"]
        host, _, port = environ.get("WEIGHTS_LISTEN", "0.0.0.0:9910").rpartition(":")
        account = Path(environ.get("WEIGHTS_ACCOUNT", ACCOUNT))
        api = environ.get("WEIGHTS_API", "https://kubernetes.default.svc")
        ca = account / "ca.crt"
        namespace = (account / "namespace").read_text().strip()
        known_ca = ca if api.startswith("https:") else None
        weights = Weights(target, namespace, environ.get("WEIGHTS_ROUTE", "events"), api, account / "token", known_ca)
        if not authorization:
            raise ValueError("WEIGHTS_AUTHORIZATION_FILE holds nothing")
        server = server_of(weights, authorization, host, int(port))
    except (KeyError, ValueError, OSError) as error:
        print(f"weights: {error}; see the head of this file", file=sys.stderr)
        return 2
    log.info("listening at %s:%s for the weight of %s", host, server.server_address[1], target)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

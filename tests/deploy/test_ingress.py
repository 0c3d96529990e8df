"""The recipe for canary weights: what it sends to Kubernetes for what it is told, and what it does not."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.notifications import ACTIONS, EXAMPLE, Receiver
from deploy import checks
from deploy.ingress.weights import Weights, patch_of, server_of, whole_percent
from tests.deploy.manifests import DEPLOY, manifests, of_kind

RECIPE = DEPLOY / "ingress"
AUTHORIZATION = "Bearer from-crossfade"


class Kubernetes:
    """Takes patches, or not."""

    def __init__(self) -> None:
        self.patches: list[tuple[str, str, str, Any]] = []
        self.status = 200
        kubernetes = self

        class Handler(BaseHTTPRequestHandler):
            def do_PATCH(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                head = (self.path, self.headers["Content-Type"], self.headers["Authorization"])
                kubernetes.patches.append((*head, body))
                self.send_response(kubernetes.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def kubernetes() -> Iterator[Kubernetes]:
    made = Kubernetes()
    with serving(made.server):
        yield made


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[str]:
    """In a thread of its own; the address."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("of-the-pod\n")
    return tmp_path / "token"


@pytest.fixture
def weights(kubernetes: Kubernetes, token: Path) -> Iterator[str]:
    made = Weights("ingress/site-canary", "shop", "events", kubernetes.url, token, None)
    with serving(server_of(made, AUTHORIZATION, "127.0.0.1", 0)) as url:
        yield url


def entry(at: int, before: float, after: float, action: str = "set-weight", route: str = "events") -> dict[str, Any]:
    positions = {"before": {"weight": before}, "after": {"weight": after}} if action != "not-applied" else {}
    return {"at": f"2026-01-31T12:00:0{at}.000Z", "epoch": 7, "action": action, "route": route, **positions}


def tell(url: str, body: object, authorization: str = AUTHORIZATION) -> int:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Authorization": authorization})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def turned(kubernetes: Kubernetes) -> list[str]:
    return [
        body["metadata"]["annotations"]["nginx.ingress.kubernetes.io/canary-weight"]
        for _, _, _, body in kubernetes.patches
    ]


def test_the_ingress_follows_the_route(weights: str, kubernetes: Kubernetes) -> None:
    assert tell(weights, entry(1, 0, 25)) == 204
    assert tell(weights, entry(2, 25, 0, "revert")) == 204
    assert turned(kubernetes) == ["25", "0"]
    path = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses/site-canary"
    assert kubernetes.patches[0][:3] == (path, "application/merge-patch+json", "Bearer of-the-pod")


def test_it_takes_what_the_reference_shows(weights: str, kubernetes: Kubernetes) -> None:
    assert tell(weights, EXAMPLE.encode()) == 204
    assert turned(kubernetes) == ["0"]


def test_what_is_older_or_of_another_route_turns_nothing(weights: str, kubernetes: Kubernetes) -> None:
    assert tell(weights, entry(5, 0, 50)) == 204
    assert tell(weights, entry(4, 0, 10)) == 204
    assert tell(weights, entry(6, 0, 90, route="orders")) == 204
    assert tell(weights, {"at": "2026-01-31T12:00:07.000Z", "action": "drain", "route": "events"}) == 204
    assert turned(kubernetes) == ["50"]


def test_what_was_not_applied_is_taken_back(weights: str, kubernetes: Kubernetes) -> None:
    assert tell(weights, entry(1, 0, 25)) == 204
    assert tell(weights, entry(2, 25, 50)) == 204
    assert tell(weights, entry(3, 0, 0, "not-applied")) == 204
    assert turned(kubernetes) == ["25", "50", "25"]


def test_what_kubernetes_does_not_take_is_sent_again(weights: str, kubernetes: Kubernetes) -> None:
    kubernetes.status = 403
    assert tell(weights, entry(1, 0, 25)) == 503
    kubernetes.status = 200
    assert tell(weights, entry(1, 0, 25)) == 204
    assert turned(kubernetes) == ["25", "25"]


def test_nobody_else_is_listened_to(weights: str, kubernetes: Kubernetes) -> None:
    assert tell(weights, entry(1, 0, 25), "Bearer guessed") == 401
    for nonsense in (b"no json", b"[]", b"{}", b'"text"'):
        assert tell(weights, nonsense) == 400, nonsense
    assert kubernetes.patches == []


def test_a_gateway_has_both_weights() -> None:
    patch = patch_of("httproute/site", "shop", 12.5)
    assert patch.path == "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/site"
    assert patch.body == [
        {"op": "add", "path": "/spec/rules/0/backendRefs/0/weight", "value": 8750},
        {"op": "add", "path": "/spec/rules/0/backendRefs/1/weight", "value": 1250},
    ]
    for target in ("ingress/", "service/a", "ingress", ""):
        with pytest.raises(ValueError, match="ingress/NAME or httproute/NAME"):
            patch_of(target, "shop", 0)


def test_little_is_not_nothing() -> None:
    weights = [0, 0.01, 0.5, 1, 49.6, 99.2, 99.99, 100]
    assert [whole_percent(each) for each in weights] == [0, 1, 1, 1, 50, 99, 99, 100]


def test_it_says_what_it_lacks() -> None:
    done = subprocess.run(
        [sys.executable, str(RECIPE / "weights.py")], env={}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, "WEIGHTS_AUTHORIZATION_FILE" in done.stderr) == (2, True)


def test_the_published_schemas_take_its_manifests() -> None:
    found = manifests((RECIPE / "weights.yaml").read_text()) + manifests((RECIPE / "targets.yaml").read_text())
    assert checks.wrong_with(found) == []
    rules = of_kind(found, "Role")["rules"]
    targets = {
        (each["kind"].lower() + ("es" if each["kind"] == "Ingress" else "s"), each["metadata"]["name"])
        for each in found
    }
    assert {(rule["resources"][0], rule["resourceNames"][0]) for rule in rules} <= targets
    assert all(rule["verbs"] == ["patch"] for rule in rules)
    refs = of_kind(found, "HTTPRoute")["spec"]["rules"][0]["backendRefs"]
    assert [ref["name"] for ref in refs] == ["old", "new"]


def test_the_notification_is_one() -> None:
    text = (RECIPE / "README.md").read_text().split("```yaml\n")[1].split("```")[0]
    (receiver,) = yaml.safe_load(text)["notifications"]
    made = Receiver.model_validate(receiver, strict=False)
    assert set(made.events) <= set(ACTIONS)
    assert "not-applied" in made.events

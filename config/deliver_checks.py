"""What must fit together where a backend takes events in a form of its own: see `config.deliver`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from config.explain import Finding
from config.model import Backend, Route


def of_backend(backend: Backend, concurrency: int | None) -> Iterator[Finding]:
    """What does not fit in one backend. concurrency: the ledger's deliveries at once; None when that is wrong."""
    http, websocket = backend.deliver.http, backend.deliver.websocket
    if backend.rewrite_prefix is not None and (websocket is not None or (http is not None and http.path is not None)):
        yield Finding(("rewrite_prefix",), "means nothing beside the path of `deliver`", on_key=True)
    if http is None or http.batch is None:
        return
    if concurrency is not None and http.batch.size > concurrency:
        at = ("deliver", "http", "batch", "size")
        yield Finding(at, f"no more than ledger.replay_concurrency, {concurrency}, are on their way", str(concurrency))
    templates = [("path", http.path or ""), *((f"headers.{name}", value) for name, value in http.headers.items())]
    for where, text in templates:
        if "{{" in text:
            yield Finding(
                ("deliver", "http", "batch"), f"one request has one {where}, which cannot be of one event", on_key=True
            )
            return


def of_route(route: Route, backends: Mapping[str, Backend]) -> Iterator[Finding]:
    """What does not fit between a route and its backends."""
    transport = "http" if route.websocket is None else "websocket"
    for key, name in (("old", route.old), ("new", route.new)):
        backend = backends.get(name)
        if backend is None or (backend.deliver.http is None and backend.deliver.websocket is None):
            continue
        if route.stream:
            yield Finding(("stream",), f"backend {name} takes events in a form of its own, and no streams", "false")
        http = backend.deliver.http
        if http is not None and http.method is not None and "HEAD" in route.match.methods:
            yield Finding(("match", "methods"), f"backend {name} answers to {http.method}, which is no answer to HEAD")
        if key == "new" and route.preview_host is not None and backend.deliver.websocket is not None:
            yield Finding(("preview_host",), f"backend {name} takes messages alone, and no requests that are no events")
        if backend.deliver.is_by_ledger(transport):
            yield from _by_ledger(route, key, name)


def _by_ledger(route: Route, key: str, name: str) -> Iterator[Finding]:
    """What a route promises that it cannot where the ledger alone delivers to one of its backends."""
    why = f"the ledger alone delivers to backend {name}, for its `deliver` is a batch or another transport"
    if route.durability == "off":
        yield Finding(("durability",), f"{why}: what is not on disk never gets there", "before-ack")
    if route.websocket is not None:
        if route.websocket.receipt == "reply":
            yield Finding(("websocket", "receipt"), f"{why}: clients would wait for its replies in vain", "pong")
        return
    if route.ack == "both":
        yield Finding(("ack",), f"{why}: nobody waits for its answer, which `both` promises", "accepted")
    elif route.ack == "authority" and key == "old":
        yield Finding((key,), f"{why}: while old is the authority clients hear no answer of it; say `ack: accepted`")
    if route.compare_answers is not None:
        yield Finding(("compare_answers",), f"{why}: nobody hears its answers", on_key=True)

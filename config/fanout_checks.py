"""What must fit together where backends are consumers: see `config.fanout`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from config.explain import Finding
from config.model import Backend, Route
from config.sources import Source

_OF_A_CONSUMER = frozenset({"consumer", "response_timeout"})
"""Keys of a backend that mean something where it is a consumer."""


def of_backend(backend: Backend) -> Iterator[Finding]:
    """What does not fit in one backend."""
    if backend.consumer is None:
        if not backend.url:
            what = "missing key 'url': where it listens; or `consumer`, where it is the backend that connects"
            yield Finding((), what, about=("url",))
        return
    for key in sorted(backend.model_fields_set - _OF_A_CONSUMER):
        yield Finding((key,), "means nothing beside `consumer`: it connects to the proxy", on_key=True)


def of_route(route: Route, backends: Mapping[str, Backend]) -> Iterator[Finding]:
    """What does not fit between a route and its backends."""
    sides = [(key, name, backends[name]) for key, name in (("old", route.old), ("new", route.new)) if name in backends]
    if route.fanout is None:
        if "fanout" in route.model_fields_set:
            yield Finding(("fanout",), "nothing stands behind it; {} has all defaults", on_key=True)
        for key, name, backend in sides:
            if backend.consumer is not None:
                yield Finding((key,), f"backend {name} is a consumer, which a route with `fanout: {{}}` feeds")
        return
    for key, name, backend in sides:
        if backend.consumer is None and backend.url:
            yield Finding((key,), f"both sides of a fanout route are consumers, and backend {name} has a url")
    consumers = [backend.consumer for _, _, backend in sides if backend.consumer is not None]
    tokens = {(consumer.token, consumer.token_file) for consumer in consumers}
    if len(consumers) == 2 and len(tokens) == 1:
        yield Finding(("new",), "old and new have the same token, by which they are told apart")
    yield from _policy(route)


def _policy(route: Route) -> Iterator[Finding]:
    """What a fanout route cannot keep, or has no use for."""
    if route.websocket is not None:
        yield Finding(("websocket",), "a route takes sessions or feeds consumers, not both", on_key=True)
        return
    if route.ack != "accepted":
        yield Finding(("ack",), "nobody waits for what a consumer says: a fanout route has ack: accepted", "accepted")
    if route.copy_order == "sequential":
        yield Finding(("copy_order",), "each consumer has its own pace and waits for no other", "parallel")
    if route.stage == "shadow":
        yield Finding(("stage",), "what is not owed to a consumer is not sent to it", "dualwrite")
    if "GET" in route.match.methods:
        yield Finding(("match", "methods"), "GET at its path is how consumers connect")
    for key in ("stream", "preview_host", "backend_header"):
        if getattr(route, key):
            yield Finding((key,), "means nothing in a fanout route: consumers answer no requests", on_key=True)


def fed_by_one(routes: Sequence[Route | None], backends: Mapping[str, Backend]) -> Iterator[Finding]:
    """A consumer has one cursor, hence one route."""
    fed: dict[str, str] = {}
    for index, route in enumerate(routes):
        for key in ("old", "new") if route is not None else ():
            name = getattr(route, key)
            assert route is not None
            if name not in backends or backends[name].consumer is None:
                continue
            if fed.setdefault(name, route.name) != route.name:
                yield Finding(("routes", index, key), f"consumer {name} is fed by route '{fed[name]}' already")


def of_source(source: Source, route: Route) -> Iterator[Finding]:
    """What consumers need of the source of their events."""
    if route.fanout is None:
        return
    home = source.home_assistant
    if home is None:
        yield Finding(("route",), f"route '{route.name}' feeds consumers of a Home Assistant, and this source is none")
    elif home.snapshot != "initial":
        why = f"consumers of route '{route.name}' are told the states that were events: all must have been"
        yield Finding(("home_assistant", "snapshot"), why, "initial")

"""What a load test learns from the admin API: where clients come in, what the route takes, how to force a side."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from proxy.cli.failure import FAILED, USAGE, Failure

if TYPE_CHECKING:
    from proxy.cli.client import Admin, Json
    from proxy.load.target import Target
    from proxy.load.template import Template


class Instance(NamedTuple):
    """admin: its API's address; listen, listen_tls: where clients come in; route: as the configuration file has it."""

    admin: str
    listen: list[str]
    listen_tls: list[str]
    route: dict[str, Any]

    @property
    def method(self) -> str:
        """POST, where the route takes that."""
        methods = self.route["match"]["methods"]
        return "POST" if "POST" in methods else str(methods[0])


def ask_route(found: list[Admin], name: str | None) -> Instance:
    """The route to load; Failure when it is not clear which one."""
    if len(found) > 1:
        raise Failure(USAGE, "a load test asks one instance: give one --admin")
    answer: Json = found[0].get("/api/v1/routes")
    routes = {route["name"]: route for route in answer["routes"]}
    if name is None and len(routes) > 1:
        raise Failure(USAGE, f"which route? say --route with one of {', '.join(routes)}")
    if name is not None and name not in routes:
        raise Failure(FAILED, f"there is no route {name!r}; routes are {', '.join(routes)}")
    route = routes[name] if name is not None else next(iter(routes.values()))
    return Instance(found[0].address, answer["listen"], answer.get("listen_tls", []), route)


def check_own(target: Target, instance: Instance) -> None:
    """Failure when the target is not the instance: what forces a side here may be any header there."""
    from proxy.cli.own_address import is_own

    listen = [*instance.listen, *instance.listen_tls]
    if not is_own(target.address, listen, instance.admin):
        raise Failure(
            USAGE,
            f"{target.url} is not the instance at {instance.admin}, which takes clients at {', '.join(listen)}: "
            "its override may force no side there",
            hint="name the instance behind the URL with --admin or --context, or the header that it takes "
            "with --side-header",
        )


def target_of(instance: Instance) -> Target:
    """The proxy's own address with a path that the route takes; path parameters become keys."""
    from config.units import parse_address
    from proxy.load.target import plain

    if not instance.listen:
        scheme = "https" if instance.route.get("websocket") is None else "wss"
        raise Failure(USAGE, f"the proxy speaks TLS alone: give the URL, {scheme}://HOST:PORT/PATH, and --ca FILE")
    address = parse_address(instance.listen[0])
    if address.is_any():
        address = address._replace(host="::1" if ":" in address.host else "127.0.0.1")
    match = instance.route["match"]
    path = re.sub(r"\{\w+\}", "{{key}}", match["path"])
    target = plain(address, f"{path[:-1]}load" if path.endswith("*") else path)
    target = target._replace(is_session=instance.route.get("websocket") is not None)
    return target._replace(host=match["host"]) if match.get("host") else target


def with_key(route: dict[str, Any], body: Template | None) -> tuple[list[str], Template | None]:
    """Header lines and a body in which the route finds its key, and a message's id; a given body is left as it is."""
    from proxy.load.requests import body_with

    kind, _, name = route["key"].partition(":")
    lines = {"header": [f"{name}: {{{{key}}}}"], "cookie": [f"Cookie: {name}={{{{key}}}}"]}.get(kind, [])
    places = {name: "key"} if kind == "json" else {}
    if route.get("websocket") is not None:
        places[_id_pointer(route)] = "id"
    if body is None and places:
        try:
            body = body_with(places)
        except ValueError as error:
            raise Failure(USAGE, f"the route's key is {route['key']}, and {error}: say --template FILE") from None
    return lines, body


def _id_pointer(route: dict[str, Any]) -> str:
    """Where a route of sessions looks for the id of a message; the default one when it looks nowhere."""
    from proxy.load.requests import ID_POINTER

    found = [source.partition(":")[2] for source in route["event_id"] if source.startswith("json:")]
    return found[0] if found else ID_POINTER


def force(side: str, header: str | None, instance: Instance | None, target: Target) -> tuple[list[str], Target]:
    """Header lines and a target that force a side. header: its name when given, else the route's override says."""
    if header is not None:
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", header):
            raise Failure(USAGE, f"{header!r} cannot be the name of a header")
        return [f"{header}: {side}"], target
    assert instance is not None
    kind, _, name = str(instance.route.get("override") or "").partition(":")
    if kind == "header":
        return [f"{name}: {side}"], target
    if kind == "cookie":
        return [f"Cookie: {name}={side}"], target
    if kind == "query":
        separator = "&" if "?" in target.path else "?"
        return [], target._replace(path=f"{target.path}{separator}{quote(name, safe='')}={side}")
    raise Failure(
        USAGE,
        f"route {instance.route['name']} allows no override, so --side {side} cannot force one",
        hint="set the route's override in the configuration, or name the header with --side-header",
    )

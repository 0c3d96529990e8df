"""A request that is to be an event: who it is, as far as that can be known before it is one.

request --> body decoded for reading --> id (the client's, or one of ours) --> key --> Arrival | refused
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from proxy.http.coding import decoded
from proxy.http.head import RequestHead
from proxy.http.route import EventRoute
from proxy.http.values import MAX_VALUE, Reader, is_safe_id

if TYPE_CHECKING:
    from proxy.http.downstream import Client
    from proxy.http.plane import DataPlane


class Arrival:
    """One such request.

    text: the body as values are read from it, decoded; params: of the path
    event_id, is_clients_id: its id, and whether the client gave it
    key, has_key: its key, and whether it has one; without, the key is the event id
    """

    __slots__ = ("body", "event_id", "has_key", "head", "is_clients_id", "key", "params", "route", "text")

    def __init__(
        self, route: EventRoute, head: RequestHead, params: Mapping[str, str], body: bytes, text: bytes, event_id: str
    ) -> None:
        self.route = route
        self.head = head
        self.params = params
        self.body = body
        self.text = text
        self.event_id = event_id
        self.is_clients_id = False
        self.key = event_id
        self.has_key = False

    def read(self, source: Reader, peer: str) -> str:
        """A value of it; empty when it is not there."""
        return source(self.head, self.text, self.params, peer) or ""


def read_arrival(
    plane: DataPlane,
    client: Client,
    route: EventRoute,
    head: RequestHead,
    params: Mapping[str, str],
    body: bytes,
    wall: int,
) -> Arrival | None:
    """Read a request's id and key; None when it was refused. wall: nanoseconds since 1970."""
    text = body
    if route.reads_body and head.wanted is not None and b"content-encoding" in head.wanted:
        text = _decode(plane, head.wanted[b"content-encoding"], body)
    key, given = route.read_key_and_id(head, text, params, client.peer)
    event_id = given
    if given is not None and not is_safe_id(given):
        if given.encode("latin-1", "replace") in (head.wanted or {}).values():
            plane.refuse(
                client, 400, "the event id must be 1-512 visible ASCII characters", "refused_bad_id", route=route
            )
            return None
        plane.count("unusable_ids")  # from the body: no header can carry it, so the event gets one of ours
        event_id = None
    arrival = Arrival(route, head, params, body, text, plane.ids.make(wall) if event_id is None else event_id)
    arrival.is_clients_id = event_id is not None
    return _with_key(plane, client, arrival, key)


def _with_key(plane: DataPlane, client: Client, arrival: Arrival, key: str | None) -> Arrival | None:
    if key is None:
        plane.count("key_missing")
        if arrival.route.settings.key_missing == "reject":
            detail = f"no key: {arrival.route.settings.key} is missing"
            plane.refuse(client, 400, detail, "refused_no_key", route=arrival.route)
            return None
    elif len(key) > MAX_VALUE:
        detail = f"the key is longer than {MAX_VALUE} characters"
        plane.refuse(client, 400, detail, "refused_no_key", route=arrival.route)
        return None
    else:
        arrival.key, arrival.has_key = key, True
    return arrival


def _decode(plane: DataPlane, coding: bytes, body: bytes) -> bytes:
    """A compressed body as its key and id are read; empty when it cannot be decoded."""
    text = decoded(body, coding, plane.max_decoded)
    if text is None:
        plane.count("undecodable_bodies")
        return b""
    return text

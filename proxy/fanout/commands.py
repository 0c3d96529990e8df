"""What a consumer says to us as to a Home Assistant, and what it hears. No I/O.

    auth_required --> auth --> auth_ok --> commands with rising ids --> result | pong, and events of subscriptions
                          \\--> auth_invalid, and the connection ends

https://developers.home-assistant.io/docs/api/websocket. Known are the commands of services that take events in; any
other one is answered as Home Assistant answers what it does not know, and the connection goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

ROUTE_HEADER: Final = "X-Crossfade-Route"
"""Of a handshake that a worker passes on: whose consumer it is."""
MOST_SUBSCRIPTIONS: Final = 64
"""Of a connection: an event is sent once for each that it is for."""
_ALL: Final = "*"


class Broken(Exception):
    """The consumer speaks something else: its connection is closed. The message says what."""


def auth_required(version: str) -> bytes:
    """The first message."""
    return orjson.dumps({"type": "auth_required", "ha_version": version})


def auth_ok(version: str) -> bytes:
    """It is let in."""
    return orjson.dumps({"type": "auth_ok", "ha_version": version})


AUTH_INVALID: Final = b'{"type":"auth_invalid","message":"Invalid access token or password"}'


def read_token(message: str | bytes) -> str | None:
    """The access token of an auth message; None when it is none."""
    try:
        said = orjson.loads(message) if isinstance(message, str) else None
    except orjson.JSONDecodeError:
        return None
    if not isinstance(said, dict) or said.get("type") != "auth":
        return None
    token = said.get("access_token")
    return token if isinstance(token, str) and token else None


class Commands:
    """One connection that was let in. version: as in auth_ok; states: JSON of each, when they are asked for."""

    def __init__(self, version: str, states: Callable[[], list[bytes]]) -> None:
        self._version = version
        self._states = states
        self._last = 0
        self.subscriptions: dict[int, str] = {}
        """By the id of the command: the type of its events, or * for all."""
        self.unknown = 0
        """Commands that were answered with unknown_command."""

    def wanted(self, event_type: str) -> list[int]:
        """Ids of the subscriptions that an event of this type is for."""
        return [number for number, each in self.subscriptions.items() if each in (event_type, _ALL)]

    def take(self, message: str | bytes) -> Iterator[bytes]:
        """The answers to a message, or to each of a list of them. Raises Broken.

        What is asked for is done, and its answer made, when that is taken: a short message can ask for all states a
        thousand times.
        """
        if not isinstance(message, str):
            raise Broken("a message that is no text")
        try:
            said = orjson.loads(message)
        except orjson.JSONDecodeError:
            raise Broken("a message that is no JSON") from None
        return (self._answer(each) for each in (said if isinstance(said, list) else [said]))

    def _answer(self, said: Any) -> bytes:
        number = said.get("id") if isinstance(said, dict) else 0
        command = said.get("type") if isinstance(said, dict) else None
        if type(number) is not int or number < 1 or not isinstance(command, str):
            return _error(number, "invalid_format", "Message incorrectly formatted.")
        if number <= self._last:
            return _error(number, "id_reuse", "Identifier values have to increase.")
        answer = self._answer_to(number, command, said)
        if answer is None:
            self.unknown += 1
            return _error(number, "unknown_command", "Unknown command.")  # and its id may be used again
        self._last = number
        return answer

    def _answer_to(self, number: int, command: str, said: dict[str, Any]) -> bytes | None:
        """None where nobody knows the command."""
        match command:
            case "ping":
                return b'{"id":%d,"type":"pong"}' % number
            case "subscribe_events":
                return self._subscribe(number, said.get("event_type", _ALL))
            case "unsubscribe_events":
                return self._unsubscribe(number, said.get("subscription"))
            case "get_states":
                return _result(number, b"[%b]" % b",".join(self._states()))
            case "get_config":
                return _result(number, orjson.dumps(_config(self._version)))
            case "supported_features":
                return _result(number, b"null")
        return None

    def _subscribe(self, number: int, event_type: object) -> bytes:
        if not isinstance(event_type, str) or not event_type:
            return _error(number, "invalid_format", "expected str for dictionary value @ data['event_type']")
        if len(self.subscriptions) >= MOST_SUBSCRIPTIONS:
            return _error(number, "not_allowed", f"A connection has {MOST_SUBSCRIPTIONS} subscriptions at most.")
        self.subscriptions[number] = event_type
        return _result(number, b"null")

    def _unsubscribe(self, number: int, subscription: object) -> bytes:
        if type(subscription) is not int:
            return _error(number, "invalid_format", "expected int for dictionary value @ data['subscription']")
        if self.subscriptions.pop(subscription, None) is None:
            return _error(number, "not_found", "Subscription not found.")
        return _result(number, b"null")


def event_message(subscription: int, event: bytes) -> bytes:
    """An event as a subscription hears it. event: its JSON."""
    return b'{"id":%d,"type":"event","event":%b}' % (subscription, event)


def _result(number: int, result: bytes) -> bytes:
    return b'{"id":%d,"type":"result","success":true,"result":%b}' % (number, result)


def _error(number: Any, code: str, message: str) -> bytes:
    error = {"code": code, "message": message}
    number = None if isinstance(number, dict | list) else number
    return orjson.dumps({"id": number, "type": "result", "success": False, "error": error})


def _config(version: str) -> dict[str, Any]:
    """As Home Assistant's, of one that has no place, no components and no files."""
    return {
        "latitude": 0.0,
        "longitude": 0.0,
        "elevation": 0,
        "unit_system": {
            "length": "km",
            "accumulated_precipitation": "mm",
            "mass": "g",
            "pressure": "Pa",
            "temperature": "°C",
            "volume": "L",
            "wind_speed": "m/s",
        },
        "location_name": "Home",
        "time_zone": "UTC",
        "components": [],
        "config_dir": "/config",
        "whitelist_external_dirs": [],
        "allowlist_external_dirs": [],
        "allowlist_external_urls": [],
        "version": version,
        "config_source": "storage",
        "recovery_mode": False,
        "safe_mode": False,
        "state": "RUNNING",
        "external_url": None,
        "internal_url": None,
        "currency": "EUR",
        "country": None,
        "language": "en",
    }

"""Sources: servers that the proxy itself subscribes to, and whose events become events of a route."""

from __future__ import annotations

import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from config.frozen import Frozen
from config.messages import POINTER, MessageRule
from config.patterns import Name, PathPrefix
from config.placeholders import Tree, names_of
from config.units import SomeBytes, SomeTime, UnitError
from config.web import WebAddress, one_of


def socket_url(url: str) -> str:
    """Checked: ws(s), without a credential or a fragment. Raises UnitError."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise UnitError("must be printable ASCII without spaces; percent-encode other characters")
    meant = re.sub(r"^http", "ws", url) if url.startswith(("http://", "https://")) else ""
    try:
        parts = urlsplit(url)
        is_sound = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise UnitError("is no address") from None
    if not is_sound:
        raise UnitError("must be ws://host:port/path or wss://host:port/path", meant)
    if "@" in parts.netloc:
        raise UnitError("must hold no user and password: there are settings of their own for credentials")
    if parts.fragment:
        raise UnitError("must have no fragment")
    return url


def _check_ca(url: str, ca: str | None) -> None:
    if ca is not None and not url.startswith("wss://"):
        raise UnitError("ca is for a url that begins with wss://")


class HomeAssistantSource(Frozen):
    """A Home Assistant, by its WebSocket API. An event is its JSON as it comes, with the `entity_id` of its data and,
    where a snapshot told it, `recovered: true` at the top.
    """

    url: str = Field(
        min_length=1, description="its WebSocket API", examples=["ws://homeassistant.local:8123/api/websocket"]
    )
    ca: str | None = Field(
        None,
        min_length=1,
        description="PEM certificates of the authorities that are believed with wss://; absent: the system's",
        examples=["tls/home-ca.crt"],
    )
    token: str | None = Field(
        None,
        min_length=1,
        repr=False,
        description="long-lived access token, or `token_file`",
        examples=["${HOME_ASSISTANT_TOKEN}"],
    )
    token_file: str | None = Field(
        None,
        min_length=1,
        description="file that holds it, read at each connection: a token that was refused is tried again when the "
        "file has another, else after ten minutes",
        examples=["/run/secrets/home-assistant-token"],
    )
    event_types: tuple[str, ...] = Field(
        ("state_changed",),
        min_length=1,
        description="what it is asked for, `*` alone for every type; some types need an administrator's token",
        examples=["[state_changed, call_service]"],
    )
    snapshot: Literal["gap", "initial", "off"] = Field(
        "gap",
        description="after every gap all states are asked for, and each that is not the one told last becomes an event "
        "with `recovered: true`. What changed more than once in the gap is told once, as it is now. initial: the "
        "states found at the very first connection are events, too. off: what happens in a gap is lost",
    )

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        return socket_url(url)

    @field_validator("event_types")
    @classmethod
    def _are_types(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        for index, each in enumerate(types):
            if not each or each in types[:index]:
                raise UnitError(f"{each!r} is listed already" if each else "an event type has a name")
        if "*" in types and len(types) > 1:
            raise UnitError("'*' is every type: beside it each of the others would come twice", '["*"]')
        return types

    @model_validator(mode="after")
    def _fits(self) -> Self:
        one_of("token", "token_file", (self.token, self.token_file))
        if self.token is None and self.token_file is None:
            raise UnitError("needs token or token_file: a long-lived access token of a user there")
        _check_ca(self.url, self.ca)
        return self


class WebSocketSource(WebAddress):
    """Any server that sends JSON messages over a WebSocket. A list is as many messages as it has entries."""

    url: str = Field(min_length=1, description="ws:// or wss://", examples=["wss://events.example.com/stream"])
    ca: str | None = Field(
        None,
        min_length=1,
        description="PEM certificates of the authorities that are believed with wss://; absent: the system's",
        examples=["tls/stream-ca.crt"],
    )
    hello: tuple[str, ...] = Field(
        (),
        repr=False,
        description="messages that are sent first on every connection",
        examples=["""['{"subscribe": "readings"}']"""],
    )
    only: MessageRule | None = Field(
        None, description="which messages are events; without it all are", examples=["{pointer: /type, equals: event}"]
    )
    id: str | None = Field(
        None,
        min_length=1,
        pattern=POINTER,
        description="JSON pointer to a message's id, which is the event's; without it each message gets one of ours, "
        "and one that the server sends again is another event",
        examples=["/id"],
    )
    acknowledge: Tree | None = Field(
        None,
        description="message that is sent when an event is accepted, or refused for good: a JSON value, with "
        "placeholders as in `backends.*.deliver`, but for {{key}}. An event that lacks what one names is not "
        "acknowledged, and counted",
        examples=['{type: ack, id: "{{/id}}"}'],
    )

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        return socket_url(url)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_ca(self.url, self.ca)
        names = names_of(self.acknowledge)
        if "key" in names:
            raise UnitError("acknowledge has no {{key}}, which is the route's: name it by its pointer")
        if "id" in names and self.id is None:
            raise UnitError("acknowledge names {{id}}, so id must say where a message has it")
        return self


class Source(Frozen):
    """A server that is subscribed to once, by one worker at a time. What it sends is an event of a route as if a client
    had posted it, accepted with the 2xx that such a client would get; a 4xx that is for good is counted as refused, and
    all else is tried again, in the order of each key.
    """

    name: Name = Field(description="its name in status and metrics; unique", examples=["home"])
    route: Name = Field(
        description="route whose events these are. It takes POST and has no `stream`, its `key` is in the body, and "
        "`event_id` begins with header:X-Event-Id",
        examples=["events"],
    )
    path: PathPrefix | None = Field(
        None,
        description="path that they are posted to; that of the route where it has no parameter and no *",
        examples=["/api/v1/events"],
    )
    home_assistant: HomeAssistantSource | None = Field(
        None,
        description="a Home Assistant",
        examples=['{url: "ws://127.0.0.1:8123/api/websocket", token_file: home-assistant.token}'],
    )
    websocket: WebSocketSource | None = Field(
        None, description="any other server", examples=['{url: "ws://127.0.0.1:9100/stream", id: /id}']
    )
    unaccepted: int = Field(
        1000, ge=1, le=100_000, description="events that may wait to be accepted; with more it is not read"
    )
    max_message: SomeBytes = Field(
        32 * 2**20, description="of a message; larger: disconnected. A snapshot is one message with all states"
    )
    ping_interval: SomeTime = Field(
        20.0, description="a server of which nothing came for this long is asked; no answer as long: lost"
    )
    open_timeout: SomeTime = Field(10.0, description="for connecting, and as long again until it lets us in")
    retry_initial: SomeTime = Field(1.0, description="first wait before it is connected to again, or an event tried")
    retry_max: SomeTime = Field(60.0, description="longest such wait; it is doubled each time, with chance in it")

    @property
    def kind(self) -> HomeAssistantSource | WebSocketSource:
        """What it is."""
        kind = self.home_assistant or self.websocket
        assert kind is not None
        return kind

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.home_assistant is None) == (self.websocket is None):
            raise UnitError("a source is one of home_assistant and websocket")
        if self.retry_initial > self.retry_max:
            raise UnitError("retry_initial is longer than retry_max")
        return self

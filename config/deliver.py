"""How a backend takes its events where that is not as they came: another request, or another transport."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from config.frozen import Frozen
from config.messages import POINTER
from config.patterns import HeaderName, Method
from config.placeholders import Tree, parse_text
from config.replies import ReplyRule
from config.units import Duration, SomeTime, UnitError, Written

AS_RECEIVED: Final = "as_received"
_PATH_PIECE: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_HEADER_PIECE: Final = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")


def _check_path(text: str) -> str:
    parsed = parse_text(text)
    if not parsed.pieces[0].startswith("/"):
        raise UnitError(f"a path starts with '/', unlike {text!r}", f"/{text}")
    if not all(_PATH_PIECE.fullmatch(piece) for piece in parsed.pieces):
        raise UnitError(f"{text!r} has a character that must be percent-encoded in a path")
    if any(segment in (".", "..") for segment in text.partition("?")[0].split("/")):
        raise UnitError(f"{text!r} has a segment . or ..")
    return text


def _check_fixed_path(text: str) -> str:
    if not parse_text(text).is_literal:
        raise UnitError("the path of a session is fixed: one session takes the events of a route")
    return _check_path(text)


def _check_method(method: str) -> str:
    if method == "HEAD":
        raise UnitError("HEAD asks for an answer without its body, which is not for an event")
    return method


def _check_header(text: str) -> str:
    parsed = parse_text(text)
    if not all(_HEADER_PIECE.fullmatch(piece) for piece in parsed.pieces) or text != text.strip() or not text:
        raise UnitError("a header's value is printable, in Latin-1, without blanks at its ends, and not empty")
    return text


PathTemplateText = Annotated[str, AfterValidator(_check_path), Written("path template", str)]
SessionPath = Annotated[str, AfterValidator(_check_fixed_path), Written("path", str)]
HeaderTemplateText = Annotated[str, AfterValidator(_check_header), Written("text template", str)]


class ItemResults(Frozen):
    """Where the answer to a batch says what became of each event: a list in the order in which they were sent."""

    items: str = Field("", pattern=POINTER, description="JSON pointer to the list", examples=["/items"])
    status: str = Field(
        pattern=POINTER,
        description="JSON pointer in each item to its HTTP status, which means what that of an answer does; but 401, "
        "403, 404 and 405 are of that event alone, which is tried again, up to `ledger.dead_after` times",
        examples=["/status"],
    )


class Batch(Frozen):
    """Several events in one request. One of a key at a time: the next one of it waits for the answer."""

    size: int = Field(ge=2, le=1000, description="events at most; within `ledger.replay_concurrency`", examples=["50"])
    linger: SomeTime = Field(0.02, description="how long the first event waits for others")
    form: Literal["array", "lines"] = Field(
        "array",
        description="how bodies are put together: a JSON array (Content-Type: application/json), or one after the "
        "other, each on a line of its own; their Content-Type is to be given in `headers`",
    )
    results: ItemResults | None = Field(
        None,
        description="which of them the backend took, in a 2xx answer; without it, all. What it did not take is tried "
        "again by itself",
        examples=["{items: /items, status: /status}"],
    )


class HttpForm(Frozen):
    """As a request of its own making. What is not given is as it came."""

    method: Annotated[Method, AfterValidator(_check_method)] | None = Field(
        None, description="its method; POST where the event is a message", examples=["PUT"]
    )
    path: PathTemplateText | None = Field(
        None,
        description="path and query in the place of the event's; values are percent-encoded and must be there",
        examples=['"/v2/states/{{/entity_id}}"'],
    )
    headers: dict[HeaderName, HeaderTemplateText] = Field(
        default_factory=dict,
        repr=False,
        description="added, in the place of the event's of the same name",
        examples=['{X-Kind: "{{/type}}"}'],
    )
    body: Tree = Field(
        "raw",
        description="raw, or a JSON value in which a string that is one placeholder stands for the value there",
        examples=['{id: "{{/context/id}}", state: "{{/new_state/state}}"}'],
    )
    missing: Literal["reject", "null"] = Field(
        "reject",
        description="what a placeholder names and the event has not: the event is a dead letter for this backend (422 "
        "where it is to answer), or null, in a header nothing",
    )
    batch: Batch | None = Field(
        None,
        description="several events in one request, by the ledger; of the clients' headers it has none",
        examples=["{size: 50, linger: 20ms}"],
    )


class WebSocketForm(Frozen):
    """As messages of a session that the ledger opens, one for each route."""

    path: SessionPath = Field(description="path and query of the handshake", examples=["/api/v1/stream"])
    wrap: Tree = Field(
        "raw",
        description="raw: the body is the message; else the JSON value that is, with placeholders",
        examples=['{type: event, id: "{{id}}", event: "{{}}"}'],
    )
    missing: Literal["reject", "null"] = Field(
        "reject", description="what a placeholder names and the event has not: the event is a dead letter, or null"
    )
    receipt: Literal["pong", "reply", "none"] = Field(
        "pong", description="when the backend has a message, as in `routes[].websocket`"
    )
    reply: ReplyRule | None = Field(
        None, description="needed with `receipt: reply`", examples=["{message_id: /id, reply_id: /id}"]
    )
    redeliver_window: Duration = Field(
        5.0, description="messages that it had for less than this when the connection was lost are sent again"
    )

    @model_validator(mode="after")
    def _replies_fit(self) -> Self:
        if (self.receipt == "reply") != (self.reply is not None):
            raise UnitError("receipt: reply and a rule in `reply` need each other")
        return self


class DeliveryForm(Frozen):
    """In which form a backend takes events: as one of these."""

    http: HttpForm | None = Field(None, description="as HTTP requests", examples=['{method: POST, path: "/v2/events"}'])
    websocket: WebSocketForm | None = Field(
        None, description="as messages of a WebSocket session", examples=["{path: /api/v1/stream}"]
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.http is not None and self.websocket is not None:
            raise UnitError("a backend takes its events over http or over websocket: both are given")
        return self

    def is_by_ledger(self, transport: str) -> bool:
        """Does the ledger alone deliver so what came by this transport, `http` or `websocket`?"""
        if self.http is not None:
            return transport != "http" or self.http.batch is not None
        return self.websocket is not None

    def by(self, transport: str) -> str:
        """By which transport an event goes that came by this one."""
        return "http" if self.http is not None else "websocket" if self.websocket is not None else transport


def form_of(value: Any) -> Any:
    """`as_received` as the mapping that it stands for."""
    if value == AS_RECEIVED:
        return {}
    if isinstance(value, dict) and set(value) <= {"http", "websocket"} and all(each is None for each in value.values()):
        raise UnitError(f"expected {AS_RECEIVED}, http: {{...}} or websocket: {{...}}", AS_RECEIVED)
    return value


Delivering = Annotated[DeliveryForm, BeforeValidator(form_of), Written("as_received or delivery form", str)]

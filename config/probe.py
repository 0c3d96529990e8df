"""The probe of a check: a marked event, where it has to turn up, and what has to happen on its way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from config.frozen import Frozen
from config.units import SomeTime, UnitError, Written, nearest

PLACEHOLDERS: Final = ("id", "time", "time_s", "time_ms", "time_us", "time_ns")
"""id: unique, and marks the event as a probe's; time: now, ISO 8601 in UTC, or a whole number in a unit."""
_PLACE: Final = re.compile(r"\{\{[ \t]*([^{}]*?)[ \t]*\}\}")


def filled(text: str, values: Mapping[str, str]) -> str:
    """A text with its placeholders filled in."""
    return _PLACE.sub(lambda found: values[found[1]], text)


def _with_known_places(text: str) -> str:
    for name in _PLACE.findall(text):
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{{{each}}}}}" for each in PLACEHOLDERS)
            meant = nearest(name, PLACEHOLDERS)
            suggestion = f"{{{{{meant}}}}}" if meant else ""
            raise UnitError(f"{{{{{name}}}}} stands for nothing here; there are: {known}", suggestion)
    return text


def _web_address(text: str) -> str:
    plain = _PLACE.sub("x", _with_known_places(text))
    wanted = UnitError("must be http://host:port or https://host:port, with a path or without")
    try:
        parts = urlsplit(plain)
        is_sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise wanted from None
    if not is_sound or not text.isascii() or not text.isprintable():
        raise wanted
    if "@" in parts.netloc:
        raise UnitError("must hold no user and password: set `authorization`")
    return text


def _one_line(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise UnitError("must be one line of printable ASCII")
    return _with_known_places(text)


def _field_name(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", text) is None:
        raise UnitError(f"{text} is no name of a header")
    return text


FieldName = Annotated[str, AfterValidator(_field_name), Written("header name", str)]
Line = Annotated[str, AfterValidator(_one_line), Written("text", str)]
Text = Annotated[str, AfterValidator(_with_known_places), Written("text", str)]
Address = Annotated[str, AfterValidator(_web_address), Written("URL", str)]


class Checkpoint(Frozen):
    """Something between sending and storing that has to be seen: in a JSON answer, or in a Prometheus exposition."""

    name: str = Field(min_length=1, max_length=60, description="named when it fails", examples=["enriched"])
    url: Address = Field(
        description="asked until it says so; {{id}} is the event's", examples=["http://10.0.0.5/admin/events/{{id}}"]
    )
    pointer: str | None = Field(
        None, pattern=r"^(/([^~]|~[01])*)?$", description="JSON pointer into the answer", examples=["/status"]
    )
    equals: str | int | float | bool | None = Field(
        None, description="what has to stand there, in a text with placeholders; absent: anything", examples=["stored"]
    )
    metric: str | None = Field(
        None,
        pattern=r'^[a-zA-Z_:][a-zA-Z0-9_:]*(\{[^"=]+="[^"]*"(,[^"=]+="[^"]*")*\})?$',
        description="a metric, with labels or without, the sum of which has to rise while the event is on its way",
        examples=['enriched_total{source="weather"}'],
    )
    rises_by: float = Field(1.0, gt=0, allow_inf_nan=False, description="by so much at least")
    headers: dict[str, str] = Field(
        default_factory=dict, repr=False, description="of every request", examples=['{X-Tenant: "7"}']
    )
    authorization: str | None = Field(
        None, min_length=1, repr=False, description="Authorization of every request", examples=["Bearer ${NEW_TOKEN}"]
    )
    authorization_file: str | None = Field(
        None, min_length=1, description="file that holds it", examples=["/run/secrets/admin-authorization"]
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.pointer is None) == (self.metric is None):
            raise UnitError("a checkpoint has either `pointer`, into a JSON answer, or `metric`")
        if self.metric is not None and self.equals is not None:
            raise UnitError("`equals` belongs to `pointer`; a metric has to rise")
        if self.authorization is not None and self.authorization_file is not None:
            raise UnitError("both authorization and authorization_file are given: keep one")
        if isinstance(self.equals, str):
            _with_known_places(self.equals)
        return self


class Probe(Frozen):
    """A marked event that goes the way of clients' events, through the proxy until both stores show it."""

    method: Literal["POST", "PUT", "PATCH", "GET"] = Field("POST", description="of the request")
    path: Line = Field(
        pattern=r"^/",
        description="of the request, with its query; {{id}} and the like are filled in",
        examples=["/events"],
    )
    headers: dict[FieldName, Line] = Field(
        default_factory=dict,
        repr=False,
        description="of the request, with placeholders; X-Event-Id is {{id}} unless it stands here",
        examples=["{Content-Type: application/json}"],
    )
    body: Text = Field(
        "",
        description="of the request: {{id}} marks and names the event, {{time}} is now, as are {{time_s}}, "
        "{{time_ms}}, {{time_us}} and {{time_ns}} in a unit",
        examples=["""'{"id": "{{id}}", "time": "{{time}}", "state": "probe"}'"""],
    )
    url: Address | None = Field(
        None,
        description="where clients reach the proxy; without it the first address of `listen`",
        examples=["https://events.example.com"],
    )
    identity: tuple[Text, ...] = Field(
        ("{{id}}",),
        min_length=1,
        description="what names the event in the stores, as their `identity` does; {{id}} must be in it",
        examples=['["state,entity_id={{id}}"]'],
    )
    expect: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        description="JSON pointers into the rows of both stores, and what has to stand there",
        examples=["{/body/state: probe}"],
    )
    timeout: SomeTime = Field(30.0, description="what is not seen by then has failed")
    visible_within: SomeTime = Field(10.0, description="until either store shows it; slower: the probe fails")
    every: SomeTime | None = Field(
        None, description="sent again and again by the live checker; absent: by `proxyctl probe` alone", examples=["1m"]
    )
    checkpoints: tuple[Checkpoint, ...] = Field(
        (),
        description="what has to happen on the way",
        examples=['[{name: listed, url: "http://10.0.0.5/events/{{id}}", pointer: /status, equals: stored}]'],
    )

    def uses(self, placeholder: str) -> bool:
        """Whether the event has it anywhere."""
        texts = (self.path, self.body, *self.headers.values(), *self.identity)
        return any(placeholder in _PLACE.findall(text) for text in texts)

    @model_validator(mode="after")
    def _is_marked(self) -> Self:
        if not any("id" in _PLACE.findall(each) for each in self.identity):
            raise UnitError("`identity` needs {{id}}: by it the event is known to be a probe's")
        for pointer in self.expect:
            if not pointer.startswith("/"):
                raise UnitError(f"`expect`: {pointer} is no JSON pointer", f"/{pointer}")
            if re.search(r"~(?![01])", pointer):
                raise UnitError(f"`expect`: {pointer} has a ~ that is neither ~0 nor ~1")
        if self.every is not None and self.every < 1:
            raise UnitError("`every` must be at least 1s")
        if " " in self.path:
            raise UnitError("`path` has a space: write it as %20")
        names = [each.name for each in self.checkpoints]
        for name in names:
            if names.count(name) > 1:
                raise UnitError(f"two checkpoints are called {name}")
        if self.visible_within > self.timeout:
            raise UnitError("`visible_within` is longer than `timeout`")
        return self

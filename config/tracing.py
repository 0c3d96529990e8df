"""Where traces go, and which events are traced."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from config.patterns import Name
from config.units import Ratio, SomeTime
from config.web import WebAddress, web_url


class Tracing(WebAddress):
    """Traces of events as OpenTelemetry has them, sent as OTLP over HTTP. Needs `pip install crossfade[otel]`."""

    url: str = Field(
        min_length=1,
        description="where a collector takes traces: OTLP over HTTP, protobuf",
        examples=["http://127.0.0.1:4318/v1/traces"],
    )
    sample: Ratio = Field(
        0.01,
        description="share of the traces that begin here, of which both backends get a `traceparent`; events of others "
        "are forwarded as they came",
    )
    incoming: Literal["follow", "sample"] = Field(
        "follow",
        description="traces that clients begin: as their `traceparent` says itself, or by `sample`, whatever it says. "
        "Any client can say so: where they are not known, sample",
    )
    service: Name = Field("crossfade", description="`service.name` of the traces")
    timeout: SomeTime = Field(5.0, description="of one try to send; what cannot be sent is dropped, and counted")

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        return web_url(url)

"""Routes whose backends connect to the proxy: which consumers there are, and as what it appears to them."""

from __future__ import annotations

from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from config.frozen import Frozen
from config.units import Duration, SomeTime, UnitError, format_duration
from config.web import one_of

LONGEST_WINDOW: Final = 600.0
"""Seconds. All that a consumer had within its window is on disk, and goes to it again in one go."""


class Consumer(Frozen):
    """A backend that is not reached but connects itself, to a route with `fanout`, and is known by its access token."""

    token: str | None = Field(
        None,
        min_length=1,
        repr=False,
        description="access token that it gives, or `token_file`; of this consumer alone",
        examples=["${CONSUMER_TOKEN}"],
    )
    token_file: str | None = Field(
        None,
        min_length=1,
        description="file that holds it, read whenever somebody asks to be let in",
        examples=["/run/secrets/old-consumer-token"],
    )
    redeliver_window: Duration = Field(
        5.0,
        description="events that it had for less than this when it was last heard of are sent again first; at most 10m",
    )
    ping_interval: SomeTime = Field(
        20.0, description="a consumer that was sent nothing for this long is asked; no answer in time: lost"
    )

    @field_validator("redeliver_window")
    @classmethod
    def _is_bounded(cls, window: float) -> float:
        if window > LONGEST_WINDOW:
            most = format_duration(LONGEST_WINDOW)
            raise UnitError(f"all that a consumer had within it is kept, and sent again: {most} at most", most)
        return window

    @model_validator(mode="after")
    def _has_a_token(self) -> Self:
        one_of("token", "token_file", (self.token, self.token_file))
        if self.token is None and self.token_file is None:
            raise UnitError("needs token or token_file: what the consumer gives as its access token")
        return self


class Fanout(Frozen):
    """A route whose old and new are consumers: they connect to its path as to the WebSocket API of a Home Assistant,
    and both are fed its events, each at its own pace.
    """

    ha_version: str = Field(
        "2024.3.3", pattern=r"^\d{4}\.\d{1,2}\.\d+$", description="version of Home Assistant that consumers are told"
    )

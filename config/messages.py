"""What is said of messages of a WebSocket: where in them something stands, and what."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

POINTER: Final = r"^(/.*)?$"


class MessageRule(BaseModel):
    """Messages of a session in which something stands."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    pointer: str = Field(pattern=POINTER, description="JSON pointer into the message (RFC 6901)", examples=["/type"])
    equals: str = Field(description="what stands there, as text", examples=["auth"])

"""What is said of messages of a WebSocket: where in them something stands, and what."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from config.frozen import Frozen

POINTER: Final = r"^(/.*)?$"


class MessageRule(Frozen):
    """Messages of a session in which something stands."""

    pointer: str = Field(pattern=POINTER, description="JSON pointer into the message (RFC 6901)", examples=["/type"])
    equals: str = Field(description="what stands there, as text", examples=["auth"])

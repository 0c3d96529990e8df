"""Messages of WebSocket sessions that are replies to others."""

from __future__ import annotations

from pydantic import Field

from config.frozen import Frozen
from config.messages import POINTER, MessageRule


class ReplyRule(Frozen):
    """Which message of a backend answers which one of a client's."""

    message_id: str = Field(
        pattern=POINTER,
        description="JSON pointer to what a client's message and its reply both name; one without it has its receipt "
        "by Pong, as has one that names what another one still awaits",
        examples=["/id"],
    )
    reply_id: str = Field(
        pattern=POINTER, description="JSON pointer to the same in a backend's reply", examples=["/id"]
    )
    only: MessageRule | None = Field(
        None,
        description="what makes a backend's message a reply, where others name it, too",
        examples=["{pointer: /type, equals: result}"],
    )
    success: MessageRule | None = Field(
        None,
        description="what makes a reply a yes; any other is a refusal for good, as 400 is. Without it all are a yes",
        examples=['{pointer: /success, equals: "true"}'],
    )

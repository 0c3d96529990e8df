"""`receipt: reply`: which message of a backend answers which of a client's, and whether it says yes."""

from __future__ import annotations

from typing import NamedTuple

from config.replies import ReplyRule
from proxy.http.values import json_value


class Reply(NamedTuple):
    """A backend's answer. id: what it and the message that it answers both name; is_yes: the backend took that."""

    id: str
    is_yes: bool


class Replies:
    """One route's rule, compiled."""

    __slots__ = ("_message_id", "_only", "_reply_id", "_success")

    def __init__(self, rule: ReplyRule) -> None:
        self._message_id = json_value(rule.message_id)
        self._reply_id = json_value(rule.reply_id)
        self._only = (json_value(rule.only.pointer), rule.only.equals) if rule.only is not None else None
        self._success = (json_value(rule.success.pointer), rule.success.equals) if rule.success is not None else None

    def id_of(self, payload: bytes) -> str:
        """What the reply to this message will name; empty when it will have none."""
        return self._message_id(payload) or ""

    def read(self, payload: bytes) -> Reply | None:
        """A backend's message as a reply; None when it is none."""
        if self._only is not None and self._only[0](payload) != self._only[1]:
            return None
        id = self._reply_id(payload)
        if id is None:
            return None
        return Reply(id, self._success is None or self._success[0](payload) == self._success[1])

"""How an entry of the audit trail is told to others: as JSON for a program, or as a line of text for a chat."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

MAX_REASON: Final = 500
"""Characters of a reason in a chat."""
_BREAK: Final = "\u200b"
"""A space of no width: what begins a mention, a link or an image begins nothing with it inside."""
_LOOKALIKES: Final = str.maketrans({"*": "\u2217", "`": "\u02cb", "~": "\u223c"})
"""No space disarms these everywhere."""
_LINE: Final = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""Underscores within a word begin nothing, and names of metrics have them."""
_BEGINS: Final = re.compile(r"[@\[\]#]|:(?=//)|www(?=\.)", re.IGNORECASE)


def as_webhook(entry: Mapping[str, Any], *, name: str, instance: str) -> bytes:
    """The entry with two more members. name: the same for every try, so that a receiver can leave out repetitions."""
    return msgspec.json.encode({"id": name, "instance": instance, **entry})


def as_slack(entry: Mapping[str, Any], *, instance: str) -> bytes:
    """`{"text": ...}`: `Crossfade at host: revert of events, 25 % to 0 %, latched (epoch 3) by crossfade: reason`."""
    route, reason = entry.get("route"), str(entry.get("reason") or "")
    text = f"Crossfade at {instance}: {entry['action']}" + (f" of {route}" if route else "")
    text += _moved(entry.get("before") or {}, entry.get("after") or {})
    text += f" (epoch {entry['epoch']}) by {plain(str(entry['actor']))}"
    if reason:
        text += f": {plain(reason[:MAX_REASON])}"
    return msgspec.json.encode({"text": escaped(" ".join(text.split()))})


def plain(text: str) -> str:
    """What others wrote, so that it reads the same and begins no mention, link, image or emphasis.

    Slack's form is taken by chats that know Markdown, where escaping what is Slack's is not enough.
    """
    return _BEGINS.sub(lambda found: found[0] + _BREAK, _LINE.sub("\u02cd", text.translate(_LOOKALIKES)))


def escaped(text: str) -> str:
    """Text as Slack takes it: the three characters that begin something else are written otherwise.

    docs.slack.dev/messaging/formatting-message-text: escaping text.
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """`, dualwrite 0 % to live 25 %`; empty when no dial was turned."""
    if not before or not after:
        return ""
    said = f", {_dials(before)} to {_dials(after)}" if _dials(before) != _dials(after) else ""
    if after.get("latched") and not before.get("latched"):
        said += ", latched"
    return said


def _dials(position: Mapping[str, Any]) -> str:
    return f"{position.get('stage')} {position.get('weight', 0):g} %"

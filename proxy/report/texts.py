"""Text of others in what people read: no character of it may do more than be seen."""

from __future__ import annotations

import re
from typing import Final

_MARKS: Final = re.compile(r"[\\`*_\[\]<>|~&$]")
_BEGINS: Final = re.compile(r"^([-+=#:]|\d+(?=[.)]))")
_LINKS: Final = re.compile(r"(?<=:)//|(?<=[wW]{3})\.")

_REFERS: Final = re.compile(r"[@#](?=\w)")
"""Hosts of code look for names and numbers in what was rendered, so neither a backslash nor an entity keeps them from
telling somebody; a zero-width space does."""


def printable(text: str) -> str:
    """The text on one line, without control characters and those that turn the direction of others."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def in_markdown(text: str) -> str:
    """The same for Markdown (CommonMark and GitHub's): it is no markup, HTML, link, formula, mention or reference."""
    marked = _MARKS.sub(lambda found: f"\\{found[0]}", printable(text).strip())
    marked = _REFERS.sub(lambda found: f"{found[0]}&#8203;", marked)
    return _LINKS.sub(lambda found: "".join(f"&#{ord(c)};" for c in found[0]), marked)


def as_paragraph(text: str) -> str:
    """The same where a line begins with it: neither heading, list nor rule."""
    return _BEGINS.sub(lambda found: f"&#{ord(found[0][0])};{found[0][1:]}", in_markdown(text))

"""A report as one HTML file that needs nothing else: no script, no font and no picture from anywhere.

Whoever has a report to show makes a Page of it; how it looks is in `templates/page.html`. What stands in a report comes
from clients and databases, so everything is escaped, and plots are pictures, in which nothing can run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


class Facts(NamedTuple):
    """Names and what is so of them, one below the other."""

    rows: Sequence[tuple[str, str]]


class Table(NamedTuple):
    """header: a name for each column; rows: of as many cells; figures: columns of numbers, which stand to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: Sequence[int] = ()


class Plot(NamedTuple):
    """title: says what it shows to who cannot see it, too; uri: the picture itself, `data:image/svg+xml;...`."""

    title: str
    uri: str


class Pair(NamedTuple):
    """Something that both sides have, field by field. rows: field, old, new, what differs."""

    title: str
    note: str
    rows: Sequence[tuple[str, str, str, str]]


class Text(NamedTuple):
    """A paragraph."""

    text: str


Block = Facts | Table | Plot | Pair | Text


class Section(NamedTuple):
    """title: its heading."""

    title: str
    blocks: Sequence[Block]


class Page(NamedTuple):
    """verdict: one word; is_good: whether it is as it should be; said: the verdict in a sentence."""

    title: str
    verdict: str
    is_good: bool
    said: str
    sections: Sequence[Section]


def html(page: Page) -> str:
    """The whole file."""
    return _template().render(page=page, kind_of=lambda block: type(block).__name__)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("proxy.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")

"""A report as one HTML file that needs nothing else: no script, no font and no picture from anywhere.

Whoever has a report to show makes a Page of it; how it looks is in `templates/page.html`. What stands in a report comes
from clients and databases, so everything is escaped, and plots are pictures, in which nothing can run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from proxy.report.texts import printable


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


class Chart(NamedTuple):
    """Values along a line of time, which a page draws (`plots.drawn`) and Markdown writes.

    times: their names; series: by name, a value for each time, None where nothing is known; written: makes it text
    top: where the scale ends, None for the greatest value
    overall: by name, the value of the whole time; None where there is no such thing, and the one at its end is told
    """

    title: str
    times: Sequence[str]
    series: Mapping[str, Sequence[float | None]]
    written: Callable[[float], str]
    top: float | None = None
    overall: Mapping[str, float | None] | None = None


class Pair(NamedTuple):
    """Something that both sides have, field by field. rows: field, old, new, what differs."""

    title: str
    note: str
    rows: Sequence[tuple[str, str, str, str]]


class Text(NamedTuple):
    """A paragraph."""

    text: str


Block = Facts | Table | Plot | Chart | Pair | Text


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
    """The whole file. Charts have to be drawn already."""
    return _template().render(page=page, kind_of=lambda block: type(block).__name__)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("proxy.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if isinstance(value, str) else value,
    )
    return environment.get_template("page.html")

"""A report as Markdown: for terminals, issues and chats. What would be a plot is a line of blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from proxy.report.page import Block, Chart, Facts, Page, Pair, Plot, Section, Table, Text
from proxy.report.texts import as_paragraph, in_markdown

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_NOTHING: Final = "·"
"""Stands where nothing is known."""
WIDEST: Final = 60
"""Characters of a line of blocks."""


def markdown(page: Page) -> str:
    """The whole text."""
    lines = [f"# {in_markdown(page.title)}", "", f"**{in_markdown(page.verdict)}**: {in_markdown(page.said)}"]
    for section in page.sections:
        lines += ["", *_section(section)]
    return "\n".join(lines) + "\n"


def _section(section: Section) -> list[str]:
    lines = [f"## {in_markdown(section.title)}"]
    for block in section.blocks:
        lines += ["", *_block(block)]
    return lines


def _block(block: Block) -> list[str]:
    match block:
        case Facts(rows):
            return _table(("", ""), rows)
        case Table(header, rows, figures):
            return _table(header, rows, figures)
        case Chart():
            return [f"**{in_markdown(block.title)}**", "", *_chart(block)]
        case Plot(title, _):
            return [f"**{in_markdown(title)}**: see the page"]
        case Pair(title, note, rows):
            table = _table(("field", "old", "new", "what"), rows) if rows else []
            return [f"### {in_markdown(title)}", "", as_paragraph(note), *([""] if table else []), *table]
        case Text(text):
            return [as_paragraph(text)]


def _chart(chart: Chart) -> list[str]:
    rows = [
        (
            name,
            *(chart.written(value) for value in (min(known), max(known))),
            _summed_up(chart, name, known[-1]),
            sparkline(values, chart.top),
        )
        for name, values in chart.series.items()
        if (known := [value for value in values if value is not None])
    ]
    if not rows:
        return ["Nothing is known."]
    return [
        *_table(("", "least", "most", "at the end" if chart.overall is None else "overall", "course"), rows, (1, 2, 3)),
        "",
        f"{in_markdown(chart.times[0])} to {in_markdown(chart.times[-1])}; {_NOTHING} stands where nothing is known.",
    ]


def _summed_up(chart: Chart, name: str, last: float) -> str:
    """A line of the chart in one value: of the whole time, where there is such a thing."""
    value = last if chart.overall is None else chart.overall.get(name)
    return _NOTHING if value is None else chart.written(value)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], figures: Sequence[int] = ()) -> list[str]:
    rules = ["--:" if column in figures else "---" for column in range(len(header))]
    return [
        f"| {' | '.join(in_markdown(name) for name in header)} |",
        f"|{'|'.join(rules)}|",
        *(f"| {' | '.join(in_markdown(cell) for cell in row)} |" for row in rows),
    ]


def sparkline(values: Sequence[float | None], top: float | None = None) -> str:
    """Blocks as high as the values are, from 0 to `top`, or to the greatest; one stands for the greatest of a few."""
    per = -(-len(values) // WIDEST) if values else 1
    shown = [
        max((value for value in values[start : start + per] if value is not None), default=None)
        for start in range(0, len(values), per)
    ]
    most = top or max((value for value in shown if value is not None), default=0.0)
    return "".join(_NOTHING if value is None else _high(value / most if most > 0 else 0.0) for value in shown)


def _high(share: float) -> str:
    return _BLOCKS[min(len(_BLOCKS) - 1, max(0, round(share * (len(_BLOCKS) - 1))))]

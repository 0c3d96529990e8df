"""Plots of a report, drawn by pygal: each is a picture by itself, without script."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, Final

from proxy.report.page import Chart, Page, Plot, Section

LONGEST_LABEL: Final = 50
"""Characters."""
LABELS: Final = 6
"""Times that are named along a line of time."""
COLOURS: Final = ("#b3261e", "#e08a00", "#6750a4", "#00696d", "#4a6fa5", "#7d8894", "#8c5000", "#386a20")


def drawn(page: Page) -> Page:
    """The page with plots in the place of its charts."""
    sections = [
        Section(title, [lines(block) if isinstance(block, Chart) else block for block in blocks])
        for title, blocks in page.sections
    ]
    return page._replace(sections=sections)


def lines(chart: Chart) -> Plot:
    """Lines that end where nothing is known."""
    return _along_time(
        partial(library().Line, show_dots=False, allow_interruptions=True, range=_range(chart)),
        chart.title,
        chart.times,
        chart.series,
        chart.written,
    )


def _range(chart: Chart) -> tuple[float, float]:
    """From 0, so that what hardly changes does not look as if it did."""
    known = [value for values in chart.series.values() for value in values if value is not None]
    return 0.0, chart.top or max(known, default=0.0) or 1.0


def over_time(title: str, times: Sequence[str], series: Mapping[str, Sequence[float]]) -> Plot:
    """Numbers that add up, as bars along a line of time. series: by name, one number for each time."""
    return _along_time(library().StackedBar, title, times, series, lambda value: f"{value:,.0f}")


def seconds_over_time(title: str, times: Sequence[str], seconds: Mapping[str, Sequence[float]]) -> Plot:
    """Durations, as bars along a line of time."""
    return _along_time(library().Bar, title, times, seconds, lambda value: f"{value:g} s")


def shares(title: str, by_name: Mapping[str, float]) -> Plot:
    """Shares from 0 to 1 as bars beside their names, the first one at the top."""
    names = [_label(name) for name in by_name][::-1]
    chart = _chart(
        library().HorizontalBar,
        height=90 + 26 * len(names),
        show_legend=False,
        value_formatter=lambda value: f"{value * 100:.3g} %",
        print_values=True,
    )
    chart.x_labels = names
    chart.add("share", list(by_name.values())[::-1])
    return Plot(title, chart.render_data_uri())


def _along_time(
    kind: Callable[..., Any],
    title: str,
    times: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    written: Callable[[float], str],
) -> Plot:
    chart = _chart(
        kind,
        height=300,
        value_formatter=written,
        x_labels_major_count=min(LABELS, len(times)),
        show_minor_x_labels=False,
        truncate_label=-1,
    )
    chart.x_labels = [_label(time) for time in times]
    for name, values in series.items():
        chart.add(_label(name), list(values))
    return Plot(title, chart.render_data_uri())


def _chart(kind: Callable[..., Any], **options: Any) -> Any:
    """js: what makes tooltips would be loaded from elsewhere, and runs in no picture."""
    return kind(
        js=[],
        style=_style(),
        width=900,
        legend_at_bottom=True,
        truncate_legend=-1,
        margin=10,
        no_prefix=True,
        **options,
    )


def _label(text: str) -> str:
    """Fit for a picture: XML cannot hold every character, and a long one would push the plot aside."""
    short = text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"
    return "".join(each if each.isprintable() else "\ufffd" for each in short)


@cache
def library() -> Any:
    """pygal, which is loaded by whoever draws."""
    import pygal

    # Its finder of maps, which nobody has, would be asked for every module that is imported from now on.
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != pygal.__name__]
    return pygal


@cache
def _style() -> Any:
    return library().style.Style(
        background="transparent",
        plot_background="transparent",
        foreground="#1c2128",
        foreground_strong="#1c2128",
        foreground_subtle="#d8dce2",
        font_family="system-ui, sans-serif",
        label_font_size=12,
        major_label_font_size=12,
        legend_font_size=12,
        opacity="1",
        colors=COLOURS,
    )

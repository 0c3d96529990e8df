"""Plots of a run, drawn by pygal: each is a picture by itself, without script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from proxy.report.plots import library

_OURS: Final = "#1f77b4"
_THEIRS: Final = "#b0b7bf"


class Bar(NamedTuple):
    """A proxy in a plot: its median with the least and the most of its rounds."""

    name: str
    value: float
    least: float
    most: float

    @property
    def label(self) -> str:
        """With its figures."""
        return f"{self.value:.1f} ({self.least:.1f}-{self.most:.1f})"


def draw(title: str, unit: str, bars: Sequence[Bar]) -> bytes:
    """An SVG of bars from the smallest to the largest, ours in another colour."""
    pygal = library()
    style = pygal.style.Style(
        background="white", plot_background="white", value_font_size=14, label_font_size=14, title_font_size=18,
        font_family="sans-serif", colors=(_THEIRS,),
    )  # fmt: skip
    height = 120 + 45 * len(bars)
    chart: Any = pygal.HorizontalBar(
        title=f"{title}\n{unit}", style=style, show_legend=False, print_values=True, print_values_position="top",
        width=900, height=height, js=[], margin_right=120, range=(0, max(bar.most for bar in bars) * 1.15),
    )  # fmt: skip
    # A horizontal chart is filled from below.
    ordered = sorted(bars, key=lambda bar: -bar.value)
    chart.x_labels = [bar.name for bar in ordered]
    chart.add("", [_point(bar) for bar in ordered])
    drawn: bytes = chart.render(disable_xml_declaration=False)
    return drawn


def _point(bar: Bar) -> dict[str, Any]:
    label = bar.label
    return {
        "value": bar.value,
        "color": _OURS if bar.name.startswith("crossfade") else _THEIRS,
        "formatter": lambda _: label,
    }

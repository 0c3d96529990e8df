"""What the dashboards are made of: panels, variables, annotations, and the frame that holds them.

$datasource   which Prometheus
$instance     instances of Crossfade, as Prometheus names them; all by default
$route        routes of these; all by default
$backend      backends of these; all by default
"""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    DataSourceRef,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    SortOrder,
    TimeZoneBrowser,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

TAG: Final = "crossfade"
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
INSTANCE: Final = 'instance=~"$instance"'
ROUTE: Final = f'{INSTANCE}, route=~"$route"'
BACKEND: Final = f'{INSTANCE}, backend=~"$backend"'
BOTH: Final = f'{ROUTE}, backend=~"$backend"'
"""Matchers of a query: of an instance, and of a route, a backend, or a backend for a route."""
HEIGHT: Final = 8
WIDTH: Final = 24
"""Of a panel and of a dashboard, in units of Grafana's grid."""
_CHANGE: Final = "1m"
"""How long an annotation looks back for a change, and is: two scrapes at least."""
_EVERY: Final = "15s"
"""How often it looks."""


class Query:
    """One query of a panel. legend: with `{{label}}`; now: its present value alone is asked for."""

    def __init__(self, expr: str, legend: str, *, now: bool = False) -> None:
        self.expr = expr
        self.legend = legend
        self.now = now

    def build(self, ref: str) -> prometheus.Dataquery:
        """As the SDK has it. ref: its letter in the panel."""
        query = prometheus.Dataquery().datasource(SOURCE).expr(self.expr).legend_format(self.legend).ref_id(ref)
        return query.instant() if self.now else query.range()


def lines(title: str, text: str, unit: str, *queries: Query, width: int = 8, steps: bool = False) -> timeseries.Panel:
    """Curves over time. text: what is to be seen, for a person who does not know; steps: the values change at once."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit(unit)
        .axis_soft_min(0)
        .height(HEIGHT)
        .span(width)
        .fill_opacity(8)
        .show_points(VisibilityMode.NEVER)
        .line_interpolation(LineInterpolation.STEP_AFTER if steps else LineInterpolation.LINEAR)
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    for ref, query in _named(queries):
        panel.with_target(query.build(ref))
    return panel


def beside(panel: timeseries.Panel) -> timeseries.Panel:
    """The panel once for each backend that is chosen, one beside the other."""
    return panel.repeat("backend").repeat_direction("h").max_per_row(4)


def state(title: str, text: str, *queries: Query, width: int = 12) -> statetimeline.Panel:
    """What holds over time, a bar for each series."""
    panel = (
        statetimeline.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .height(HEIGHT)
        .span(width)
        .merge_values(True)
        .legend(_legend())
    )
    for ref, query in _named(queries):
        panel.with_target(query.build(ref))
    return panel


def value(title: str, text: str, unit: str, query: Query, *, width: int = 4) -> stat.Panel:
    """A figure, as it is now."""
    return (
        stat.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit(unit)
        .height(4)
        .span(width)
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.NONE)
        .with_target(query.build("A"))
    )


def frame(name: str, title: str, text: str) -> dashboard.Dashboard:
    """A dashboard without panels: variables, annotations of changes, and the way to the other dashboards."""
    made = (
        dashboard.Dashboard(title)
        .uid(f"crossfade-{name}")
        .description(text)
        .tags([TAG])
        .time("now-1h", "now")
        .refresh("10s")
        .timezone(TimeZoneBrowser)
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for variable in (
        _variable("instance", "label_values(crossfade_build_info, instance)"),
        _variable("route", f"label_values(crossfade_weight_target_ratio{{{INSTANCE}}}, route)"),
        _variable("backend", f"label_values(crossfade_breaker_state{{{INSTANCE}}}, backend)"),
    ):
        made.with_variable(variable)
    weight, latched = (f"crossfade_{name}{{{ROUTE}}}" for name in ("weight_target_ratio", "latched"))
    for what, changed, colour in (
        ("Weight raised", _rises(weight), "green"),
        ("Weight lowered", f"resets({weight}[{_CHANGE}])", "orange"),
        ("Latched by a revert", _rises(latched), "red"),
    ):
        made.annotation(_annotation(what, changed, colour))
    link = dashboard.DashboardLink("Crossfade").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    return made.link(link.include_vars(True).keep_time(True))


def _variable(name: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .hide(VariableHide.DONT_HIDE)
        .datasource(SOURCE)
        .query(query)
        .definition(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _rises(metric: str) -> str:
    """How often a gauge rose lately. `resets` counts each fall, also of what is no counter."""
    return f"changes({metric}[{_CHANGE}]) - resets({metric}[{_CHANGE}])"


def _annotation(name: str, count: str, colour: str) -> dashboard.AnnotationQuery:
    """A mark where the count is above 0; Grafana marks where a series is 1."""
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(True)
        .icon_color(colour)
        .expr(f"({count} > bool 0) == 1")
        .step(_EVERY)
        .title_format(f"{name}: {{{{route}}}}")
        .text_format("{{instance}}")
        .tag_keys("route")
    )


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    )


def _named(queries: tuple[Query, ...]) -> list[tuple[str, Query]]:
    return [(chr(ord("A") + position), query) for position, query in enumerate(queries)]

"""Builders of panels and variables, with the settings that all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from grafana_foundation_sdk.builders.common import (
    GraphThresholdsStyleConfig,
    ReduceDataOptions,
    ScaleDistributionConfig,
    StackingConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.builders.dashboard import DashboardLink, FieldColor, QueryVariable, ThresholdsConfig
from grafana_foundation_sdk.builders.heatmap import HeatmapColorOptions, YAxisConfig
from grafana_foundation_sdk.builders.heatmap import Panel as Heatmap
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.text import Panel as Text
from grafana_foundation_sdk.builders.timeseries import Panel as Graph
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard, heatmap, prometheus, text

DATASOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
STATUS_PAGE = "http://${__field.labels.instance}/"
"""The status page is at the metrics port, which is the label ``instance`` unless the scrape config changes it."""
AnyPanel = Builder[dashboard.Panel]


class Query(NamedTuple):
    """A query and the name of its series."""

    expr: str
    legend: str = "{{instance}}"


class Column(NamedTuple):
    """A column of a table: its name, query, unit, and the values from which on it is orange and red."""

    name: str
    expr: str
    unit: str
    limits: tuple[float, float] | None = None
    decimals: int | None = None
    hidden: bool = False


class _Common(Protocol):
    """The methods that the builders of all kinds of panels have."""

    def title(self, title: str, /) -> object: ...
    def description(self, description: str, /) -> object: ...
    def datasource(self, datasource: dashboard.DataSourceRef, /) -> object: ...
    def span(self, w: int, /) -> object: ...
    def height(self, h: int, /) -> object: ...


P = TypeVar("P", bound=_Common)


def _common(panel: P, title: str, description: str, width: int, height: int) -> P:
    panel.title(title)
    panel.description(description)
    panel.span(width)
    panel.height(height)
    return panel


def _steps(limits: tuple[float, float] | None) -> list[dashboard.Threshold]:
    steps = [dashboard.Threshold(None, "green")]
    if limits is not None:
        steps += [dashboard.Threshold(limits[0], "orange"), dashboard.Threshold(limits[1], "red")]
    return steps


def _thresholds(limits: tuple[float, float] | None) -> ThresholdsConfig:
    return ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(_steps(limits))


def _link(url: str) -> DashboardLink:
    return DashboardLink("Status page").url(url).target_blank(True)


def graph(
    title: str,
    unit: str,
    description: str,
    *queries: Query,
    width: int = 12,
    height: int = 8,
    bars: bool = False,
    limits: tuple[float, float] | None = None,
) -> Graph:
    """Return a panel with lines, or with stacked bars for events. Limits are dashed lines."""
    panel = _common(Graph(), title, description, width, height).datasource(DATASOURCE).unit(unit).min(0)
    legend = VizLegendOptions().display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)
    panel.legend(legend.show_legend(True).calcs([]))
    panel.tooltip(VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    panel.show_points(common.VisibilityMode.NEVER).thresholds(_thresholds(limits)).data_links([_link(STATUS_PAGE)])
    if bars:
        panel.draw_style(common.GraphDrawStyle.BARS).fill_opacity(80).decimals(0).interval("1m")
        panel.stacking(StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    else:
        panel.draw_style(common.GraphDrawStyle.LINE).fill_opacity(8)
    if limits is not None:
        panel.thresholds_style(GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED))
    for query, ref in zip(queries, "ABCDEFGH", strict=False):
        panel.with_target(Dataquery().expr(query.expr).legend_format(query.legend).range().ref_id(ref))
    return panel


def stat(
    title: str, unit: str, description: str, expr: str, limits: tuple[float, float] | None = None, decimals: int = 0
) -> Stat:
    """Return a panel with one number, the latest, above its graph."""
    panel = _common(Stat(), title, description, 4, 4).datasource(DATASOURCE).unit(unit).decimals(decimals)
    panel.reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    panel.graph_mode(common.BigValueGraphMode.AREA).color_mode(common.BigValueColorMode.VALUE)
    panel.thresholds(_thresholds(limits)).color_scheme(FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
    return panel.with_target(Dataquery().expr(expr).legend_format(title).range().ref_id("A"))


def table(title: str, description: str, columns: Sequence[Column], *, width: int = 24, height: int = 8) -> Table:
    """Return a table with a row for each set of labels, and a column for each query."""
    panel = _common(Table(), title, description, width, height).datasource(DATASOURCE).unit("short")
    renamed: dict[str, str] = {}
    excluded: dict[str, bool] = {"Time": True}
    for column, ref in zip(columns, "ABCDEFGH", strict=False):
        query = Dataquery().expr(column.expr).format(prometheus.PromQueryFormat.TABLE).instant()
        panel.with_target(query.ref_id(ref))
        field = f"Value #{ref}" if len(columns) > 1 else "Value"
        if column.hidden:
            excluded[field] = True
            continue
        renamed[field] = column.name
        properties = [dashboard.DynamicConfigValue("unit", column.unit)]
        if column.decimals is not None:
            properties.append(dashboard.DynamicConfigValue("decimals", column.decimals))
        if column.limits is not None:
            steps = dashboard.ThresholdsConfig(dashboard.ThresholdsMode.ABSOLUTE, _steps(column.limits))
            properties.append(dashboard.DynamicConfigValue("thresholds", steps))
            properties.append(dashboard.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
        panel.override_by_name(column.name, properties)
    link = _link("http://${__value.raw}/").build()
    panel.override_by_name("instance", [dashboard.DynamicConfigValue("links", [link])])
    panel.with_transformation(dashboard.DataTransformerConfig("merge", options={}))
    organized = {"excludeByName": excluded, "renameByName": renamed, "indexByName": {}}
    return panel.with_transformation(dashboard.DataTransformerConfig("organize", options=organized))


def heat_map(title: str, unit: str, description: str, expr: str, *, width: int = 12, height: int = 9) -> Heatmap:
    """Return a heat map of the buckets of a histogram."""
    panel = _common(Heatmap(), title, description, width, height).datasource(DATASOURCE).unit(unit)
    color = HeatmapColorOptions().mode(heatmap.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    color.scale(heatmap.HeatmapColorScale.EXPONENTIAL).exponent(0.5).fill("dark-orange")
    panel.calculate(False).color(color).cell_gap(1).show_tooltip().show_legend()
    panel.y_axis(YAxisConfig().unit(unit).axis_placement(common.AxisPlacement.LEFT))
    panel.scale_distribution(ScaleDistributionConfig().type(common.ScaleDistribution.LINEAR))
    query = Dataquery().expr(expr).format(prometheus.PromQueryFormat.HEATMAP).legend_format("{{le}}").range()
    return panel.with_target(query.ref_id("A"))


def markdown(title: str, description: str, content: str, *, height: int = 4) -> Text:
    """Return a panel with text."""
    return _common(Text(), title, description, 24, height).mode(text.TextMode.MARKDOWN).content(content)


def variable(name: str, label: str, query: str, description: str, *, regex: str = "") -> QueryVariable:
    """Return a variable with several values, read from Prometheus for the selected time range."""
    asked: dict[str, object] = {"qryType": 1, "query": query, "refId": f"variable-{name}"}
    made = QueryVariable(name).label(label).description(description).datasource(DATASOURCE).query(asked).regex(regex)
    return made.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(dashboard.VariableSort(1)).multi(True)


def with_all(made: QueryVariable, all_value: str = "") -> QueryVariable:
    """Give a variable the choice of all values, and choose it. ``all_value`` is the regular expression of this."""
    if all_value:
        made.all_value(all_value)
    return made.include_all(True).current(dashboard.VariableOption(True, "All", "$__all"))

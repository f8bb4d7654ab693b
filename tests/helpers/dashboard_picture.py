"""Draws rows of the dashboard with matplotlib, from the results of its queries. Grafana has no part in it.

``make dashboard-picture`` writes the picture for the README, of two servers under load.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.dates import DateFormatter, MinuteLocator, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Affine2D, Transform

from tests.helpers.dashboard_servers import Servers
from tests.helpers.grafana import Grafana, Target, legend

ROWS: Final = ("Overview", "Latency", "Saturation", "Worker exits and killed requests")
"""The rows in the README's picture."""
LABEL: Final = "gunicorn: rows of the dashboard, drawn from its queries with matplotlib, not by Grafana"
SECONDS: Final = 240
"""How long the servers run for the README's picture."""
COLUMN, UNIT, TOP_MARGIN = 0.62, 0.29, 0.45
"""Width of a column and height of a line of Grafana's grid, and the height of the title, in inches."""
SHOWN_SERIES: Final = 8
PALE, DARK = "#6b7280", "#1f2937"


@dataclass(frozen=True)
class Span:
    """A time range and the distance of its points, in seconds."""

    start: float
    end: float
    step: float


@dataclass(frozen=True)
class Place:
    """A panel and its place in the picture, in lines and columns of Grafana's grid."""

    panel: dict[str, Any]
    x: int
    y: int
    w: int
    h: int


def formatted(value: float, unit: str, decimals: int | None = None) -> str:
    """Return a value with its unit."""
    if math.isinf(value) or math.isnan(value):
        return str(value)
    if decimals == 0 and unit == "short":
        return f"{value:.0f}"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
    if unit in ("bytes", "Bps"):
        for name in ("B", "KiB", "MiB", "GiB"):
            if value < 1024 or name == "GiB":
                return f"{value:.3g} {name}" + ("/s" if unit == "Bps" else "")
            value /= 1024
    return f"{value:.3g}" + {"reqps": " req/s", "cps": "/s"}.get(unit, "")


def places(grafana: Grafana, rows: Sequence[str]) -> Iterator[Place]:
    """Yield the panels of these rows, without a gap between the rows."""
    offset, last, drawn = 0, 0, False
    for panel in grafana.board.panels:
        grid = panel["gridPos"]
        if panel["type"] == "row":
            drawn = panel["title"] in rows
            offset = last - grid["y"]
        if drawn:
            place = Place(panel, grid["x"], grid["y"] + offset, grid["w"], grid["h"])
            last = max(last, place.y + place.h)
            yield place


def draw(grafana: Grafana, rows: Sequence[str], span: Span, file: Path) -> None:
    """Write a picture of these rows."""
    found = list(places(grafana, rows))
    width, lines = 24 * COLUMN, max(place.y + place.h for place in found)
    height = lines * UNIT + TOP_MARGIN
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "text.color": DARK}):
        figure = Figure(figsize=(width, height), dpi=110, facecolor="#f3f4f6")
        figure.text(0.006, 1 - 0.62 * TOP_MARGIN / height, LABEL, fontsize=12, weight="bold")
        when = f"{datetime.fromtimestamp(span.start):%H:%M:%S} to {datetime.fromtimestamp(span.end):%H:%M:%S}"
        figure.text(0.994, 1 - 0.62 * TOP_MARGIN / height, when, fontsize=10, color=PALE, ha="right")
        for place in found:
            bottom = (lines - place.y - place.h) * UNIT / height
            box = (place.x / 24, bottom, place.w / 24, place.h * UNIT / height)
            _panel(figure, grafana, place, box, span)
        figure.savefig(file)


def _panel(figure: Figure, grafana: Grafana, place: Place, box: tuple[float, float, float, float], span: Span) -> None:
    panel = place.panel
    left, bottom, width, height = box
    if panel["type"] == "row":
        figure.text(left + 0.006, bottom + 0.25 * height, panel["title"], fontsize=10, weight="bold", color=PALE)
        return
    inch_x, inch_y = 1 / figure.get_figwidth(), 1 / figure.get_figheight()
    card = figure.add_axes(
        (left + 0.03 * inch_x, bottom + 0.03 * inch_y, width - 0.06 * inch_x, height - 0.06 * inch_y)
    )
    card.set_facecolor("white")
    card.set(xticks=[], yticks=[])
    for spine in card.spines.values():
        spine.set(visible=True, color="#d1d5db")
    card.text(0.1, place.h * UNIT - 0.25, panel["title"], weight="bold", transform=_inches(card, place))
    asked = [target for target in grafana.board.targets() if target.panel == panel["title"]]
    results = [(target, grafana.ask(target, span.start, span.end, span.step)) for target in asked]
    if panel["type"] == "table":
        _table(card, place, results)
        return
    is_stat = panel["type"] == "stat"
    inset = (0.1, 0.08, 0.1, 0.62) if is_stat else (0.62, 0.62, 0.15, 0.38)
    inner = figure.add_axes(
        (
            left + inset[0] * inch_x,
            bottom + inset[1] * inch_y,
            width - (inset[0] + inset[2]) * inch_x,
            height - (inset[1] + inset[3]) * inch_y,
        )
    )
    {"stat": _stat, "heatmap": _heat_map, "timeseries": _graph}[panel["type"]](figure, inner, panel, results, span)
    inner.set_xlim(_at(span.start), _at(span.end))
    if not is_stat:
        inner.xaxis.set_major_formatter(DateFormatter("%H:%M"))  # type: ignore[no-untyped-call]
        inner.xaxis.set_major_locator(MinuteLocator())  # type: ignore[no-untyped-call]
        inner.tick_params(colors=PALE, labelsize=7)


Results = Sequence[tuple[Target, list[dict[str, Any]]]]


def _at(moment: float) -> float:
    return float(date2num(datetime.fromtimestamp(moment)))  # type: ignore[no-untyped-call]


def _inches(axes: Axes, place: Place) -> Transform:
    """Return the transformation of inches from the lower left corner of a panel."""
    return Affine2D().scale(1 / (place.w * COLUMN), 1 / (place.h * UNIT)) + axes.transAxes


def _unit(panel: dict[str, Any]) -> str:
    return str(panel["fieldConfig"]["defaults"]["unit"])


def _color(value: float, steps: Sequence[dict[str, Any]]) -> str:
    """Return the color of the highest threshold that the value has reached."""
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return {"green": "#15803d", "orange": "#c2620a", "red": "#b91c1c"}[reached[-1]]


def _stat(figure: Figure, axes: Axes, panel: dict[str, Any], results: Results, span: Span) -> None:
    """Draw the latest number, and its graph below."""
    [(_, series)] = results
    values = series[0]["values"] if series else []
    axes.axis("off")
    if not values:
        axes.text(0.5, 1.3, "no data", transform=axes.transAxes, ha="center", fontsize=12, color=PALE)
        return
    color = _color(values[-1][1], panel["fieldConfig"]["defaults"]["thresholds"]["steps"])
    shown = formatted(values[-1][1], _unit(panel), panel["fieldConfig"]["defaults"]["decimals"])
    axes.text(0.5, 1.12, shown, transform=axes.transAxes, ha="center", fontsize=19, weight="bold", color=color)
    times, heights = [_at(at) for at, _ in values], [value for _, value in values]
    axes.fill_between(times, heights, color=color, alpha=0.15, linewidth=0)
    axes.plot(times, heights, color=color, linewidth=1)
    axes.set_ylim(0, max(*heights, 1e-9) * 1.1)


def _graph(figure: Figure, axes: Axes, panel: dict[str, Any], results: Results, span: Span) -> None:
    """Draw lines or stacked bars, the thresholds, and the names of the first series."""
    unit, custom = _unit(panel), panel["fieldConfig"]["defaults"]["custom"]
    series = [(legend(target, one["metric"]), one["values"]) for target, found in results for one in found]
    colors = mpl.colormaps["tab10" if len(series) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    stacked: dict[float, float] = {}
    for number, (name, values) in enumerate(series):
        color = colors[number % len(colors)]
        label = name if number < SHOWN_SERIES else "_"
        if custom["drawStyle"] == "bars":
            below = [stacked.get(at, 0.0) for at, _ in values]
            axes.bar(
                [_at(at) for at, _ in values],
                [value for _, value in values],
                bottom=below,
                width=span.step * 0.9 / 86400,
                color=color,
                label=label,
            )
            stacked.update({at: base + value for (at, value), base in zip(values, below, strict=True)})
        else:
            points = list(_with_gaps(values, span.step))
            axes.plot([_at(at) for at, _ in points], [value for _, value in points], color=color, lw=1.1, label=label)
    axes.set_ylim(0, _highest(series, stacked) * 1.08)
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        if step["value"] is not None and step["value"] <= axes.get_ylim()[1]:
            axes.axhline(step["value"], color=_color(step["value"], [step]), lw=0.8, ls="--")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: formatted(value, unit)))
    axes.grid(color="#e5e7eb", lw=0.6)
    if not series:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color=PALE)
        return
    more = len(series) - SHOWN_SERIES
    columns = 2 if panel["gridPos"]["w"] <= 8 or max(len(name) for name, _ in series) > 36 else 3
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.05, -0.1),
        ncol=columns,
        fontsize=6.2,
        frameon=False,
        handlelength=1.0,
        columnspacing=1.0,
        labelspacing=0.2,
        title=f"{more} more series are not named" if more > 0 else None,
        title_fontsize=6.2,
        alignment="left",
    )
    position, inch = axes.get_position(), 1 / figure.get_figheight()
    lines = math.ceil(min(len(series), SHOWN_SERIES) / columns) + (more > 0)
    raised = (lines * 0.105 - 0.15) * inch
    axes.set_position((position.x0, position.y0 + raised, position.width, position.height - raised))


def _highest(series: Sequence[tuple[str, list[tuple[float, float]]]], stacked: dict[float, float]) -> float:
    return max([*stacked.values(), *(value for _, values in series for _, value in values), 1e-9])


def _with_gaps(values: Sequence[tuple[float, float]], step: float) -> Iterator[tuple[float, float]]:
    """Yield the points of a line, and one without a value where points are missing."""
    before = None
    for at, value in values:
        if before is not None and at - before > 1.5 * step:
            yield before + step, math.nan
        yield at, value
        before = at


def _heat_map(figure: Figure, axes: Axes, panel: dict[str, Any], results: Results, span: Span) -> None:
    """Draw the number of requests in each bucket. The buckets of Prometheus count those below them, too."""
    [(_, series)] = results
    buckets = sorted((float(one["metric"]["le"]), dict(one["values"])) for one in series)
    times = sorted({at for _, values in buckets for at in values})
    rows, below = [], dict.fromkeys(times, 0.0)
    for _, values in buckets:
        rows.append([max(values.get(at, 0.0) - below[at], 0.0) or math.nan for at in times])
        below = {at: values.get(at, 0.0) for at in times}
    edges = [_at(at - span.step / 2) for at in times] + [_at(times[-1] + span.step / 2)]
    mesh = axes.pcolormesh(edges, range(len(buckets) + 1), rows, cmap="Oranges", norm=PowerNorm(0.5))
    highest = max(
        (bucket for bucket, (row) in enumerate(rows) if any(not math.isnan(value) for value in row)), default=0
    )
    axes.set_ylim(0, highest + 2)
    shown = range(0, min(len(buckets), highest + 2), 2)
    axes.set_yticks(
        [number + 1 for number in shown],
        [formatted(buckets[number][0], _unit(panel)) for number in shown],
        fontsize=6.5,
    )
    bar = figure.colorbar(mesh, ax=axes, pad=0.01, fraction=0.03)
    bar.ax.tick_params(labelsize=6.5, colors=PALE)
    bar.outline.set_visible(False)


def _table(axes: Axes, place: Place, results: Results) -> None:
    """Write the rows of a table. Rows of several queries are joined by the labels that all of them have."""
    panel = place.panel
    [organize] = [step["options"] for step in panel["transformations"] if step["id"] == "organize"]
    units = {
        override["matcher"]["options"]: {one["id"]: one["value"] for one in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    }
    sets = [set(one["metric"]) - {"__name__"} for _, found in results for one in found]
    keys = sorted(set.intersection(*sets)) if sets else []
    rows: dict[tuple[str, ...], dict[str, str | float]] = {}
    for target, found in results:
        field = f"Value #{target.ref}" if len(results) > 1 else "Value"
        for one in found:
            row = rows.setdefault(tuple(one["metric"][key] for key in keys), {})
            row.update({name: value for name, value in one["metric"].items() if name != "__name__"})
            if not organize["excludeByName"].get(field):
                row[organize["renameByName"][field]] = one["values"][-1][1]
    values = list(organize["renameByName"].values())
    labels = sorted({name for row in rows.values() for name in row} - set(values), key=lambda n: (n != "job", n))
    columns = [*labels, *values]
    inches = _inches(axes, place)
    step = (place.w * COLUMN - 0.2) / max(1, len(columns))
    for number, column in enumerate(columns):
        x = 0.1 + number * step
        axes.text(x, place.h * UNIT - 0.5, column, color=PALE, transform=inches)
        for line, row in enumerate(list(rows.values())[: int(place.h * UNIT / 0.2) - 3]):
            value, color = row.get(column, ""), DARK
            if isinstance(value, float):
                if "thresholds" in units[column]:
                    color = _color(value, units[column]["thresholds"]["steps"])
                value = formatted(value, units[column]["unit"], units[column].get("decimals"))
            axes.text(x, place.h * UNIT - 0.75 - 0.2 * line, value, color=color, transform=inches)


def main(file: Path) -> None:
    """Run the servers: under load, with killed workers, and full for some time. Then draw."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = Servers(stack, Path(folder), every=2)
        start = time.time() + 10
        incidents: tuple[tuple[float, Callable[[], None]], ...] = (
            (0.3, servers.crash),
            (0.5, lambda: _fill_for(servers, SECONDS / 20)),
            (0.8, servers.crash),
        )
        for share, incident in incidents:
            _sleep_until(start + share * SECONDS)
            incident()
        _sleep_until(start + SECONDS)
        servers.grafana.choose()
        draw(servers.grafana, ROWS, Span(start, start + SECONDS, 2), file)


def _fill_for(servers: Servers, seconds: float) -> None:
    with servers.full():
        time.sleep(seconds)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The pictures of the report, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.results import Results
from benchmarks.scrapes import Point, Scrapes
from benchmarks.spread import Spread, spread
from benchmarks.variants import BARE, HOOKS

HOOKS_COLOR, OTHER_COLOR, BARE_COLOR, TEXT = "#1f77b4", "#b0b7c3", "#4b5563", "#1f2937"
NAMES = ("benchmarks_cpu.png", "benchmarks_scrapes.png", "benchmarks_memory.png")


class CpuRow(Protocol):
    """What the picture of CPU needs of a row of the report."""

    @property
    def peer(self) -> Any: ...
    @property
    def more(self) -> Spread: ...


def save(figure: Figure, file: Path) -> None:
    """Write the picture, without a date."""
    figure.savefig(file, dpi=110, facecolor="white", bbox_inches="tight", metadata={"Software": None})


def color(variant: str) -> str:
    """Return the color of a variant."""
    return {HOOKS: HOOKS_COLOR, BARE: BARE_COLOR}.get(variant, OTHER_COLOR)


def plain(axes: Axes) -> None:
    """Leave out the frame."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, labelsize=8, colors=TEXT)
    axes.grid(axis="x", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)


def bars(axes: Axes, names: Sequence[str], figures: Sequence[Spread], colors: Sequence[str], digits: int) -> None:
    """Draw a bar for each name, from the top, with its quartiles."""
    at = list(range(len(names)))[::-1]
    errors = [[max(0.0, one.median - one.low) for one in figures], [max(0.0, one.high - one.median) for one in figures]]
    axes.barh(at, [one.median for one in figures], xerr=errors, color=colors, height=0.7, ecolor=TEXT, capsize=2)
    axes.set_yticks(at, names)
    for height, one in zip(at, figures, strict=True):
        axes.annotate(
            f"{one.median:.{digits}f}",
            (max(one.high, 0.0), height),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.margins(x=0.15)
    plain(axes)


def cpu(rows: Mapping[str, Mapping[str, Sequence[CpuRow]]], file: Path) -> None:
    """Draw the CPU that each variant takes per request beyond bare."""
    groups = [(worker, group, found) for worker, groups in rows.items() for group, found in groups.items()]
    columns = 2
    lines = -(-len(groups) // columns)
    figure = Figure(figsize=(11, 1.45 * lines + 0.5), layout="constrained")
    all_axes = figure.subplots(lines, columns, squeeze=False)
    for axes in all_axes.flat[len(groups) :]:
        axes.set_axis_off()
    for axes, (worker, group, found) in zip(all_axes.flat, groups, strict=False):
        others = [row for row in found if row.peer.variant != BARE]
        names = [row.peer.variant for row in others]
        bars(axes, names, [row.more for row in others], [color(name) for name in names], 1)
        axes.set_title(f"{worker}, {group}", fontsize=9, loc="left", color=TEXT)
    figure.suptitle(
        "CPU per request beyond the bare server, µs: median and quartiles of rounds", fontsize=11, color=TEXT
    )
    save(figure, file)


def scrapes(found: Scrapes, file: Path) -> None:
    """Draw the time of a scrape by workers, endpoints and generations."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    panels = (
        ("workers", found.by_workers, [point.workers for point in found.by_workers]),
        ("endpoints", found.by_endpoints, [point.endpoints for point in found.by_endpoints]),
        ("generations of workers", found.by_generations, [point.generations for point in found.by_generations]),
    )
    for axes, (name, points, at) in zip(figure.subplots(1, 3), panels, strict=True):
        lines(axes, at, points)
        axes.set_xscale("symlog" if 0 in at else "log")
        axes.set_xticks(at, [f"{number:,}" for number in at], minor=False)
        axes.set_yscale("log")
        axes.set_xlabel(name, fontsize=9, color=TEXT)
        axes.minorticks_off()
        plain(axes)
        axes.grid(axis="y", color="#e5e7eb", linewidth=0.8)
    figure.suptitle("Time of a scrape, ms", fontsize=11, color=TEXT)
    save(figure, file)


def lines(axes: Axes, at: Sequence[int], points: Sequence[Point]) -> None:
    """Draw a line for each of both servers."""
    for name, shown, of in (
        (HOOKS, HOOKS_COLOR, [point.hooks for point in points]),
        ("MultiProcessCollector", BARE_COLOR, [point.recipe for point in points]),
    ):
        middle = [one.milliseconds.median for one in of]
        errors = [
            [one.milliseconds.median - one.milliseconds.low for one in of],
            [one.milliseconds.high - one.milliseconds.median for one in of],
        ]
        axes.errorbar(at, middle, yerr=errors, marker="o", markersize=4, color=shown, label=name, capsize=2)
    axes.legend(fontsize=8, frameon=False)


def memory(results: Results, file: Path) -> None:
    """Draw the memory of workers and masters with many workers."""
    found = results["boots"].figures
    names = [
        f"{one.variant}, {one.group}{', preloaded' if one.preload else ''}".replace("no framework, ", "").replace(
            ", no framework", ""
        )
        for one in found.booted
    ]
    colors = [color(one.variant) for one in found.booted]
    figure = Figure(figsize=(11, 0.3 * len(names) + 0.9), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    bars(left, names, [spread([one.worker_memory for one in booted.rounds]) for booted in found.booted], colors, 2)
    bars(right, names, [spread([one.master_memory for one in booted.rounds]) for booted in found.booted], colors, 1)
    left.set_title(f"one of {found.workers} workers", fontsize=9, loc="left", color=TEXT)
    right.set_title("the master", fontsize=9, loc="left", color=TEXT)
    figure.suptitle("Memory, MB (PSS)", fontsize=11, color=TEXT)
    save(figure, file)


def draw(results: Results, rows: Mapping[str, Mapping[str, Sequence[CpuRow]]], folder: Path) -> None:
    """Draw all pictures into the folder."""
    cpu(rows, folder / NAMES[0])
    scrapes(results["scrapes"].figures, folder / NAMES[1])
    memory(results, folder / NAMES[2])

"""The dashboard for Grafana: its file is what its code makes, and is complete."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from tests.helpers.grafana import FILE, VARIABLE, Board
from tests.helpers.places import TOP

BOARD = Board()
PANELS = [panel for panel in BOARD.panels if panel["type"] != "row"]
GLOBAL = {"__all", "__interval", "__rate_interval", "__range", "__field", "__value"}
"""Variables that Grafana has itself."""
TOTALS = {panel["title"] for panel in PANELS if panel["type"] in ("stat", "heatmap")}
"""The panels that show all servers together."""


def title(panel: dict[str, Any]) -> str:
    """Return the title of a panel, as the name of a test has it."""
    return str(panel["title"])


def texts(value: object) -> Iterator[str]:
    """Yield every text in a part of the file."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts(part)


def test_file_is_what_the_code_makes() -> None:
    """``make dashboard`` would not change the file."""
    pytest.importorskip("grafana_foundation_sdk", reason="the SDK requires Python 3.11")
    made = subprocess.run(
        [sys.executable, FILE.with_name("dashboard.py")], check=True, capture_output=True, text=True, cwd=TOP
    )
    assert made.stdout == FILE.read_text()
    assert made.stderr == ""


def test_metrics_in_queries_are_documented() -> None:
    """Each name of a metric in a query of a panel or a variable is in docs/metrics.md."""
    queries = [target.expr for target in BOARD.targets()]
    queries += [variable["query"]["query"] for variable in BOARD.variables if variable["type"] == "query"]
    names = {name for query in queries for name in re.findall(r"\b(?:gunicorn|process)_\w+", query)}
    assert len(names) > 30
    rows = [line.split("|")[1] for line in (TOP / "docs" / "metrics.md").read_text().splitlines() if "| `" in line]
    documented = set(re.findall(r"`(\w+)`", "".join(rows)))
    assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in names} <= documented


@pytest.mark.parametrize("panel", PANELS, ids=title)
def test_panel_has_title_description_and_unit(panel: dict[str, Any]) -> None:
    """Each panel says what it is about. Each panel with numbers has a unit, and so has each column of a table."""
    assert panel["title"]
    assert panel["description"].endswith(".")
    if panel["type"] == "text":
        return
    assert panel["fieldConfig"]["defaults"]["unit"]
    if panel["type"] == "table":
        [organize] = [step for step in panel["transformations"] if step["id"] == "organize"]
        units = {
            override["matcher"]["options"]: {one["id"] for one in override["properties"]}
            for override in panel["fieldConfig"]["overrides"]
        }
        assert organize["options"]["renameByName"]
        for column in organize["options"]["renameByName"].values():
            assert "unit" in units[column]


@pytest.mark.parametrize("panel", [panel for panel in PANELS if panel["type"] in ("table", "timeseries")], ids=title)
def test_panel_by_server_links_to_the_status_page(panel: dict[str, Any]) -> None:
    """Each graph and table links to the status page of the server of a series."""
    assert re.search(r"http://\$\{__(field\.labels\.instance|value\.raw)\}/", json.dumps(panel["fieldConfig"]))


def test_ids_and_titles_are_unique() -> None:
    """No two rows or panels have the same number, and no two panels the same title."""
    ids = [panel["id"] for panel in BOARD.panels]
    assert sorted(set(ids)) == ids
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)


def test_panels_do_not_overlap() -> None:
    """No two panels share a place on the grid, which is 24 columns wide."""
    places = [(panel["title"], panel["gridPos"]) for panel in BOARD.panels]
    assert all(place["x"] + place["w"] <= 24 for _, place in places)
    for (one, a), (other, b) in combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (one, other)


def test_variables_are_used_and_exist() -> None:
    """Each variable in a text of the file exists, and each that exists is used by a panel or by another variable."""
    used = {name for text in texts(BOARD.model) for name in VARIABLE.findall(text)}
    repeated = {panel["repeat"] for panel in PANELS if panel.get("repeat")}
    names = {variable["name"] for variable in BOARD.variables}
    assert used - GLOBAL == names
    assert repeated == {"metric", "gauge"}


def test_variables_depend_on_earlier_ones_only() -> None:
    """A variable's query names variables that come before it, so that one pass reads them all."""
    known: set[str] = set()
    for variable in BOARD.variables:
        if variable["type"] == "query":
            assert set(VARIABLE.findall(variable["query"]["query"])) <= known
        known.add(variable["name"])


@pytest.mark.parametrize("target", [*BOARD.targets()], ids=lambda target: target.name)
def test_query_keeps_servers_apart(target: Any) -> None:
    """Each query selects the chosen servers. Only panels with one number, and the heat map, take servers together."""
    selectors = re.findall(r"\{[^}]*\}", target.expr)
    assert selectors
    assert all('job=~"$job", instance=~"$instance"' in selector for selector in selectors)
    if target.panel not in TOTALS:
        grouped = re.findall(r"\b(?:sum|max|min|avg|count)\b\s*(by \([^)]*\))?", target.expr)
        assert all(by.startswith("by (job, instance") for by in grouped)
    assert "on ()" not in target.expr
    assert "on()" not in target.expr

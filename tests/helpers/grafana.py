"""The dashboard for Grafana, read and asked as Grafana does it: variables are replaced, then Prometheus is asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import requests

from tests.helpers.places import TOP

FILE: Final = TOP / "sample_configs" / "grafana" / "gunicorn.json"
LABEL_VALUES: Final = re.compile(r"label_values\((.*), (\w+)\)", re.DOTALL)
VARIABLE: Final = re.compile(r"\$\{?(\w+)")
"""A variable in a text, such as $job and ${job}."""


@dataclass(frozen=True)
class Target:
    """A query of a panel."""

    panel: str
    ref: str
    expr: str
    legend: str
    instant: bool

    @property
    def name(self) -> str:
        """Return the name of the panel with the letter of the query."""
        return f"{self.panel} {self.ref}"


class Board:
    """The dashboard, as its file has it."""

    def __init__(self) -> None:
        self.model: dict[str, Any] = json.loads(FILE.read_text())
        self.panels: list[dict[str, Any]] = self.model["panels"]
        self.variables: list[dict[str, Any]] = self.model["templating"]["list"]

    def targets(self) -> Iterator[Target]:
        """Yield every query of every panel."""
        for panel in self.panels:
            for target in panel.get("targets", ()):
                yield Target(
                    *(panel["title"], target["refId"], target["expr"]),
                    legend=target.get("legendFormat", ""),
                    instant=target["instant"],
                )


class Grafana:
    """Asks a Prometheus as Grafana asks it, with all values of each variable that has the choice of all.

    Args:
        url: the URL of Prometheus.
        window: the value of $__rate_interval, in seconds.
    """

    def __init__(self, url: str, window: int) -> None:
        self.board = Board()
        self._url = url
        self._window = window
        self.chosen: dict[str, str] = {}
        """The text that replaces each variable."""
        self.options: dict[str, list[str]] = {}
        """The values that each variable offers."""

    def choose(self, **only: str) -> None:
        """Read the values of each variable. They depend on the variables before them.

        Args:
            only: the one value of a variable to choose. Of the others all are chosen, or the first one.
        """
        for variable in self.board.variables:
            name = variable["name"]
            if variable["type"] == "datasource":
                assert variable["query"] == "prometheus"
                continue
            found = LABEL_VALUES.fullmatch(variable["query"]["query"])
            assert found is not None, variable
            values = self._get(f"label/{found[2]}/values", {"match[]": self.replaced(found[1], 60)})
            kept = [value for value in values if matches(variable.get("regex", ""), value)]
            self.options[name] = kept
            if name in only:
                assert only[name] in kept, (name, kept)
                self.chosen[name] = escaped(only[name])
            elif variable.get("allValue"):
                self.chosen[name] = variable["allValue"]
            elif variable["includeAll"]:
                self.chosen[name] = f"({'|'.join(map(escaped, kept))})"
            else:
                self.chosen[name] = kept[0] if kept else ""

    def replaced(self, text: str, span: int, step: float = 1) -> str:
        """Return a query with values instead of variables. ``span`` and ``step`` are the time range's, in seconds."""
        times = {"__rate_interval": self._window, "__range": span, "__interval": step}
        values = {**self.chosen, **{name: f"{seconds:g}s" for name, seconds in times.items()}}
        return VARIABLE.sub(lambda found: values[found[1]], text)

    def ask(self, target: Target, start: float, end: float, step: float, **scoped: str) -> list[dict[str, Any]]:
        """Return the series of a query, without values that are not numbers. ``scoped`` has values of variables."""
        expr = target.expr
        for name, value in scoped.items():
            expr = expr.replace(f"${name}", value)
        query = self.replaced(expr, max(1, round(end - start)), step)
        if target.instant:
            found = self._get("query", {"query": query, "time": str(end)})["result"]
            series = [{"metric": one["metric"], "values": [one["value"]]} for one in found]
        else:
            asked = {"query": query, "start": str(start), "end": str(end), "step": str(step)}
            series = self._get("query_range", asked)["result"]
        for one in series:
            one["values"] = [(float(at), float(value)) for at, value in one["values"] if value != "NaN"]
        return [one for one in series if one["values"]]

    def _get(self, path: str, parameters: Mapping[str, str]) -> Any:
        answer = requests.get(f"{self._url}/api/v1/{path}", params=parameters, timeout=20).json()
        if answer["status"] != "success" or answer.get("warnings"):
            raise ValueError(f"{parameters}: {answer}")
        return answer["data"]


def matches(regex: str, value: str) -> bool:
    """Say whether a variable's regular expression, in slashes, keeps this value."""
    return not regex or re.search(regex.strip("/"), value) is not None


def escaped(value: str) -> str:
    """Return a value as Grafana writes it into a regular expression within a text in quotation marks."""
    return re.sub(r"[\\^$*+?.()|{}\[\]/]", r"\\\\\g<0>", value)


def legend(target: Target, labels: Mapping[str, str]) -> str:
    """Return the name of a series."""
    if not target.legend:
        return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), target.legend).strip()

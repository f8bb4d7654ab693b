"""The latest results of each section, kept as JSON. The document is written from them."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from benchmarks.machine import Machine, describe
from benchmarks.options import Options
from benchmarks.sections import SECTIONS, Section


@dataclass(frozen=True)
class Run:
    """When and how a section was measured.

    Attributes:
        date: of its end, in UTC.
        seconds: that it took.
        quick: whether this was only to see that everything runs.
        rounds: that were asked for in place of its own number.
        machine: that it ran on.
    """

    date: str
    seconds: float
    quick: bool
    rounds: int | None
    machine: Machine


@dataclass(frozen=True)
class Result:
    """A section's figures."""

    run: Run
    figures: Any


Results = dict[str, Result]


def run_of(seconds: float, options: Options) -> Run:
    """Return how a section has been measured that ends now."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")
    return Run(now, round(seconds, 1), options.quick, options.rounds, describe())


def save(results: Results, file: Path) -> None:
    """Write the results."""
    file.parent.mkdir(parents=True, exist_ok=True)
    data = {
        section.name: {
            "run": asdict(results[section.name].run),
            "figures": TypeAdapter(section.figures).dump_python(results[section.name].figures, mode="json"),
        }
        for section in SECTIONS
        if section.name in results
    }
    file.write_text(json.dumps(rounded(data), indent=1) + "\n")


def rounded(data: Any) -> Any:
    """Return data with numbers of six digits."""
    if isinstance(data, float):
        return float(f"{data:.6g}")
    if isinstance(data, dict):
        return {key: rounded(value) for key, value in data.items()}
    if isinstance(data, list):
        return [rounded(value) for value in data]
    return data


def load(file: Path, without: Collection[str] = ()) -> Results:
    """Return the results in a file; none if there is no such file.

    Args:
        file: that was saved.
        without: sections that are not wanted. What they measure may have changed since.
    """
    if not file.exists():
        return {}
    data = json.loads(file.read_text())
    wanted = (section for section in SECTIONS if section.name in data and section.name not in without)
    return {section.name: loaded(section, data[section.name]) for section in wanted}


def loaded(section: Section, data: dict[str, Any]) -> Result:
    """Return a section's result."""
    run = TypeAdapter(Run).validate_python(data["run"])
    return Result(run, TypeAdapter(section.figures).validate_python(data["figures"]))

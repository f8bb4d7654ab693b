"""The tables in docs/compatibility.md are what real runs give."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.compatibility import FRAMEWORKS, MEASURED, PAGE, WORKERS, line, rows
from tests.helpers.servers import Server
from tests.integration.conftest import Serve


def measured() -> list[str]:
    """Return the lines before those that ``make matrix`` writes."""
    return PAGE.read_text().partition("\n## Versions\n")[0].splitlines()


@pytest.mark.parametrize("worker", WORKERS)
def test_compatibility_rows_of_a_worker_class_equal_those_of_a_real_run(serve: Serve, worker: str) -> None:
    """What is measured with a worker class, and of each framework in it; ``make compatibility`` writes it anew."""

    def start(more: str, app: Path) -> Server:
        return serve(more, app=app)

    text = measured()
    assert [old for old in text if old.startswith(f"| `{worker}` |")] == rows(start, worker)


def test_compatibility_tables_have_all_columns_and_worker_classes() -> None:
    """Both tables have their columns, and no worker class that is not run."""
    text = measured()
    assert line("worker class", *MEASURED) in text
    assert line("worker class", *FRAMEWORKS) in text
    assert {old.split("`")[1] for old in text if old.startswith("| `")} == set(WORKERS)

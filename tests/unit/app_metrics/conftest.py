"""Fixtures of the tests of the application's metrics."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.masters import Master, Start


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for temporary files, in this process."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def start(temporary: Path) -> Iterator[Start]:
    """Starts masters; they end with the test."""
    masters: list[Master] = []

    def start(make: Callable[..., Any], *args: Any) -> Master:
        masters.append(Master(partial(make, *args), temporary))
        return masters[-1]

    yield start
    for master in masters:
        master.close()

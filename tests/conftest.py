"""What all tests share: tools that must be there in CI, and the folder of helpers."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "processes"))


def pytest_configure(config: pytest.Config) -> None:
    """Declares the marker."""
    config.addinivalue_line("markers", "needs(tool): a program that the test runs")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A tool that is missing fails the test in CI and skips it elsewhere."""
    for marker in item.iter_markers("needs"):
        for tool in marker.args:
            if shutil.which(tool) is None:
                message = f"{tool} is not installed"
                if os.environ.get("CI"):
                    pytest.fail(message)
                pytest.skip(message)

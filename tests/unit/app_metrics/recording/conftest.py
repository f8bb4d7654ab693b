"""Fixtures of the tests of the application's metrics."""

from __future__ import annotations

import pytest
from prometheus_client import values


@pytest.fixture
def _value_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")  # so that it is put back as it was
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")

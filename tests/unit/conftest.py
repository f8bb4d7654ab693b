"""Fixtures that several test files use."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def error_log() -> Iterator[logging.Logger]:
    """Yield the error log of gunicorn, without filters and handlers; restore the configuration of logging."""
    logs = [logging.getLogger(name) for name in ("gunicorn.error", "gunicorn.access")]
    before = [(log, log.level, log.handlers[:], log.filters[:], log.propagate, log.disabled) for log in logs]
    disabled = logging.root.manager.disable
    for log in logs:
        log.handlers[:], log.filters[:] = [], []
        log.disabled = False
    yield logs[0]
    logging.disable(disabled)
    for log, level, handlers, filters, propagate, off in before:
        log.handlers[:], log.filters[:] = handlers, filters
        log.propagate, log.disabled = propagate, off
        log.setLevel(level)

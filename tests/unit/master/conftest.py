"""Fixtures for tests of the master."""

from __future__ import annotations

import pytest

from gunicorn_prom_hooks.master import exits
from tests.helpers.recorded_exits import EXITED_AT, ExitBench, FakeOomKills, set_clocks


@pytest.fixture
def no_oom_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel has killed no worker, unless the test sets ``FakeOomKills.kills``."""
    monkeypatch.setattr(exits, "OomKills", FakeOomKills)


@pytest.fixture
def bench(no_oom_kills: None, monkeypatch: pytest.MonkeyPatch) -> ExitBench:
    """A bench without exits, with ``FakeOomKills``. It is EXITED_AT, and 2000.0 on the wall clock."""
    set_clocks(monkeypatch, 2000.0, EXITED_AT)
    return ExitBench()

"""The default application, whose ``/eat`` takes 1000 MiB of memory."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.applications import default


def app(environ, start_response):
    if environ["PATH_INFO"] == "/eat":
        Path("/proc/self/oom_score_adj").write_text("1000")
        _eaten = [b"x" * 2**20 for _ in range(1000)]
    return default.app(environ, start_response)

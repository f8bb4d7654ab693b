"""The command line of this package, as a shell runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.helpers.places import TOP

COMMAND: Final = [sys.executable, "-m", "gunicorn_prom_hooks"]
_SECRETS: Final = ("PROMETHEUS_METRICS_TOKEN", "PROMETHEUS_METRICS_BASIC_AUTH", "PROMETHEUS_METRICS_PORT")


class Done(NamedTuple):
    """What a command has left."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Return the lines of its output."""
        return self.out.splitlines()


def run(*arguments: object, folder: Path | None = None, environ: Mapping[str, str] | None = None) -> Done:
    """Run a command, and return what it has left.

    Args:
        arguments: after ``python -m gunicorn_prom_hooks``.
        folder: in which it runs.
        environ: variables beside those of this process.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in _SECRETS}
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(TOP), "COLUMNS": "80", **(environ or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    return Done(done.returncode, done.stdout, done.stderr)

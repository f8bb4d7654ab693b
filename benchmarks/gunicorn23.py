"""The environment with gunicorn 23, for gunicorn-prometheus-exporter, which runs with no newer one."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

from benchmarks.server import TOP

FOLDER = TOP / ".benchmarks" / "gunicorn23"
GUNICORN, EXPORTER = "23.0.0", "0.2.4"


def packages() -> list[str]:
    """Return what is installed there. What both environments have is of the same version in both."""
    shared = [f"{name}=={metadata.version(name)}" for name in ("gevent", "prometheus_client", "psutil")]
    return [f"gunicorn=={GUNICORN}", f"gunicorn-prometheus-exporter=={EXPORTER}", *shared]


def interpreter() -> Path:
    """Return the environment's interpreter. Make the environment if it is missing or has other versions."""
    python, made = FOLDER / "bin" / "python", FOLDER / "installed"
    wanted = "\n".join(packages())
    if not made.exists() or made.read_text() != wanted:
        print(f"  setting up {FOLDER.relative_to(TOP)} with {' '.join(packages())}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *packages()], check=True)
        made.write_text(wanted)
    return python

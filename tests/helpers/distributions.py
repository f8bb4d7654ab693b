"""Wheel and sdist of this repository, and clean environments that they are installed into."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tests.helpers.places import TOP

REQUIREMENTS: Final = ("gunicorn>=21.2", "prometheus_client>=0.22", "psutil>=5.9")
"""What the package may require at run time, and no more."""
BUILD_REQUIREMENTS: Final = ("hatchling>=1.27", "hatch-fancy-pypi-readme>=24.1")


def run(command: Iterable[object], folder: Path | None = None, **environ: str) -> str:
    """Run a command that has to succeed. Return its output.

    Args:
        command: program and arguments.
        folder: in which it runs.
        environ: variables beside those of this process.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SOURCE_DATE_EPOCH")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**inherited, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def clone(folder: Path) -> Path:
    """Write the files that git knows into this folder, as they are now. Return the folder."""
    for name in run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], TOP).split("\0"):
        source = TOP / name
        if name and source.is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(source.stat().st_mode)
    return folder


def build(source: Path, out: Path) -> Mapping[str, bytes]:
    """Build the sdist, and the wheel from it. Return their content by name."""
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source])
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.name != ".gitignore"}


def download(folder: Path) -> str:
    """Download wheels of all requirements into this folder. Return why that is impossible; empty: it was done."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--dest", str(folder), *REQUIREMENTS, *BUILD_REQUIREMENTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


class CleanEnvironment:
    """A virtual environment that takes packages from one folder only.

    Attributes:
        bin: the folder of its programs.
        environ: variables for pip.
    """

    def __init__(self, folder: Path, wheels: Path) -> None:
        run([sys.executable, "-m", "venv", folder])
        self.bin = folder / "bin"
        self.environ = {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheels),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
        }

    def run(self, *command: object, folder: Path | None = None) -> str:
        """Run a command in the environment."""
        return run(command, folder, **self.environ)

    def packages(self) -> set[str]:
        """Return the names of all packages, without those that the environment began with."""
        lines = self.run(self.bin / "python", "-m", "pip", "list", "--format=freeze").split()
        return {line.partition("==")[0].lower().replace("_", "-") for line in lines} - {"pip", "setuptools"}

"""Virtual environments of the matrix: an interpreter, a gunicorn, and the package with its other dependencies."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import requires
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from tests.helpers.places import TOP

FOLDER: Final = TOP / ".matrix"
"""Kept for the next run. Safe to delete."""
UV: Final = str(Path(sys.executable).with_name("uv"))
EXTRAS: Final = {
    "gevent": ("gevent", "packaging"),
    "tornado": ("tornado",),
    "eventlet": ("eventlet",),
    "uvicorn_worker.UvicornWorker": ("uvicorn", "uvicorn-worker"),
    "h2": ("h2",),
}
"""What worker classes, and HTTP/2, need. Wheels only: where there is none for an interpreter, its cells are empty."""


def lower_bounds() -> dict[str, str]:
    """Return the oldest version that the package allows of each of its dependencies."""
    found = {}
    for text in requires("gunicorn-prom-hooks") or ():
        requirement = Requirement(text)
        if requirement.marker is None:
            (bound,) = requirement.specifier
            assert bound.operator == ">=", text
            found[requirement.name] = bound.version
    return found


class NotInstallable(Exception):
    """A package has no release that this interpreter can install."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Attributes:
        python: version of the interpreter, such as ``3.13t``.
        executable: the interpreter.
        pins: requirements, such as ``gunicorn==23.*``; what is not pinned is the newest.
    """

    python: str
    executable: str
    pins: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Return the folder."""
        return FOLDER / re.sub(r"[^\w.]+", "-", "-".join((self.python, *self.pins)))

    @property
    def gunicorn(self) -> str:
        """Return the path of its gunicorn."""
        return str(self.folder / "bin" / "gunicorn")

    @cached_property
    def versions(self) -> dict[str, str]:
        """Return what is installed, by name."""
        listed = json.loads(self._uv("pip", "list", "--format", "json", "--python", str(self.folder / "bin/python")))
        return {each["name"].replace("-", "_"): each["version"] for each in listed}

    def make(self, *, anew: bool = False) -> None:
        """Install what is not there yet.

        Args:
            anew: look for newer releases, too.

        Raises:
            NotInstallable: gunicorn or the package cannot be installed.
        """
        FOLDER.mkdir(exist_ok=True)
        with (FOLDER / f"{self.folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # tests of several processes share the environments
            done = self.folder / "done"
            if done.exists() and not anew and done.stat().st_mtime > (TOP / "pyproject.toml").stat().st_mtime:
                return
            shutil.rmtree(self.folder, ignore_errors=True)
            self._uv("venv", "-q", "--python", self.executable, str(self.folder))
            pins = self.folder / "pins.txt"
            pins.write_text("\n".join(self.pins))
            self._install("-e", str(TOP), "-c", str(pins))
            for packages in EXTRAS.values():
                try:
                    self._install(*packages, "-c", str(pins), "--only-binary", ":all:")
                except NotInstallable as error:
                    (self.folder / "missing.txt").open("a").write(f"{error}\n")
            done.touch()

    def has(self, extra: str) -> bool:
        """Return whether the packages of an extra are installed."""
        return all(package.replace("-", "_") in self.versions for package in EXTRAS.get(extra, ()))

    def _install(self, *arguments: str) -> None:
        self._uv("pip", "install", "-q", "--python", str(self.folder / "bin" / "python"), *arguments)

    def _uv(self, *arguments: str) -> str:
        done = subprocess.run([UV, *arguments], capture_output=True, text=True, check=False, env=_environ())
        if done.returncode:
            raise NotInstallable(f"{self.folder.name}: uv {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

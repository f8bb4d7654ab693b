"""Interpreters of Python for the matrix, found by their names."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.helpers.places import TOP

WANTED: Final = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15", "3.13t", "3.14t")
"""Versions; ``t`` is a free-threaded one."""
BUILT: Final = TOP / ".pythons"
"""The interpreters that ``make pythons`` makes, a folder each."""
_ASK: Final = (
    "import sys, sysconfig, venv;"
    "print('%d.%d' % sys.version_info[:2] + 't' * bool(sysconfig.get_config_var('Py_GIL_DISABLED')))"
)


def version_of(executable: str) -> str:
    """Return the version of an interpreter, such as ``3.13t``; empty if it does not run or lacks a part."""
    try:
        return subprocess.run(
            [executable, "-c", _ASK], capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _candidates(version: str) -> Iterator[str]:
    """Yield paths that may be an interpreter of this version, the first choice first."""
    name = f"python{version}"
    for entry in os.environ.get("PYTHONS", "").replace(os.pathsep, " ").split():
        found = shutil.which(entry) or shutil.which(name, path=entry) or shutil.which(name, path=f"{entry}/bin")
        if found:
            yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    newest_first = sorted(pyenv.glob(f"{version.rstrip('t')}*"), key=_release, reverse=True)
    for folder in (*newest_first, BUILT / version, *sorted(BUILT.glob("*/usr"))):
        for each in (name, "python3"):
            found = shutil.which(each, path=str(folder / "bin"))
            if found:
                yield found
    for entry in os.environ.get("PATH", "").split(os.pathsep):
        found = shutil.which(name, path=entry)
        if found:
            yield found


def _release(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in folder.name.rstrip("t").split(".") if part.isdigit())


def interpreters() -> dict[str, str]:
    """Return the path of an interpreter for each wanted version that is found.

    The variable ``PYTHONS`` names interpreters or folders of them; then pyenv's versions, what ``make pythons`` has
    made, and the search path are looked through.
    """
    found = {}
    for version in WANTED:
        executable = next((each for each in _candidates(version) if version_of(each) == version), None)
        if executable is not None:
            found[version] = executable
    return found

"""The types of the public API, as mypy and pyright read them from an installed package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

import gunicorn_prom_hooks
from tests.helpers.places import HELPERS, TOP

USES: Final = (HELPERS / "public_api.py").read_text()
WRONG: Final = {
    "a path for a namespace": "install('gunicorn.conf.py')",
    "a namespace by keyword": "install(namespace=globals())",
    "no namespace": "install()",
    "a setting by position": "install(globals(), 9100)",
    "a port that is text": "Settings(port='9100')",
    "an unknown attribute": "Settings().prot",
    "a setting that is assigned": "Settings().port = 1",
    "labels that are a list": "Settings(labels=['site'])",
    "a result": "result: int = install(globals())",
    "a version that is a number": "number: int = __version__",
}
"""Uses that a type checker has to refuse."""


def mypy(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run mypy on the file of a user."""
    return checked([sys.executable, "-m", "mypy", "--strict", "--no-incremental", "user.py"], folder)


def pyright(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run pyright on the file of a user."""
    return checked([sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "user.py"], folder)


def checked(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a type checker in this folder."""
    environ = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1", "MYPYPATH": str(TOP)}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def test_every_public_name_is_used_in_the_checked_file() -> None:
    """The file that the checkers read has each name of ``__all__``, and the package says that it has types."""
    assert [name for name in gunicorn_prom_hooks.__all__ if not re.search(rf"\b{name}\b", USES)] == []
    assert (TOP / "gunicorn_prom_hooks" / "py.typed").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])
def test_right_uses_pass_and_each_wrong_one_is_an_error(
    checker: Callable[[Path], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """The checker accepts the file; with wrong uses added, each of their lines has an error."""
    user = tmp_path / "user.py"
    user.write_text(USES)
    done = checker(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    user.write_text(USES + "\n".join(WRONG.values()) + "\n")
    out = checker(tmp_path).stdout
    first = USES.count("\n") + 1
    wrong = {int(line) for line in re.findall(r"user\.py:(\d+)(?::\d+)?(?: -|:) error", out)}
    assert wrong == set(range(first, first + len(WRONG))), out

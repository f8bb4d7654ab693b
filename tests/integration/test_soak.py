"""The soak for about three minutes: a fixed seed, and one that is new each time."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from tests.helpers.places import TOP

FIXED_SEED = 11
SECONDS = 22
"""Of faults for each kind of worker; its start, its end and gunicorn without this package are beside that."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [FIXED_SEED, pytest.param(None, id="random")])
def test_soak_finds_nothing(seed: int | None) -> None:
    """All kinds of workers go through a plan of faults; a failure names the seed and the command to replay it."""
    seed = random.randrange(2**32) if seed is None else seed
    command = [sys.executable, "-m", "tests.soak", "--seed", str(seed), "--seconds", str(SECONDS), "--at-once", "3"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=600)
    print(done.stdout)  # noqa: T201 - the seed, and what was done
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

"""Mutation testing with cosmic-ray: one small change at a time in a copy of the package, and the tests of that module.

``python -m tests.helpers.mutation [GROUP ...]`` prints for each group how many changes its tests have noticed, and the
others as diffs. It leaves the checkout as it is.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.helpers.places import TOP

FOLDER: Final = TOP / "dist" / "mutation"
GROUPS: Final = {
    "exit_reason": (["master/exit_reason.py"], ["master/test_exit_reason.py", "master/test_exits.py"]),
    "exit_log": (["master/exit_log.py"], ["master/test_exit_log.py", "master/test_exit_log_lines.py"]),
    "labels": (
        ["worker/recording/labels.py"],
        ["worker/recording/test_labels.py", "worker/recording/test_failures.py"],
    ),
    "composition": (["composition.py"], ["test_composition.py", "test_reinstall_hooks.py"]),
    "allocator": (["shm/allocator.py"], ["shm/test_allocator.py"]),
    "index": (["shm/index.py"], ["shm/test_index.py", "shm/test_slot.py", "shm/test_aggregate.py"]),
    "slot": (["shm/slot.py"], ["shm/test_slot.py", "shm/test_layout.py", "shm/test_memory.py"]),
    "reader": (
        ["shm/reader.py"],
        [
            "shm/test_reader.py",
            "shm/test_slot.py",
            "shm/test_layout.py",
            "shm/test_aggregate.py",
            "master/test_exits.py",
            "master/test_interrupted_requests.py",
        ],
    ),
    "aggregate": (["shm/aggregate.py"], ["shm/test_aggregate.py", "shm/test_memory.py"]),
}
"""By name, modules of the package and unit tests."""
CONFIG: Final = """
[cosmic-ray]
module-path = {modules}
timeout = 60.0
excluded-modules = []
test-command = "{python} -m pytest -x -q -p no:cacheprovider -p no:xdist {tests}"

[cosmic-ray.distributor]
name = "local"

[cosmic-ray.filters.operators-filter]
exclude-operators = ["core/ReplaceBinaryOperator_BitOr_.*"]
"""
"""Without changes of ``|``: almost all of them are in annotations, which are not evaluated."""


def run(group: str) -> None:
    """Run a group, and print what its tests have not noticed."""
    modules, tests = GROUPS[group]
    copy = FOLDER / group
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for name in ("gunicorn_prom_hooks", "tests", "sample_configs"):
        shutil.copytree(TOP / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TOP / "pyproject.toml", copy)
    config = CONFIG.format(
        modules=json.dumps([f"gunicorn_prom_hooks/{module}" for module in modules]),
        python=sys.executable,
        tests=" ".join(f"tests/unit/{test}" for test in tests),
    )
    (copy / "mutation.toml").write_text(config)
    programs = Path(sys.executable).parent
    session = "session.sqlite"
    for command in (
        ["cosmic-ray", "init", "mutation.toml", session],
        ["cr-filter-operators", session, "mutation.toml"],
        ["cosmic-ray", "baseline", "mutation.toml"],
        ["cosmic-ray", "exec", "mutation.toml", session],
    ):
        subprocess.run([str(programs / command[0]), *command[1:]], cwd=copy, check=True)
    dump = subprocess.run([str(programs / "cosmic-ray"), "dump", session], cwd=copy, check=True, capture_output=True)
    results = [json.loads(line)[1] for line in dump.stdout.splitlines()]
    results = [result for result in results if result and result["worker_outcome"] == "normal"]
    survivors = [result for result in results if result["test_outcome"] == "survived"]
    for survivor in survivors:
        sys.stdout.write(survivor["diff"])
    noticed = len(results) - len(survivors)
    sys.stdout.write(f"{group}: {len(results)} changes, {noticed} noticed, {len(survivors)} not\n")


if __name__ == "__main__":
    for name in sys.argv[1:] or GROUPS:
        run(name)

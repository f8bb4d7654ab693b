"""The rules on imports and on what may be touched, read off the source with ast."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gunicorn_prom_hooks

PACKAGE = "gunicorn_prom_hooks"
ROOT = Path(gunicorn_prom_hooks.__file__).parent
FREE = {
    *("_gunicorn", "_version", "composition", "concurrency", "errors", "inherited_descriptors"),
    *("log_observer", "paths", "settings"),
}
LEVELS = {
    "__main__": 12,
    "cli": 11,
    "": 10,
    "install": 9,
    "hooks": 8,
    "_state": 7,
    "worker": 6,
    "master": 6,
    "exporter": 5,
    "status": 4,
    "collectors": 3,
    "app_metrics": 2,
    "shm": 1,
    "model": 0,
}
FILES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(ROOT.rglob("*.py"))}


def imported(file: str, source: str) -> set[str]:
    """Dotted names of all modules that a file imports anywhere in it; those of the package begin with its name."""
    package = [PACKAGE, *Path(file).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:
                inside = Path(ROOT, *module.split(".")[1:], alias.name) if module.startswith(PACKAGE) else None
                is_module = inside is not None and (inside.with_suffix(".py").exists() or inside.is_dir())
                found.add(f"{module}.{alias.name}" if is_module else module)
    return found


def room(dotted: str) -> str:
    """The room, or the module at the top, that a module of the package belongs to; empty for the package itself."""
    return [*dotted.split("."), ""][1]


def violations(file: str, source: str) -> list[str]:
    """Imports of this file that do not point down."""
    parts = Path(file).with_suffix("").parts
    here = "" if parts == ("__init__",) else parts[0]
    bad = []
    for name in sorted(imported(file, source)):
        top = name.split(".")[0]
        if top == PACKAGE:
            there = room(name)
            down = there in LEVELS and here in LEVELS and LEVELS[here] > LEVELS[there]
            allowed = down or (there == here and here != "") or (there in FREE and here != "composition")
            if not allowed or (here == "worker" and there in ("master", "exporter", "collectors")):
                bad.append(name)
        elif here in ("shm", "model") and top in ("gunicorn", "prometheus_client", "psutil"):
            bad.append(name)
    return bad


def reads_environment(source: str) -> bool:
    """Whether the source has anything to do with the process's environment."""
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in names and ast.unparse(node.value) == "os":
            return True
        if isinstance(node, ast.ImportFrom) and node.module == "os" and names & {alias.name for alias in node.names}:
            return True
    return False


def touches_gunicorn(source: str) -> list[str]:
    """Classes that derive from something of gunicorn's, and assignments to something in there."""
    tree = ast.parse(source)
    theirs = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gunicorn" and not node.level:
            theirs |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            theirs |= {a.asname or "gunicorn" for a in node.names if a.name.split(".")[0] == "gunicorn"}
    found = []
    for node in ast.walk(tree):
        touched: list[ast.expr] = []
        if isinstance(node, ast.ClassDef):
            touched = node.bases
        elif isinstance(node, (ast.Assign, ast.Delete)):
            touched = [target for target in node.targets if isinstance(target, ast.Attribute)]
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)) and isinstance(node.target, ast.Attribute):
            touched = [node.target]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "delattr", "type"):
            touched = [node.args[0]] if ast.unparse(node.func) != "type" else node.args[1:2]
        found += [
            ast.unparse(expr)
            for expr in touched
            if {name.id for name in ast.walk(expr) if isinstance(name, ast.Name)} & theirs
        ]
    return found


@pytest.mark.parametrize("file", FILES)
def test_imports_point_down(file: str) -> None:
    """No module imports from a room above it, not even in a function or for types only."""
    assert violations(file, FILES[file]) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("hooks.py", "from . import install"),
        ("_state.py", "def f():\n    from .hooks import pre_fork"),
        ("worker/recording/sync_hooks.py", "import gunicorn_prom_hooks.master.master"),
        (
            "worker/recording/sync_hooks.py",
            "if TYPE_CHECKING:\n    from ...model.server_snapshot import View\n    from ...collectors import registry",
        ),
        ("worker/recording/sync_hooks.py", "from ... import collectors"),
        ("master/master.py", "from ..worker.worker import WorkerSide"),
        ("model/server_snapshot.py", "from ..master import workers"),
        ("shm/slot.py", "from ..collectors import MetricsPage"),
        ("shm/slot.py", "def f():\n    from gunicorn.config import Config"),
        ("shm/slot.py", "import psutil"),
        ("shm/slot.py", "from .. import __version__"),
        ("composition.py", "from .errors import ErrorReporter"),
        ("errors.py", "from .scoreboard.slot import Slot"),
        ("new_module.py", "from .hooks import pre_fork"),
        ("master/master.py", "from ..cli import main"),
        ("__init__.py", "from .cli.main import main"),
    ],
)
def test_import_that_points_up_is_detected(file: str, source: str) -> None:
    """The check of import layers finds each kind of forbidden import."""
    assert violations(file, source)


def test_only_settings_reads_the_environment() -> None:
    """The environment is read in settings.py alone."""
    assert [file for file in FILES if reads_environment(FILES[file])] == ["settings/__init__.py"]


@pytest.mark.parametrize("source", ["import os\nos.environ", "from os import environ", "import os\nos.getenv('X')"])
def test_read_of_the_environment_is_detected(source: str) -> None:
    """The check for reads of the environment finds each way to it."""
    assert reads_environment(source)


@pytest.mark.parametrize("file", FILES)
def test_gunicorn_classes_are_not_subclassed_or_replaced(file: str) -> None:
    """No class derives from one of gunicorn's, and nothing is assigned to what is imported from it."""
    assert touches_gunicorn(FILES[file]) == []


@pytest.mark.parametrize(
    "source",
    [
        "from gunicorn.workers.sync import SyncWorker\nclass Derived(SyncWorker): pass",
        "import gunicorn.arbiter\nclass Derived(gunicorn.arbiter.Arbiter): pass",
        "from gunicorn.arbiter import Arbiter\nArbiter.spawn_worker = None",
        "import gunicorn.arbiter as a\nsetattr(a.Arbiter, 'spawn_worker', None)",
        "from gunicorn import arbiter\ndel arbiter.Arbiter.spawn_worker",
    ],
)
def test_subclass_or_replacement_of_gunicorn_is_detected(source: str) -> None:
    """The check of what is done to gunicorn finds each way of doing it."""
    assert touches_gunicorn(source)

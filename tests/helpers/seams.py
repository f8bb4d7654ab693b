"""The seams of the product: each system call and library call in modules that run in a server, found by their syntax.

A call is a seam if it is one of a module of ``LIBRARIES``, or a method named in ``METHODS`` on one of their objects.
``instrument`` puts a call of ``INTERCEPT`` around the function of each, so that a test can make it fail.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from tests.helpers.places import TOP

PRODUCT: Final = TOP / "gunicorn_prom_hooks"
NOT_IN_SERVER: Final = ("cli/", "__main__.py")
"""The command line is a process of its own."""
INTERCEPT: Final = "__intercept_seam__"
LIBRARIES: Final = frozenset(
    (
        *("_thread", "asyncio", "atexit", "faulthandler", "fcntl", "gzip", "importlib", "mmap", "open", "os"),
        *("prometheus_client", "psutil", "resource", "select", "shutil", "signal", "socket", "ssl", "subprocess"),
        *("tempfile", "threading", "time"),
    )
)
PURE: Final = re.compile(
    r"os\.(getpid|geteuid|getegid|fs(de|en)code|fspath|strerror|environ\.\w+|path\.(exists|lexists|isdir|basename|join))"
    r"|time\.(time|monotonic|perf_counter)|signal\.Signals|threading\.(get_ident|local)|asyncio\.current_task"
    r"|_thread\.(allocate_lock|RLock)|prometheus_client\.(samples\.\w+|exposition\.(gzip_accepted|choose_encoder))"
    r"|prometheus_client\.openmetrics\.exposition\.escape_\w+"
)
"""Functions of these modules that raise no error of the system: they compute, or read what the process has."""
METHODS: Final = [
    (name, re.compile(receiver))
    for receiver, names in {
        r"(.*\.)?(sock|netlink|listener)": "_accept bind close getsockname getsockopt listen recv send sendto "
        "setblocking setsockopt settimeout shutdown",
        r"(.*\.)?_?log": "error info warning",
        r"(.*\.)?_?poll": "modify poll register unregister",
        r".*\.process|child|self\._process\(.*\)": "children cpu_times is_running memory_info num_fds oneshot status",
        r"(.*\.)?_?(file|path|new|parent|entry|Path\(path\))": "is_dir mkdir read stat unlink write",
        r".*memory|.*_mapping|probe": "madvise",
        r"mapping|self\._maps\[0\]": "close",
        r"context|self\._context": "load_cert_chain load_verify_locations wrap_bio",
        r"tls|self\._object\(\)": "do_handshake read unwrap write",
        r"loop|.*\.loop": "call_later timer",
        r"_process": "collect",
        r".*error_log|logging\.getLogger\(.*\)": "addFilter",
    }.items()
    for name in names.split()
]
"""Methods that are seams, each with the expressions that it is called on."""
INDIRECT: Final = re.compile(
    r"CLOSE|ENCODERS\[.*\]|self\._process|getattr\(.*_log, .*\)|\(?worker\.tmp\.last_update\)?"
)
"""Expressions whose value is a function of a library, or of the logger."""


class Seam(NamedTuple):
    """One call in the product.

    Attributes:
        name: module, function and call; of several such calls in one function each has its number.
        call: the function called, with its module, or the method.
    """

    name: str
    call: str


class Instrumenter(ast.NodeTransformer):
    """Finds the seams of one module, and puts a call of ``INTERCEPT`` around the function of each.

    Args:
        module: path of the module below the product's.
    """

    def __init__(self, module: str) -> None:
        self.found: list[Seam] = []
        self._module = module
        self._scope: list[str] = []
        self._imported: dict[str, str] = {}
        self._numbers: Counter[str] = Counter()

    def visit_Import(self, node: ast.Import) -> ast.AST:
        for name in node.names:
            self._imported[name.asname or name.name.partition(".")[0]] = (
                name.name if name.asname else name.name.partition(".")[0]
            )
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.level == 0:
            for name in node.names:
                self._imported[name.asname or name.name] = f"{node.module}.{name.name}"
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._scoped(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._scoped(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._scoped(node)

    def _scoped(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self._scope.append(node.name)
        self.generic_visit(node)
        self._scope.pop()
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        call = self._call(node.func)
        name = ""
        if call is not None:
            name = f"{self._module}:{'.'.join(self._scope)}:{call}"
            self._numbers[name] += 1
            if self._numbers[name] > 1:
                name += f"#{self._numbers[name]}"
            self.found.append(Seam(name, call))
        self.generic_visit(node)
        if name:
            intercept = ast.Call(ast.Name(INTERCEPT, ast.Load()), [ast.Constant(name), node.func], [])
            node.func = ast.copy_location(intercept, node.func)
        return node

    def _call(self, function: ast.expr) -> str | None:
        dotted = self._dotted(function)
        if dotted is not None and dotted.partition(".")[0] in LIBRARIES:
            return None if PURE.fullmatch(dotted) else dotted
        if isinstance(function, ast.Attribute):
            receiver = ast.unparse(function.value)
            if any(function.attr == name and where.fullmatch(receiver) for name, where in METHODS):
                return f"{receiver}.{function.attr}"
        text = ast.unparse(function)
        return text if INDIRECT.fullmatch(text) else None

    def _dotted(self, function: ast.expr) -> str | None:
        """Return the name of a function with its module; None if it is not one of a module."""
        if isinstance(function, ast.Name):
            return self._imported.get(function.id, "open" if function.id == "open" else None)
        if isinstance(function, ast.Attribute):
            base = self._dotted(function.value)
            return base and f"{base}.{function.attr}"
        if isinstance(function, ast.Call) and ast.unparse(function.func) == "unpatched":
            parts = [part.value for part in function.args if isinstance(part, ast.Constant)]
            return ".".join(map(str, parts)) if len(parts) == 2 else None
        return None


def instrument(path: Path) -> tuple[ast.Module, list[Seam]]:
    """Return the syntax of a module of the product with its seams intercepted, and the seams."""
    instrumenter = Instrumenter(path.relative_to(PRODUCT).as_posix())
    tree = instrumenter.visit(ast.parse(path.read_text(), str(path)))
    return ast.fix_missing_locations(tree), instrumenter.found


def all_seams() -> list[Seam]:
    """Return the seams of all modules that run in a server."""
    paths = [path for path in sorted(PRODUCT.rglob("*.py")) if not _is_outside(path)]
    return [seam for path in paths for seam in instrument(path)[1]]


def _is_outside(path: Path) -> bool:
    return path.relative_to(PRODUCT).as_posix().startswith(NOT_IN_SERVER)

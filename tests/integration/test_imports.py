"""Imports of the package: the master imports what its workers need before the first fork, and nothing else."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Server, eventually
from tests.integration.conftest import Serve

ASGI_APP = APPLICATIONS / "asgi_ok.py"
NOTES = """
import json
import sys

workers = 2

def pre_fork(server, worker):
    worker.inherited = set(sys.modules)

def note(worker, when):
    imported = [name for name in set(sys.modules) - worker.inherited if name.startswith("gunicorn_prom_hooks")]
    line = {"age": worker.age, "when": when, "late": sorted(imported), "inherited": sorted(worker.inherited)}
    with open("notes", "a") as file:
        file.write(json.dumps(line) + "\\n")

def post_worker_init(worker):
    note(worker, "ready")

def worker_exit(server, worker):
    note(worker, "exit")

from gunicorn_prom_hooks import install
install(globals(), port=METRICS_PORT)
"""
"""The user's ``pre_fork`` runs after our hook."""
LOOPS = {"asyncio", "tornado", "uvicorn", "gevent", "gunicorn.workers.gthread", "gunicorn.workers.base_async"}
WORKER = "gunicorn_prom_hooks.worker"
OURS = {
    f"{WORKER}.{name}"
    for name in ("asgi.middleware", "asgi.request_recorder", "asgi.uvicorn", "wsgi.application", "wsgi.tornado")
}
CLASSES: dict[str, tuple[str, set[str]]] = {
    "sync": ("", set()),
    "gthread": ("threads = 2\n", {"gunicorn.workers.gthread"}),
    "gevent": ("worker_class = 'gevent'\n", {"gevent", "gunicorn.workers.base_async", f"{WORKER}.wsgi.application"}),
    "tornado": (
        "worker_class = 'tornado'\n",
        {
            "tornado",
            "asyncio",
            f"{WORKER}.wsgi.tornado",
            f"{WORKER}.asgi.request_recorder",
            f"{WORKER}.wsgi.application",
        },
    ),
    "asgi": ("worker_class = 'asgi'\n", {"asyncio", f"{WORKER}.asgi.middleware", f"{WORKER}.asgi.request_recorder"}),
    "uvicorn": (
        "worker_class = 'uvicorn_worker.UvicornWorker'\n",
        {
            "uvicorn",
            "asyncio",
            f"{WORKER}.asgi.uvicorn",
            f"{WORKER}.asgi.middleware",
            f"{WORKER}.asgi.request_recorder",
        },
    ),
}
"""By class, the configuration, and those of the modules above that it needs."""


def notes(server: Server, when: str, count: int) -> list[dict[str, Any]]:
    """What so many workers have written down, at least."""
    file = Path(server.folder, "notes")

    def enough() -> list[dict[str, Any]] | None:
        whole, _, _ = file.read_text().rpartition("\n")  # the last line may be half written
        found = [note for note in map(json.loads, whole.splitlines()) if note["when"] == when]
        return found if len(found) >= count else None

    return eventually(enough, f"{count} notes of {when}") if count else []


def needless(inherited: Iterable[str], kind: str) -> set[str]:
    """The modules that a worker of this kind has no use for, of those that it has inherited."""
    return (LOOPS | OURS) & set(inherited) - CLASSES[kind][1]


def app_of(kind: str) -> dict[str, Path]:
    """An application for this kind of workers."""
    return {"app": ASGI_APP} if kind in ("asgi", "uvicorn") else {}


@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize("kind", CLASSES)
def test_worker_imports_no_modules_of_the_package_after_the_fork(serve: Serve, kind: str, preload: bool) -> None:
    """Neither at its boot nor later; and the first one inherits nothing that only other classes need."""
    more = CLASSES[kind][0] + f"preload_app = {preload}\ngraceful_timeout = 5\n"
    server = serve(config="bind = '127.0.0.1:PORT'\ncontrol_socket_disable = True\n" + more + NOTES, **app_of(kind))
    for path in ("/", "/missing") if kind == "tornado" else ("/", "/boom", "/missing"):
        server.get(path)
    first = notes(server, "ready", 2)[0]
    if kind not in ("sync", "gthread"):
        # A SIGTERM that comes before the loop runs is lost: tornado's ``run`` sets ``alive`` again, for one.
        loops = "gunicorn_worker_event_loop_blocked_seconds"
        eventually(lambda: len(server.scrape().all(loops)) == 2, "the loops of both workers run")
    server.signal(signal.SIGTERM)
    eventually(lambda: server.process is not None and server.process.poll() is not None, "the end of the server")
    found = notes(server, "ready", 2) + notes(server, "exit", 0 if kind in ("tornado", "uvicorn") else 2)
    assert [note for note in found if note["late"]] == []
    assert needless(first["inherited"], kind) == set()


def test_reload_to_another_worker_class_imports_its_modules_before_the_fork(serve: Serve) -> None:
    """Its modules, too, are imported before the first fork, and not by the workers from before."""
    start = "bind = '127.0.0.1:PORT'\ncontrol_socket_disable = True\n"
    server = serve(config=start + NOTES)
    assert needless(notes(server, "ready", 2)[0]["inherited"], "sync") == set()
    server.write_application(ASGI_APP)
    server.configure(start + CLASSES["asgi"][0] + NOTES)
    os.kill(server.pid, signal.SIGHUP)
    found = notes(server, "ready", 4)
    assert [note["late"] for note in found] == [[]] * 4
    assert "gunicorn_prom_hooks.worker.asgi.middleware" in found[2]["inherited"]


def test_gevent_patched_config_leaves_no_imports_to_workers(serve: Serve) -> None:
    """A config file that patches: the master uses the same threading objects as a worker."""
    server = serve(
        config="import gevent.monkey\ngevent.monkey.patch_all()\nbind = '127.0.0.1:PORT'\n"
        "control_socket_disable = True\nworker_class = 'gevent'\n" + NOTES
    )
    assert server.get("/").status_code == 200
    assert [note["late"] for note in notes(server, "ready", 2)] == [[]] * 2
    assert server.settled(2).sum("gunicorn_requests_total") == 2

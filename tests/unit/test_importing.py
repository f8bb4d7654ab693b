"""Importing the package has no effect."""

from __future__ import annotations

import json
import subprocess
import sys

PROBE = """
import json, os, sys, threading
environ, fds = dict(os.environ), sorted(os.listdir("/proc/self/fd"))
{statement}
json.dump({{
    "modules": sorted({{"prometheus_client", "psutil", "gevent", "flask"}} & set(sys.modules)),
    "threads": len(os.listdir("/proc/self/task")),
    "environ": dict(os.environ) == environ,
    "fds": sorted(os.listdir("/proc/self/fd")) == fds,
    "master": any(name.startswith("gunicorn_prom_hooks.") and name.split(".")[1] in
                  ("master", "worker", "collectors", "status", "scoreboard", "cli") for name in sys.modules),
}}, sys.stdout)
"""
NOTHING = {"modules": [], "threads": 1, "environ": True, "fds": True, "master": False}


def effects(statement: str) -> object:
    """Return what a fresh Python process has done by the end of the statement."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(statement=statement)], check=True, capture_output=True, text=True
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_import_of_the_package_has_no_effect() -> None:
    """The import loads no heavy dependency, starts no thread, opens no file and does not change the environment."""
    assert effects("import gunicorn_prom_hooks") == NOTHING


def test_install_has_no_effect() -> None:
    """A process that only checks a configuration with an ``install`` call is left as it was."""
    assert effects("import gunicorn_prom_hooks; gunicorn_prom_hooks.install(globals())") == NOTHING


def test_probe_detects_modules_threads_files_and_variables() -> None:
    """The probe finds modules, threads, files and environment variables."""
    statement = "import psutil, threading; os.environ['X_Y'] = '1'; kept = open('/dev/null'); " + (
        "e = threading.Event(); threading.Thread(target=e.wait, daemon=True).start(); import gunicorn_prom_hooks.master"
    )
    assert effects(statement) == {"modules": ["psutil"], "threads": 2, "environ": False, "fds": False, "master": True}

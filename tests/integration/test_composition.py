"""Whatever is composed with our hooks, and in whatever order: the user's run as without us, events count once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Samples, Server, eventually, unused_port
from tests.integration.conftest import APP, Serve

HEAD = """
import functools, os
bind = "127.0.0.1:PORT"
control_socket_disable = True
def note(name):
    with open(os.path.join(os.environ["NOTES"], "notes"), "a") as out:
        out.write(name + "\\n")
"""
INSTALL = "from gunicorn_prom_hooks import install\ninstall(globals(), port=METRICS_PORT)\n"
SIGNATURES = {
    "nworkers_changed": "server, new, old",
    "on_starting": "server",
    "when_ready": "server",
    "on_reload": "server",
    "pre_fork": "server, worker",
    "post_fork": "server, worker",
    "post_worker_init": "worker",
    "pre_request": "worker, req",
    "post_request": "worker, req",
    "worker_int": "worker",
    "worker_abort": "worker",
    "worker_exit": "server, worker",
    "child_exit": "server, worker",
    "on_exit": "server",
}
OWN = "".join(f"def {name}({given}): note('base {name}')\n" for name, given in SIGNATURES.items())
WRAPS = """
def audited(name, hook):
    @functools.wraps(hook)
    def wrapper(*args):
        note("child " + name)
        return hook(*args)
    return wrapper
"""
DECORATED = WRAPS + "".join(f"{name} = audited({name!r}, {name})\n" for name in SIGNATURES)
EXTENDED = "".join(
    f"base_{name} = {name}\ndef {name}({given}):\n    base_{name}({given})\n    note('child {name}')\n"
    for name, given in SIGNATURES.items()
)
PARTIAL = """
def noting(name, hook, *args):
    note("child " + name)
    hook(*args)
""" + "".join(
    f"{name} = functools.partial(lambda hook, {given}: noting({name!r}, hook, {given}), {name})\n"
    for name, given in SIGNATURES.items()
)
STUBS = """
class Stub:
    def __getattr__(self, name):
        if name.startswith("__"): raise AttributeError(name)
        return Stub()
""" + "".join(
    f"class {name.title()}(Stub):\n    def __call__(self, {given}): note('stub {name}')\n{name} = {name.title()}()\n"
    for name, given in SIGNATURES.items()
)
LATE = (
    """
def late(name):
    return lambda worker, req: note("late " + name)
"""
    + OWN
    + """
def {hook}({given}):
    note("base {hook}")
    worker.cfg.set("pre_request", late("pre_request"))
    worker.cfg.set("post_request", late("post_request"))
"""
)
LATE_AFTER_OURS = """
our_hook = post_worker_init
def post_worker_init(worker):
    our_hook(worker)
    worker.cfg.set("pre_request", lambda worker, req: note("late pre_request"))
    worker.cfg.set("post_request", lambda worker, req: note("late post_request"))
"""
LATE_IN_MASTER = (
    OWN
    + """
def when_ready(server):
    note("base when_ready")
    for name in ("pre_fork", "post_fork", "worker_exit", "child_exit"):
        server.cfg.set(name, late(name))
def late(name):
    return lambda server, worker: note("late " + name)
"""
)


def renewed(server: Server, workers: int = 1) -> None:
    """Reloads the server, and waits until new workers have taken the place of the old ones."""

    def running() -> set[int]:
        now = {worker.pid for worker in server.workers()}
        return now if len(now) == workers else set()

    before = eventually(running, "all workers")
    server.signal(signal.SIGHUP)
    eventually(lambda: (now := running()) and not now & before, "new workers")


def left_for(server: Server, exits: int) -> set[str]:
    """The reasons for which workers have left, once so many have."""

    def probe() -> Samples | None:
        samples = server.scrape()
        return samples if samples.sum("gunicorn_worker_exits_total") == exits else None

    samples = eventually(probe, f"{exits} workers have left")
    return {labels["reason"] for labels, count in samples.all("gunicorn_worker_exits_total") if count}


def start(serve: Serve, folder: Path, above: str, below: str) -> Server:
    """A server whose config file extends another one, with the hooks that are above and below in either."""
    folder.mkdir()
    port, metrics_port = unused_port(), unused_port()
    base = (HEAD + above).replace("METRICS_PORT", str(metrics_port)).replace("PORT", str(port))
    (folder / "base_conf.py").write_text(base)
    return serve(
        config="import functools\nfrom base_conf import *\n" + below,
        environ={"PYTHONPATH": str(folder), "NOTES": str(folder)},
        port=port,
        metrics_port=metrics_port,
    )


def calls(server: Server, folder: Path) -> dict[str, float]:
    """Ends a server that was asked four times: how often each of the user's functions was called, or per request."""
    server.stop()
    notes = Counter((folder / "notes").read_text().splitlines())
    return {name: count / 4 if name.endswith("_request") else count for name, count in notes.items()}


def reload_and_ask(server: Server) -> None:
    """A reload, and three more requests after the one with which the server has begun."""
    renewed(server)
    for _ in range(3):
        assert server.get("/").status_code == 200


@pytest.mark.parametrize(
    ("above", "below"),
    [
        (OWN + DECORATED + INSTALL, ""),
        (OWN + INSTALL, DECORATED),
        (OWN + INSTALL, EXTENDED),
        (OWN + INSTALL + INSTALL, DECORATED + EXTENDED + INSTALL),
        (OWN + INSTALL, PARTIAL + INSTALL),
        (STUBS + INSTALL, ""),
        (INSTALL, STUBS + INSTALL),
        (LATE.format(hook="post_fork", given="server, worker") + INSTALL, ""),
        (LATE.format(hook="post_worker_init", given="worker") + INSTALL, ""),
        (OWN + INSTALL, LATE_AFTER_OURS),
        (INSTALL, LATE_IN_MASTER + INSTALL),
    ],
    ids=[
        "decorated",
        "decorated below, in the importing file",
        "extended below",
        "decorated and extended, installed three times",
        "partial",
        "stubs",
        "stubs below",
        "set in post_fork",
        "set in post_worker_init",
        "set in post_worker_init, after a call of our hook",
        "set in when_ready",
    ],
)
def test_composed_user_hooks_run_as_often_as_without_install(
    serve: Serve, tmp_path: Path, above: str, below: str
) -> None:
    """Each of the user's functions runs as often as without the line, and each event is counted once."""
    bare = start(serve, tmp_path / "bare", above.replace(INSTALL, ""), below.replace(INSTALL, ""))
    reload_and_ask(bare)
    server = start(serve, tmp_path / "ours", above, below)
    reload_and_ask(server)
    samples = server.settled(4)
    assert samples.sum("gunicorn_requests_total") == 4
    assert samples.one("gunicorn_reloads_total") == 1
    assert left_for(server, 1) == {"reload"}
    assert samples.sum("gunicorn_requests_in_progress") == 0
    assert samples.sum("gunicorn_exporter_errors_total") == 0
    assert "no metrics" not in server.log
    assert calls(server, tmp_path / "ours") == calls(bare, tmp_path / "bare")


IN_MASTER = ("nworkers_changed", "on_starting", "when_ready", "pre_fork")


def own(*names: str) -> str:
    """Hooks of the user's with these names."""
    return "".join(f"def {name}({SIGNATURES[name]}): pass\n" for name in names)


@pytest.mark.parametrize(
    "names",
    [
        ("on_reload",),
        ("nworkers_changed", "on_reload"),
        ("nworkers_changed", "on_reload", "pre_fork"),
        ("nworkers_changed", "when_ready", "on_reload", "pre_fork", "child_exit"),
        ("on_starting", "when_ready", "on_reload", "pre_fork", "post_fork", "post_worker_init", "worker_exit"),
    ],
)
def test_reload_is_counted_with_any_user_hooks_below_install(serve: Serve, names: tuple[str, ...]) -> None:
    """Whichever hooks replace our own, each reload is counted with its workers, and the new ones are recorded."""
    server = serve(own(*names) + "workers = 2\n")
    for number in (1, 2):
        server.wait_for_workers(2)  # one that has just been forked loses a SIGTERM
        renewed(server, workers=2)
        for _ in range(3):
            server.get("/")
        samples = server.settled(1 + 3 * number)
        assert samples.one("gunicorn_reloads_total") == number
        assert left_for(server, 2 * number) == {"reload"}


def test_reload_to_zero_workers_counts_exits_as_reload(serve: Serve) -> None:
    """A reload that leaves no worker calls no hook before a fork; and yet the workers exit for the reload."""
    server = serve(own("nworkers_changed", "on_reload") + "workers = 2\n")
    server.wait_for_workers(2)
    text = (server.folder / "gunicorn.conf.py").read_text()
    (server.folder / "gunicorn.conf.py").write_text(text.replace("workers = 2", "workers = 0"))
    server.signal(signal.SIGHUP)
    assert left_for(server, 2) == {"reload"}


@pytest.mark.parametrize("left", ["", "post_fork", "post_worker_init", "pre_request", "worker_exit", "child_exit"])
def test_replaced_hooks_are_logged_once_with_advice_to_move_install(serve: Serve, left: str) -> None:
    """If hooks below the line have replaced all that could reinstall our hooks, exactly one line says what to do."""
    others = [name for name in SIGNATURES if name != left and left] or IN_MASTER
    server = serve(own(*others) + "workers = 3\n")
    for _ in range(10):
        assert server.get("/").status_code == 200
    if left == "child_exit":
        for worker in server.workers():
            worker.terminate()
        eventually(lambda: "move install() to the end" in server.log, "the line")
    server.stop()
    assert server.log.count("move install() to the end") == 1


TWO_APPLICATIONS = APPLICATIONS / "program_two_masters.py"


def test_two_masters_in_one_program_have_their_own_settings_and_counts(tmp_path: Path) -> None:
    """Each master has the settings of its own options dict, after a reload too, for which there is no config file."""
    other = unused_port(), unused_port()

    class Custom(Server):
        def start(self) -> None:
            (self.folder / "run.py").write_text(TWO_APPLICATIONS.read_text())
            ports = map(str, (self.port, self.metrics_port, *other))
            with self.log_file.open("ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "run.py", *ports], cwd=self.folder, stdout=log, stderr=subprocess.STDOUT
                )

    with Custom(tmp_path / "custom", app=APP, config="") as server:
        second = Server(tmp_path / "second", app="", config="", port=other[0], metrics_port=other[1])
        eventually(lambda: second.get("/").status_code, "the second application answers")
        found = re.search(r"masters (\d+) (\d+)", server.log)
        assert found is not None
        for reloads in (0, 1):
            for _ in range(3):
                server.get("/")
            second.get("/")
            assert server.settled(1 + 3 * (reloads + 1)).one("gunicorn_reloads_total") == reloads
            assert second.settled(1 + reloads + 1).one("gunicorn_reloads_total") == reloads
            assert server.scrape().sum("gunicorn_requests_total") == 1 + 3 * (reloads + 1)
            assert second.scrape().sum("gunicorn_requests_total") == 1 + reloads + 1
            if not reloads:
                for pid, page in zip(map(int, found.groups()), (server, second), strict=True):
                    os.kill(pid, signal.SIGHUP)
                    assert left_for(page, 1) == {"reload"}

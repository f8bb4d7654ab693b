"""install() in real configurations."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import GUNICORN, Server, eventually, unused_port
from tests.integration.conftest import APP, Serve

HEAD = """
from gunicorn_prom_hooks import install
bind = "127.0.0.1:PORT"
control_socket_disable = True
def note(name):
    with open("notes", "a") as out:
        out.write(name + "\\n")
"""
INSTALL = "install(globals(), port=METRICS_PORT)\n"
HOOKS = """
def on_starting(server): note("on_starting")
def when_ready(server): note("when_ready")
def on_reload(server): note("on_reload")
def pre_fork(server, worker): note("pre_fork")
def post_fork(server, worker): note("post_fork")
def post_worker_init(worker): note("post_worker_init")
def pre_request(worker, req): note("pre_request")
def post_request(worker, req): note("post_request")
def worker_exit(server, worker): note("worker_exit")
def child_exit(server, worker): note("child_exit")
def nworkers_changed(server, new, old): note("nworkers_changed")
def on_exit(server): note("on_exit")
"""


def notes(server: Server) -> list[str]:
    """The user's hooks that were called."""
    return (server.folder / "notes").read_text().split()


def without(*names: str) -> str:
    """The user's hooks but for these."""
    return "".join(line + "\n" for line in HOOKS.splitlines() if not any(f"def {name}(" in line for name in names))


@pytest.mark.parametrize(
    "config",
    [
        HEAD + HOOKS + INSTALL,
        HEAD + INSTALL + without("nworkers_changed"),
        HEAD + INSTALL + without("on_starting", "on_reload"),
        HEAD + INSTALL + without("pre_fork"),
    ],
    ids=["above", "below", "below with nworkers_changed", "below with all but pre_fork"],
)
def test_user_hooks_above_or_below_install_all_run_and_requests_are_counted(serve: Serve, config: str) -> None:
    """The user's hooks all run, above or below the install line, and so do our hooks, after a HUP too."""
    server = serve(config=config)
    server.settled(1)
    server.signal(signal.SIGHUP)
    eventually(lambda: notes(server).count("child_exit") == 1, "the old worker has gone")
    server.get("/boom")
    samples = server.settled(2)
    assert samples.sum("gunicorn_requests_total") == 2
    assert samples.sum("gunicorn_failed_requests_total") == 1
    assert samples.one("gunicorn_master_worker_restart_total", reason="restart") == 1
    server.stop()
    called = notes(server)
    assert called.count("pre_request") == called.count("post_request") == 2
    assert called.count("post_fork") == called.count("post_worker_init") == 2
    for name in set(re.findall(r"def (\w+)", config)) - {"note"}:
        assert name in called, name


@pytest.mark.parametrize("parameters", ["worker, req", "worker, req, environ", "worker, req, environ, resp"])
def test_post_request_hook_with_two_three_or_four_parameters_is_called(serve: Serve, parameters: str) -> None:
    """post_request may have two, three or four parameters, as gunicorn allows."""
    hook = f"def post_request({parameters}): note('{len(parameters.split())}')\n"
    server = serve(config=HEAD + hook + INSTALL)
    server.settled(1)
    eventually(lambda: notes(server) == [str(len(parameters.split()))], "the hook has run")


def test_hook_given_as_a_dotted_string_is_called(serve: Serve) -> None:
    """A hook may be given as a dotted string."""
    app = APPLICATIONS / "default_with_hook.py"
    server = serve(config=HEAD + "post_worker_init = 'app.started'\n" + INSTALL, app=app)
    server.settled(1)
    assert (server.folder / "started").exists()


def test_install_called_twice_counts_once_with_the_settings_of_the_last_call(serve: Serve) -> None:
    """install() called twice counts nothing twice; the settings of the last call are those that count."""
    server = serve(config=HEAD + HOOKS + "install(globals(), port=1)\n" + INSTALL)
    server.get("/boom")
    samples = server.settled(2)
    assert samples.sum("gunicorn_requests_total") == 2
    assert samples.sum("gunicorn_failed_requests_total") == 1
    assert notes(server).count("pre_request") == 2


def test_exception_in_a_user_hook_is_a_failed_request(serve: Serve) -> None:
    """An exception in a user's hook does what it does without us."""
    server = serve(
        config=HEAD + "def pre_request(worker, req):\n    if req.path == '/x': raise ValueError('mine')\n" + INSTALL
    )
    assert server.get("/x").status_code == 500
    samples = server.settled(2)
    assert samples.one("gunicorn_failed_requests_total", endpoint="/x", error_type="ValueError") == 1
    assert samples.sum("gunicorn_exporter_errors_total") == 0


BY_NAME = """
import gunicorn_prom_hooks as prom
from gunicorn_prom_hooks import (
    child_exit, nworkers_changed, on_exit, on_reload, on_starting, post_fork, post_worker_init, pre_fork, when_ready,
    worker_abort, worker_exit, worker_int,
)
def pre_request(worker, req):
    prom.pre_request(worker, req)
    note("pre_request")
def post_request(worker, req, environ, resp):
    prom.post_request(worker, req, environ, resp)
"""


@pytest.mark.parametrize("also", ["", INSTALL])
def test_hooks_chained_by_hand_count_once_with_and_without_install(serve: Serve, also: str) -> None:
    """The hooks can be chained by hand, settings from the environment; with install on top nothing is doubled."""
    port = unused_port()
    environ = {"PROMETHEUS_METRICS_PORT": str(port)}
    server = serve(config=HEAD + BY_NAME + also, environ=environ, metrics_port=port)
    server.get("/boom")
    samples = server.settled(2)
    assert samples.sum("gunicorn_requests_total") == 2
    assert samples.sum("gunicorn_failed_requests_total") == 1
    assert notes(server) == ["pre_request", "pre_request"]


def test_install_into_the_options_of_a_custom_application_counts_requests(tmp_path: Path) -> None:
    """The options dict of a custom BaseApplication can be given in place of globals()."""
    program = APPLICATIONS / "program_custom_application.py"

    class Custom(Server):
        def start(self) -> None:
            (self.folder / "run.py").write_text(program.read_text())
            with self.log_file.open("ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "run.py", str(self.port), str(self.metrics_port)],
                    cwd=self.folder,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )

    with Custom(tmp_path / "custom", app=APP, config="") as server:
        server.get("/boom")
        assert server.settled(2).sum("gunicorn_failed_requests_total") == 1


def gunicorn(folder: Path, config: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs gunicorn to its end."""
    (folder / "app.py").write_text(APP.read_text())
    (folder / "gunicorn.conf.py").write_text(config.replace("METRICS_PORT", "9").replace("PORT", "0"))
    return subprocess.run(
        [GUNICORN, *arguments, "app:app"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"},
    )


@pytest.mark.parametrize("option", ["--check-config", "--print-config"])
def test_check_config_and_print_config_leave_no_files_ports_or_threads(tmp_path: Path, option: str) -> None:
    """--check-config and --print-config leave no file, port or thread behind, and import only what they need."""
    (tmp_path / "tmp").mkdir()
    spy = """
import atexit, os, sys, threading
def look():
    assert threading.active_count() == 1
    assert "prometheus_client" not in sys.modules and "psutil" not in sys.modules
    links = [f"/proc/self/fd/{fd}" for fd in range(3, 20)]
    assert not [link for link in links if os.path.exists(link) and "socket:" in os.readlink(link)]
    print("no trace")
atexit.register(look)
"""
    done = gunicorn(tmp_path, HEAD + spy + INSTALL, option)
    assert done.returncode == 0, done.stderr
    assert "no trace" in done.stdout
    if option == "--print-config":
        assert "gunicorn_prom_hooks.post_request()" in done.stdout
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["app.py", "gunicorn.conf.py", "tmp"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("port='http'", ["setting port", "'http'", "1 to 65535"]),
        ("prot=9091", ["no setting 'prot'", "port"]),
        ("worker_label='pid'", ["setting worker_label", "'pid'", "'age' or 'slot'"]),
    ],
)
def test_invalid_setting_stops_the_start_with_one_line(tmp_path: Path, setting: str, words: list[str]) -> None:
    """A bad setting stops the start with one line that names the setting, the value and what is allowed."""
    done = gunicorn(tmp_path, HEAD + f"install(globals(), {setting})\n")
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert all(word in lines[0] for word in words), lines


def test_hook_of_wrong_arity_is_refused_with_the_message_of_gunicorn(tmp_path: Path) -> None:
    """A hook that gunicorn refuses is refused in gunicorn's words."""
    done = gunicorn(tmp_path, HEAD + "def pre_fork(server): pass\n" + INSTALL)
    assert done.returncode == 1
    assert "Value must have an arity of: 2" in done.stderr

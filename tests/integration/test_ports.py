"""The metrics port is taken when the user's hook of the same name has taken what it wants."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import requests

from tests.helpers.servers import Server, eventually
from tests.integration.conftest import APP, CONFIG, Serve

INSTALL = "install(globals(), port=METRICS_PORT)\n"
HEAD = CONFIG.replace(INSTALL, "")
OWN_EXPORTER = """
import http.server, threading

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"their own")

    def log_message(self, *args): pass

def take(port):
    server = http.server.HTTPServer(("127.0.0.1", port), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
"""
EXTENDED = """
our_hook = when_ready
def when_ready(server):
    our_hook(server)
    take(METRICS_PORT)
"""
WHEN_READY = "def when_ready(server): take(METRICS_PORT)\n"


@pytest.mark.parametrize(
    "config",
    [
        WHEN_READY + INSTALL,
        INSTALL + WHEN_READY,
        INSTALL + "def on_starting(server): pass\n" + WHEN_READY,
        INSTALL + EXTENDED,
        INSTALL + EXTENDED + INSTALL,
    ],
    ids=[
        "above",
        "below",
        "below, with others",
        "after a call of our hook",
        "after a call of our hook, installed again",
    ],
)
def test_port_taken_by_the_when_ready_hook_of_the_user_is_logged(serve: Serve, config: str) -> None:
    """A config whose when_ready serves metrics at the same port starts; our exporter logs that it is taken."""
    server = serve(config=HEAD + OWN_EXPORTER + config)
    assert requests.get(f"http://127.0.0.1:{server.metrics_port}/", timeout=20).text == "their own"
    assert f"no metrics at 127.0.0.1:{server.metrics_port} yet: Address already in use" in server.log


def log_of_failed_boot(folder: Path, hook: str) -> tuple[str, int]:
    """Start a gunicorn whose worker does not boot with this hook; return its log and the port of the metrics."""
    server = Server(folder, app=APP, config=HEAD + OWN_EXPORTER + hook + INSTALL)
    try:
        server.start()
        assert server.process is not None
        assert server.process.wait(20) == 3
    finally:
        server.stop()
    return server.log, server.metrics_port


@pytest.mark.parametrize("port", ["METRICS_PORT", "PORT"])
def test_port_that_the_application_wants_in_the_worker_is_named_in_the_log(tmp_path: Path, port: str) -> None:
    """gunicorn ends, as it does whenever a worker fails to boot; a line says at which port the metrics are."""
    log, metrics_port = log_of_failed_boot(tmp_path, f"def post_worker_init(worker): take({port})\n")
    line = f"the worker could not bind a port: address already in use; the metrics have port {metrics_port}:"
    assert log.count(line) == 1


def test_worker_that_fails_to_boot_for_another_reason_says_nothing_of_ports(tmp_path: Path) -> None:
    """The line is about a taken port only."""
    log, _ = log_of_failed_boot(tmp_path, "def post_worker_init(worker): raise PermissionError(13, 'no')\n")
    assert "PermissionError" in log
    assert "could not bind a port" not in log


def test_new_port_taken_by_the_on_reload_hook_of_the_user_is_logged(serve: Serve) -> None:
    """Where on_reload takes the port to which the exporter is to move, it has it, and the reload goes on."""
    server = serve(config=HEAD + OWN_EXPORTER + "install(globals(), port=0)\n")
    server.configure(HEAD + OWN_EXPORTER + INSTALL + "def on_reload(server): take(METRICS_PORT)\n")
    server.signal(signal.SIGHUP)
    eventually(lambda: "yet: Address already in use" in server.log, "the line for a port that is taken")
    eventually(lambda: server.get("/").status_code == 200, "the application answers")
    assert requests.get(f"http://127.0.0.1:{server.metrics_port}/", timeout=20).text == "their own"


@pytest.mark.parametrize(
    "hooks",
    [
        "def when_ready(server): pass\n",
        "def nworkers_changed(server, new, old): pass\ndef on_starting(server): pass\ndef when_ready(server): pass\n",
    ],
    ids=["when_ready", "all but pre_fork"],
)
def test_exporter_starts_with_replaced_start_hooks_below_install(serve: Serve, hooks: str) -> None:
    """The exporter is started where hooks below the line have replaced those that would start it."""
    assert serve(hooks).settled(1).sum("gunicorn_requests_total") == 1


def test_on_exit_hook_of_the_user_can_scrape_the_exits_of_all_workers(serve: Serve) -> None:
    """The user's on_exit still has the page, with the exits of all workers on it."""
    hook = """
def on_exit(server):
    import urllib.request
    page = urllib.request.urlopen("http://127.0.0.1:METRICS_PORT/metrics", timeout=20).read()
    with open("page", "wb") as out:
        out.write(page)
"""
    server = serve(config=HEAD + hook + INSTALL)
    server.stop()
    assert 'reason="shutdown"} 1.0' in (server.folder / "page").read_text()

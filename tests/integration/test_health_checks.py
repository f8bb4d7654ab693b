"""Health checks and the status page at the metrics port."""

from __future__ import annotations

import signal
import socket

import requests

from tests.helpers.exporter_access import SECRET, installed
from tests.helpers.places import APPLICATIONS
from tests.helpers.servers import Server, eventually
from tests.integration.conftest import CONFIG, Serve


def readiness(server: Server) -> int:
    """Status of /readyz."""
    return requests.get(f"http://127.0.0.1:{server.metrics_port}/readyz", timeout=10).status_code


def test_readyz_is_503_while_no_worker_has_booted_or_the_heartbeat_is_old(serve: Serve) -> None:
    """The server is ready with a booted worker and a recent heartbeat, and up as a process. Neither renders a page."""
    app = APPLICATIONS / "closed.py"
    server = serve("workers = 1\ntimeout = 4\ngraceful_timeout = 1\n", app=app)
    health = f"http://127.0.0.1:{server.metrics_port}/healthz"
    eventually(lambda: readiness(server) == 200, "ready")
    (server.folder / "closed").touch()
    server.workers()[0].kill()
    eventually(lambda: readiness(server) == 503, "not ready while the next worker boots")
    assert requests.get(health, timeout=10).status_code == 200
    (server.folder / "closed").unlink()
    eventually(lambda: readiness(server) == 200, "ready again")
    before = server.scrape()
    for _ in range(20):
        assert requests.get(health, timeout=10).text == "ok\n"
        assert readiness(server) == 200
    assert server.scrape().sum("gunicorn_exporter_errors_total") == before.sum("gunicorn_exporter_errors_total") == 0
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: readiness(server) == 503, "not ready when nothing was heard of the worker for its timeout")


def test_readyz_is_200_with_timeout_0_and_a_running_worker(serve: Serve) -> None:
    """With timeout 0 gunicorn never doubts a worker, and any that runs is good enough."""
    server = serve("timeout = 0\n")
    eventually(lambda: readiness(server) == 200, "ready")
    server.signal(signal.SIGTERM)


SITE = """
import sys, types
from gunicorn_prom_hooks.model.response import Response

class StatusPage:
    paths = ("/",)

    def __init__(self, part_failed):
        pass

    def resource(self, path, look):
        if path != "/":
            return None
        return Response(f"{len(look().workers)} workers".encode() * 100, "text/html", {"X-Site": "yes"})

module = types.ModuleType("gunicorn_prom_hooks.status")
module.StatusPage = StatusPage
sys.modules[module.__name__] = module
"""


def test_status_page_is_served_behind_credentials_and_404_when_switched_off(serve: Serve) -> None:
    """What the status page has is served by the exporter, behind the same credentials; switched off it is not there."""
    server = serve("workers = 2\n" + SITE)
    url = f"http://127.0.0.1:{server.metrics_port}"
    server.wait_for_workers(2)
    page = requests.get(url, timeout=10)
    assert (page.text, page.headers["X-Site"]) == ("2 workers" * 100, "yes")
    assert page.headers["Content-Encoding"] == "gzip"
    assert requests.head(url, timeout=10).content == b""
    assert requests.get(url, headers={"Host": "evil.example"}, timeout=10).status_code == 403
    missing = requests.get(url + "/nothing", timeout=10)
    assert (missing.status_code, "status page is at /." in missing.text) == (404, True)
    server.configure(CONFIG + installed(token=SECRET) + SITE)
    server.signal(signal.SIGHUP)
    eventually(lambda: requests.get(url, timeout=10).status_code == 401, "credentials are asked for")
    server.configure(CONFIG + installed(status_page=False) + SITE)
    server.signal(signal.SIGHUP)
    eventually(lambda: requests.get(url, timeout=10).status_code == 404, "no status page")
    assert server.page().status_code == 200

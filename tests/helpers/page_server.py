"""A small HTTP server whose pages a test chooses, for the clients of the command line."""

from __future__ import annotations

import contextlib
import gzip
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from gunicorn_prom_hooks.cli.check.page import FAMILIES

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Reply(NamedTuple):
    """A response of the server."""

    body: str = "ok\n"
    status: int = 200
    content_type: str = "text/plain"
    seconds: float = 0.0


@dataclass
class Pages:
    """What the server answers, and what it was asked.

    Attributes:
        replies: by path; the metrics in the OpenMetrics format are at ``openmetrics``.
        requests: headers of the requests so far.
    """

    port: int
    replies: dict[str, Reply]
    requests: list[Mapping[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Return the URL of the server."""
        return f"http://127.0.0.1:{self.port}"


def metrics(more: str = "", *, without: tuple[str, ...] = ()) -> str:
    """Return a page in the text format with each family of the package, except some."""
    samples = {
        "gunicorn_workers": 'gunicorn_workers{state="running"} 2',
        "gunicorn_workers_target": "gunicorn_workers_target 2",
        "gunicorn_exporter_collector_success": "gunicorn_exporter_collector_success 1",
    }
    lines = [
        f"# HELP {name} Text.\n# TYPE {name} gauge\n{samples.get(name, f'{name} 0')}\n"
        for name in FAMILIES
        if name not in without
    ]
    return "".join(lines) + more


@contextmanager
def page_server(replies: Mapping[str, Reply] | None = None, context: ssl.SSLContext | None = None) -> Iterator[Pages]:
    """Serve pages until the end of the block. Names of paths are without the slash.

    Args:
        replies: instead of a correct page of metrics, or of health checks that succeed.
        context: of TLS; None: plain HTTP.
    """
    text = metrics()
    usual = {
        "metrics": Reply(text, content_type=TEXT),
        "openmetrics": Reply(f"{text}# EOF\n", content_type=OPENMETRICS),
        "healthz": Reply(),
        "readyz": Reply(),
    }
    pages = Pages(0, usual | dict(replies or {}))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages.requests.append(dict(self.headers))
            name = self.path.rpartition("/")[2]
            if name == "metrics" and self.headers["Accept"].startswith("application/openmetrics"):
                name = "openmetrics"
            reply = pages.replies.get(name, Reply("no such page\n", 404))
            time.sleep(reply.seconds)
            body = gzip.compress(reply.body.encode())
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client has ended
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    pages.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield pages
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)

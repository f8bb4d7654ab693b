"""One HTTP request to the exporter: bytes in, bytes out. Parsing is the standard library's."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from urllib.parse import urlsplit

from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector

Encode = Callable[[Callable[[Collector], bytes]], bytes]
"""Applies an encoder of prometheus_client to the page, with nothing forking meanwhile."""


class Exchange(BaseHTTPRequestHandler):
    """Answers the request in ``raw``; ``answer`` is the whole response. One request a connection.

    The standard library's handler, on buffers instead of a socket: the socket belongs to the exporter's loop.
    """

    protocol_version = default_request_version = "HTTP/1.1"
    server_version = "gunicorn_prom_hooks"
    sys_version = ""

    def __init__(self, raw: bytes, encode: Encode) -> None:
        self._encode = encode
        self.client_address = ("", 0)
        self.rfile = BytesIO(raw)
        self.wfile = BytesIO()
        self.close_connection = True
        self.handle_one_request()

    @property
    def answer(self) -> bytes:
        """The response."""
        written = self.wfile
        return written.getvalue()  # type: ignore[attr-defined,no-any-return]  # declared wider in the base class

    def do_GET(self) -> None:
        """The metrics, or 404."""
        if _path(self.path) != "/metrics":
            plain = {"Content-Type": "text/plain; charset=utf-8"}
            self._reply(HTTPStatus.NOT_FOUND, plain, b"The metrics are at /metrics.\n")
            return
        try:
            encoder, content_type = choose_encoder(self.headers.get("Accept", ""))
        except (TypeError, ValueError):  # a version that is none, seen with prometheus_client 0.26
            encoder, content_type = choose_encoder("")
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        body = self._encode(encoder)
        if gzip_accepted(self.headers.get("Accept-Encoding", "")):
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, compresslevel=1)
        self._reply(HTTPStatus.OK, headers, body)

    do_HEAD = do_GET  # noqa: N815 - the base class calls it by this name

    def _reply(self, status: HTTPStatus, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's signature
        """Scrapes are not logged."""


def _path(target: str) -> str:
    """The path of a request target, which may be a whole URL."""
    try:
        return urlsplit(target).path
    except ValueError:
        return ""


def refusal(status: HTTPStatus) -> bytes:
    """A whole response that refuses a request."""
    body = f"{status.value} {status.phrase}\n".encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body

"""Parsing of one HTTP request to the exporter, and the responses that need no rendering."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector

from .auth import Credentials

METRICS: Final = "/metrics"
MAX_LINE_BYTES: Final = 8 * 1024
_METHODS: Final = ("GET", "HEAD")
_UNLESS_GIVEN: Final = (("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store"))


class RenderKey(NamedTuple):
    """Key of a rendering. Clients with the same key get the same bytes.

    Attributes:
        path: ``/metrics``, or a path of the status page.
        content_type: format of the metrics, one of ``ENCODERS``; empty for the status page.
        gzip: whether the body is compressed.
    """

    path: str
    content_type: str
    gzip: bool


class Reply(NamedTuple):
    """A complete response, as bytes."""

    head: bytes
    body: bytes


def _encoders() -> dict[str, Callable[[Collector], bytes]]:
    escapings = ("allow-utf-8", "underscores", "dots", "values")
    accepts = ["", "application/openmetrics-text"]
    for escaping in escapings:
        accepts += [f"application/openmetrics-text;version={v};escaping={escaping}" for v in ("1.0.0", "2.0.0")]
        accepts += [f"text/plain;version=1.0.0;escaping={escaping}"]
    found = {}
    for accept in accepts:
        encoder, content_type = choose_encoder(accept)
        found[content_type] = encoder
    return found


ENCODERS: Final[Mapping[str, Callable[[Collector], bytes]]] = _encoders()
"""prometheus_client's encoders by content type. They bound the number of render keys."""


class RequestParser(BaseHTTPRequestHandler):
    """Parser of the request in ``raw``. One request per connection.

    The standard library's handler on a buffer: the socket belongs to the event loop.

    Attributes:
        outcome: the response, or the key to render.
        head_only: whether the response is sent without its body.

    Args:
        raw: bytes of the request, at least up to the empty line.
        credentials: required for all paths except the health checks.
        ready: returns whether the server can take requests.
        status_paths: paths of the status page and its files; empty without a status page.
        local_only: whether access is protected only by a loopback address. Then the status page is served only
            under an IP address or localhost. This stops DNS rebinding: a web page whose name resolves to this
            machine could otherwise read it in a local browser. Over TLS the certificate prevents that.
    """

    protocol_version = default_request_version = "HTTP/1.1"

    def __init__(
        self,
        raw: bytes,
        credentials: Credentials,
        ready: Callable[[], bool],
        *,
        status_paths: Collection[str] = (),
        local_only: bool = False,
    ) -> None:
        self.outcome: Reply | RenderKey = error_response(HTTPStatus.BAD_REQUEST)
        self.head_only = False
        self._credentials = credentials
        self._ready = ready
        self._status_paths = status_paths
        self._local_only = local_only
        self.client_address = ("", 0)
        self.rfile = BytesIO(raw)
        self.wfile = BytesIO()
        self.raw_requestline = self.rfile.readline(MAX_LINE_BYTES + 1)
        if len(self.raw_requestline) > MAX_LINE_BYTES:
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
        elif self.parse_request():
            self.head_only = self.command == "HEAD"
            self.outcome = self._answer()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Set the outcome for an error that the base class has found."""
        self.outcome = error_response(HTTPStatus(code))

    def handle_expect_100(self) -> bool:
        """Continue without a ``100 Continue``: no body is read."""
        return True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's signature
        """Log nothing: scrapes are not logged."""

    def _answer(self) -> Reply | RenderKey:
        path = _path(self.path)
        checks = {"/healthz": self._health, "/readyz": self._readiness}
        error = self._check_no_body() or (None if path in checks else self._check_credentials()) or self._check_method()
        if error is not None:
            return error
        if path in checks:
            return checks[path]()
        compressed = gzip_accepted(self.headers.get("Accept-Encoding", ""))
        if path == METRICS:
            return RenderKey(path, _content_type(str(self.headers.get("Accept", ""))), compressed)
        if self._local_only and not _is_this_machine(str(self.headers.get("Host", ""))):
            return text(HTTPStatus.FORBIDDEN, "Ask for this page by an IP address or as localhost, or set a token.\n")
        # Only known paths are rendered: this bounds the keys, and an unknown path is answered at once.
        if path in self._status_paths:
            return RenderKey(path, "", compressed)
        return not_found(status_page=bool(self._status_paths))

    def _check_no_body(self) -> Reply | None:
        lengths = [length.strip() for length in self.headers.get_all("Content-Length", [])]
        if not all(length.isdecimal() for length in lengths):
            return error_response(HTTPStatus.BAD_REQUEST)
        if "Transfer-Encoding" in self.headers or any(length.strip("0") for length in lengths):
            return error_response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return None

    def _check_credentials(self) -> Reply | None:
        if self._credentials.admit(str(self.headers.get("Authorization", ""))):
            return None
        challenges = [("WWW-Authenticate", challenge) for challenge in self._credentials.challenges]
        return error_response(HTTPStatus.UNAUTHORIZED, *challenges)

    def _check_method(self) -> Reply | None:
        if self.command in _METHODS:
            return None
        return error_response(HTTPStatus.METHOD_NOT_ALLOWED, ("Allow", ", ".join(_METHODS)))

    def _health(self) -> Reply:
        return text(HTTPStatus.OK, "ok\n")

    def _readiness(self) -> Reply:
        return text(HTTPStatus.OK, "ready\n") if self._ready() else text(HTTPStatus.SERVICE_UNAVAILABLE, "not ready\n")


def _content_type(accept: str) -> str:
    """Return the content type, one of ``ENCODERS``, for a header ``Accept``."""
    try:
        _, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # an invalid version, seen with prometheus_client 0.26
        content_type = ""
    if content_type in ENCODERS:
        return content_type
    return choose_encoder("application/openmetrics-text" if content_type.startswith("application/") else "")[1]


def _path(target: str) -> str:
    """Return the path of a request target, which may be an absolute URL."""
    try:
        return urlsplit(target).path
    except ValueError:
        return ""


def _is_this_machine(host: str) -> bool:
    """Return whether a header ``Host`` is an IP address, localhost or empty, as old clients send it."""
    try:
        name = urlsplit(f"//{host}").hostname
        if name is not None and name != "localhost":
            ip_address(name)
    except ValueError:
        return False
    return True


def respond(status: HTTPStatus, content_type: str, body: bytes, *more: tuple[str, str]) -> Reply:
    """Return a complete response, after which the connection closes."""
    given = {name.lower() for name, _ in more}
    headers = [
        ("Date", formatdate(usegmt=True)),
        ("Server", "gunicorn_prom_hooks"),
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        *more,
        *(header for header in _UNLESS_GIVEN if header[0].lower() not in given),
        ("Connection", "close"),
    ]
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return Reply("\r\n".join(lines).encode("latin-1", "replace"), body)


def text(status: HTTPStatus, body: str, *more: tuple[str, str]) -> Reply:
    """Return a plain text response."""
    return respond(status, "text/plain; charset=utf-8", body.encode(), *more)


def error_response(status: HTTPStatus, *more: tuple[str, str]) -> Reply:
    """Return a response whose body is the status line's code and phrase."""
    return text(status, f"{status.value} {status.phrase}\n", *more)


def not_found(*, status_page: bool) -> Reply:
    """Return a 404 that names the existing paths."""
    page = "The status page is at /. " if status_page else ""
    return text(
        HTTPStatus.NOT_FOUND, f"The metrics are at /metrics. {page}Health checks are at /healthz and /readyz.\n"
    )

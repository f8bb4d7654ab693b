"""One HTTP request to the exporter."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable, Iterator
from email.parser import BytesParser
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from gunicorn_prom_hooks.collectors import MetricsPage
from gunicorn_prom_hooks.concurrency import ForkLock
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.exporter.auth import Credentials
from gunicorn_prom_hooks.exporter.http import ENCODERS, RenderKey, Reply, RequestParser, error_response
from gunicorn_prom_hooks.exporter.renderer import Renderer
from gunicorn_prom_hooks.model.response import Response

LOCK = ForkLock(lambda: None)
EXPECTED_COUNT = CollectorRegistry()
Counter("asked", "Times.", registry=EXPECTED_COUNT)
PLAIN, OPEN = generate_latest(EXPECTED_COUNT), generate_openmetrics(EXPECTED_COUNT)  # type: ignore[no-untyped-call]
NOBODY_IN_PARTICULAR = Credentials()


class Counted(MetricsPage):
    """A page with one counter of its own."""

    def __init__(self, errors: ErrorReporter) -> None:
        snapshot: Any = SimpleNamespace(options=SimpleNamespace(created_timestamps=False))
        super().__init__(lambda: snapshot, errors)
        self.looks = 0

    def collect_from(self, view: object) -> Iterator[Metric]:
        """The counter."""
        self.looks += 1
        yield from EXPECTED_COUNT.collect()


STATUS = ("/", "/status.json")


class FakeSite:
    """A status page with two files."""

    paths = ("/", "/status.css", "/broken")

    def resource(self, path: str, look: Callable[[], object]) -> Response | None:
        """One that looks at the server, and one that does not."""
        if path == "/":
            look()
            return Response(
                b"<p>up</p>" * 50, "text/html; charset=utf-8", {"Content-Security-Policy": "default-src 'none'"}
            )
        if path == "/broken":
            raise RuntimeError("a bug")
        return Response(b"p{}", "text/css", {"Cache-Control": "max-age=60"}) if path == "/status.css" else None


def pages(site: Any = None, errors: ErrorReporter | None = None) -> Renderer:
    """What there is to see."""
    return Renderer(Counted(errors or ErrorReporter()), site, LOCK, errors or ErrorReporter())


def exchange(
    raw: bytes, credentials: Credentials = NOBODY_IN_PARTICULAR, *, ready: bool = True, status_page: bool = False
) -> RequestParser:
    """The request, understood."""
    return RequestParser(raw, credentials, lambda: ready, status_paths=FakeSite.paths if status_page else ())


def answer(raw: bytes, *, site: FakeSite | None = None, **keywords: Any) -> bytes:
    """The response to this request, as it goes out."""
    understood = exchange(raw, status_page=site is not None, **keywords)
    outcome = understood.outcome
    reply = pages(site).render([outcome])[outcome] if isinstance(outcome, RenderKey) else outcome
    return reply.head if understood.head_only else reply.head + reply.body


def submit(raw: bytes, **keywords: Any) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the response."""
    head, _, body = answer(raw, **keywords).partition(b"\r\n\r\n")
    status, _, headers = head.partition(b"\r\n")
    version, code, _ = status.split(b" ", 2)
    assert version == b"HTTP/1.1"
    return int(code), dict(BytesParser().parsebytes(headers).items()), body


def request(target: str = "/metrics", method: str = "GET", **headers: str) -> bytes:
    """A request as bytes."""
    lines = [f"{method} {target} HTTP/1.1", "Host: x", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize("target", ["/metrics", "/metrics?name[]=asked", "http://host:9091/metrics"])
def test_metrics_are_returned_as_plain_text(target: str) -> None:
    """GET /metrics is the page as text, complete and once: the connection closes after it."""
    status, headers, body = submit(request(target))
    assert status == 200
    assert headers["Content-Type"] == CONTENT_TYPE_PLAIN_0_0_4
    assert headers["Content-Length"] == str(len(body))
    assert headers["Connection"] == "close"
    assert body == PLAIN


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3", True),
        ("text/plain;version=0.0.4", False),
        ("*/*", False),
        ("nonsense;;=", False),
    ],
)
def test_response_format_is_the_accepted_one_or_plain_text(accept: str, openmetrics: bool) -> None:
    """A client that accepts OpenMetrics gets it, all others get text."""
    status, headers, body = submit(request(Accept=accept))
    assert (status, body) == (200, OPEN if openmetrics else PLAIN)
    assert headers["Content-Type"].startswith(OPENMETRICS if openmetrics else CONTENT_TYPE_PLAIN_0_0_4)
    assert "Accept" in headers["Vary"]


def test_response_is_compressed_only_if_gzip_is_accepted() -> None:
    """Only a client that accepts gzip gets it."""
    _, headers, body = submit(request(Accept_Encoding="gzip, deflate"))
    assert headers["Content-Encoding"] == "gzip"
    assert headers["Content-Length"] == str(len(body))
    assert gzip.decompress(body) == PLAIN
    assert body[4:8] == bytes(4), "no time of day, which may be out of the range that gzip has"
    assert "Content-Encoding" not in submit(request(Accept_Encoding="deflate"))[1]


@pytest.mark.parametrize("target", ["/metrics", "/elsewhere"])
def test_head_has_the_headers_of_get_and_no_body(target: str) -> None:
    """HEAD has the status and headers of GET, its length included, and no body."""
    got, head = submit(request(target)), submit(request(target, "HEAD"))
    assert head[2] == b""
    for answer in (got, head):
        answer[1].pop("Date")
    assert head[:2] == got[:2]


@pytest.mark.parametrize("target", ["/", "/metric", "/metrics/", "//metrics/x", "/favicon.ico", "*", "metrics"])
def test_unknown_path_is_404_with_the_path_of_the_metrics(target: str) -> None:
    """There is nothing at any other path, and the answer says where the metrics are."""
    status, _, body = submit(request(target))
    assert (status, body) == (404, b"The metrics are at /metrics. Health checks are at /healthz and /readyz.\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "get", "OPTIONS"])
def test_methods_other_than_get_and_head_are_405(method: str) -> None:
    """Only GET and HEAD are answered."""
    for target in ("/metrics", "/healthz"):
        status, headers, _ = submit(request(target, method))
        assert (status, headers["Allow"]) == (405, "GET, HEAD")


GARBAGE = [
    b"\0\r\n\r\n",
    b"nonsense\r\n\r\n",
    b"GET /metrics FTP/1\r\n\r\n",
    b"\x16\x03\x01\x02\0\x01\r\n\r\n",
    b"a b c d\n\n",
]


@pytest.mark.parametrize("raw", GARBAGE)
def test_malformed_request_gets_the_body_400_bad_request(raw: bytes) -> None:
    """What is no HTTP is told that it is a bad request."""
    assert answer(raw).endswith(b"\r\n\r\n400 Bad Request\n")


@pytest.mark.parametrize("raw", GARBAGE)
def test_malformed_request_gets_a_response_with_status_400(raw: bytes) -> None:
    """The refusal is a response with a status line."""
    assert submit(raw)[0] == 400


@pytest.mark.parametrize(
    "raw",
    [
        request("http://[/metrics"),
        request(Accept="text/plain;version=abc"),
        request(Accept="text/plain;version=" + "9" * 6000),
        request(Accept="application/openmetrics-text;version=x"),
        request(Accept_Encoding="gzip;q=x"),
        request(Content_Length="-1"),
        request(Expect="100-continue"),
        request("/%zz?%"),
        b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nAccept: \xff\xfe\r\n\r\n",
        b"GET " + b"/" * 70000 + b" HTTP/1.1\r\n\r\n",
        b"GET /metrics\r\n\r\n",
        b"",
    ],
)
def test_unusual_request_gets_a_response(raw: bytes) -> None:
    """A request made to confuse is answered; the handler never raises."""
    assert answer(raw)


words = st.sampled_from(
    [b"GET", b"HEAD", b" ", b"/metrics", b"/", b" HTTP/1.1", b"\r\n", b"\n", b"Accept: ", b"\r\n\r\n"]
)


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.binary(max_size=200), st.lists(words | st.binary(max_size=5), max_size=20).map(b"".join)))
def test_random_bytes_get_a_response(raw: bytes) -> None:
    """Whatever comes in, a whole response goes out, with or without a secret and a status page."""
    for credentials in (NOBODY_IN_PARTICULAR, Credentials("secret", "user:password")):
        outcome = exchange(raw + b"\r\n\r\n", credentials, status_page=True).outcome
        assert isinstance(outcome, RenderKey) or outcome.head.startswith(b"HTTP/1.1 ")


def test_error_response_has_status_line_length_and_close() -> None:
    """A refusal has a status line, a length that is right, and closes the connection."""
    head, body = error_response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert f"Content-Length: {len(body)}\r\n".encode() in head
    assert b"\r\nConnection: close\r\n" in head
    assert head.endswith(b"\r\n\r\n")


def test_failed_rendering_is_500_and_the_other_replies_are_complete() -> None:
    """What raises is a 500 and counted; the other wishes of the same moment are fulfilled."""
    errors = ErrorReporter()
    broken, metrics = RenderKey("/broken", "", gzip=False), RenderKey("/metrics", CONTENT_TYPE_PLAIN_0_0_4, gzip=False)
    replies = pages(FakeSite(), errors).render([broken, metrics])
    assert replies[broken].head.startswith(b"HTTP/1.1 500 ")
    assert replies[metrics].body == PLAIN
    assert errors.counts == {"scrape": 1}


def test_all_formats_rendered_together_share_one_snapshot() -> None:
    """However many formats are wished for, the server is looked at once, and each format is encoded once."""
    page = Counted(ErrorReporter())
    keys = [
        RenderKey("/metrics", content_type, compressed) for content_type in ENCODERS for compressed in (True, False)
    ]
    replies = Renderer(page, None, LOCK, ErrorReporter()).render(keys)
    assert page.looks == 1
    assert all(reply.head.startswith(b"HTTP/1.1 200 ") for reply in replies.values())


@pytest.mark.parametrize("version", ["1.0.0", "1.0.1", "2.7.1", "99.0.0"])
def test_unknown_format_version_is_a_known_rendering(version: str) -> None:
    """An unknown version is not another rendering."""
    for kind in ("application/openmetrics-text", "text/plain"):
        outcome = exchange(request(Accept=f"{kind};version={version}")).outcome
        assert isinstance(outcome, RenderKey)
        assert outcome.content_type in ENCODERS
        assert outcome.content_type.startswith(kind)


def authorization(scheme: str, value: str) -> bytes:
    """A request for the metrics with this header."""
    return request(Authorization=f"{scheme} {value}")


def basic(text: str) -> str:
    """As a client sends it."""
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("token", "basic_auth", "header", "status"),
    [
        ("", "", None, 200),
        ("", "", ("Bearer", "anything"), 200),
        ("secret", "", None, 401),
        ("secret", "", ("Bearer", "secret"), 200),
        ("secret", "", ("bearer", " secret "), 200),
        ("secret", "", ("Bearer", "secreT"), 401),
        ("secret", "", ("Bearer", "secret2"), 401),
        ("secret", "", ("Bearer", ""), 401),
        ("secret", "", ("Basic", basic(":secret")), 401),
        ("secret", "", ("Basic", basic("")), 401),
        ("", "user:pass", None, 401),
        ("", "user:pass", ("Basic", basic("user:pass")), 200),
        ("", "user:p:a:s", ("BASIC", basic("user:p:a:s")), 200),
        ("", "us\u00e9r:p\u00e4ss", ("Basic", basic("us\u00e9r:p\u00e4ss")), 200),
        ("", "user:pass", ("Basic", basic("user:")), 401),
        ("", "user:pass", ("Basic", "user:pass"), 401),
        ("", "user:pass", ("Basic", "\u00e9"), 401),
        ("", "user:pass", ("Bearer", ""), 401),
        ("secret", "user:pass", ("Bearer", "secret"), 200),
        ("secret", "user:pass", ("Basic", basic("user:pass")), 200),
        ("secret", "user:pass", ("Bearer", "user:pass"), 401),
        ("secret", "user:pass", ("Digest", "x"), 401),
    ],
)
def test_token_or_password_gives_access_and_401_names_the_scheme(
    token: str, basic_auth: str, header: tuple[str, str] | None, status: int
) -> None:
    """The token, or user and password, give access; without them the response names the scheme and nothing else."""
    raw = request() if header is None else authorization(*header)
    found, headers, body = submit(raw, credentials=Credentials(token, basic_auth))
    assert found == status
    if status == 401:
        challenge = headers["WWW-Authenticate"]
        assert challenge.startswith("Basic" if basic_auth else "Bearer")
        assert body == b"401 Unauthorized\n"


def test_response_401_has_a_challenge_for_each_accepted_scheme() -> None:
    """Where both are accepted the answer names both."""
    raw = answer(request(), credentials=Credentials("secret", "user:pass"))
    assert raw.count(b"WWW-Authenticate: Bearer") == raw.count(b"WWW-Authenticate: Basic") == 1
    assert b"secret" not in raw
    assert b"pass" not in raw


@pytest.mark.parametrize("target", ["/", "/elsewhere", "/status.css"])
def test_every_path_and_method_without_credentials_is_401(target: str) -> None:
    """Without access a client does not learn which paths exist, with HEAD and other methods neither."""
    for method in ("GET", "HEAD", "POST"):
        assert submit(request(target, method), credentials=Credentials("secret"), site=FakeSite())[0] == 401


@pytest.mark.parametrize("ready", [True, False])
def test_health_checks_need_no_credentials(ready: bool) -> None:
    """A probe of an orchestrator gets its answer, short and without a secret."""
    credentials = Credentials("secret", "user:pass")
    assert submit(request("/healthz"), credentials=credentials, ready=ready)[::2] == (200, b"ok\n")
    expected = (200, b"ready\n") if ready else (503, b"not ready\n")
    assert submit(request("/readyz"), credentials=credentials, ready=ready)[::2] == expected
    assert submit(request("/readyz", "HEAD"), credentials=credentials, ready=ready)[::2] == (expected[0], b"")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Length": "0"}, 200),
        ({"Content_Length": "1"}, 413),
        ({"Content_Length": "99999999999999999999"}, 413),
        ({"Content_Length": "-1"}, 400),
        ({"Content_Length": "x"}, 400),
        ({"Transfer_Encoding": "chunked"}, 413),
        ({"Transfer_Encoding": "identity"}, 413),
        ({"Content_Length": "5", "Expect": "100-continue"}, 413),
    ],
)
def test_request_with_a_body_is_413_and_with_an_invalid_length_400(headers: dict[str, str], status: int) -> None:
    """A request that announces a body is refused before it is read; an announcement that is none is a bad request."""
    assert submit(request(**headers))[0] == status
    assert submit(request("/healthz", **headers))[0] == status


def test_second_content_length_is_checked() -> None:
    """A second Content-Length does not hide behind the first."""
    assert submit(b"GET /metrics HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 7\r\n\r\n")[0] == 413


def test_long_request_line_is_414() -> None:
    """A request line has its own limit, below that of the head."""
    assert submit(request("/" + "x" * 8192))[0] == 414


def test_status_page_has_its_headers_and_compression() -> None:
    """What the site has is served with its own headers, compressed if the client accepts that, and HEAD has no body."""
    site = FakeSite()
    status, headers, body = submit(request("/"), site=site)
    assert (status, body) == (200, b"<p>up</p>" * 50)
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Security-Policy"] == "default-src 'none'"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    status, headers, body = submit(request("/", Accept_Encoding="gzip"), site=site)
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == b"<p>up</p>" * 50
    assert headers["Content-Length"] == str(len(body))
    assert submit(request("/", "HEAD"), site=site)[2] == b""
    assert submit(request("/status.css"), site=site)[1]["Cache-Control"] == "max-age=60"
    status, _, body = submit(request("/nothing"), site=site)
    assert (status, body) == (
        404,
        b"The metrics are at /metrics. The status page is at /. Health checks are at /healthz and /readyz.\n",
    )


def test_unknown_path_is_not_rendered() -> None:
    """A path that nothing is at is answered at once: else each one more would be one more thing to be rendered."""
    for target in ("/nothing", "/status.json/", "/metrics/", "", "*"):
        assert isinstance(exchange(request(target), status_page=True).outcome, Reply)
    assert isinstance(exchange(request("/"), status_page=True).outcome, RenderKey)


def test_health_check_outcome_is_a_reply() -> None:
    """A reply says how long its body is, in bytes."""
    assert isinstance(exchange(request("/healthz")).outcome, Reply)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9091", "localhost.evil.example", "[::1", "127.0.0.1.nip.io"]
)
@pytest.mark.parametrize("path", ["/", "/status.json"])
def test_status_page_with_a_foreign_host_header_is_403_on_a_local_address(host: str, path: str) -> None:
    """A web page whose host name resolves to this machine cannot read the status page."""
    raw = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    outcome = RequestParser(raw, NOBODY_IN_PARTICULAR, lambda: True, status_paths=STATUS, local_only=True).outcome
    assert isinstance(outcome, Reply)
    assert outcome.head.startswith(b"HTTP/1.1 403 ")
    assert isinstance(RequestParser(raw, NOBODY_IN_PARTICULAR, lambda: True, status_paths=STATUS).outcome, RenderKey)


@pytest.mark.parametrize("host", ["127.0.0.1:9091", "localhost", "localhost:9091", "[::1]:9091", "10.1.2.3", None])
def test_status_page_accepts_address_localhost_or_no_host_header(host: str | None) -> None:
    """The Host header may be an address, localhost, or absent."""
    head = "" if host is None else f"Host: {host}\r\n"
    raw = f"GET / HTTP/1.1\r\n{head}\r\n".encode()
    outcome = RequestParser(raw, NOBODY_IN_PARTICULAR, lambda: True, status_paths=STATUS, local_only=True).outcome
    assert outcome == RenderKey("/", "", gzip=False)

"""One HTTP request to the exporter."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from email.parser import BytesParser
from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from gunicorn_prom_hooks.master.http import Exchange, refusal

PAGE = CollectorRegistry()
Counter("asked", "Times.", registry=PAGE)
PLAIN, OPEN = generate_latest(PAGE), generate_openmetrics(PAGE)  # type: ignore[no-untyped-call]


def encode(encoder: Callable[[Collector], bytes]) -> bytes:
    """What the encoder makes of the page."""
    return encoder(PAGE)


def ask(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer."""
    head, _, body = Exchange(raw, encode).answer.partition(b"\r\n\r\n")
    status, _, headers = head.partition(b"\r\n")
    version, code, _ = status.split(b" ", 2)
    assert version == b"HTTP/1.1"
    return int(code), dict(BytesParser().parsebytes(headers).items()), body


def request(target: str = "/metrics", method: str = "GET", **headers: str) -> bytes:
    """A request as bytes."""
    lines = [f"{method} {target} HTTP/1.1", "Host: x", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize("target", ["/metrics", "/metrics?name[]=asked", "http://host:9091/metrics"])
def test_the_metrics_as_text(target: str) -> None:
    """GET /metrics is the page as text, complete and once: the connection closes after it."""
    status, headers, body = ask(request(target))
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
def test_the_format_is_the_one_accepted(accept: str, openmetrics: bool) -> None:
    """OpenMetrics for who asks for it, text for all others."""
    status, headers, body = ask(request(Accept=accept))
    assert (status, body) == (200, OPEN if openmetrics else PLAIN)
    assert headers["Content-Type"].startswith(OPENMETRICS if openmetrics else CONTENT_TYPE_PLAIN_0_0_4)
    assert "Accept" in headers["Vary"]


def test_gzip() -> None:
    """Who accepts gzip gets it, and no one else."""
    _, headers, body = ask(request(Accept_Encoding="gzip, deflate"))
    assert headers["Content-Encoding"] == "gzip"
    assert headers["Content-Length"] == str(len(body))
    assert gzip.decompress(body) == PLAIN
    assert "Content-Encoding" not in ask(request(Accept_Encoding="deflate"))[1]


@pytest.mark.parametrize("target", ["/metrics", "/elsewhere"])
def test_head_is_get_without_the_body(target: str) -> None:
    """HEAD has the status and headers of GET, its length included, and no body."""
    got, head = ask(request(target)), ask(request(target, "HEAD"))
    assert head[2] == b""
    for answer in (got, head):
        answer[1].pop("Date")
    assert head[:2] == got[:2]


@pytest.mark.parametrize("target", ["/", "/metric", "/metrics/", "//metrics/x", "/favicon.ico", "*", "metrics"])
def test_404_elsewhere(target: str) -> None:
    """There is nothing at any other path, and the answer says where the metrics are."""
    status, _, body = ask(request(target))
    assert (status, body) == (404, b"The metrics are at /metrics.\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "get", "OPTIONS"])
def test_other_methods_are_refused(method: str) -> None:
    """Only GET and HEAD are answered."""
    assert ask(request(method=method))[0] == 501


GARBAGE = [
    b"\0\r\n\r\n",
    b"nonsense\r\n\r\n",
    b"GET /metrics FTP/1\r\n\r\n",
    b"\x16\x03\x01\x02\0\x01\r\n\r\n",
    b"a b c d\n\n",
]


@pytest.mark.parametrize("raw", GARBAGE)
def test_garbage_is_refused_as_bad(raw: bytes) -> None:
    """What is no HTTP is told that it is a bad request."""
    answer = Exchange(raw, encode).answer
    assert b"Error code: 400" in answer


@pytest.mark.parametrize("raw", GARBAGE)
def test_garbage_gets_a_whole_response(raw: bytes) -> None:
    """The refusal is a response with a status line."""
    assert ask(raw)[0] == 400


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
def test_what_is_odd_raises_nothing(raw: bytes) -> None:
    """A request made to confuse is answered; the handler never raises."""
    assert Exchange(raw, encode).answer or not raw


words = st.sampled_from(
    [b"GET", b"HEAD", b" ", b"/metrics", b"/", b" HTTP/1.1", b"\r\n", b"\n", b"Accept: ", b"\r\n\r\n"]
)


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.binary(max_size=200), st.lists(words | st.binary(max_size=5), max_size=20).map(b"".join)))
def test_random_bytes_raise_nothing(raw: bytes) -> None:
    """Whatever comes in, something goes out, unless nothing came in."""
    assert Exchange(raw + b"\r\n\r\n", encode).answer is not None


def test_a_failing_page_is_the_callers_to_handle() -> None:
    """What goes wrong while the page is rendered passes, and is not half an answer."""

    def broken(encoder: Callable[[Collector], bytes]) -> bytes:
        raise RuntimeError("the page")

    with pytest.raises(RuntimeError, match="the page"):
        Exchange(request(), broken)


def test_a_refusal_is_a_whole_response() -> None:
    """A refusal has a status line, a length that is right, and closes the connection."""
    head, _, body = refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert f"Content-Length: {len(body)}\r\n".encode() in head
    assert head.endswith(b"Connection: close")

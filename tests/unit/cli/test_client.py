"""The HTTP client: URLs, credentials, TLS, and what is said of a server that does not answer."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gunicorn_prom_hooks.cli.client import Access, BadUrl, Client, Target, Unreachable
from tests.helpers.certificates import Certificates
from tests.helpers.page_server import Reply, page_server
from tests.helpers.servers import unused_port


def get(url: str, access: Access | None = None, seconds: float = 5.0) -> str:
    """Return the text of the page ``healthz`` of this server."""
    return Client(Target.of_url(url), access or Access(), seconds).get("healthz").text


@contextmanager
def raw_server(answer: bytes) -> Iterator[str]:
    """Send these bytes to the first client, and close the connection after a second or when the client has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(1.0)
                try:
                    sock.recv(4096)
                    sock.sendall(answer)
                    if not answer:
                        sock.recv(4096)
                except OSError:
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(5)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:9091", "http://127.0.0.1:9091/metrics"),
        ("http://127.0.0.1:9091/", "http://127.0.0.1:9091/metrics"),
        ("http://127.0.0.1:9091/metrics", "http://127.0.0.1:9091/metrics"),
        ("https://shop.example/gunicorn/metrics", "https://shop.example:443/gunicorn/metrics"),
        ("http://[::1]/gunicorn/", "http://[::1]:80/gunicorn/metrics"),
    ],
)
def test_url_gives_host_port_and_prefix(url: str, expected: str) -> None:
    """The URL of the server, of its status page or of its metrics is the same target."""
    assert Target.of_url(url).url("metrics") == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "ftp://a/",
        "http://a:b/",
        "http://u:p@a/",
        "http://a/?x=1",
        "http://a/#x",
        "http://a/\x1b",
        "http://ä/",
    ],
)
def test_bad_url_is_refused(url: str) -> None:
    """A URL that cannot be that of a server is refused with a text."""
    with pytest.raises(BadUrl, match=r"."):
        Target.of_url(url)


def test_body_is_uncompressed_and_both_sizes_are_known() -> None:
    """The answer has the uncompressed body, and the number of bytes that were sent."""
    with page_server({"healthz": Reply("a" * 10_000)}) as pages:
        answer = Client(Target.of_url(pages.url), Access(), 5.0).get("healthz")
    assert answer.text == "a" * 10_000
    assert answer.sent_bytes < 1000


@pytest.mark.parametrize(
    ("access", "header"),
    [
        (Access(), None),
        (Access(token="secret"), "Bearer secret"),
        (Access(basic_auth="ann:pässword"), "Basic YW5uOnDDpHNzd29yZA=="),
        (Access(token="secret", basic_auth="a:b"), "Bearer secret"),
    ],
)
def test_credentials_are_sent_as_prometheus_sends_them(access: Access, header: str | None) -> None:
    """The header has the token, or else user and password in UTF-8."""
    with page_server() as pages:
        get(pages.url, access)
        assert pages.requests[0].get("Authorization") == header


def test_closed_port_says_that_nothing_listens() -> None:
    """A refused connection is said in plain words."""
    with pytest.raises(Unreachable, match=r"^nothing listens at 127\.0\.0\.1:\d+$"):
        get(f"http://127.0.0.1:{unused_port()}")


def test_unknown_host_says_that_the_name_has_no_address() -> None:
    """A host name that cannot be resolved is said in plain words."""
    with pytest.raises(Unreachable, match="the host name has no address"):
        get("http://nosuch.invalid")


def test_server_that_hangs_is_given_up() -> None:
    """A server that sends nothing is given up after the deadline."""
    with raw_server(b"") as url, pytest.raises(Unreachable, match=r"has not answered within 0\.2 s"):
        get(url, seconds=0.2)


def test_server_that_sends_slowly_is_given_up() -> None:
    """The deadline is that of the whole answer, not of each byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while not done.wait(0.05):
                    sock.sendall(b"a")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            with pytest.raises(Unreachable, match=r"has not answered within 0\.3 s"):
                get(f"http://127.0.0.1:{listener.getsockname()[1]}", seconds=0.3)
        finally:
            done.set()
            thread.join(5)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"hello\r\n", "closes the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "incorrect header check"),
    ],
)
def test_damaged_answer_is_no_answer(answer: bytes, words: str) -> None:
    """What is no HTTP, ends early or is not compressed as it says, is an error with a text."""
    with raw_server(answer) as url, pytest.raises(Unreachable, match=words):
        get(url)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates from a new authority."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


def tls_of(certificates: Certificates, *, client: bool = False) -> ssl.SSLContext:
    """Return the context of a server, which may require a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.both)
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates.ca)
    return context


def trusting(ca: Path) -> ssl.SSLContext:
    """Return the context of a client that accepts this authority."""
    return ssl.create_default_context(cafile=str(ca))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_certificate_is_verified_with_the_given_authority(certificates: Certificates) -> None:
    """A server is reached with the authority that issued its certificate, and refused without it."""
    with page_server(context=tls_of(certificates)) as pages:
        url = pages.url.replace("http:", "https:")
        assert get(url, Access(context=trusting(certificates.ca))) == "ok\n"
        named = Access(context=trusting(certificates.ca), server_name="localhost")
        assert get(url, named) == "ok\n"
        with pytest.raises(Unreachable, match=r"the certificate of .* is not accepted: .*certificate"):
            get(url)
        other = Access(context=trusting(certificates.ca), server_name="shop.example")
        with pytest.raises(Unreachable, match=r"not accepted: .*shop\.example"):
            get(url, other)


def test_server_without_tls_is_explained() -> None:
    """https:// to a port without a certificate is explained, and so is http:// to one with it."""
    with page_server() as pages, pytest.raises(Unreachable, match="TLS fails") as raised:
        get(pages.url.replace("http:", "https:"))
    assert "use http://" in raised.value.advice


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_server_with_tls_is_explained(certificates: Certificates) -> None:
    """http:// to a port with a certificate is explained."""
    with (
        page_server(context=tls_of(certificates)) as pages,
        pytest.raises(Unreachable, match="without an answer") as raised,
    ):
        get(pages.url)
    assert "use https://" in raised.value.advice


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_server_that_requires_a_client_certificate_is_explained(certificates: Certificates) -> None:
    """Without a client certificate the advice is to give one; with it the server answers."""
    with page_server(context=tls_of(certificates, client=True)) as pages:
        url = pages.url.replace("http:", "https:")
        context = trusting(certificates.ca)
        with pytest.raises(Unreachable) as raised:
            get(url, Access(context=context))
        assert "--cert-file" in raised.value.advice
        context.load_cert_chain(certificates.client)
        assert get(url, Access(context=context)) == "ok\n"

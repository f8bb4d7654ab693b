"""An HTTP client as Prometheus is one: credentials, TLS, compression, and a deadline for the whole answer."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

MAX_BODY: Final = 256 << 20
"""Bytes of a body, uncompressed."""
_CHUNK: Final = 64 * 1024


class BadUrl(ValueError):
    """A URL that cannot be used. The text says why."""


class Unreachable(Exception):
    """A server that gave no answer.

    Attributes:
        what: has happened.
        advice: what to do.
    """

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(what)
        self.what = what
        self.advice = advice


@dataclass(frozen=True)
class Target:
    """A server, and the path below which its pages are.

    Attributes:
        prefix: begins and ends with a slash.
    """

    is_tls: bool
    host: str
    port: int
    prefix: str

    @classmethod
    def of_url(cls, url: str) -> Target:
        """Return the target of a URL, that of the metrics or of the status page.

        Raises:
            BadUrl: it is not a URL of such a server.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise BadUrl(f"{url!r} is not a URL: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadUrl(f"{url!r} is not a URL such as http://127.0.0.1:9091/metrics")
        if parts.username is not None or parts.query or parts.fragment:
            raise BadUrl("the URL may have no password, query or fragment; give credentials by options")
        if not url.isascii() or not url.isprintable() or " " in url:
            raise BadUrl(f"{url!r} has characters that a URL cannot have")
        is_tls = parts.scheme == "https"
        prefix = parts.path if parts.path.endswith("/") else parts.path.rpartition("/")[0] + "/"
        return cls(is_tls, parts.hostname, port or (443 if is_tls else 80), prefix)

    @property
    def where(self) -> str:
        """Return host and port, as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def url(self, name: str) -> str:
        """Return the URL of a page."""
        return f"{'https' if self.is_tls else 'http'}://{self.where}{self.prefix}{name}"


@dataclass(frozen=True)
class Access:
    """Credentials and TLS.

    Attributes:
        token: of the scheme Bearer; empty: none.
        basic_auth: ``user:password``, sent if there is no token; empty: none.
        context: of TLS; None: the system's authorities.
        server_name: name that the certificate must have; empty: the host of the URL.
    """

    token: str = ""
    basic_auth: str = ""
    context: ssl.SSLContext | None = None
    server_name: str = ""

    @property
    def authorization(self) -> str:
        """Return the value of the header; empty if there are no credentials."""
        if self.token:
            return f"Bearer {self.token}"
        return f"Basic {base64.b64encode(self.basic_auth.encode()).decode()}" if self.basic_auth else ""


@dataclass(frozen=True)
class Answer:
    """A response.

    Attributes:
        body: uncompressed.
        sent_bytes: of the body, as it was sent.
        seconds: from the start of the connection to the last byte.
    """

    status: int
    content_type: str
    body: bytes
    sent_bytes: int
    seconds: float

    @property
    def text(self) -> str:
        """Return the body as text. Bytes that are not UTF-8 are escaped."""
        return self.body.decode("utf-8", "backslashreplace")


class Client:
    """A client of one server. Each request has a connection of its own, as the exporter closes it.

    Args:
        target: the server.
        access: credentials and TLS.
        seconds: deadline of a whole request.
    """

    def __init__(self, target: Target, access: Access, seconds: float) -> None:
        self.target = target
        self._access = access
        self._seconds = seconds

    def get(self, name: str, accept: str = "*/*") -> Answer:
        """Return the response for a page, whatever its status.

        Raises:
            Unreachable: there is none.
        """
        start = time.monotonic()
        headers = {"Accept": accept, "Accept-Encoding": "gzip", "User-Agent": "gunicorn_prom_hooks"}
        if self._access.authorization:
            headers["Authorization"] = self._access.authorization
        connection = http.client.HTTPConnection(self.target.host, self.target.port, timeout=self._seconds)
        try:
            connection.sock = self._connect()
            connection.request("GET", self.target.prefix + name, headers=headers)
            response = connection.getresponse()
            sent = self._read(response, start + self._seconds)
            is_gzip = response.headers.get("Content-Encoding", "") == "gzip"
            body = _unpacked(sent) if is_gzip else sent
            content_type = response.headers.get("Content-Type", "")
            return Answer(response.status, content_type, body, len(sent), time.monotonic() - start)
        except (OSError, http.client.HTTPException, zlib.error, UnicodeError) as error:
            raise self._explain(error) from error
        finally:
            connection.close()

    def _connect(self) -> socket.socket:
        sock = socket.create_connection((self.target.host, self.target.port), self._seconds)
        if not self.target.is_tls:
            return sock
        context = self._access.context or ssl.create_default_context()
        try:
            return context.wrap_socket(sock, server_hostname=self._access.server_name or self.target.host)
        except BaseException:
            sock.close()
            raise

    def _read(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        chunks = []
        size = 0
        while chunk := response.read1(_CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_BODY:
                raise zlib.error("the page has more than 256 MB")
            if time.monotonic() > deadline:
                raise TimeoutError
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(chunks)

    def _explain(self, error: Exception) -> Unreachable:
        where = self.target.where
        for kinds, what, advice in _reasons(self.target.is_tls):
            if isinstance(error, kinds):
                text = _text_of(error)
                return Unreachable(what.format(where=where, error=text, seconds=self._seconds), advice)
        return Unreachable(f"{where}: {_text_of(error)}", "Look into the error log of gunicorn")


def _reasons(is_tls: bool) -> Iterator[tuple[type[Exception] | tuple[type[Exception], ...], str, str]]:
    """Yield kinds of errors, the first that fits first, with what has happened and what to do."""
    yield (
        ssl.SSLCertVerificationError,
        "the certificate of {where} is not accepted: {error}",
        "Give the authority that issued it with --ca-file, and its name with --server-name if that is not the host",
    )
    yield (
        ssl.SSLError,
        "{where}: TLS fails: {error}",
        "If the port has no certificate, use http://; if it asks for a client certificate, use --cert-file",
    )
    yield socket.gaierror, "{where}: the host name has no address: {error}", "Correct the URL"
    yield (
        ConnectionRefusedError,
        "nothing listens at {where}",
        "Start gunicorn, or look for 'gunicorn_prom_hooks:' in its error log; from another machine, set `address`",
    )
    yield (
        TimeoutError,
        "{where} has not answered within {seconds:g} s",
        "Look for a firewall between here and there, and into the error log of gunicorn",
    )
    yield (
        (http.client.RemoteDisconnected, http.client.BadStatusLine, ConnectionError),
        "{where} closes the connection without an answer",
        "If it asks for a client certificate, use --cert-file"
        if is_tls
        else "If the port has a certificate, use https://",
    )


def _text_of(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or "the connection has ended").replace("_", " ").lower()
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__


def _unpacked(data: bytes) -> bytes:
    unpack = zlib.decompressobj(wbits=31)
    body = unpack.decompress(data, MAX_BODY)
    if unpack.unconsumed_tail:
        raise zlib.error("the page has more than 256 MB")
    return body

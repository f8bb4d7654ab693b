"""TLS on bytes in memory: the event loop alone reads and writes the sockets.

OpenSSL has internal locks, some of them global. Each step here is short, since it never waits for a client. It holds
the fork lock, so that no worker is forked in the middle of a step.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Final, Protocol

from ..concurrency import ForkLock

_READ_BYTES: Final = 64 * 1024


class BadCertificate(Exception):
    """A certificate file that cannot be used. The text is one line with file and reason."""


class Transport(Protocol):
    """Translation between the bytes of a connection and those of its request and response.

    Attributes:
        piece_bytes: bytes of a response to encrypt at a time.
    """

    piece_bytes: int

    def feed(self, data: bytes) -> bytes:
        """Return the bytes of the request contained in received bytes.

        Raises:
            ConnectionError: the client violates the protocol.
        """

    def encrypt(self, data: memoryview) -> memoryview:
        """Return the bytes to send for a piece of the response."""

    def outgoing(self) -> bytes:
        """Return the bytes that the transport itself has to send."""

    def finish(self) -> bytes:
        """Return the bytes to send at the end of the connection."""


class Plain:
    """Transport without TLS."""

    piece_bytes = 256 * 1024

    def feed(self, data: bytes) -> bytes:
        """Return the bytes unchanged."""
        return data

    def encrypt(self, data: memoryview) -> memoryview:
        """Return the bytes unchanged."""
        return data

    def outgoing(self) -> bytes:
        """Return no bytes."""
        return b""

    def finish(self) -> bytes:
        """Return no bytes."""
        return b""


class Tls:
    """Server side of one TLS connection.

    Args:
        context: as made by ``server_context``.
        fork_lock: held for each step.
    """

    piece_bytes = 16 * 1024

    def __init__(self, context: ssl.SSLContext, fork_lock: ForkLock) -> None:
        self._fork_lock = fork_lock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._context = context
        self._tls: ssl.SSLObject | None = None
        self._established = False

    def feed(self, data: bytes) -> bytes:
        """Continue the handshake, or decrypt.

        Raises:
            ConnectionError: not TLS, no accepted client certificate, or bytes after ``close_notify``.
        """
        plain = b""
        with self._fork_lock.hold():
            tls = self._object()
            if self._in.pending:  # after close_notify OpenSSL reads nothing, and bytes would pile up
                raise ConnectionAbortedError("bytes after close_notify")
            self._in.write(data)
            try:
                if not self._established:
                    tls.do_handshake()
                    self._established = True
                while piece := tls.read(_READ_BYTES):
                    plain += piece
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                pass  # no more bytes for now, or at all: then the socket reports the end
            except ssl.SSLError as error:
                raise ConnectionAbortedError(error.reason) from error
        return plain

    def encrypt(self, data: memoryview) -> memoryview:
        """Return the encrypted bytes.

        Raises:
            ConnectionError: the TLS connection is broken.
        """
        with self._fork_lock.hold():
            try:
                self._object().write(data)
            except ssl.SSLError as error:
                raise ConnectionAbortedError(error.reason) from error
            return memoryview(self._out.read())

    def outgoing(self) -> bytes:
        """Return the bytes of the handshake, alerts included."""
        return self._out.read()

    def finish(self) -> bytes:
        """Return the alert ``close_notify``."""
        with self._fork_lock.hold():
            with contextlib.suppress(OSError):
                self._object().unwrap()
            return self._out.read()

    def _object(self) -> ssl.SSLObject:
        if self._tls is None:
            self._tls = self._context.wrap_bio(self._in, self._out, server_side=True)
        return self._tls


def server_context(certfile: str, keyfile: str, client_cafile: str) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and newer; ``client_cafile`` requires client certificates issued by that CA.

    Raises:
        BadCertificate: a file cannot be used; names the file.
    """
    # Not unpatched(): under gevent the class of the standard library would recurse without end.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    for name, path in (("certfile", certfile), ("keyfile", keyfile), ("client_cafile", client_cafile)):
        try:
            if path:
                with open(path, "rb"):
                    pass
        except OSError as error:
            raise BadCertificate(f"{name} {path!r} cannot be read: {error.strerror or error}") from error
    try:
        context.load_cert_chain(certfile, keyfile or None, password=_no_password)
    except (OSError, ValueError) as error:
        files = f"certfile {certfile!r}" + (f" with keyfile {keyfile!r}" if keyfile else "")
        raise BadCertificate(f"{files} cannot be used: {_reason(error)}") from error
    if client_cafile:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(client_cafile)
        except (OSError, ValueError) as error:
            raise BadCertificate(f"client_cafile {client_cafile!r} cannot be used: {_reason(error)}") from error
    return context


def _no_password() -> str:
    # Without it OpenSSL would ask for a password at the terminal.
    raise ValueError("the private key is encrypted")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it is not what it should be").replace("_", " ").lower()
    return str(error)

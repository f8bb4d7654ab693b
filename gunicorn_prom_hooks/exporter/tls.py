"""TLS on the exporter's non-blocking sockets: records come in and go out as bytes, the sockets stay the loop's.

OpenSSL has locks of its own, some of them global. Each of its steps here is short, since it never waits for a
client, and is taken with the master's lock held: no worker is forked in the middle of one.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Final, Protocol

from ..concurrency import ForkLock

_READ_BYTES: Final = 64 * 1024


class BadCertificate(Exception):
    """A file that cannot be used. Its text is one line: which one, and why."""


class Transport(Protocol):
    """What is between the bytes of a connection and those of its request and answer.

    Attributes:
        piece_bytes: how much of an answer to seal at a time.
    """

    piece_bytes: int

    def feed(self, data: bytes) -> bytes:
        """From what came in to what of it is the request's.

        Raises:
            ConnectionError: the client does not speak as it should.
        """

    def encrypt(self, data: memoryview) -> memoryview:
        """From a piece of the answer to what is to be sent for it."""

    def outgoing(self) -> bytes:
        """What is to be sent of the channel's own accord."""

    def finish(self) -> bytes:
        """What is to be sent at the end."""


class Plain:
    """No TLS."""

    piece_bytes = 256 * 1024

    def feed(self, data: bytes) -> bytes:
        """As it came."""
        return data

    def encrypt(self, data: memoryview) -> memoryview:
        """As it is."""
        return data

    def outgoing(self) -> bytes:
        """Nothing."""
        return b""

    def finish(self) -> bytes:
        """Nothing."""
        return b""


class Tls:
    """The server's side of one TLS connection.

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
        """Goes on with the handshake, or decrypts.

        Raises:
            ConnectionError: no TLS, or no certificate that is let in, or more behind the notice that no more will come.
        """
        plain = b""
        with self._fork_lock.hold():
            tls = self._object()
            if self._in.pending:  # behind that notice OpenSSL takes nothing any more, and it would pile up here
                raise ConnectionAbortedError("more after the end")
            self._in.write(data)
            try:
                if not self._established:
                    tls.do_handshake()
                    self._established = True
                while piece := tls.read(_READ_BYTES):
                    plain += piece
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                pass  # for the moment, or for ever: then the socket will say so
            except ssl.SSLError as error:
                raise ConnectionAbortedError(error.reason) from error
        return plain

    def encrypt(self, data: memoryview) -> memoryview:
        """Encrypts.

        Raises:
            ConnectionError: the connection is not one any more.
        """
        with self._fork_lock.hold():
            try:
                self._object().write(data)
            except ssl.SSLError as error:
                raise ConnectionAbortedError(error.reason) from error
            return memoryview(self._out.read())

    def outgoing(self) -> bytes:
        """What the handshake has to say, alerts included."""
        return self._out.read()

    def finish(self) -> bytes:
        """The notice that no more will come."""
        with self._fork_lock.hold():
            with contextlib.suppress(OSError):
                self._object().unwrap()
            return self._out.read()

    def _object(self) -> ssl.SSLObject:
        if self._tls is None:
            self._tls = self._context.wrap_bio(self._in, self._out, server_side=True)
        return self._tls


def server_context(certfile: str, keyfile: str, client_cafile: str) -> ssl.SSLContext:
    """TLS 1.2 and newer with this certificate; with ``client_cafile``, for clients that have one from there.

    Raises:
        BadCertificate: naming the file.
    """
    # Not the original under gevent: there the class of the standard library calls itself without end.
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
    # OpenSSL would ask at the terminal.
    raise ValueError("the private key is encrypted")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it is not what it should be").replace("_", " ").lower()
    return str(error)

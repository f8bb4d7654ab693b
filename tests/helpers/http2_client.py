"""A gunicorn that speaks HTTP/2 over TLS, and a client that does with its streams what no good client would."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import httpx
import requests
import trustme

from tests.helpers.servers import GUNICORN, Server

TLS = """
certfile = "server.pem"
keyfile = "server.key"
http_protocols = "h2,h1"
"""


class TlsServer(Server):
    """A gunicorn with a certificate; ``ca.pem`` in its folder vouches for it."""

    def __init__(self, folder: Path, *, app: Path, config: str, gunicorn: str = GUNICORN) -> None:
        super().__init__(folder, app=app, config=config + TLS, gunicorn=gunicorn)
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        self.authority = str(folder / "ca.pem")
        authority.cert_pem.write_to_path(self.authority)
        certificate.private_key_pem.write_to_path(str(folder / "server.key"))
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(str(folder / "server.pem"), append=True)
        (folder / "bells").mkdir()

    def trust(self) -> ssl.SSLContext:
        """Return a context for clients that trusts the server."""
        return ssl.create_default_context(cafile=self.authority)

    def get(self, path: str, **keywords: object) -> requests.Response:
        """Send a request to the application over TLS and HTTP/1."""
        return requests.get(f"https://127.0.0.1:{self.port}{path}", timeout=20, verify=self.authority, **keywords)  # type: ignore[arg-type]


def ask_on_streams(server: TlsServer, kinds: Sequence[tuple[Any, ...]], ask: Callable[..., Awaitable[None]]) -> None:
    """Call ``ask(client, *kind)`` for each kind, 20 at a time on each of three connections."""

    async def load(mine: Sequence[tuple[Any, ...]]) -> None:
        async with httpx.AsyncClient(
            http2=True,
            verify=server.trust(),
            base_url=f"https://127.0.0.1:{server.port}",
            timeout=60,
            limits=httpx.Limits(max_connections=1),
        ) as client:
            for at in range(0, len(mine), 20):
                await asyncio.gather(*(ask(client, *kind) for kind in mine[at : at + 20]))

    async def all_of_it() -> None:
        await asyncio.gather(*(load(kinds[first::3]) for first in range(3)))

    asyncio.run(all_of_it())


class Streams:
    """An HTTP/2 connection.

    Attributes:
        status: of the streams that have one, by stream.
        received: bytes of body, by stream.
        ended: the streams whose response is complete.
        cut_off: the streams that the server has reset.
    """

    def __init__(self, server: TlsServer) -> None:
        context = server.trust()
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection(("127.0.0.1", server.port), 30)
        self.sock = context.wrap_socket(raw, server_hostname="127.0.0.1")
        assert self.sock.selected_alpn_protocol() == "h2"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.status: dict[int, int] = {}
        self.received: dict[int, int] = {}
        self.ended: set[int] = set()
        self.cut_off: set[int] = set()
        self.closed = False
        self.flush()

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *error: object) -> None:
        self.sock.close()

    def open(self, method: str, path: str, *, more: bool = False) -> int:
        """Begin a request without sending it. With ``more``, a body follows."""
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "x")]
        self.h2.send_headers(stream, head, end_stream=not more)
        return stream

    def flush(self) -> None:
        """Send all pending data."""
        self.sock.sendall(self.h2.data_to_send())

    def reset(self, stream: int) -> None:
        """Cancel the stream with RST_STREAM."""
        self.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        self.flush()

    def cut(self) -> None:
        """Reset the TCP connection, without a TLS alert."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def receive(self) -> None:
        """Process received data without giving back flow-control credit for it. Wait if there is none.

        ``:status`` is the first header.
        """
        data = self.sock.recv(65536)
        self.closed = not data
        for event in self.h2.receive_data(data) if data else ():
            if isinstance(event, h2.events.ResponseReceived):
                self.status[event.stream_id] = int(event.headers[0][1])
            elif isinstance(event, h2.events.DataReceived):
                self.received[event.stream_id] = self.received.get(event.stream_id, 0) + len(event.data)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self.cut_off.add(event.stream_id)
        self.flush()

    def answer(self, stream: int) -> int:
        """Return the status of the stream once its response is complete or cut off. It is 0 without a response."""
        while stream not in self.ended | self.cut_off and not self.closed:
            self.receive()
        return self.status.get(stream, 0)

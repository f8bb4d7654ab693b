"""The exporter's loop over real sockets: any bytes in any pieces, and always an answer or a close."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gunicorn_prom_hooks import concurrency
from gunicorn_prom_hooks.concurrency import ForkLock, WakeupPipe
from gunicorn_prom_hooks.exporter import connection, event_loop
from gunicorn_prom_hooks.exporter.auth import Credentials
from gunicorn_prom_hooks.exporter.bound_sockets import Candidate, Listeners
from gunicorn_prom_hooks.exporter.event_loop import Connections, Service
from gunicorn_prom_hooks.exporter.http import RenderKey, Reply, RequestParser, respond
from gunicorn_prom_hooks.exporter.render_queue import RenderQueue
from gunicorn_prom_hooks.exporter.tls import BadCertificate, Plain, Tls, server_context
from tests.helpers.servers import eventually

LOCK = ForkLock(lambda: None)
GET = b"GET /metrics HTTP/1.1\r\n\r\n"
BODY = b"x" * 3_000_000
"""More than the kernel keeps for a client that does not read."""


class Loop:
    """Connections in a thread of its own, with a page of a few bytes, or of many at /big."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.wakeup_pipe = WakeupPipe()
        self.stopping = False
        self.failed: BaseException | None = None
        self.rendered = 0
        self.listeners = Listeners([Candidate(socket.AF_INET, socket.SOCK_STREAM, 0, ("127.0.0.1", 0))])
        self.listeners.bind()
        [listener] = self.listeners.open.values()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        self.port = listener.getsockname()[1]
        service = Service(
            lambda: Plain() if context is None else Tls(context, LOCK),
            self._answer,
            RenderQueue(self._render, self.wakeup_pipe.wake, print),
            lambda: self.stopping,
            lambda: None,
        )
        self.connections = Connections(self.listeners, self.wakeup_pipe, LOCK, service)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.connections.serve()
        except BaseException as error:  # noqa: BLE001 - for the test
            self.failed = error

    def _answer(self, raw: bytes) -> tuple[Reply | RenderKey, bool]:
        exchange = RequestParser(raw, Credentials(), lambda: True, status_paths=("/big",))
        return exchange.outcome, exchange.head_only

    def _render(self, keys: Iterable[RenderKey]) -> Mapping[RenderKey, Reply]:
        self.rendered += 1
        body = BODY[: -self.rendered]  # each rendering is another one
        return {key: respond(*_page(key, body)) for key in keys}

    @property
    def open(self) -> int:
        """Return the number of registered clients."""
        return len(self.connections.open)

    def connect(self, *, keeps: int = 0) -> socket.socket:
        """A client, whose kernel keeps no more than so much that it has not read."""
        sock = socket.socket()
        if keeps:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, keeps)
        sock.settimeout(30.0)
        sock.connect(("127.0.0.1", self.port))
        return sock

    def close(self) -> None:
        """Ends it, and makes sure that it has got that far."""
        self.stopping = True
        self.wakeup_pipe.wake()
        self._thread.join(30.0)
        assert not self._thread.is_alive()
        self.connections.close()
        self.listeners.close()
        self.wakeup_pipe.close()
        assert self.failed is None


def _page(key: RenderKey, body: bytes) -> tuple[HTTPStatus, str, bytes]:
    return HTTPStatus.OK, "text/plain", body if key.path == "/big" else b"page"


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    """One for all that leave it as it was."""
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Of the TLS tests."""
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the server's certificate and key."""
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "both.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    return folder


@pytest.fixture(scope="module")
def tls_loop(files: Path) -> Iterator[Loop]:
    """The same over TLS."""
    loop = Loop(server_context(str(files / "both.pem"), "", ""))
    yield loop
    loop.close()


def received(sock: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    got = b""
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(1 << 20):
            got += piece
    return got


def talk(loop: Loop, pieces: Iterable[bytes]) -> bytes:
    """Says this, piece by piece, and no more; what comes back."""
    with loop.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
        return received(sock)


def eventually_none_open(loop: Loop) -> None:
    """Wait until no client is registered."""
    deadline = time.monotonic() + 30.0
    while loop.open:
        assert time.monotonic() < deadline
        time.sleep(0.01)


FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
words = st.sampled_from(
    [
        b"GET ",
        b"HEAD ",
        b"/metrics",
        b"/big",
        b"/",
        b" HTTP/1.1",
        b"\r\n",
        b"\n",
        b"Content-Length: 5",
        b"\r\n\r\n",
        GET,
    ]
)
streams = st.lists(words | st.binary(max_size=30) | st.binary(max_size=30).map(lambda some: some * 700), max_size=12)


@FUZZ
@given(streams)
def test_any_bytes_in_any_pieces_get_a_response_or_a_close(loop: Loop, pieces: list[bytes]) -> None:
    """Whatever comes, in whatever pieces, is answered or closed; what is answered begins as HTTP does."""
    answer = talk(loop, pieces)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert loop.failed is None


@FUZZ
@given(streams, st.booleans())
def test_any_bytes_over_tls_do_not_end_the_loop(tls_loop: Loop, pieces: list[bytes], handshake: bool) -> None:
    """Garbage instead of a handshake, or after it, is an alert or a close."""
    with tls_loop.connect() as sock:
        with contextlib.suppress(OSError):
            if handshake:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                sock = context.wrap_socket(sock)  # noqa: PLW2901
                pieces = [b"".join(pieces)]
            for piece in pieces:
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            received(sock)
        sock.close()
    assert tls_loop.failed is None


def test_valid_requests_after_random_bytes_are_served(loop: Loop, tls_loop: Loop, authority: trustme.CA) -> None:
    """The loops go on, no client stays registered, and no thread is left over."""
    assert talk(loop, [GET]).endswith(b"\r\n\r\npage")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with tls_loop.connect() as sock, context.wrap_socket(sock, server_hostname="localhost") as tls:
        tls.sendall(b"GET /big HTTP/1.1\r\n\r\n")
        assert received(tls).endswith(b"x" * 1000)
    for each in (loop, tls_loop):
        eventually_none_open(each)
    deadline = time.monotonic() + 30.0
    while psutil.Process().num_threads() > threading.active_count() + 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_request_sent_byte_by_byte_is_served(loop: Loop) -> None:
    """A request in pieces of one byte is a request; half-closed, it is answered all the same."""
    assert talk(loop, [bytes([byte]) for byte in GET]).endswith(b"page")


def test_endless_request_head_is_refused_with_431(loop: Loop) -> None:
    """A head that is too long is refused when it is, and the refusal arrives although more was on its way."""
    answer = talk(loop, [b"GET /metrics HTTP/1.1\r\n", b"X: " + b"x" * 15_000, b"x" * 5_000])
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_slow_request_or_slow_reader_is_closed_at_its_deadline(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a request in time, or without reading the answer in time, the connection is closed."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(connection, "BODY_SECONDS", 0.3)
    with loop.connect() as idle, loop.connect(keeps=65536) as reader:
        idle.sendall(b"GET /metr")
        reader.sendall(b"GET /big HTTP/1.1\r\n\r\n")
        assert received(idle) == b""
        eventually_none_open(loop)
        assert len(received(reader)) < len(BODY)


def test_second_request_on_a_connection_is_not_answered(loop: Loop) -> None:
    """A second request on the same connection is not answered, and does not cost the first its answer."""
    assert talk(loop, [GET * 3]).count(b"HTTP/1.1 200") == 1


def test_connections_are_bounded_and_new_clients_are_served(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle clients give way to new ones, which are served while many idle ones come and come."""
    monkeypatch.setattr(event_loop, "MAX_CONNECTIONS", 20)
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(loop.connect())
        for _ in range(5):
            assert talk(loop, [GET]).endswith(b"page")
            assert loop.open <= 20
    eventually_none_open(loop)


class _GatedPoll:
    """A poll object whose results are held back until a gate opens."""

    def __init__(self, poll: Any) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.held = threading.Event()
        self.register, self.unregister, self.modify, self._poll = poll.register, poll.unregister, poll.modify, poll.poll

    def poll(self, timeout: float | None) -> Any:
        """Return what is ready once the gate is open."""
        if not self.gate.is_set():
            self.held.set()
            self.gate.wait(30.0)
        return self._poll(timeout)


def test_event_of_an_evicted_client_does_not_close_the_one_that_has_its_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bytes of a client that is evicted in the same round are not taken for an event of a new one."""
    monkeypatch.setattr(event_loop, "MAX_CONNECTIONS", 2)
    loop = Loop()
    gated = _GatedPoll(loop.connections._poll)
    loop.connections._poll = gated
    with contextlib.ExitStack() as stack:
        stack.callback(loop.close)
        stack.callback(gated.gate.set)
        old = [stack.enter_context(loop.connect()) for _ in range(2)]
        eventually(lambda: loop.open == 2, "both are accepted")
        gated.gate.clear()
        loop.wakeup_pipe.wake()
        assert gated.held.wait(30.0)
        new = [stack.enter_context(loop.connect()) for _ in range(2)]
        for sock in (*old, *new):
            sock.sendall(b"G" if sock in old else GET)
        gated.gate.set()
        assert [received(sock)[-4:] for sock in new] == [b"page"] * 2


def test_memory_for_unread_responses_is_bounded_and_the_oldest_are_closed(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that do not read, each another rendering, are closed when it is too much, the oldest first."""
    monkeypatch.setattr(event_loop, "MAX_HELD_BYTES", 3 * len(BODY))
    with contextlib.ExitStack() as stack:
        readers = []
        for _ in range(8):
            before = loop.rendered
            reader = stack.enter_context(loop.connect(keeps=65536))
            reader.sendall(b"GET /big HTTP/1.1\r\n\r\n")
            assert reader.recv(1) == b"H"
            assert loop.rendered == before + 1
            readers.append(reader)
        held = {id(one.body): len(one.body) for one in loop.connections.open.values()}
        assert sum(held.values()) <= 3 * len(BODY)
        assert len(received(readers[-1])) > len(BODY) - 100
        assert len(received(readers[0])) < len(BODY) - 100
    eventually_none_open(loop)


def test_accept_without_free_file_descriptors_is_retried_without_spinning(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the process has no file descriptors left, the loop waits a little and goes on, and does not spin."""
    [(fd, inner)] = loop.listeners.open.items()
    polls = 0

    class Full:
        """A listener that cannot accept."""

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        def _accept(self) -> Any:
            nonlocal polls
            polls += 1
            raise OSError(24, "Too many open files")

    loop.listeners.open[fd] = Full()
    with loop.connect() as sock:
        time.sleep(0.5)
        assert 1 <= polls < 20
        loop.listeners.open[fd] = inner
        sock.sendall(GET)
        assert sock.recv(9) == b"HTTP/1.1 "
    eventually_none_open(loop)


@pytest.mark.parametrize(
    ("cert", "key", "ca", "says"),
    [
        ("missing.pem", "", "", r"certfile '.*missing.pem' cannot be read: No such file"),
        ("cert.pem", "missing.pem", "", r"keyfile '.*missing.pem' cannot be read: No such file"),
        ("both.pem", "", "missing.pem", r"client_cafile '.*missing.pem' cannot be read"),
        ("cert.pem", "", "", r"certfile '.*cert.pem' cannot be used"),
        ("garbage.pem", "key.pem", "", r"certfile '.*garbage.pem' with keyfile '.*key.pem' cannot be used"),
        ("cert.pem", "other.pem", "", r"cannot be used: key values mismatch"),
        ("both.pem", "", "garbage.pem", r"client_cafile '.*garbage.pem' cannot be used"),
        (".", "", "", r"certfile '.*' cannot be read: Is a directory"),
    ],
)
def test_unusable_certificate_file_is_named_in_one_line(files: Path, cert: str, key: str, ca: str, says: str) -> None:
    """A file of no use is told in one line that names it and says why."""
    (files / "garbage.pem").write_text("garbage\n")
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(str(files / "other.pem"))
    with pytest.raises(BadCertificate, match=says) as caught:
        server_context(*(str(files / name) if name else "" for name in (cert, key, ca)))
    assert len(str(caught.value).splitlines()) == 1


def test_bytes_that_are_not_tls_raise_connectionerror_and_send_an_alert(files: Path) -> None:
    """Garbage raises what the loop takes for a broken connection, and leaves an alert to be sent."""
    transport = Tls(server_context(str(files / "both.pem"), "", ""), LOCK)
    with pytest.raises(ConnectionError):
        transport.feed(b"\x16\x03\x01\x00\x05garbage")
    assert transport.outgoing().startswith(b"\x15")
    with pytest.raises(ConnectionError):
        transport.encrypt(memoryview(b"answer"))


def test_tls_data_after_close_notify_disconnects_the_client(tls_loop: Loop) -> None:
    """A client that announces the end of its request and sends more is disconnected: unread data would pile up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with tls_loop.connect() as sock, context.wrap_socket(sock.dup()) as tls:
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.settimeout(0.0)
            tls.unwrap()
        sock.settimeout(10.0)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 50_000_000:
                sent += sock.send(b"x" * 65536)
    assert sent < 50_000_000


def test_closed_wakeup_pipe_writes_to_no_descriptor() -> None:
    """A rendering that ends after its exporter writes to no descriptor: another object may have it by then."""
    wakeup_pipe = WakeupPipe()
    fd = wakeup_pipe._write_fd
    for _ in range(100_000):
        wakeup_pipe.wake()  # never blocks, however full the pipe is
    wakeup_pipe.drain()
    wakeup_pipe.close()
    read, write = os.pipe()
    try:
        assert fd in (read, write)
        os.set_blocking(read, False)
        wakeup_pipe.wake()
        with pytest.raises(BlockingIOError):
            os.read(read, 1)
    finally:
        os.close(read)
        os.close(write)


def test_ended_loop_leaves_no_socket_open() -> None:
    """When a loop has ended every socket is closed."""
    loop = Loop()
    with loop.connect() as sock:
        sock.sendall(b"GET /metr")
        deadline = time.monotonic() + 30.0
        while not loop.open:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        loop.close()
        assert received(sock) == b""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del loop
        gc.collect()


def test_lost_wakeup_delays_a_page_by_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rendering whose write into the wakeup pipe is lost is found, and its client gets the page."""
    with monkeypatch.context() as patched:
        patched.setattr(WakeupPipe, "wake", lambda self: None)
        loop = Loop()
    try:
        with loop.connect() as client:
            client.settimeout(10.0)
            client.sendall(GET)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
    finally:
        loop.close()


def test_accepted_descriptor_is_closed_if_no_socket_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memory for the socket object the exporter starts again, and leaks no descriptor."""
    loop = Loop()
    original = concurrency.unpatched

    def failing(module: str, name: str) -> Any:
        if (module, name) == ("socket", "socket"):
            return raise_memory_error
        return original(module, name)

    def raise_memory_error(**_: object) -> None:
        raise MemoryError

    try:
        with monkeypatch.context() as patched:
            patched.setattr(event_loop, "unpatched", failing)
            client = loop.connect()
            assert client.recv(100) == b""  # the descriptor is closed
            client.close()
            loop._thread.join(30.0)
        assert isinstance(loop.failed, MemoryError)
    finally:
        loop.failed = None
        loop.close()

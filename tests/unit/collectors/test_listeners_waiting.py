"""Accepted connections with unread data: real ones, of this process."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config

from gunicorn_prom_hooks.collectors import MetricsPage, listeners, sock_diag
from gunicorn_prom_hooks.errors import ErrorReporter
from tests.helpers.network_sockets import Listener, Network, capped, has_ipv6
from tests.helpers.snapshots import SimulatedServer, one, samples

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of unread data")

QUEUE, LIMIT = "gunicorn_listener_backlog", "gunicorn_listener_backlog_limit"
UNREAD = "gunicorn_listener_waiting_connections"
KINDS = ("tcp", "tcp6", "unix", "abstract")
CLONE_NEWNET = 0x40000000


class Pairs:
    """Accepted connections to a listening socket, both ends kept open."""

    def __init__(self, network: Network, sock: socket.socket, address: Any = None) -> None:
        self._network = network
        self._sock = sock
        self._address = address or sock.getsockname()
        self._family = socket.AF_INET if address else sock.family

    def connect(self, data: bytes = b"") -> tuple[socket.socket, socket.socket]:
        """Return a client that has sent this data, and its accepted connection."""
        client = self._network.keep(socket.socket(self._family))
        client.connect(self._address)
        accepted = self._network.keep(self._sock.accept()[0])
        client.sendall(data)
        return client, accepted


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """Sockets of a test, none so far."""
    network = Network(tmp_path)
    yield network
    network.close()


@pytest.mark.parametrize("kind", KINDS)
def test_unread_counts_accepted_connections_with_unread_data_only(kind: str, network: Network) -> None:
    """Of connections with data, idle, read, answered, and in the accept queue, only the first are counted."""
    sock = network.listen(kind)
    pairs = Pairs(network, sock)
    for _ in range(2):
        pairs.connect(b"GET")
    pairs.connect()
    pairs.connect(b"GET")[1].recv(10)
    pairs.connect()[1].sendall(b"an answer that the client has not read")
    network.connect(sock, 3, b"GET")
    found = network.settled(lambda found: one(found, QUEUE, listener=kind) == 3)
    assert network.settled(lambda found: one(found, UNREAD, listener=kind) == 2) == found


@pytest.mark.parametrize("kind", KINDS)
def test_unread_connection_counts_until_its_data_is_read(kind: str, network: Network) -> None:
    """A connection counts from its data on until that is read, again and again, as a kept one does."""
    _, accepted = pair = Pairs(network, network.listen(kind)).connect()
    for _ in range(3):
        pair[0].sendall(b"GET")
        network.settled(lambda found: one(found, UNREAD, listener=kind) == 1)
        accepted.recv(10)
        assert one(network.collect(), UNREAD, listener=kind) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_closed_client_counts_only_with_unread_data(kind: str, network: Network) -> None:
    """A client that closes an idle connection does not count; one that leaves a request behind does."""
    pairs = Pairs(network, network.listen(kind))
    pairs.connect()[0].close()
    read = pairs.connect(b"GET")
    read[1].recv(10)
    read[0].close()
    left = pairs.connect(b"GET")
    left[0].close()
    network.settled(lambda found: one(found, UNREAD, listener=kind) == 1)
    assert left[1].recv(10) == b"GET"
    assert one(network.collect(), UNREAD, listener=kind) == 0


def test_a_thousand_idle_connections_count_as_none_and_take_little_time(network: Network) -> None:
    """A thousand idle connections, more than one datagram of an answer holds, count as none."""
    pairs = Pairs(network, network.listen("tcp"))
    for _ in range(1000):
        pairs.connect()
    began = time.thread_time()
    assert one(network.collect(), UNREAD, listener="tcp") == 0
    assert time.thread_time() - began < 0.1
    pairs.connect(b"GET")
    network.settled(lambda found: one(found, UNREAD, listener="tcp") == 1)


def test_dual_stack_listener_has_connections_of_both_families(network: Network) -> None:
    """A listener for IPv6 and IPv4 has the connections of both."""
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    sock = network.keep(socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True))
    network.server.listeners.append(Listener(sock, "both"))
    port = sock.getsockname()[1]
    Pairs(network, sock, ("127.0.0.1", port)).connect(b"GET")
    network.keep(socket.create_connection(("::1", port))).sendall(b"GET")
    network.keep(sock.accept()[0])
    network.settled(lambda found: one(found, UNREAD, listener="both") == 2)


def test_listeners_at_one_port_have_the_connections_to_their_address(network: Network) -> None:
    """Each listener has the connections to its own address, the one for any address those to no other's."""
    first = network.listen("tcp", "first")
    port = first.getsockname()[1]
    second = network.keep(socket.socket())
    second.bind(("127.0.0.2", port))
    second.listen()
    network.server.listeners.append(Listener(second, "second"))
    Pairs(network, first).connect(b"GET")
    for _ in range(2):
        Pairs(network, second).connect(b"GET")
    found = network.settled(lambda found: one(found, UNREAD, listener="second") == 2)
    assert one(found, UNREAD, listener="first") == 1
    network.server.listeners.pop()  # it is another process's now
    assert one(network.collect(), UNREAD, listener="first") == 1


def test_listener_for_any_address_excludes_addresses_of_other_sockets(network: Network) -> None:
    """A listener for any address has no connections to an address at which another socket listens."""

    def bound(host: str, port: int) -> socket.socket:
        sock = network.keep(socket.socket())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen()
        return sock

    anywhere = bound("0.0.0.0", 0)
    port = anywhere.getsockname()[1]
    other = bound("127.0.0.2", port)
    network.server.listeners.append(Listener(anywhere, "any"))
    Pairs(network, other).connect(b"GET")
    Pairs(network, anywhere, ("127.0.0.3", port)).connect(b"GET")
    network.settled(lambda found: one(found, UNREAD, listener="any") == 1)
    network.server.listeners.append(Listener(other, "other"))
    assert one(network.collect(), UNREAD, listener="other") == 1


def test_unix_sockets_with_one_relative_path_are_told_apart(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sockets of two servers with the same relative path, in two directories, have their own connections."""
    for number, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        sock = network.keep(socket.socket(socket.AF_UNIX))
        sock.bind("sock")
        sock.listen()
        network.server.listeners.append(Listener(sock, name))
        for _ in range(number + 1):
            Pairs(network, sock).connect(b"GET")
    found = network.collect()
    assert [one(found, UNREAD, listener=name) for name in ("one", "two")] == [1, 2]


def test_reuse_port_adds_up_the_sockets_of_the_workers(network: Network) -> None:
    """With reuse_port the master has no listening socket: queue, limit and unread data are sums over the workers."""
    cfg = Config()
    cfg.set("reuse_port", True)
    sockets = []
    port = 0
    for _ in range(2):
        sock = network.keep(socket.socket())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", port))
        port = sock.getsockname()[1]
        sock.listen(16)  # each socket has room for all connections, however they are distributed
        sockets.append(sock)
    cfg.set("bind", [f"localhost:{port}", f"[::1]:{port}", "unix:x", f"no.such.host.invalid:{port}"])
    network.server.listeners = [*listeners.workers_listeners(cfg)]
    name = f"http://127.0.0.1:{port}"
    assert [str(listener) for listener in network.server.listeners] == [name, f"http://[::1]:{port}"]
    for sock in sockets:
        sock.setblocking(False)
    for _ in range(8):
        network.keep(socket.create_connection(("127.0.0.1", port))).sendall(b"GET")
    network.settled(lambda found: one(found, QUEUE, listener=name) == 8)
    for sock in sockets:
        while True:
            try:
                network.keep(sock.accept()[0])
            except BlockingIOError:
                break
    found = network.settled(lambda found: one(found, UNREAD, listener=name) == 8)
    assert one(found, QUEUE, listener=name) == 0
    assert one(found, LIMIT, listener=name) == 2 * capped(16)
    assert {dict(labels)["listener"] for _, labels in found} == {name}
    for sock in sockets:
        sock.close()
    warnings: list[str] = []
    assert (
        samples(listeners.collect(network.server.snapshot(), warnings.append)) == {}
    )  # as before the first worker has come
    assert warnings == []
    cfg.set("reuse_port", False)
    assert listeners.workers_listeners(cfg) == []


def refused(*errors: int) -> Callable[..., Any]:
    """Return a stand-in for unpatched() that makes no netlink socket, as in a sandbox."""

    def unpatched(module: str, name: str) -> Any:
        if name == "socket":
            raise OSError(errors[0], os.strerror(errors[0]))
        return getattr(socket, name)

    return unpatched


class Silent(socket.socket):
    """A netlink socket on which no answer comes."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Raise, as after a timeout."""
        raise TimeoutError("timed out")


class Unsupported(socket.socket):
    """A netlink socket of a kernel that has been built without INET_DIAG and UNIX_DIAG."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return the refusal."""
        super().recv(size)
        return struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -errno.ENOENT) + bytes(16)


class Empty(socket.socket):
    """A netlink socket with empty answers, as in a sandbox that has its own sockets."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return the end of a dump."""
        super().recv(size)
        return struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)


class Cut(socket.socket):
    """A netlink socket whose messages end too early."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return the first bytes of the answer, as a whole message."""
        return struct.pack("=I", 20) + super().recv(size)[4:20]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("makes", "says"),
    [
        (errno.EPERM, os.strerror(errno.EPERM)),
        (errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT)),
        (Silent, "timed out"),
        (Unsupported, os.strerror(errno.ENOENT)),
        (Empty, "its answer lacks the listening socket"),
        (Cut, os.strerror(errno.EPROTO)),
    ],
)
def test_unread_is_absent_with_a_reason_if_the_kernel_does_not_tell(
    kind: str, makes: Any, says: str, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the kernel does not answer, or not about this socket, there is no number, which is not 0, and a reason."""
    Pairs(network, network.listen(kind)).connect(b"GET")

    def unpatched(module: str, name: str) -> Any:
        if name != "socket":
            return getattr(socket, name)
        if isinstance(makes, int):
            raise OSError(makes, os.strerror(makes))
        return makes

    monkeypatch.setattr(sock_diag, "unpatched", unpatched)
    warnings: list[str] = []
    found = samples(listeners.collect(network.server.snapshot(), warnings.append))
    assert UNREAD not in {name for name, _ in found}
    assert (QUEUE in {name for name, _ in found}) == (kind in ("tcp", "tcp6"))
    prefix = "gunicorn_prom_hooks: no gunicorn_listener_waiting_connections: the kernel does not tell: "
    assert warnings == [prefix + says]


def test_unread_is_absent_if_the_answer_is_too_long_or_late(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit of bytes or of time there is no number."""
    network.listen("tcp")
    warnings: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(sock_diag, "MAX_ANSWER_BYTES", -1)
        assert UNREAD not in {
            name for name, _ in samples(listeners.collect(network.server.snapshot(), warnings.append))
        }
    kernel = listeners.Kernel(-1.0)
    with pytest.raises(TimeoutError):
        kernel.connections(network.server.listeners[0])
    assert [line.rpartition(": ")[2] for line in warnings] == [os.strerror(errno.EMSGSIZE)]


def test_socket_from_another_network_namespace_has_no_unread_number(network: Network) -> None:
    """A listening socket from another network namespace is none that the kernel tells about here."""
    made: list[socket.socket] = []

    def listen() -> None:
        if ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0:  # of this thread only
            made.append(socket.create_server(("0.0.0.0", 0)))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    if not made:
        pytest.skip("no other network namespace may be made here")
    network.server.listeners.append(Listener(network.keep(made[0]), "elsewhere"))
    assert UNREAD not in {name for name, _ in network.collect()}
    network.keep(socket.create_server(("0.0.0.0", made[0].getsockname()[1])))
    found = network.collect()
    assert one(found, QUEUE, listener="elsewhere") == 0
    assert UNREAD not in {name for name, _ in found}


@pytest.mark.parametrize("kind", KINDS)
def test_closed_listener_gives_no_warning(kind: str, network: Network) -> None:
    """A listener that the master has closed has no number, and the log no line about it."""
    network.listen(kind).close()
    gone = Listener(None, "gone")
    network.server.listeners.append(gone)
    warnings: list[str] = []
    assert samples(listeners.collect(network.server.snapshot(), warnings.append)) == {}
    assert warnings == []


def test_warning_is_logged_once_over_several_pages(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the page is made, the log has one line about the kernel, with the reason."""
    server: SimulatedServer = network.server
    network.listen("tcp")
    network.listen("unix")
    monkeypatch.setattr(sock_diag, "unpatched", refused(errno.EPERM))
    lines: list[str] = []
    page = MetricsPage(server.snapshot, ErrorReporter(), warn=lines.append)
    for _ in range(3):
        assert list(page.collect())
    assert len(lines) == 1
    assert lines[0].endswith(os.strerror(errno.EPERM))


@pytest.mark.parametrize("platform", ["darwin", "freebsd14"])
def test_warning_on_another_system_names_the_system(
    platform: str, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another system there is no number, and the reason is the system."""
    network.listen("tcp")
    monkeypatch.setattr(sys, "platform", platform)
    warnings: list[str] = []
    assert list(listeners.collect(network.server.snapshot(), warnings.append)) == []
    assert [line.rpartition(": ")[2] for line in warnings] == [platform]

"""Connections that were accepted and not read: real ones, of this process."""

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
    """Connections to a listening socket that were accepted, both ends kept open."""

    def __init__(self, network: Network, sock: socket.socket, address: Any = None) -> None:
        self._network = network
        self._sock = sock
        self._address = address or sock.getsockname()
        self._family = socket.AF_INET if address else sock.family

    def connect(self, data: bytes = b"") -> tuple[socket.socket, socket.socket]:
        """A client that has sent this, and its accepted connection."""
        client = self._network.keep(socket.socket(self._family))
        client.connect(self._address)
        accepted = self._network.keep(self._sock.accept()[0])
        client.sendall(data)
        return client, accepted


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """Nothing in it yet."""
    network = Network(tmp_path)
    yield network
    network.close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_accepted_and_not_read_is_counted(kind: str, network: Network) -> None:
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
def test_it_is_over_when_the_data_is_read(kind: str, network: Network) -> None:
    """A connection counts from its data on until that is read, again and again, as one that is kept does."""
    _, accepted = pair = Pairs(network, network.listen(kind)).connect()
    for _ in range(3):
        pair[0].sendall(b"GET")
        network.settled(lambda found: one(found, UNREAD, listener=kind) == 1)
        accepted.recv(10)
        assert one(network.collect(), UNREAD, listener=kind) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_has_left(kind: str, network: Network) -> None:
    """A client that leaves an idle connection is nothing that waits; one that leaves its request behind is."""
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


def test_many_kept_connections(network: Network) -> None:
    """A thousand idle connections, more than one datagram of an answer holds, are none that wait, and take no time."""
    pairs = Pairs(network, network.listen("tcp"))
    for _ in range(1000):
        pairs.connect()
    began = time.thread_time()
    assert one(network.collect(), UNREAD, listener="tcp") == 0
    assert time.thread_time() - began < 0.1
    pairs.connect(b"GET")
    network.settled(lambda found: one(found, UNREAD, listener="tcp") == 1)


def test_ipv4_on_a_dual_stack_listener(network: Network) -> None:
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


def test_other_addresses_at_the_same_port(network: Network) -> None:
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


def test_an_address_of_another_process_is_not_any_address(network: Network) -> None:
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


def test_two_unix_sockets_with_one_relative_path(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sockets of two servers that have the same relative path, in two directories, are not mixed up."""
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


def test_sockets_of_the_workers(network: Network) -> None:
    """With reuse_port the master has no listening socket: queue, limit and what waits are those of all workers' own."""
    cfg = Config()
    cfg.set("reuse_port", True)
    sockets = []
    port = 0
    for _ in range(2):
        sock = network.keep(socket.socket())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", port))
        port = sock.getsockname()[1]
        sock.listen(5)
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
    assert one(found, LIMIT, listener=name) == 2 * capped(5)
    assert {dict(labels)["listener"] for _, labels in found} == {name}
    for sock in sockets:
        sock.close()
    notes: list[str] = []
    assert (
        samples(listeners.collect(network.server.snapshot(), notes.append)) == {}
    )  # as before the first worker has come
    assert notes == []
    cfg.set("reuse_port", False)
    assert listeners.workers_listeners(cfg) == []


def refused(*errors: int) -> Callable[..., Any]:
    """What makes no netlink socket, as a sandbox does."""

    def unpatched(module: str, name: str) -> Any:
        if name == "socket":
            raise OSError(errors[0], os.strerror(errors[0]))
        return getattr(socket, name)

    return unpatched


class Silent(socket.socket):
    """A netlink socket on which no answer comes."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Takes the answer away."""
        raise TimeoutError("timed out")


class Unsupported(socket.socket):
    """A netlink socket of a kernel that has been built without INET_DIAG and UNIX_DIAG."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        """The refusal."""
        super().recv(size)
        return struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -errno.ENOENT) + bytes(16)


class Empty(socket.socket):
    """A netlink socket that says of no socket anything, as where a sandbox has sockets of its own."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        """The end of a dump."""
        super().recv(size)
        return struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)


class Cut(socket.socket):
    """A netlink socket whose messages end too early."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        """The first bytes of the answer, as a whole message."""
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
def test_a_kernel_that_does_not_tell(
    kind: str, makes: Any, says: str, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel does not answer, or not of this socket, there is no number, which is not 0, and a reason."""
    Pairs(network, network.listen(kind)).connect(b"GET")

    def unpatched(module: str, name: str) -> Any:
        if name != "socket":
            return getattr(socket, name)
        if isinstance(makes, int):
            raise OSError(makes, os.strerror(makes))
        return makes

    monkeypatch.setattr(sock_diag, "unpatched", unpatched)
    notes: list[str] = []
    found = samples(listeners.collect(network.server.snapshot(), notes.append))
    assert UNREAD not in {name for name, _ in found}
    assert (QUEUE in {name for name, _ in found}) == (kind in ("tcp", "tcp6"))
    prefix = "gunicorn_prom_hooks: no gunicorn_listener_waiting_connections: the kernel does not tell: "
    assert notes == [prefix + says]


def test_an_answer_that_is_too_long_is_given_up(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """More bytes than are worth reading, or more time than there is: no number, and no half of one."""
    network.listen("tcp")
    notes: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(sock_diag, "MAX_ANSWER_BYTES", -1)
        assert UNREAD not in {name for name, _ in samples(listeners.collect(network.server.snapshot(), notes.append))}
    kernel = listeners.Kernel(-1.0)
    with pytest.raises(TimeoutError):
        kernel.connections(network.server.listeners[0])
    assert [note.rpartition(": ")[2] for note in notes] == [os.strerror(errno.EMSGSIZE)]


def test_a_socket_from_another_network_namespace(network: Network) -> None:
    """A listening socket that was handed over from elsewhere is none that the kernel tells of here."""
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
def test_closed_listeners_are_no_reason_for_a_line(kind: str, network: Network) -> None:
    """A listener that the master has closed has no number, and the log no line about it."""
    network.listen(kind).close()
    gone = Listener(None, "gone")
    network.server.listeners.append(gone)
    notes: list[str] = []
    assert samples(listeners.collect(network.server.snapshot(), notes.append)) == {}
    assert notes == []


def test_the_log_has_one_line(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the page is made, the log says once that the kernel does not tell, and why."""
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
def test_other_systems_say_so(platform: str, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another system there is no number, and the reason is the system."""
    network.listen("tcp")
    monkeypatch.setattr(sys, "platform", platform)
    notes: list[str] = []
    assert list(listeners.collect(network.server.snapshot(), notes.append)) == []
    assert [note.rpartition(": ")[2] for note in notes] == [platform]

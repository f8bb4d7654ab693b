"""Accept queues of real listening sockets of this process."""

from __future__ import annotations

import errno
import gc
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.sock import TCPSocket, UnixSocket
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gunicorn_prom_hooks.collectors import listeners, sock_diag
from tests.helpers.network_sockets import BACKLOG, SOMAXCONN, Listener, Network, capped, descriptors, has_ipv6
from tests.helpers.snapshots import SimulatedServer, names, one, samples

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of accept queues")

WAITING, LIMIT = "gunicorn_listener_backlog", "gunicorn_listener_backlog_limit"
UNREAD = "gunicorn_listener_waiting_connections"
KINDS = ("tcp", "tcp6", "unix", "abstract")
NOT_THERE = 0xFFFFFFFF


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """Sockets of a test, none so far."""
    network = Network(tmp_path)
    yield network
    network.close()


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_accept_queue_counts_connections_not_yet_accepted(kind: str, count: int, network: Network) -> None:
    """Connections not accepted yet are in the accept queue; its limit is that of listen()."""
    sock = network.listen(kind)
    network.connect(sock, count)
    found = network.settled(lambda found: one(found, WAITING, listener=kind) == count)
    assert one(found, LIMIT, listener=kind) == capped(BACKLOG)
    assert one(found, UNREAD, listener=kind) == 0
    assert len(found) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_accept_queue_without_a_connection_once_it_is_accepted(kind: str, network: Network) -> None:
    """An accepted connection leaves the accept queue at once, though it stays open."""
    sock = network.listen(kind)
    network.connect(sock, 3)
    network.settled(lambda found: one(found, WAITING, listener=kind) == 3)
    with sock.accept()[0]:
        assert one(network.collect(), WAITING, listener=kind) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_limit_above_somaxconn_is_somaxconn(kind: str, network: Network) -> None:
    """If listen() is called with more than net.core.somaxconn, that is the limit."""
    network.listen(kind, limit=2**31 - 1)
    assert one(network.collect(), LIMIT, listener=kind) == int(SOMAXCONN.read_text())


def test_several_listeners_have_their_own_queue_and_limit(network: Network) -> None:
    """Of several listeners of all kinds each has its own queue and limit."""
    kinds = [kind for kind in KINDS if kind != "tcp6" or has_ipv6()]
    for number, kind in enumerate(kinds, start=1):
        network.connect(network.listen(kind, limit=10 + number), number)
    expected = dict(zip(kinds, range(1, 5), strict=False))
    found = network.settled(lambda found: {kind: one(found, WAITING, listener=kind) for kind in kinds} == expected)
    for kind, number in expected.items():
        assert one(found, LIMIT, listener=kind) == capped(10 + number)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_listeners_with_one_name_are_added_up(kind: str, network: Network) -> None:
    """Two listeners with the same name are one sample: the sum of both."""
    network.connect(network.listen(kind, "same", limit=5), 1)
    network.connect(network.listen(kind, "same", limit=6), 2)
    found = network.settled(lambda found: one(found, WAITING, listener="same") == 3)
    assert one(found, LIMIT, listener="same") == capped(5) + capped(6)


@pytest.mark.parametrize("kind", KINDS)
def test_closed_listener_has_no_sample(kind: str, network: Network) -> None:
    """A closed listener is left out, the other one stays; with none left there is no family."""
    other = network.listen("tcp", "other")
    network.listen(kind, "closed").close()
    assert {dict(labels)["listener"] for _, labels in network.collect()} == {"other"}
    other.close()
    assert list(listeners.collect(network.server.snapshot())) == []


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_gunicorns_listener_has_samples_until_it_is_closed(kind: str, tmp_path: Path) -> None:
    """gunicorn's listener has its samples under its own name, and none once gunicorn has closed it."""
    cfg, log = Config(), SimpleNamespace()
    listener: Any
    if kind == "tcp":
        listener = TCPSocket(("127.0.0.1", 0), cfg, log)  # type: ignore[arg-type]
    else:
        listener = UnixSocket(str(tmp_path / "x.sock"), cfg, log)  # type: ignore[arg-type]
    server = SimulatedServer()
    server.listeners = [listener]
    try:
        found = samples(listeners.collect(server.snapshot()))
        assert one(found, WAITING, listener=str(listener)) == 0
        assert one(found, LIMIT, listener=str(listener)) == capped(cfg.backlog)
    finally:
        listener.close()
    assert list(listeners.collect(server.snapshot())) == []


@pytest.mark.parametrize("error", [AttributeError("getsockname"), OSError(errno.EBADF, "closed")])
def test_listener_closed_while_its_name_is_read_has_no_sample(error: Exception, network: Network) -> None:
    """A listener whose name cannot be read any more has no sample."""

    class Closing(Listener):
        def __str__(self) -> str:
            raise error

    network.listen("tcp", "other")
    network.server.listeners.insert(0, Closing(network.listen("tcp", "other"), ""))
    assert {dict(labels)["listener"] for _, labels in network.collect()} == {"other"}


@pytest.mark.parametrize("kind", KINDS)
def test_socket_that_does_not_listen_has_no_sample(kind: str, network: Network) -> None:
    """A socket that is only bound has no accept queue, nor has a connected one, whatever is in its buffers."""
    network.server.listeners.append(Listener(network.bound(kind), "bound"))
    assert network.collect() == {}
    server = network.bound(kind)
    server.listen()
    with socket.socket(server.family) as client:
        client.connect(server.getsockname())
        with server.accept()[0] as accepted:
            client.sendall(b"x" * 100)
            network.server.listeners = [Listener(client, "client"), Listener(accepted, "accepted")]
            assert network.collect() == {}


def test_socket_of_another_family_has_no_sample(network: Network) -> None:
    """A socket that is neither TCP nor Unix is left out."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as sock:
        network.server.listeners.append(Listener(sock, "other"))
        assert network.collect() == {}


def test_listener_with_a_short_tcp_info_has_no_sample(network: Network) -> None:
    """If TCP_INFO ends before the numbers, the listener is left out."""
    short = SimpleNamespace(family=socket.AF_INET, getsockopt=lambda *option: b"\n" + bytes(7), fileno=lambda: -1)
    network.server.listeners.append(Listener(short, "short"))
    assert network.collect() == {}


@pytest.mark.parametrize("platform", ["darwin", "freebsd14"])
def test_systems_other_than_linux_have_no_backlog_family(
    platform: str, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a system other than Linux there is no family, and no socket is read."""
    network.listen("tcp")
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delattr(socket, "TCP_INFO")
    assert list(listeners.collect(network.server.snapshot())) == []


@pytest.mark.parametrize("refused", [errno.EPERM, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT])
def test_tcp_listeners_have_samples_without_netlink(
    refused: int, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a netlink socket Unix listeners have no samples; TCP listeners have samples."""

    def unpatched(module: str, name: str) -> Any:
        if name == "socket":
            raise OSError(refused, os.strerror(refused))
        return getattr(socket, name)

    monkeypatch.setattr(sock_diag, "unpatched", unpatched)
    network.listen("unix")
    assert list(listeners.collect(network.server.snapshot())) == []
    network.listen("tcp")
    assert {dict(labels)["listener"] for _, labels in network.collect()} == {"tcp"}


class Netlink(socket.socket):
    """A netlink socket whose answers are changed by the test."""

    made: list[Netlink]
    answer: Callable[[bytes], bytes]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.made.append(self)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return the kernel's answer as changed by the test."""
        return type(self).answer(super().recv(size))


@pytest.fixture
def netlink(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Netlink]]:
    """A class of netlink sockets that take the place of the real ones."""
    monkeypatch.setattr(Netlink, "made", [], raising=False)
    monkeypatch.setattr(Netlink, "answer", bytes, raising=False)
    monkeypatch.setattr(
        sock_diag, "unpatched", lambda module, name: Netlink if name == "socket" else getattr(socket, name)
    )
    yield Netlink
    for sock in Netlink.made:
        sock.close()


def test_netlink_timeout_leaves_out_the_listener_and_closes_the_socket(
    network: Network, netlink: type[Netlink]
) -> None:
    """If no answer comes in time the listener has no sample, and the netlink socket is closed."""

    def silent(answer: bytes) -> bytes:
        assert 0.0 < (netlink.made[-1].gettimeout() or 0.0) <= sock_diag.TIMEOUT_SECONDS
        raise TimeoutError

    netlink.answer = staticmethod(silent)
    network.listen("unix")
    assert network.collect() == {}
    assert {sock.fileno() for sock in netlink.made} == {-1}


def test_unix_backlog_is_none_for_malformed_answers(network: Network, netlink: type[Netlink]) -> None:
    """An answer that ends too early, to another request, of another type, or without the attribute, gives None."""
    sock = network.listen("unix")
    inode = os.fstat(sock.fileno()).st_ino
    assert sock_diag.unix_backlog(inode) == (0, capped(BACKLOG))
    header, message = 16, 16
    attributes = header + message
    changes: list[Callable[[bytes], bytes]] = [
        lambda answer: b"",
        lambda answer: answer[:4] + struct.pack("=H", 17) + answer[6:],
        lambda answer: struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -errno.ENOENT) + bytes(16),
        lambda answer: answer[:8] + struct.pack("=I", 77) + answer[12:],
        lambda answer: answer[:attributes],
        lambda answer: answer[:attributes] + struct.pack("=HHI", 8, 6, 0),
        lambda answer: answer[:attributes] + bytes(4000),
        *(lambda answer, end=end: answer[:end] for end in range(attributes + 12)),
    ]
    for change in changes:
        netlink.answer = staticmethod(change)
        assert sock_diag.unix_backlog(inode) is None
    assert {made.fileno() for made in netlink.made} == {-1}


def test_other_attributes_of_an_answer_are_skipped(network: Network, netlink: type[Netlink]) -> None:
    """The queue is found behind attributes of other types, also of those with a length that needs padding."""
    sock = network.listen("unix")
    network.connect(sock, 2)
    extra = struct.pack("=HHBxxx", 5, 6, 4) + struct.pack("=HHI", 8, 7, 4)

    def extended(answer: bytes) -> bytes:
        (length,) = struct.unpack_from("=I", answer)
        return struct.pack("=I", length + len(extra)) + answer[4:32] + extra + answer[32:]

    netlink.answer = staticmethod(extended)
    assert one(network.collect(), WAITING, listener="unix") == 2


@pytest.mark.parametrize("inode", [0, NOT_THERE, NOT_THERE + 1, 2**64 - 1])
def test_unix_backlog_is_none_for_an_unknown_inode(inode: int) -> None:
    """An inode of no Unix socket, or one that none can have, has no queue."""
    assert sock_diag.unix_backlog(inode) is None


def test_collect_leaves_no_descriptor_open(network: Network) -> None:
    """After 200 calls as many file descriptors are open as before, Unix sockets that do not listen included."""
    for kind in ("tcp", "unix", "abstract"):
        network.listen(kind)
    network.server.listeners.append(Listener(network.bound("unix"), "bound"))
    network.listen("unix", "closed").close()
    gc.collect()  # slots of servers that earlier tests have left
    before = descriptors()
    for _ in range(200):
        assert len(network.collect()) == 9
    assert descriptors() == before


def test_listener_names_that_are_no_valid_text_leave_the_page_readable(network: Network) -> None:
    """Bytes of a path that are no UTF-8 are replaced, and an abstract address is shown as it is."""
    network.listen("unix", "unix:/tmp/\udcff.sock")
    network.listen("abstract", "unix:\0name")
    registry: Any = SimpleNamespace(collect=lambda: list(listeners.collect(network.server.snapshot())))
    found = samples(text_string_to_metric_families(generate_latest(registry).decode()))
    assert sorted(names(found)) == [WAITING, WAITING, LIMIT, LIMIT, UNREAD, UNREAD]
    assert {dict(labels)["listener"] for _, labels in found} == {"unix:/tmp/?.sock", "unix:\0name"}


PATCHED = """
from gevent import monkey
monkey.patch_all()
import os, socket, time
from types import SimpleNamespace
from gunicorn_prom_hooks.collectors import listeners
from gunicorn_prom_hooks.concurrency import unpatched

class Listener:
    def __init__(self, sock, name):
        self.sock, self.name = sock, name
    def __str__(self):
        return self.name

def listen(name, family, address):
    sock = socket.socket(family)
    sock.bind(address)
    sock.listen(7)
    client = socket.socket(family)
    client.connect(sock.getsockname())
    return Listener(sock, name), client

pairs = [listen("tcp", socket.AF_INET, ("127.0.0.1", 0)), listen("unix", socket.AF_UNIX, f"\\0backlog-{os.getpid()}")]
closed, client = listen("closed", socket.AF_INET, ("127.0.0.1", 0))
closed.sock.close()
gone, other = listen("gone", socket.AF_UNIX, f"\\0gone-{os.getpid()}")
gone.sock.close()
snapshot = SimpleNamespace(listeners=[*(listener for listener, _ in pairs), closed, gone])
done = unpatched("_thread", "allocate_lock")()
done.acquire()

def scrape():
    try:
        deadline = time.monotonic() + 10.0
        while True:
            found = [{s.labels["listener"]: s.value for s in family.samples} for family in listeners.collect(snapshot)]
            if (found and set(found[0].values()) == {1}) or time.monotonic() > deadline:
                break
        print(found)
    finally:
        done.release()

unpatched("_thread", "start_new_thread")(scrape, ())
done.acquire()
for listener, client in pairs:
    client.close()
    listener.sock.close()
"""


def test_collect_in_a_thread_under_gevent_patches_gives_the_same() -> None:
    """Under gevent's monkey patches a thread of the operating system, while the hub does not run, gives the same."""
    result = subprocess.run([sys.executable, "-c", PATCHED], capture_output=True, text=True, timeout=60, check=False)
    limit = capped(7)
    assert result.stdout == f"{[{'tcp': 1, 'unix': 1}, {'tcp': limit, 'unix': limit}, {'tcp': 0, 'unix': 0}]}\n", (
        result.stderr
    )

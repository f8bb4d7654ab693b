"""Hosts on one machine: network namespaces that a bridge in another namespace connects.

Nothing of it is in the machine's own namespace: addresses and ports are free to choose. What runs inside of a namespace
cannot reach the machine's own servers. It takes root and iproute2.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.helpers.servers import eventually

CLONE_NEWNET: Final = 0x40000000
NAMESPACES: Final = Path("/run/netns")
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*arguments: str) -> str:
    """Run iproute2's ``ip``. Return its output.

    Raises:
        OSError: it failed.
    """
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class Host:
    """A network namespace with an address.

    Attributes:
        name: of the namespace.
        address: on the bridge.
    """

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Run the block inside of the namespace, with the threads and processes that it starts."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _enter(NAMESPACES / self.name)
            try:
                yield
            finally:
                _set_namespace(before)
        finally:
            os.close(before)

    def pids(self) -> list[int]:
        """Return the processes inside of the namespace."""
        return [int(pid) for pid in ip("netns", "pids", self.name).split()]

    def kill(self) -> None:
        """End all its processes with SIGKILL, and wait until they are gone."""

        def kill() -> bool:
            pids = self.pids()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not pids

        eventually(kill, f"no process is left in {self.name}")


class Network:
    """Hosts, and the hub with the bridge between them. The hub has an address of its own.

    Attributes:
        hub: where Prometheus and the clients run.
        hosts: where servers run.
    """

    def __init__(self, hub: Host, hosts: Sequence[Host]) -> None:
        self.hub = hub
        self.hosts = hosts

    def set_link(self, host: Host, state: str) -> None:
        """Set the link of a host "up" or "down"."""
        ip("-n", self.hub.name, "link", "set", f"to-{self.hosts.index(host)}", state)


@contextlib.contextmanager
def network(count: int) -> Iterator[Network]:
    """Make a network with this number of hosts. All of it ends with the block, and all that runs there.

    Raises:
        OSError: it cannot be made here.
    """
    prefix = f"gunicorn-{os.getpid()}"
    hub = Host(f"{prefix}-hub", "10.0.0.1")
    hosts = [Host(f"{prefix}-{number}", f"10.0.0.{11 + number}") for number in range(count)]
    with contextlib.ExitStack() as stack:
        for host in (hub, *hosts):
            ip("netns", "add", host.name)
            stack.callback(ip, "netns", "del", host.name)
            ip("-n", host.name, "link", "set", "lo", "up")
        ip("-n", hub.name, "link", "add", "bridge", "type", "bridge")
        ip("-n", hub.name, "address", "add", f"{hub.address}/24", "dev", "bridge")
        ip("-n", hub.name, "link", "set", "bridge", "up")
        for number, host in enumerate(hosts):
            link = f"to-{number}"
            ip("-n", hub.name, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", host.name)
            ip("-n", hub.name, "link", "set", link, "master", "bridge", "up")
            ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
            ip("-n", host.name, "link", "set", "eth0", "up")
            stack.callback(host.kill)
        yield Network(hub, hosts)


def _enter(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _set_namespace(descriptor)
    finally:
        os.close(descriptor)


def _set_namespace(descriptor: int) -> None:
    """Move this thread to the network namespace. Python 3.12 has ``os.setns`` for it."""
    if _libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

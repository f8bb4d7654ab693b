"""Network and mount namespaces: host names and ports of their own, on this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.servers import eventually, running


class Namespace:
    """A network with nothing but the loopback interface, in which host names are those of a file.

    Attributes:
        pid: of a process in it.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def command(self, arguments: Sequence[object], folder: Path) -> list[str]:
        """Return the command that runs these arguments inside."""
        enter = ["nsenter", f"--target={self.pid}", "--net", "--mount", "env", "-C", folder, *arguments]
        return [str(part) for part in enter]

    def run(self, *arguments: object) -> str:
        """Run a command inside. Return its output; an OSError if it fails."""
        done = subprocess.run(
            self.command(arguments, Path("/")), capture_output=True, text=True, check=False, timeout=30
        )
        if done.returncode:
            raise OSError(done.stdout + done.stderr)
        return done.stdout


@contextmanager
def namespace(folder: Path, hosts: Sequence[str]) -> Iterator[Namespace]:
    """Make a namespace in which each of these host names is the loopback address.

    Args:
        folder: for a file of host names and a log.
        hosts: the names.
    """
    file = folder / "hosts"
    file.write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *hosts)))
    script = 'ip link set lo up && mount --bind "$0" /etc/hosts && echo ready && exec sleep infinity'
    command = ["unshare", "--net", "--mount", "--propagation=private", "sh", "-c", script, str(file)]
    with running(command, folder, folder / "namespace.log") as process:
        eventually(lambda: "ready" in (folder / "namespace.log").read_text(), "the namespace")
        yield Namespace(process.pid)

"""The kernel's count of OOM kills: its file, the claims, and a real OOM kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gunicorn_prom_hooks.master.oom import RECENT_SECONDS, OomKills
from tests.helpers.cgroups import MakeCgroup, limited_cgroup  # noqa: F401 - a fixture


class Host:
    """A prepared procfs, cgroup mounts, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1000.0

    def belongs_to(self, *lines: str) -> None:
        """Write /proc/self/cgroup."""
        path = self.write("proc/self/cgroup", "")
        path.write_bytes("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))

    def write(self, path: str, text: str) -> Path:
        """Write a file."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def counted(self, path: str, kills: int) -> str:
        """Write a file with the counter; return its path."""
        return str(self.write(path, f"low 7\nhigh 8\nmax 9\noom 6\noom_kill {kills}\noom_group_kill 5\n"))

    def kills(self, path: str | None = None) -> OomKills:
        """Return an ``OomKills`` that reads these folders."""
        return OomKills(str(self.folder / "proc"), str(self.folder / "cgroup"), lambda: self.now, path)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host without any file."""
    return Host(tmp_path)


V1 = ("9:name=systemd:/memory", "5:memory_other:/x", "4:cpu,memory:/a/b", "3:cpuset:/")


@pytest.mark.parametrize(
    ("lines", "place", "others"),
    [
        pytest.param(["0::/a/b"], "memory.events of a/b", ["memory.events"], id="v2"),
        pytest.param(["0::/"], "memory.events", [], id="v2, root of a namespace"),
        pytest.param(["0::/a:b"], "memory.events of a:b", ["memory.events"], id="a colon in the path"),
        pytest.param(["1:name=\udcff:/", "0::/\udcff"], "memory.events of \udcff", [], id="not UTF-8"),
        pytest.param(
            V1,
            "memory.oom_control of memory/a/b",
            ["memory/memory.oom_control", "memory/x/memory.oom_control"],
            id="v1",
        ),
        pytest.param([*V1, "0::/a/b"], "memory.oom_control of memory/a/b", ["memory/memory.oom_control"], id="hybrid"),
        pytest.param(["1:cpu:/", "0::/a/b"], "memory.events of unified/a/b", ["unified/memory.events"], id="unified"),
        pytest.param(["0::/docker/123"], "memory.events", ["a/memory.events"], id="container, v2"),
        pytest.param(V1, "memory.oom_control of memory", ["memory/a/memory.oom_control"], id="container, v1"),
    ],
)
def test_counter_is_found_in_each_layout_of_cgroups(
    lines: list[str], place: str, others: list[str], host: Host
) -> None:
    """A kill counted in the right file can be claimed, one counted in another file cannot."""
    name, _, folder = place.partition(" of ")
    host.belongs_to(*lines)
    right = f"cgroup/{folder}/{name}"
    for path in (right, *(f"cgroup/{other}" for other in others)):
        host.counted(path, 3)
    kills = host.kills()
    for other in others:
        host.counted(f"cgroup/{other}", 9)
    assert not kills.claim()
    host.counted(right, 4)
    assert kills.claim()
    assert not kills.claim()


def test_counter_of_v1_is_found_though_v2_is_mounted(host: Host) -> None:
    """In a hybrid layout, whose v2 folder has no memory.events, the counter of v1 is found."""
    host.belongs_to(*V1, "0::/a/b")
    host.write("cgroup/unified/a/b/cgroup.events", "populated 1\n")
    host.write("cgroup/memory/a/b/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    kills = host.kills()
    host.write("cgroup/memory/a/b/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert kills.claim()


def test_claim_is_false_without_oom_kill_in_the_file(host: Host) -> None:
    """Without oom_kill in the file, as before Linux 4.13, no claim is true."""
    host.belongs_to(*V1)
    host.write("cgroup/memory/a/b/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n")
    kills = host.kills()
    kills.update()
    assert not kills.claim()


@pytest.mark.parametrize("lines", [[], ["0::/a"], ["garbage", "::", "4:memory", "\x00\udcff"], None])
def test_without_a_file_no_claim_is_true(lines: list[str] | None, host: Host) -> None:
    """Without a counter, or if it is not clear which, no claim is true."""
    if lines is not None:
        host.belongs_to(*lines)
    kills = host.kills()
    kills.update()
    assert not kills.claim()


def test_each_kill_is_claimed_once(host: Host) -> None:
    """Of three claims after two kills two are true. Earlier kills are never claimed."""
    path = host.counted("counter", 5)
    kills = host.kills(path)
    assert not kills.claim()
    host.counted("counter", 7)
    assert [kills.claim() for _ in range(3)] == [True, True, False]
    host.counted("counter", 8)
    assert [kills.claim() for _ in range(2)] == [True, False]


def test_file_may_appear_later(host: Host) -> None:
    """A file that is given may appear later: kills in its first count are never claimed."""
    kills = host.kills(str(host.folder / "counter"))
    assert not kills.claim()
    host.counted("counter", 5)
    assert not kills.claim()
    host.counted("counter", 6)
    assert kills.claim()


def test_read_kill_expires_after_recent_seconds(host: Host) -> None:
    """A kill that ``update`` has read can be claimed for RECENT_SECONDS; a newer one still can."""
    kills = host.kills(host.counted("counter", 0))
    host.counted("counter", 1)
    kills.update()
    host.now += RECENT_SECONDS
    kills.update()
    assert kills.claim()
    host.counted("counter", 2)
    kills.update()
    host.now += RECENT_SECONDS + 0.1
    assert not kills.claim()
    host.counted("counter", 3)
    assert kills.claim()


def test_time_runs_from_the_first_update_that_read_the_kill(host: Host) -> None:
    """Later updates without a new kill do not extend the time."""
    kills = host.kills(host.counted("counter", 0))
    host.counted("counter", 1)
    for _ in range(102):
        kills.update()
        host.now += RECENT_SECONDS / 100
    assert not kills.claim()


def test_kill_that_was_not_read_can_be_claimed_later(host: Host) -> None:
    """Without an update in between, a kill of any age can be claimed."""
    kills = host.kills(host.counted("counter", 0))
    host.counted("counter", 1)
    host.now += 100 * RECENT_SECONDS
    assert kills.claim()


def test_kill_left_by_a_claim_expires(host: Host) -> None:
    """Of two kills one is claimed. The claim has read the other one too, which expires."""
    kills = host.kills(host.counted("counter", 0))
    host.counted("counter", 2)
    assert kills.claim()
    host.now += RECENT_SECONDS + 0.1
    assert not kills.claim()


def test_claimed_kill_that_expires_is_counted_once(host: Host) -> None:
    """A claimed kill that expires does not take a newer one with it."""
    kills = host.kills(host.counted("counter", 0))
    host.counted("counter", 1)
    kills.update()
    host.now += RECENT_SECONDS - 1.0
    host.counted("counter", 2)
    kills.update()
    assert kills.claim()
    host.now += 2.0
    assert kills.claim()
    assert not kills.claim()


def test_expiry_after_claims_frees_no_kill(host: Host) -> None:
    """When the older of two claimed kills expires, the newer one cannot be claimed again."""
    kills = host.kills(host.counted("counter", 0))
    host.counted("counter", 1)
    kills.update()
    host.now += RECENT_SECONDS - 1.0
    host.counted("counter", 2)
    assert [kills.claim(), kills.claim()] == [True, True]
    host.now += 2.0
    assert not kills.claim()


def test_each_kill_expires_at_its_own_time(host: Host) -> None:
    """Of two kills read at different times, the first one expires first."""
    kills = host.kills(host.counted("counter", 0))
    host.counted("counter", 1)
    kills.update()
    host.now += RECENT_SECONDS - 1.0
    host.counted("counter", 2)
    kills.update()
    host.now += 2.0
    assert [kills.claim(), kills.claim()] == [True, False]


def test_count_that_decreases_is_another_counter(host: Host) -> None:
    """Kills in a smaller count are never claimed; later ones are."""
    kills = host.kills(host.counted("counter", 5))
    host.counted("counter", 9)
    kills.update()
    host.counted("counter", 2)
    assert not kills.claim()
    host.now += RECENT_SECONDS + 0.1
    host.counted("counter", 3)
    assert kills.claim()
    assert not kills.claim()


@pytest.mark.parametrize(
    "content",
    [b"", b"oom_kill", b"oom_kill \n", b"oom_kill x\n", b"oom_kill -3\n", b"xoom_kill 9\n", b"\xff\x00" * 5000],
)
def test_unreadable_content_is_skipped(content: bytes, host: Host) -> None:
    """While the content is garbage no claim is true. Kills counted meanwhile can be claimed afterwards."""
    path = Path(host.counted("counter", 1))
    kills = host.kills(str(path))
    host.counted("counter", 2)
    kills.update()
    path.write_bytes(content)
    kills.update()
    assert not kills.claim()
    host.counted("counter", 3)
    assert [kills.claim() for _ in range(3)] == [True, True, False]


def test_claim_is_false_while_the_file_is_missing_or_not_regular(host: Host) -> None:
    """While the file is gone, or is no regular file, no claim is true."""
    path = Path(host.counted("counter", 1))
    kills = host.kills(str(path))
    host.counted("counter", 2)
    kills.update()
    path.unlink()
    kills.update()
    assert not kills.claim()
    path.mkdir()
    assert not kills.claim()
    path.rmdir()
    os.mkfifo(path)
    assert not kills.claim()
    assert not OomKills(path="\x00").claim()


def test_recent_kills_are_bounded(host: Host) -> None:
    """Of many kills few are kept one by one, and no claim is lost."""
    kills = host.kills(host.counted("counter", 0))
    for count in range(1, 201):
        host.counted("counter", count)
        kills.update()
    assert len(kills._recent) <= 64
    assert sum(kills.claim() for _ in range(300)) == 200


LIMIT = 64 * 1024 * 1024
CHILD = """
import json, os, signal, sys

with open(sys.argv[1] + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))

from gunicorn_prom_hooks.master.oom import OomKills

def ends(work):
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def eat():
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    eaten = []
    for _ in range(256):  # four times the limit, should that not hold
        eaten.append(b"x" * 2**20)

kills = OomKills()
told = [kills._path, kills.claim()]
for work in (eat, lambda: os.kill(os.getpid(), signal.SIGKILL), eat):
    told += [ends(work), kills.claim()]
print(json.dumps(told))
"""


def test_real_oom_kill_is_claimed_and_a_plain_sigkill_is_not(limited_cgroup: MakeCgroup) -> None:  # noqa: F811 - the fixture
    """A child that the kernel kills in a cgroup of 64 MB is claimed; one that is killed by SIGKILL is not."""
    folder, file = limited_cgroup(LIMIT)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    path, *stop_reason = json.loads(done.stdout)
    assert Path(path) == folder / file
    assert stop_reason == [False, -9, True, -9, False, -9, True]

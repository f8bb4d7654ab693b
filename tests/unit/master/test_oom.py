"""The kernel's count of OOM kills: where it is, who may claim one, and a real one."""

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
        """Writes /proc/self/cgroup."""
        path = self.write("proc/self/cgroup", "")
        path.write_bytes("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))

    def write(self, path: str, text: str) -> Path:
        """Writes a file."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def counted(self, path: str, kills: int) -> str:
        """Writes a file with the counter; its path."""
        return str(self.write(path, f"low 7\nhigh 8\nmax 9\noom 6\noom_kill {kills}\noom_group_kill 5\n"))

    def kills(self, path: str | None = None) -> OomKills:
        """What finds its way in here."""
        return OomKills(str(self.folder / "proc"), str(self.folder / "cgroup"), lambda: self.now, path)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host with nothing on it."""
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
def test_where_the_counter_is(lines: list[str], place: str, others: list[str], host: Host) -> None:
    """A kill that is counted in the right file can be claimed, one counted in another cannot."""
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


def test_memory_on_v1_is_found_though_v2_is_mounted(host: Host) -> None:
    """In a hybrid layout, whose v2 folder has no memory.events, the counter of v1 is found."""
    host.belongs_to(*V1, "0::/a/b")
    host.write("cgroup/unified/a/b/cgroup.events", "populated 1\n")
    host.write("cgroup/memory/a/b/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    kills = host.kills()
    host.write("cgroup/memory/a/b/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert kills.claim()


def test_a_kernel_that_does_not_count(host: Host) -> None:
    """Where the file has no oom_kill, as before Linux 4.13, nothing is told."""
    host.belongs_to(*V1)
    host.write("cgroup/memory/a/b/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n")
    kills = host.kills()
    kills.update()
    assert not kills.claim()


@pytest.mark.parametrize("lines", [[], ["0::/a"], ["garbage", "::", "4:memory", "\x00\udcff"], None])
def test_no_counter(lines: list[str] | None, host: Host) -> None:
    """Where there is no counter, or no telling which, nothing is told."""
    if lines is not None:
        host.belongs_to(*lines)
    kills = host.kills()
    kills.update()
    assert not kills.claim()


def test_each_kill_answers_one_claim(host: Host) -> None:
    """Of three claims after two kills two are true; history from before is nobody's."""
    path = host.counted("counter", 5)
    kills = host.kills(path)
    assert not kills.claim()
    host.counted("counter", 7)
    assert [kills.claim() for _ in range(3)] == [True, True, False]
    host.counted("counter", 8)
    assert [kills.claim() for _ in range(2)] == [True, False]


def test_an_explicit_file_need_not_be_there_yet(host: Host) -> None:
    """A file handed in may come later: its first count is history."""
    kills = host.kills(str(host.folder / "counter"))
    assert not kills.claim()
    host.counted("counter", 5)
    assert not kills.claim()
    host.counted("counter", 6)
    assert kills.claim()


def test_a_kill_seen_long_ago_is_not_claimed(host: Host) -> None:
    """A kill that a look saw is claimable for RECENT_SECONDS, then no more; a newer one still is."""
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


def test_time_runs_from_the_first_look_that_saw_it(host: Host) -> None:
    """Looks that see nothing new do not keep a kill fresh."""
    kills = host.kills(host.counted("counter", 0))
    host.counted("counter", 1)
    for _ in range(102):
        kills.update()
        host.now += RECENT_SECONDS / 100
    assert not kills.claim()


def test_a_kill_that_nobody_saw_is_claimed_later(host: Host) -> None:
    """Without a look in between, a kill of any age can be claimed."""
    kills = host.kills(host.counted("counter", 0))
    host.counted("counter", 1)
    host.now += 100 * RECENT_SECONDS
    assert kills.claim()


def test_what_a_claim_leaves_grows_old_too(host: Host) -> None:
    """Of two kills one is claimed; the other was seen by that claim, and cannot be claimed long after."""
    kills = host.kills(host.counted("counter", 0))
    host.counted("counter", 2)
    assert kills.claim()
    host.now += RECENT_SECONDS + 0.1
    assert not kills.claim()


def test_a_claim_and_the_end_of_its_time_count_once(host: Host) -> None:
    """A claimed kill that grows old does not take a newer one with it."""
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


def test_a_kill_that_grows_old_after_claims_gives_nothing_back(host: Host) -> None:
    """When the older of two claimed kills grows old, the newer one cannot be claimed again."""
    kills = host.kills(host.counted("counter", 0))
    host.counted("counter", 1)
    kills.update()
    host.now += RECENT_SECONDS - 1.0
    host.counted("counter", 2)
    assert [kills.claim(), kills.claim()] == [True, True]
    host.now += 2.0
    assert not kills.claim()


def test_each_kill_grows_old_on_its_own(host: Host) -> None:
    """Of two kills seen at different times, the first grows old first."""
    kills = host.kills(host.counted("counter", 0))
    host.counted("counter", 1)
    kills.update()
    host.now += RECENT_SECONDS - 1.0
    host.counted("counter", 2)
    kills.update()
    host.now += 2.0
    assert [kills.claim(), kills.claim()] == [True, False]


def test_a_counter_that_goes_backwards(host: Host) -> None:
    """A count below the last one is another counter, and history; it counts on from there."""
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
def test_garbage(content: bytes, host: Host) -> None:
    """A file that is garbled for a while is passed over; what was counted meanwhile can be claimed afterwards."""
    path = Path(host.counted("counter", 1))
    kills = host.kills(str(path))
    host.counted("counter", 2)
    kills.update()
    path.write_bytes(content)
    kills.update()
    assert not kills.claim()
    host.counted("counter", 3)
    assert [kills.claim() for _ in range(3)] == [True, True, False]


def test_a_file_that_vanishes(host: Host) -> None:
    """While the file is gone, or is no file at all, no claim is true."""
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


def test_memory_is_bounded(host: Host) -> None:
    """However many kills are seen in a short time, few are remembered singly, and no claim is lost."""
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


def test_a_real_oom_kill(limited_cgroup: MakeCgroup) -> None:  # noqa: F811 - the fixture
    """In a cgroup of 64 MB a child that the kernel kills is claimed; one that is killed by hand is not."""
    folder, file = limited_cgroup(LIMIT)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    path, *stop_reason = json.loads(done.stdout)
    assert Path(path) == folder / file
    assert stop_reason == [False, -9, True, -9, False, -9, True]

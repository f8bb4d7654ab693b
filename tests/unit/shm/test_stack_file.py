"""The file with the stacks of a process that hangs: C code in the process writes it, the parent reads it."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gunicorn_prom_hooks.master import stack_requests
from gunicorn_prom_hooks.master.stack_requests import WAIT_SECONDS, StackRequests
from gunicorn_prom_hooks.master.workers import TrackedWorker
from gunicorn_prom_hooks.shm import stack_file
from gunicorn_prom_hooks.shm.allocator import SlotAllocator
from gunicorn_prom_hooks.shm.layout import STACKS, STACKS_ARMED, STACKS_ASKED
from gunicorn_prom_hooks.shm.stack_file import MAX_BYTES, SHOWN_BYTES, SIGNAL, SLOTS, StackFile
from tests.helpers.forks import in_fork
from tests.helpers.recording import new_slot

Told = Callable[[], object]
MESSAGE = "WORKER TIMEOUT (pid:%s)"


STACK_FILE = StackFile()
"""One file for all processes, as in the master."""


class Hung:
    """A child process that never returns from one call, and its entry in the master."""

    def __init__(self, hang: Callable[[Told], object], allocator: SlotAllocator, *, arms: bool = True) -> None:
        self.tracked = TrackedWorker(SimpleNamespace(pid=0), "worker_1", allocator.lease(1, 0.0))
        self.number = self.tracked.lease.number
        ready, go = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                faulthandler.disable()  # pytest's, which has SIGABRT
                if arms and STACK_FILE.arm(self.number):
                    self.tracked.lease.slot.header[STACKS] = STACKS_ARMED
                hang(lambda: os.write(go, b"x"))
            finally:
                os._exit(1)
        self.tracked.worker.pid = self.pid
        assert os.read(ready, 1) == b"x"
        os.close(ready)
        os.close(go)

    def abort(self) -> int:
        """Send SIGABRT, as gunicorn does next, and wait; return the signal that ended the process."""
        os.kill(self.pid, signal.SIGABRT)
        return self._end()

    def kill(self) -> int:
        """End the process; return the signal that ended it, 0 if it had ended before."""
        if not self.pid:
            return 0
        os.kill(self.pid, signal.SIGKILL)
        return self._end()

    def text(self) -> str:
        """Remove and return what the process has written."""
        return STACK_FILE.take(self.number)

    def _end(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.WTERMSIG(status)


Fork = Callable[..., Hung]


def requests_to(*several: Hung) -> StackRequests:
    """Return the requests of a master with these workers."""
    registry: Any = SimpleNamespace(live=lambda: [hung.tracked for hung in several])
    return StackRequests(registry, STACK_FILE)


@pytest.fixture
def fork() -> Iterator[Fork]:
    """Fork processes that hang, and end them after the test."""
    allocator = SlotAllocator(new_slot)
    with contextlib.ExitStack() as stack:

        def make(hang: Callable[[Told], object], **keywords: Any) -> Hung:
            hung = Hung(hang, allocator, **keywords)
            stack.callback(hung.kill)
            return hung

        yield make


def in_python(told: Told) -> None:
    """Hang in bytecode."""
    told()
    while True:
        pass


def in_c(told: Told) -> None:
    """Hang in one call of C code, during which no Python signal handler runs."""
    told()
    sum(range(10**15))


def in_the_kernel(told: Told) -> None:
    """Hang in a system call."""
    told()
    time.sleep(1000)


@pytest.mark.parametrize("hang", [in_python, in_c, in_the_kernel])
def test_stacks_are_complete_before_the_process_is_aborted(hang: Callable[[Told], None], fork: Fork) -> None:
    """Wherever a process hangs, its stacks are complete when ``observe`` returns. SIGABRT then ends it at once."""
    hung = fork(hang)
    requests_to(hung).observe(MESSAGE, (hung.pid,))
    assert hung.abort() == signal.SIGABRT
    text = hung.text()
    assert text.startswith("Current thread 0x")
    assert f" in {hang.__name__}\n" in text
    assert text.splitlines()[-1].startswith("  ")
    assert hung.tracked.lease.slot.header[STACKS] == STACKS_ASKED


def test_deep_stack_is_complete(fork: Fork) -> None:
    """A text that takes longer to write is complete as well."""

    def deep(told: Told, depth: int = 90) -> None:
        if depth:
            deep(told, depth - 1)
        in_c(told)

    for _ in range(20):
        hung = fork(deep)
        requests_to(hung).observe(MESSAGE, (hung.pid,))
        assert hung.abort() == signal.SIGABRT
        assert hung.text().count(" in deep") == 91


def test_only_armed_workers_that_time_out_are_asked_and_once(fork: Fork) -> None:
    """A process that has not armed itself gets no signal. Another gets one. Other messages have no effect."""
    unarmed, armed = fork(in_the_kernel, arms=False), fork(in_the_kernel)
    requests = requests_to(unarmed, armed)
    for text, args in (
        (MESSAGE, (unarmed.pid,)),
        (MESSAGE, (1,)),
        (MESSAGE, ("[booting]",)),
        ("Booting worker with pid: %s", (armed.pid,)),
        (object(), ()),
    ):
        requests.observe(text, args)
    assert armed.text() == unarmed.text() == ""
    assert armed.kill() == unarmed.kill() == signal.SIGKILL

    armed = fork(in_the_kernel)
    requests = requests_to(armed)
    requests.observe(f"WORKER TIMEOUT (pid:{armed.pid})", ())
    assert armed.text()
    requests.observe(MESSAGE, (armed.pid,))
    assert armed.text() == ""


def test_request_to_an_exited_process_has_no_effect(fork: Fork) -> None:
    """A request to a worker that has just exited has no effect."""
    hung = fork(in_the_kernel)
    pid = hung.pid
    hung.kill()
    requests_to(hung).observe(MESSAGE, (pid,))
    assert hung.text() == ""


def test_wait_for_a_stopped_process_is_bounded(fork: Fork, monkeypatch: pytest.MonkeyPatch) -> None:
    """The master waits WAIT_SECONDS for a stopped process, and not at all for the next one."""
    first, second = fork(in_the_kernel), fork(in_the_kernel)
    for hung in (first, second):
        os.kill(hung.pid, signal.SIGSTOP)
    requests = requests_to(first, second)
    waits = []

    def wait(self: StackRequests, tracked: TrackedWorker, deadline: float) -> bool:
        waits.append((tracked.worker.pid, deadline - time.monotonic()))
        return real_wait(self, tracked, deadline)

    real_wait = StackRequests._wait
    monkeypatch.setattr(StackRequests, "_wait", wait)
    start = time.monotonic()
    requests.observe(MESSAGE, (first.pid,))
    assert time.monotonic() - start >= WAIT_SECONDS
    requests.observe(MESSAGE, (second.pid,))
    ((waited_for, limit),) = waits
    assert waited_for == first.pid
    assert limit <= WAIT_SECONDS


def test_without_proc_the_master_waits_until_the_text_is_complete(fork: Fork, monkeypatch: pytest.MonkeyPatch) -> None:
    """If pending signals cannot be read, the text is complete once it no longer grows."""
    monkeypatch.setattr(stack_requests, "_is_writing", lambda pid: False)
    hung = fork(in_c)
    requests_to(hung).observe(MESSAGE, (hung.pid,))
    assert " in in_c" in hung.text()


def test_stacks_of_several_processes_do_not_mix(fork: Fork) -> None:
    """The stacks of several processes do not mix. After they are read the parts are empty."""

    def first(told: Told) -> None:
        in_python(told)

    def second(told: Told) -> None:
        in_the_kernel(told)

    several = [fork(first), fork(second), fork(first)]
    requests = requests_to(*several)
    for hung in several:
        requests.observe(MESSAGE, (hung.pid,))
    texts = [hung.text() for hung in several]
    assert [text.count(" in first\n") for text in texts] == [1, 0, 1]
    assert [text.count(" in second\n") for text in texts] == [0, 1, 0]
    assert [hung.text() for hung in several] == ["", "", ""]


def test_disarm_in_a_forked_process_restores_the_signal() -> None:
    """After ``disarm`` the signal ends the process, and nothing is written."""
    stacks = StackFile()
    pid = os.fork()
    if not pid:
        try:
            assert stacks.arm(3)
            child = os.fork()
            if not child:
                stacks.disarm()
                stacks.disarm()
                os.kill(os.getpid(), SIGNAL)
            os._exit(os.WTERMSIG(os.waitpid(child, 0)[1]))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == SIGNAL
    assert stacks.size(3) == 0


def test_disarm_keeps_a_handler_that_the_application_has_set_later() -> None:
    """A handler that the application has set after ``arm`` is still called after ``disarm``."""
    stacks = StackFile()
    pid = os.fork()
    if not pid:
        try:
            assert stacks.arm(3)
            signal.signal(SIGNAL, lambda *_: os._exit(7))
            stacks.disarm()
            signal.raise_signal(SIGNAL)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_older_text_in_the_part_of_a_slot_is_not_returned(fork: Fork) -> None:
    """Neither a long text of the previous slot is returned, nor stacks that were written earlier."""
    hung = fork(in_the_kernel)
    os.kill(hung.pid, SIGNAL)
    deadline = time.monotonic() + 30.0
    while b"most recent call first" not in os.pread(STACK_FILE.fd, 1000, hung.number * MAX_BYTES):
        assert time.monotonic() < deadline, "stacks that the master has not asked for"
        time.sleep(0.01)
    os.pwrite(STACK_FILE.fd, b"of the slot before\n" * 20_000, hung.number * MAX_BYTES)
    requests_to(hung).observe(MESSAGE, (hung.pid,))
    text = hung.text()
    assert text.startswith("Current thread 0x")
    assert text.count(" in in_the_kernel\n") == 1
    assert "of the slot before" not in text


def test_signal_with_a_handler_is_not_used() -> None:
    """A handler that is set already is kept, and ``arm`` returns False."""
    before = signal.signal(SIGNAL, lambda *_: None)
    try:
        assert StackFile().arm(0) is False
    finally:
        signal.signal(SIGNAL, before)


def test_slot_beyond_the_file_is_not_armed() -> None:
    """``arm`` returns False."""
    assert StackFile().arm(SLOTS) is False
    assert signal.getsignal(SIGNAL) is signal.SIG_DFL


@pytest.mark.parametrize("refused", [False, True])
def test_returned_text_is_bounded(refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long text beginning and end are returned, with any kind of file."""
    if refused:

        def memfd_create(*_: object) -> int:
            raise PermissionError(1, "a sandbox")

        monkeypatch.setattr(os, "memfd_create", memfd_create)
    stacks = StackFile()
    assert stacks.take(2) == ""
    assert not os.get_inheritable(stacks.fd)
    text = b"".join(b"line %07d\n" % number for number in range(MAX_BYTES // 13 + 100))
    os.pwrite(stacks.fd, text, 2 * MAX_BYTES)
    assert stacks.size(2) == MAX_BYTES
    shown = stacks.take(2)
    assert SHOWN_BYTES - 100 <= len(shown) <= SHOWN_BYTES + 100
    assert shown.startswith("line 0000000\nline 0000001\n")
    assert "\n[...]\n" in shown
    assert "\0" not in shown
    assert (stacks.size(1), stacks.size(2), stacks.take(2)) == (0, 0, "")


def test_file_smaller_than_its_full_size_takes_the_parts_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the file cannot have its full size, the parts that fit can be written."""

    def too_large(fd: int, size: int) -> None:
        raise OSError(27, "File too large")

    monkeypatch.setattr(os, "ftruncate", too_large)
    stacks = StackFile()
    os.pwrite(stacks.fd, b"text\n", MAX_BYTES)
    assert (stacks.take(0), stacks.take(1), stacks.take(1)) == ("", "text", "")


def test_without_a_file_there_are_no_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the file cannot be made, all methods have no effect."""

    def no_file() -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(stack_file, "_anonymous_file", no_file)
    stacks = StackFile()
    assert (stacks.arm(0), stacks.size(0), stacks.take(0)) == (False, 0, "")
    stacks.disarm()


def test_file_is_closed_with_its_object() -> None:
    """The descriptor is closed when the object is freed."""
    fd = StackFile().fd
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_signal_is_a_real_time_signal() -> None:
    """On Linux it is one that the C library does not use."""
    assert signal.SIGRTMIN < SIGNAL < signal.SIGRTMAX
    assert stack_file.SIGNAL in signal.valid_signals()


def test_stacks_are_given_up_if_their_descriptor_is_another_file_by_now(tmp_path: Path) -> None:
    """Code of the application has closed all descriptors: nothing is written into what has the number now."""
    own = StackFile()
    other = tmp_path / "other"

    def child(*, closes: bool) -> list[object]:
        faulthandler.disable()  # pytest's
        assert own.arm(0)
        if closes:
            fd = own.fd
            os.close(fd)
            file = os.open(other, os.O_WRONLY | os.O_CREAT)
            os.dup2(file, fd)
        found: list[object] = [own.disarm_if_closed(), own.is_armed]
        if not closes:
            os.kill(os.getpid(), SIGNAL)
        return found

    assert in_fork(lambda: child(closes=True)) == [True, False]
    assert other.read_bytes() == b""
    assert own.size(0) == 0
    assert in_fork(lambda: child(closes=False)) == [False, True]
    assert own.size(0) > 0
    assert StackFile().disarm_if_closed() is False

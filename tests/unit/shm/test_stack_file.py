"""The stacks of a process that hangs, written by C code into a file that its parent reads."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from gunicorn_prom_hooks.master import stack_requests
from gunicorn_prom_hooks.master.stack_requests import WAIT_SECONDS, StackRequests
from gunicorn_prom_hooks.master.workers import TrackedWorker
from gunicorn_prom_hooks.shm import stack_file
from gunicorn_prom_hooks.shm.allocator import SlotAllocator
from gunicorn_prom_hooks.shm.layout import STACKS, STACKS_ARMED, STACKS_ASKED
from gunicorn_prom_hooks.shm.stack_file import MAX_BYTES, SHOWN_BYTES, SIGNAL, SLOTS, Stacks
from tests.helpers.recording import new_slot

Told = Callable[[], object]
MESSAGE = "WORKER TIMEOUT (pid:%s)"


STACKS_OF_ALL = Stacks()
"""One file for all processes, as the master has it."""


class Hung:
    """A child process that never comes back from one call, and what it is to the master."""

    def __init__(self, hang: Callable[[Told], object], leases: SlotAllocator, *, arms: bool = True) -> None:
        self.member = TrackedWorker(SimpleNamespace(pid=0), "worker_1", leases.take(1, 0.0))
        self.number = self.member.lease.number
        ready, go = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                faulthandler.disable()  # pytest's, which has SIGABRT
                if arms and STACKS_OF_ALL.arm(self.number):
                    self.member.lease.slot.header[STACKS] = STACKS_ARMED
                hang(lambda: os.write(go, b"x"))
            finally:
                os._exit(1)
        self.member.worker.pid = self.pid
        assert os.read(ready, 1) == b"x"
        os.close(ready)
        os.close(go)

    def abort(self) -> int:
        """Sends it SIGABRT, as gunicorn does next, and waits for it; the signal that ended it."""
        os.kill(self.pid, signal.SIGABRT)
        return self._end()

    def kill(self) -> int:
        """Ends it; the signal that did, 0 if it had ended."""
        if not self.pid:
            return 0
        os.kill(self.pid, signal.SIGKILL)
        return self._end()

    def text(self) -> str:
        """What it has written; another time it is there no more."""
        return STACKS_OF_ALL.take(self.number)

    def _end(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.WTERMSIG(status)


Fork = Callable[..., Hung]


@pytest.fixture
def fork() -> Iterator[Fork]:
    """Makes processes that hang, and ends them."""
    leases = SlotAllocator(new_slot)
    with contextlib.ExitStack() as stack:

        def make(hang: Callable[[Told], object], **keywords: Any) -> Hung:
            hung = Hung(hang, leases, **keywords)
            stack.callback(hung.kill)
            return hung

        yield make


def in_python(told: Told) -> None:
    """Hangs in bytecode."""
    told()
    while True:
        pass


def in_c(told: Told) -> None:
    """Hangs in one call of C code, in which no signal handler of Python's runs."""
    told()
    sum(range(10**15))


def in_the_kernel(told: Told) -> None:
    """Hangs in a system call."""
    told()
    time.sleep(1000)


@pytest.mark.parametrize("hang", [in_python, in_c, in_the_kernel])
def test_the_stacks_are_there_before_the_process_is_ended(hang: Callable[[Told], None], fork: Fork) -> None:
    """Wherever it hangs, its stack is whole when the master goes on, though what comes next ends it at once."""
    hung = fork(hang)
    StackRequests(lambda: [hung.member], STACKS_OF_ALL).listen(MESSAGE, (hung.pid,))
    assert hung.abort() == signal.SIGABRT
    text = hung.text()
    assert text.startswith("Current thread 0x")
    assert f" in {hang.__name__}\n" in text
    assert text.splitlines()[-1].startswith("  ")
    assert hung.member.lease.slot.header[STACKS] == STACKS_ASKED


def test_a_deep_stack_is_waited_for(fork: Fork) -> None:
    """A text that takes a while to write is whole as well."""

    def deep(told: Told, depth: int = 90) -> None:
        if depth:
            deep(told, depth - 1)
        in_c(told)

    for _ in range(20):
        hung = fork(deep)
        StackRequests(lambda hung=hung: [hung.member], STACKS_OF_ALL).listen(MESSAGE, (hung.pid,))  # type: ignore[misc]
        assert hung.abort() == signal.SIGABRT
        assert hung.text().count(" in deep") == 91


def test_who_is_not_asked(fork: Fork) -> None:
    """A process that has not armed itself is left alone, one is asked once, and other messages ask nobody."""
    unarmed, armed = fork(in_the_kernel, arms=False), fork(in_the_kernel)
    asking = StackRequests(lambda: [unarmed.member, armed.member], STACKS_OF_ALL)
    for text, args in (
        (MESSAGE, (unarmed.pid,)),
        (MESSAGE, (1,)),
        (MESSAGE, ("[booting]",)),
        ("Booting worker with pid: %s", (armed.pid,)),
        (object(), ()),
    ):
        asking.listen(text, args)
    assert armed.text() == unarmed.text() == ""
    assert armed.kill() == unarmed.kill() == signal.SIGKILL

    armed = fork(in_the_kernel)
    asking = StackRequests(lambda: [armed.member], STACKS_OF_ALL)
    asking.listen(f"WORKER TIMEOUT (pid:{armed.pid})", ())
    assert armed.text()
    asking.listen(MESSAGE, (armed.pid,))
    assert armed.text() == ""


def test_a_process_that_has_gone_is_not_asked(fork: Fork) -> None:
    """A worker that ends before it can be asked is no failure."""
    hung = fork(in_the_kernel)
    pid = hung.pid
    hung.kill()
    StackRequests(lambda: [hung.member], STACKS_OF_ALL).listen(MESSAGE, (pid,))
    assert hung.text() == ""


def test_a_process_that_cannot_answer_costs_little(fork: Fork) -> None:
    """One that is stopped is waited for a moment, and the next one not at all."""
    first, second = fork(in_the_kernel), fork(in_the_kernel)
    for hung in (first, second):
        os.kill(hung.pid, signal.SIGSTOP)
    asking = StackRequests(lambda: [first.member, second.member], STACKS_OF_ALL)
    start = time.monotonic()
    asking.listen(MESSAGE, (first.pid,))
    between = time.monotonic()
    asking.listen(MESSAGE, (second.pid,))
    assert between - start >= WAIT_SECONDS
    assert time.monotonic() - between < WAIT_SECONDS


def test_without_proc_it_is_waited_for_too(fork: Fork, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not tell which signals are pending, the text is there once it grows no more."""
    monkeypatch.setattr(stack_requests, "_is_writing", lambda pid: False)
    hung = fork(in_c)
    StackRequests(lambda: [hung.member], STACKS_OF_ALL).listen(MESSAGE, (hung.pid,))
    assert " in in_c" in hung.text()


def test_each_process_writes_into_its_own_part(fork: Fork) -> None:
    """Several that hang at once do not mix, whatever the order; the next one in the slot finds nothing."""

    def first(told: Told) -> None:
        in_python(told)

    def second(told: Told) -> None:
        in_the_kernel(told)

    several = [fork(first), fork(second), fork(first)]
    asking = StackRequests(lambda: [hung.member for hung in several], STACKS_OF_ALL)
    for hung in several:
        asking.listen(MESSAGE, (hung.pid,))
    texts = [hung.text() for hung in several]
    assert [text.count(" in first\n") for text in texts] == [1, 0, 1]
    assert [text.count(" in second\n") for text in texts] == [0, 1, 0]
    assert [hung.text() for hung in several] == ["", "", ""]


def test_in_a_process_that_the_worker_has_forked_the_signal_is_what_it_was() -> None:
    """There it ends the process, and nothing is written."""
    stacks = Stacks()
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
    assert stacks.written(3) == 0


def test_a_handler_that_is_set_later_is_kept_in_a_process_that_the_worker_has_forked() -> None:
    """What the application has set after the worker was armed is called there, too."""
    stacks = Stacks()
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


def test_what_is_in_the_part_from_before_is_not_shown(fork: Fork) -> None:
    """Neither a long text of the slot before, nor stacks that were written at another time."""
    hung = fork(in_the_kernel)
    os.kill(hung.pid, SIGNAL)
    deadline = time.monotonic() + 30.0
    while b"most recent call first" not in os.pread(STACKS_OF_ALL.fd, 1000, hung.number * MAX_BYTES):
        assert time.monotonic() < deadline, "stacks that the master has not asked for"
        time.sleep(0.01)
    os.pwrite(STACKS_OF_ALL.fd, b"of the slot before\n" * 20_000, hung.number * MAX_BYTES)
    StackRequests(lambda: [hung.member], STACKS_OF_ALL).listen(MESSAGE, (hung.pid,))
    text = hung.text()
    assert text.startswith("Current thread 0x")
    assert text.count(" in in_the_kernel\n") == 1
    assert "of the slot before" not in text


def test_a_signal_that_the_user_has_is_left_alone() -> None:
    """Where the signal has a handler already it keeps it, and the process is not asked."""
    before = signal.signal(SIGNAL, lambda *_: None)
    try:
        assert Stacks().arm(0) is False
    finally:
        signal.signal(SIGNAL, before)


def test_a_slot_beyond_the_file_has_no_stacks() -> None:
    """Nothing is armed there."""
    assert Stacks().arm(SLOTS) is False
    assert signal.getsignal(SIGNAL) is signal.SIG_DFL


@pytest.mark.parametrize("refused", [False, True])
def test_the_text_is_bounded(refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long text beginning and end are shown, and no more is read, whatever kind of file there is."""
    if refused:

        def memfd_create(*_: object) -> int:
            raise PermissionError(1, "a sandbox")

        monkeypatch.setattr(os, "memfd_create", memfd_create)
    stacks = Stacks()
    assert stacks.take(2) == ""
    assert not os.get_inheritable(stacks.fd)
    text = b"".join(b"line %07d\n" % number for number in range(MAX_BYTES // 13 + 100))
    os.pwrite(stacks.fd, text, 2 * MAX_BYTES)
    assert stacks.written(2) == MAX_BYTES
    shown = stacks.take(2)
    assert SHOWN_BYTES - 100 <= len(shown) <= SHOWN_BYTES + 100
    assert shown.startswith("line 0000000\nline 0000001\n")
    assert "\n[...]\n" in shown
    assert "\0" not in shown
    assert (stacks.written(1), stacks.written(2), stacks.take(2)) == (0, 0, "")


def test_a_limit_on_the_size_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file may not be as large as all its parts, those that fit are there."""

    def too_large(fd: int, size: int) -> None:
        raise OSError(27, "File too large")

    monkeypatch.setattr(os, "ftruncate", too_large)
    stacks = Stacks()
    os.pwrite(stacks.fd, b"text\n", MAX_BYTES)
    assert (stacks.take(0), stacks.take(1), stacks.take(1)) == ("", "text", "")


def test_a_file_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there are no stacks, and that is all."""

    def no_file() -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(stack_file, "_anonymous_file", no_file)
    stacks = Stacks()
    assert (stacks.arm(0), stacks.written(0), stacks.take(0)) == (False, 0, "")
    stacks.disarm()


def test_a_file_is_closed_with_its_object() -> None:
    """Nothing is left open of one that nobody has closed."""
    fd = Stacks().fd
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_there_is_a_signal() -> None:
    """On Linux it is a real-time one, which no library of the system uses."""
    assert signal.SIGRTMIN < SIGNAL < signal.SIGRTMAX
    assert stack_file.SIGNAL in signal.valid_signals()

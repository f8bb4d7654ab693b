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
from unit_support import new_slot

from gunicorn_prom_hooks.master import hangs
from gunicorn_prom_hooks.master.hangs import WAIT_SECONDS, Hangs
from gunicorn_prom_hooks.master.roster import Member
from gunicorn_prom_hooks.scoreboard import stack_file
from gunicorn_prom_hooks.scoreboard.layout import STACKS, STACKS_ARMED, STACKS_ASKED
from gunicorn_prom_hooks.scoreboard.leases import Leases
from gunicorn_prom_hooks.scoreboard.stack_file import MAX_BYTES, SHOWN_BYTES, SIGNAL, StackFile

Told = Callable[[], object]
MESSAGE = "WORKER TIMEOUT (pid:%s)"


class Hung:
    """A child process that never comes back from one call, and what it is to the master."""

    def __init__(self, hang: Callable[[Told], object], *, arms: bool = True) -> None:
        self.member = Member(SimpleNamespace(pid=0), "worker_1", Leases(new_slot).take(1, 0.0))
        self.stacks = self.member.stacks = StackFile()
        ready, go = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                faulthandler.disable()  # pytest's, which has SIGABRT
                if arms and self.stacks.arm():
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

    def _end(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.WTERMSIG(status)


Fork = Callable[..., Hung]


@pytest.fixture
def fork() -> Iterator[Fork]:
    """Makes processes that hang, and ends them."""
    with contextlib.ExitStack() as stack:

        def make(hang: Callable[[Told], object], **keywords: Any) -> Hung:
            hung = Hung(hang, **keywords)
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
    Hangs(lambda: [hung.member]).listen(MESSAGE, (hung.pid,))
    assert hung.abort() == signal.SIGABRT
    text = hung.stacks.text()
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
        Hangs(lambda hung=hung: [hung.member]).listen(MESSAGE, (hung.pid,))  # type: ignore[misc]
        assert hung.abort() == signal.SIGABRT
        assert hung.stacks.text().count(" in deep") == 91


def test_who_is_not_asked(fork: Fork) -> None:
    """A process that has not armed itself is left alone, one is asked once, and other messages ask nobody."""
    unarmed, armed = fork(in_the_kernel, arms=False), fork(in_the_kernel)
    asking = Hangs(lambda: [unarmed.member, armed.member])
    for text, args in (
        (MESSAGE, (unarmed.pid,)),
        (MESSAGE, (1,)),
        (MESSAGE, ("[booting]",)),
        ("Booting worker with pid: %s", (armed.pid,)),
        (object(), ()),
    ):
        asking.listen(text, args)
    assert armed.stacks.text() == unarmed.stacks.text() == ""
    assert armed.kill() == unarmed.kill() == signal.SIGKILL

    armed = fork(in_the_kernel)
    asking = Hangs(lambda: [armed.member])
    asking.listen(f"WORKER TIMEOUT (pid:{armed.pid})", ())
    once = armed.stacks.text()
    asking.listen(MESSAGE, (armed.pid,))
    assert armed.stacks.text() == once != ""


def test_a_process_that_has_gone_is_not_asked(fork: Fork) -> None:
    """A worker that ends before it can be asked is no failure."""
    hung = fork(in_the_kernel)
    pid = hung.pid
    hung.kill()
    Hangs(lambda: [hung.member]).listen(MESSAGE, (pid,))
    assert hung.stacks.text() == ""


def test_a_process_that_cannot_answer_costs_little(fork: Fork) -> None:
    """One that is stopped is waited for a moment, and the next one not at all."""
    first, second = fork(in_the_kernel), fork(in_the_kernel)
    for hung in (first, second):
        os.kill(hung.pid, signal.SIGSTOP)
    asking = Hangs(lambda: [first.member, second.member])
    start = time.monotonic()
    asking.listen(MESSAGE, (first.pid,))
    between = time.monotonic()
    asking.listen(MESSAGE, (second.pid,))
    assert between - start >= WAIT_SECONDS
    assert time.monotonic() - between < WAIT_SECONDS


def test_without_proc_it_is_waited_for_too(fork: Fork, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not tell which signals are pending, the text is there once it grows no more."""
    monkeypatch.setattr(hangs, "_is_writing", lambda pid: False)
    hung = fork(in_c)
    Hangs(lambda: [hung.member]).listen(MESSAGE, (hung.pid,))
    assert " in in_c" in hung.stacks.text()


def test_a_closed_file_has_no_handler_left() -> None:
    """In a child of the process the signal ends it, as it would have, and nothing is written into another file."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            file = StackFile()
            assert file.arm()
            fd = file._fd
            file.close()
            os.dup2(write, fd)
            os.kill(os.getpid(), SIGNAL)
        finally:
            os._exit(1)
    os.close(write)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == SIGNAL
    assert os.read(read, 1) == b""
    os.close(read)


def test_a_signal_that_the_user_has_is_left_alone() -> None:
    """Where the signal has a handler already it keeps it, and the process is not asked."""
    before = signal.signal(SIGNAL, lambda *_: None)
    try:
        assert StackFile().arm() is False
    finally:
        signal.signal(SIGNAL, before)


@pytest.mark.parametrize("refused", [False, True])
def test_the_text_is_bounded(refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long text beginning and end are shown, and no more is read, whatever kind of file there is."""
    if refused:

        def memfd_create(*_: object) -> int:
            raise PermissionError(1, "a sandbox")

        monkeypatch.setattr(os, "memfd_create", memfd_create)
    file = StackFile()
    assert file.text() == ""
    assert not os.get_inheritable(file._fd)
    with contextlib.suppress(OSError):
        for number in range(MAX_BYTES):
            os.write(file._fd, b"line %07d\n" % number)
            if number * 13 > 2 * MAX_BYTES:
                break
    assert refused or file.written <= MAX_BYTES
    text = file.text()
    assert SHOWN_BYTES - 100 <= len(text) <= SHOWN_BYTES + 100
    assert text.startswith("line 0000000\nline 0000001\n")
    assert "\n[...]\n" in text
    assert "\0" not in text
    file.close()
    file.close()
    assert (file.text(), file.written) == ("", 0)


def test_a_file_is_closed_with_its_object() -> None:
    """Nothing is left open of one that nobody has closed."""
    fd = StackFile()._fd
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_there_is_a_signal() -> None:
    """On Linux it is a real-time one, which no library of the system uses."""
    assert signal.SIGRTMIN < SIGNAL < signal.SIGRTMAX
    assert stack_file.SIGNAL in signal.valid_signals()

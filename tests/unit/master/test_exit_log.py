"""What the parser reads in gunicorn's log about exits of workers, and about the shutdown of the server."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from gunicorn_prom_hooks import _state
from gunicorn_prom_hooks.errors import ErrorReporter
from gunicorn_prom_hooks.master.exit_log import MAX_PENDING, ExitLogParser

PID = 4711


def parser_after(*messages: tuple[str, tuple[object, ...]]) -> ExitLogParser:
    """Return a parser that has read these messages with their arguments."""
    exit_log = ExitLogParser()
    for text, args in messages:
        exit_log.observe(text, args)
    return exit_log


GUNICORN_27 = "Worker (pid:%s) was sent %s!"
MESSAGES: list[tuple[str, tuple[object, ...], str | int]] = [
    # gunicorn 27, not yet formatted
    (GUNICORN_27, (PID, "SIGTERM"), "SIGTERM"),
    (GUNICORN_27, (PID, "SIGSEGV"), "SIGSEGV"),
    (GUNICORN_27, (PID, "SIGUSR1"), "SIGUSR1"),
    (GUNICORN_27 + " Perhaps out of memory?", (PID, "SIGKILL"), "SIGKILL"),
    (GUNICORN_27, (PID, "signal 35"), "signal 35"),
    ("Worker (pid:%s) exited with code %s.", (PID, 1), 1),
    ("Worker (pid:%s) exited with code %s.", (PID, 255), 255),
    # gunicorn 23: formatted, but for exit codes
    (f"Worker (pid:{PID}) was sent SIGTERM!", (), "SIGTERM"),
    (f"Worker (pid:{PID}) was sent SIGKILL! Perhaps out of memory?", (), "SIGKILL"),
    ("Worker (pid:%s) exited with code %s", (PID, 7), 7),
    # gunicorn 23: waitpid's status, where it finds no signal of that number; 128 more with a core dump
    (f"Worker (pid:{PID}) was sent code 139!", (), "SIGSEGV"),
    (f"Worker (pid:{PID}) was sent code 35!", (), "signal 35"),
]


@pytest.mark.parametrize(("text", "args", "end"), MESSAGES)
def test_exit_message_is_parsed_and_taken_once(text: str, args: tuple[object, ...], end: str | int) -> None:
    """The exit in a message is found under the worker's pid, once."""
    exit_log = parser_after((text, args))
    assert exit_log.take(PID + 1) is None
    assert exit_log.take(PID) == end
    assert exit_log.take(PID) is None
    assert not exit_log.stopping


def test_exits_of_several_workers_are_kept_by_pid() -> None:
    """Each worker's exit is kept until it is taken, in any order. Of two messages about a pid the later one counts."""
    exit_log = parser_after(
        ("Worker (pid:%s) exited with code %s", (1, 7)),
        (GUNICORN_27, (2, "SIGKILL")),
        (GUNICORN_27, (12, "SIGSEGV")),
        ("Worker (pid:%s) exited with code %s.", (1, 7)),
        (GUNICORN_27, (3, "SIGTERM")),
        ("Worker (pid:%s) exited with code %s.", (3, 1)),
    )
    assert [exit_log.take(pid) for pid in (3, 2, 12, 1)] == [1, "SIGKILL", "SIGSEGV", 7]


@pytest.mark.parametrize("pid", ["[booting]", None, "4711", 4711.0])
def test_take_without_a_pid_finds_nothing(pid: object) -> None:
    """Anything that is not a pid finds nothing, and removes nothing."""
    exit_log = parser_after((GUNICORN_27, (PID, "SIGKILL")))
    assert exit_log.take(pid) is None
    assert exit_log.take(PID) == "SIGKILL"


class LogInto:
    """gunicorn's logger; the parser reads its messages."""

    def __init__(self, exit_log: ExitLogParser) -> None:
        self.exit_log = exit_log

    def __getattr__(self, level: str) -> Any:
        return lambda text, *args, **kwargs: self.exit_log.observe(text, args)


def reap(monkeypatch: pytest.MonkeyPatch, status: int) -> tuple[ExitLogParser, list[str | int | None]]:
    """Have the installed gunicorn reap a worker with this wait status; return the parser and what child_exit takes.

    Raises:
        HaltServer: gunicorn shuts down.
    """
    exit_log, found = ExitLogParser(), []
    arbiter: Any = object.__new__(Arbiter)
    worker = SimpleNamespace(pid=PID, tmp=SimpleNamespace(close=lambda: None))
    arbiter.log = LogInto(exit_log)
    arbiter.WORKERS = {PID: worker}
    arbiter.reexec_pid = arbiter.dirty_arbiter_pid = 0
    arbiter.cfg = SimpleNamespace(child_exit=lambda server, worker: found.append(exit_log.take(worker.pid)))
    reaped = iter([(PID, status), (0, 0)])
    monkeypatch.setattr("gunicorn.arbiter.os.waitpid", lambda pid, options: next(reaped))
    try:
        arbiter.reap_workers()
    except HaltServer:
        found.append(exit_log.take(PID))
    return exit_log, found


@pytest.mark.parametrize(
    ("status", "end", "stopping"),
    [
        (0, None, False),
        (1 << 8, 1, False),
        (3 << 8, 3, True),
        (4 << 8, 4, True),
        (255 << 8, 255, False),
        (1, "SIGHUP", False),
        (9, "SIGKILL", False),
        (11, "SIGSEGV", False),
        (15, "SIGTERM", False),
        (34, "SIGRTMIN", False),
        (35, "signal 35", False),
        pytest.param(11 | 0x80, "SIGSEGV", False, id="with a core dump"),
    ],
)
def test_messages_of_the_installed_gunicorn_are_parsed(
    status: int, end: str | int | None, stopping: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The messages of the installed arbiter are parsed, and are logged before it calls child_exit."""
    exit_log, found = reap(monkeypatch, status)
    assert found == [end]
    assert exit_log.stopping is stopping


@pytest.mark.parametrize(
    ("text", "args", "stopping"),
    [
        *(("Handling signal: %s", (name,), True) for name in ("term", "int", "quit")),
        *(
            ("Handling signal: %s", (name,), False)
            for name in ("hup", "ttin", "ttou", "chld", "usr1", "usr2", "winch", "abrt")
        ),
        ("Handling signal: term", (), True),
        ("Unhandled exception in main loop", (), True),
        *(("Worker (pid:%s) exited with code %s.", (PID, code), True) for code in (3, 4)),
        *(("Worker (pid:%s) exited with code %s.", (PID, code), False) for code in (1, 2, 5, 33, 34, 43)),
        ("Worker (pid:%s) exited with code %s", (PID, 3), True),
        (GUNICORN_27, (3, "SIGTERM"), False),
        ("Ignoring unknown signal: %s", (3,), False),
        ("Unhandled signal: %s", ("term",), False),
        ("%s", ("Handling signal: term",), False),
        ("an application says Handling signal: term", (), False),
    ],
)
def test_stopping_is_set_by_shutdown_messages_only(text: str, args: tuple[object, ...], stopping: bool) -> None:
    """A signal to stop, a boot failure and a crash of the master's loop mean a shutdown; no other message does."""
    assert parser_after((text, args)).stopping is stopping


def test_stopping_stays_set_after_later_signals() -> None:
    """Messages about later signals change nothing."""
    assert parser_after(("Handling signal: %s", ("term",)), ("Handling signal: %s", ("chld",))).stopping


JUNK: list[tuple[object, Any]] = [
    ("", ()),
    (None, ()),
    (b"Worker (pid:4711) was sent SIGKILL!", ()),
    (ValueError("Worker (pid:4711) was sent SIGKILL!"), ()),
    (7, (1, 2)),
    ("no such %d %d", ()),
    ("no such %d %d", ("x",)),
    ("100%", (1,)),
    ("Worker (pid:", ()),
    ("Worker (pid:4711)", ()),
    ("Worker (pid:%s) was sent %s!", ()),
    ("Worker (pid:x) was sent SIGKILL!", ()),
    ("Worker (pid:-4711) was sent SIGKILL!", ()),
    ("Worker (pid:4711) was sent something!", ()),
    ("Worker (pid:4711) was sent signal !", ()),
    ("Worker (pid:4711) was sent SIGKILL", ()),
    ("Worker (pid:4711) exited with code x", ()),
    ("Worker (pid:4711) exited with code -9", ()),
    ("\nWorker (pid:4711) was sent SIGKILL!", ()),
    ("Worker (pid:x) said: Worker (pid:4711) was sent SIGKILL!", ()),
    ("Said: Worker (pid:4711) was sent SIGKILL!", ()),
    ("%s", ("Worker (pid:4711) was sent SIGKILL!",)),
    ("WORKER TIMEOUT (pid:%s)", (PID,)),
    ("Worker exiting (pid: %s)", (PID,)),
    ("Booting worker with pid: %s", (PID,)),
    ("Dirty arbiter (pid:%s) exited with code %s", (PID, 3)),
    ("Handling signal: ", ()),
]


@pytest.mark.parametrize(("text", "args"), JUNK)
def test_other_messages_are_ignored(text: object, args: Any) -> None:
    """Other messages add no exit, but show that messages arrive."""
    exit_log = ExitLogParser()
    assert not exit_log.is_observing
    exit_log.observe(text, args)
    assert exit_log.is_observing
    assert exit_log._pending == {}
    assert not exit_log.stopping


WRONG_ARGS = [
    ("Worker (pid:%s) was sent %s!", (PID,)),
    ("Worker (pid:%s) was sent %s!", (PID, "SIGKILL", 3)),
    ("Worker (pid:%d) exited with code %d", (PID, "x")),
    ("Handling signal: term", (1,)),
    ("Unhandled exception in %(what)s", ("x",)),
]


@pytest.mark.parametrize(("text", "args"), WRONG_ARGS)
def test_wrong_arguments_of_a_message_are_reported(
    text: str, args: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the arguments of a message do not fit, the log call does not fail and no exit is added."""
    exit_log = ExitLogParser()
    monkeypatch.setattr(_state, "errors", ErrorReporter())
    monkeypatch.setattr(_state, "_worker", None)
    monkeypatch.setattr(_state, "_master", SimpleNamespace(pid=os.getpid(), observe_message=exit_log.observe))
    _state._observe_message(text, args)
    assert _state.errors.counts == {"messages": 1}
    assert exit_log.messages == {}
    assert exit_log._pending == {}
    assert not exit_log.stopping
    _state._observe_message(GUNICORN_27, (PID, "SIGKILL"))
    assert exit_log.take(PID) == "SIGKILL"


class Process:
    """The master or the worker runtime of the process with this pid; it keeps what it is told."""

    def __init__(self, pid: int, *, fails: bool = False) -> None:
        self.pid = pid
        self.calls: list[object] = []
        self._fails = fails

    def count_message(self, level: str) -> None:
        """Keep the level; as the master."""
        self.observe_message(level, ())

    def message(self, level: str) -> None:
        """Keep the level; as a worker."""
        self.observe_message(level, ())

    def observe_message(self, text: object, args: Any) -> None:
        """Keep the text."""
        self.calls.append(text)
        if self._fails:
            raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("process", "masters", "workers"),
    [
        ("master", ["error", "text"], []),
        ("worker", [], ["error"]),
        ("forked by a worker", [], []),
        ("before there is a master", [], []),
    ],
)
def test_messages_are_counted_in_their_process_only(
    process: str, masters: list[str], workers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message is counted in the master or worker that logs it. Only the master parses; forked children do neither."""
    here, elsewhere = os.getpid(), os.getppid()
    master = Process(here if process == "master" else elsewhere)
    worker = Process(here if process == "worker" else elsewhere)
    monkeypatch.setattr(_state, "errors", ErrorReporter())
    monkeypatch.setattr(_state, "_master", None if process.startswith("before") else master)
    monkeypatch.setattr(_state, "_worker", worker if "worker" in process else None)
    _state._count_message("error")
    _state._observe_message("text", ())
    assert (master.calls, worker.calls) == (masters, workers)
    assert _state.errors.counts == {}


def test_failure_while_counting_or_parsing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure while a message is counted or parsed does not reach the log call."""
    master = Process(os.getpid(), fails=True)
    monkeypatch.setattr(_state, "errors", ErrorReporter())
    monkeypatch.setattr(_state, "_worker", None)
    monkeypatch.setattr(_state, "_master", master)
    _state._count_message("error")
    _state._observe_message("text", ())
    assert master.calls == ["error", "text"]
    assert _state.errors.counts == {"messages": 2}


def test_pending_exits_are_bounded() -> None:
    """Of exits that are not taken the latest MAX_PENDING are kept."""
    exit_log = ExitLogParser()
    for pid in range(1, MAX_PENDING + 10):
        exit_log.observe(GUNICORN_27, (pid, "SIGKILL"))
        assert len(exit_log._pending) <= MAX_PENDING
    assert [pid for pid in range(1, MAX_PENDING + 10) if exit_log.take(pid) is None] == list(range(1, 10))


@pytest.mark.parametrize(("since", "end"), [(0.0, 7), (999.5, 7), (1000.0, 7), (1000.5, None), (2000.0, None)])
def test_exit_message_from_before_the_worker_is_ignored(
    since: float, end: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message from before the worker began is about another process, and is removed when it is asked for."""
    monkeypatch.setattr("gunicorn_prom_hooks.master.exit_log.time", SimpleNamespace(monotonic=lambda: 1000.0))
    exit_log = parser_after(("Worker (pid:%s) exited with code %s.", (PID, 7)))
    assert exit_log.take(PID, since) == end
    assert exit_log.take(PID) is None


def test_added_sigkill_is_taken_once() -> None:
    """A process that was sent SIGKILL without a log message has that as its exit, once."""
    exit_log = ExitLogParser()
    exit_log.add_sigkill(PID)
    assert not exit_log.is_observing
    assert not exit_log.stopping
    assert [exit_log.take(PID + 1), exit_log.take(PID), exit_log.take(PID)] == [None, "SIGKILL", None]


class Interruptible(Counter[str]):
    """A counter that lets another thread run between reading and writing."""

    def __getitem__(self, key: str) -> int:
        count = super().__getitem__(key)
        time.sleep(0.0)  # only releases the interpreter
        return count


@contextlib.contextmanager
def quick_switches() -> Iterator[None]:
    """Switch threads far more often than by default."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def test_no_message_is_lost_between_threads() -> None:
    """Eight threads log at once: each message is counted, and each exit is found."""
    exit_log = ExitLogParser()
    exit_log.messages = Interruptible()
    together = threading.Barrier(8, timeout=30.0)
    threads, each = 8, 500

    def hammer(number: int) -> None:
        together.wait()
        for step in range(each):
            exit_log.count_message("info" if step % 2 else "error")
            exit_log.observe("x %s", (step,))
            if step % 10 == 0:
                exit_log.count_message("warning")
                exit_log.observe(GUNICORN_27, (1 + number * each + step, "SIGTERM"))

    running = [threading.Thread(target=hammer, args=(number,), daemon=True) for number in range(threads)]
    with quick_switches():
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    assert exit_log.messages == {"info": 2000, "error": 2000, "warning": 400}
    assert {exit_log.take(1 + number) for number in range(0, threads * each, 10)} == {"SIGTERM"}


def test_signal_handler_that_logs_during_counting_does_not_deadlock() -> None:
    """A signal handler that logs while a message is counted does not deadlock."""
    exit_log = ExitLogParser()

    class Interrupted(Counter[str]):
        def __getitem__(self, key: str) -> int:
            if key == "info":
                exit_log.count_message("warning")
                exit_log.observe(GUNICORN_27, (PID, "SIGKILL"))
            return super().__getitem__(key)

    exit_log.messages = Interrupted()
    thread = threading.Thread(target=exit_log.count_message, args=("info",), daemon=True)
    thread.start()
    thread.join(10.0)
    assert not thread.is_alive()
    assert dict(exit_log.messages) == {"info": 1, "warning": 1}
    assert exit_log.take(PID) == "SIGKILL"

"""What is heard in gunicorn's log of the ends of workers, and of the server's."""

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
from gunicorn_prom_hooks.master.exit_log import MAX_ENDS, ExitLogParser

PID = 4711


def heard(*messages: tuple[str, tuple[object, ...]]) -> ExitLogParser:
    """Ends that has heard these texts with their arguments."""
    ends = ExitLogParser()
    for text, args in messages:
        ends.listen(text, args)
    return ends


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
def test_the_end_of_a_worker(text: str, args: tuple[object, ...], end: str | int) -> None:
    """The end that a message tells is found once, under that worker's pid; the second time nothing is known."""
    ends = heard((text, args))
    assert ends.take(PID + 1) is None
    assert ends.take(PID) == end
    assert ends.take(PID) is None
    assert not ends.stopping


def test_ends_of_several_workers_are_kept_apart() -> None:
    """Each worker's end waits until it is asked for, in any order; of one told twice the last word counts."""
    ends = heard(
        ("Worker (pid:%s) exited with code %s", (1, 7)),
        (GUNICORN_27, (2, "SIGKILL")),
        (GUNICORN_27, (12, "SIGSEGV")),
        ("Worker (pid:%s) exited with code %s.", (1, 7)),
        (GUNICORN_27, (3, "SIGTERM")),
        ("Worker (pid:%s) exited with code %s.", (3, 1)),
    )
    assert [ends.take(pid) for pid in (3, 2, 12, 1)] == [1, "SIGKILL", "SIGSEGV", 7]


@pytest.mark.parametrize("pid", ["[booting]", None, "4711", 4711.0])
def test_a_worker_without_a_pid_has_no_end(pid: object) -> None:
    """Asking for what is no pid finds nothing, and takes nothing away."""
    ends = heard((GUNICORN_27, (PID, "SIGKILL")))
    assert ends.take(pid) is None
    assert ends.take(PID) == "SIGKILL"


class Said:
    """gunicorn's logger; ``Ends`` listens to it."""

    def __init__(self, ends: ExitLogParser) -> None:
        self.ends = ends

    def __getattr__(self, level: str) -> Any:
        return lambda text, *args, **kwargs: self.ends.listen(text, args)


def reap(monkeypatch: pytest.MonkeyPatch, status: int) -> tuple[ExitLogParser, list[str | int | None]]:
    """What is heard when the installed gunicorn reaps a worker of this wait status, and the end as child_exit finds it.

    Raises:
        HaltServer: gunicorn shuts down.
    """
    ends, found = ExitLogParser(), []
    arbiter: Any = object.__new__(Arbiter)
    worker = SimpleNamespace(pid=PID, tmp=SimpleNamespace(close=lambda: None))
    arbiter.log = Said(ends)
    arbiter.WORKERS = {PID: worker}
    arbiter.reexec_pid = arbiter.dirty_arbiter_pid = 0
    arbiter.cfg = SimpleNamespace(child_exit=lambda server, worker: found.append(ends.take(worker.pid)))
    reaped = iter([(PID, status), (0, 0)])
    monkeypatch.setattr("gunicorn.arbiter.os.waitpid", lambda pid, options: next(reaped))
    try:
        arbiter.reap_workers()
    except HaltServer:
        found.append(ends.take(PID))
    return ends, found


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
def test_what_the_installed_gunicorn_says(
    status: int, end: str | int | None, stopping: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words in which gunicorn's own arbiter logs an end are understood, and before it calls child_exit."""
    ends, found = reap(monkeypatch, status)
    assert found == [end]
    assert ends.stopping is stopping


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
def test_when_the_server_shuts_down(text: str, args: tuple[object, ...], stopping: bool) -> None:
    """A signal to stop, a failure to boot and a crash of the master's loop mean the end; nothing else does."""
    assert heard((text, args)).stopping is stopping


def test_a_server_that_shuts_down_does_not_come_back() -> None:
    """Signals that are handled after that change nothing."""
    assert heard(("Handling signal: %s", ("term",)), ("Handling signal: %s", ("chld",))).stopping


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
def test_a_message_that_tells_of_no_end(text: object, args: Any) -> None:
    """Whatever else is logged is heard as nothing, but shows that there is somebody who listens."""
    ends = ExitLogParser()
    assert not ends.listening
    ends.listen(text, args)
    assert ends.listening
    assert ends._ends == {}
    assert not ends.stopping


WRONG_ARGS = [
    ("Worker (pid:%s) was sent %s!", (PID,)),
    ("Worker (pid:%s) was sent %s!", (PID, "SIGKILL", 3)),
    ("Worker (pid:%d) exited with code %d", (PID, "x")),
    ("Handling signal: term", (1,)),
    ("Unhandled exception in %(what)s", ("x",)),
]


@pytest.mark.parametrize(("text", "args"), WRONG_ARGS)
def test_wrong_arguments_end_with_the_guard(
    text: str, args: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the arguments of a message do not fit, the log call it is in does not fail, and nothing is made up."""
    ends = ExitLogParser()
    monkeypatch.setattr(_state, "errors", ErrorReporter())
    monkeypatch.setattr(_state, "_worker", None)
    monkeypatch.setattr(_state, "_master", SimpleNamespace(pid=os.getpid(), listen=ends.listen))
    _state._listen(text, args)
    assert _state.errors.counts == {"messages": 1}
    assert ends.messages == {}
    assert ends._ends == {}
    assert not ends.stopping
    _state._listen(GUNICORN_27, (PID, "SIGKILL"))
    assert ends.take(PID) == "SIGKILL"


class Side:
    """The master's or a worker's side, of a process with this pid."""

    def __init__(self, pid: int, *, fails: bool = False) -> None:
        self.pid = pid
        self.stop_reason: list[object] = []
        self._fails = fails

    def message(self, level: str) -> None:
        """Keeps it."""
        self.listen(level, ())

    def listen(self, text: object, args: Any) -> None:
        """Keeps it."""
        self.stop_reason.append(text)
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
def test_whom_a_process_tells(
    process: str, masters: list[str], workers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message counts where the process is, and only the master listens: not what inherited one through a fork."""
    here, elsewhere = os.getpid(), os.getppid()
    master = Side(here if process == "master" else elsewhere)
    worker = Side(here if process == "worker" else elsewhere)
    monkeypatch.setattr(_state, "errors", ErrorReporter())
    monkeypatch.setattr(_state, "_master", None if process.startswith("before") else master)
    monkeypatch.setattr(_state, "_worker", worker if "worker" in process else None)
    _state._count("error")
    _state._listen("text", ())
    assert (master.stop_reason, worker.stop_reason) == (masters, workers)
    assert _state.errors.counts == {}


def test_a_failure_of_ours_is_not_the_log_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails while a message is counted or listened to ends with the guard."""
    master = Side(os.getpid(), fails=True)
    monkeypatch.setattr(_state, "errors", ErrorReporter())
    monkeypatch.setattr(_state, "_worker", None)
    monkeypatch.setattr(_state, "_master", master)
    _state._count("error")
    _state._listen("text", ())
    assert master.stop_reason == ["error", "text"]
    assert _state.errors.counts == {"messages": 2}


def test_memory_is_bounded() -> None:
    """Of ends that nobody asks for only so many are kept, and they are the latest ones."""
    ends = ExitLogParser()
    for pid in range(1, MAX_ENDS + 10):
        ends.listen(GUNICORN_27, (pid, "SIGKILL"))
        assert len(ends._ends) <= MAX_ENDS
    assert [pid for pid in range(1, MAX_ENDS + 10) if ends.take(pid) is None] == list(range(1, 10))


@pytest.mark.parametrize(("since", "end"), [(0.0, 7), (999.5, 7), (1000.0, 7), (1000.5, None), (2000.0, None)])
def test_an_end_from_before_a_worker_began_is_anothers(
    since: float, end: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was logged of a pid before this worker began is not its end, and is forgotten when it is asked for."""
    monkeypatch.setattr("gunicorn_prom_hooks.master.exit_log.time", SimpleNamespace(monotonic=lambda: 1000.0))
    ends = heard(("Worker (pid:%s) exited with code %s.", (PID, 7)))
    assert ends.take(PID, since) == end
    assert ends.take(PID) is None


def test_what_gunicorn_killed_without_a_word() -> None:
    """A process that was sent SIGKILL has that as its end, once; nobody has listened for that, and nothing stops."""
    ends = ExitLogParser()
    ends.killed(PID)
    assert not ends.listening
    assert not ends.stopping
    assert [ends.take(PID + 1), ends.take(PID), ends.take(PID)] == [None, "SIGKILL", None]


class Interruptible(Counter[str]):
    """A counter in which another thread gets its turn between reading and writing."""

    def __getitem__(self, key: str) -> int:
        count = super().__getitem__(key)
        time.sleep(0.0)  # lets go of the interpreter, no more
        return count


@contextlib.contextmanager
def quick_switches() -> Iterator[None]:
    """Threads are switched far more often than by default."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def test_not_one_message_is_lost() -> None:
    """Eight threads that all log at once: each message is counted, and each end is found."""
    ends = ExitLogParser()
    ends.messages = Interruptible()
    together = threading.Barrier(8, timeout=30.0)
    threads, each = 8, 500

    def hammer(number: int) -> None:
        together.wait()
        for step in range(each):
            ends.count("info" if step % 2 else "error")
            ends.listen("x %s", (step,))
            if step % 10 == 0:
                ends.count("warning")
                ends.listen(GUNICORN_27, (1 + number * each + step, "SIGTERM"))

    running = [threading.Thread(target=hammer, args=(number,), daemon=True) for number in range(threads)]
    with quick_switches():
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    assert ends.messages == {"info": 2000, "error": 2000, "warning": 400}
    assert {ends.take(1 + number) for number in range(0, threads * each, 10)} == {"SIGTERM"}


def test_a_message_in_the_middle_of_a_message() -> None:
    """A signal handler that logs while a message is being counted does not wait for itself."""
    ends = ExitLogParser()

    class Interrupted(Counter[str]):
        def __getitem__(self, key: str) -> int:
            if key == "info":
                ends.count("warning")
                ends.listen(GUNICORN_27, (PID, "SIGKILL"))
            return super().__getitem__(key)

    ends.messages = Interrupted()
    thread = threading.Thread(target=ends.count, args=("info",), daemon=True)
    thread.start()
    thread.join(10.0)
    assert not thread.is_alive()
    assert dict(ends.messages) == {"info": 1, "warning": 1}
    assert ends.take(PID) == "SIGKILL"

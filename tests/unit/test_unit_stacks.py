"""Where a worker hung, as text."""

from __future__ import annotations

import re
import signal
import sys
import threading

import pytest

from gunicorn_prom_hooks.worker import stacks as module
from gunicorn_prom_hooks.worker.stacks import handled_signal, stacks


def handle_abort(sig: int, frame: object) -> str:
    """gunicorn's handler of SIGABRT, by its name."""
    return worker_abort()


def worker_abort() -> str:
    """Our hook in it."""
    return stacks()


def hangs() -> str:
    """What the signal interrupts."""
    return handle_abort(signal.SIGABRT, None)


def blocks(text: str) -> list[str]:
    """What is said of each thread."""
    return re.split(r"^(?=Thread )", text, flags=re.MULTILINE)[1:]


def test_the_stack_is_that_of_what_was_interrupted() -> None:
    """The calling thread comes first, and its stack ends where the handler of SIGABRT has interrupted it."""
    own = blocks(hangs())[0].splitlines()
    assert own[0] == f"Thread {threading.current_thread().name} ({threading.get_ident()}):"
    assert own[-2].endswith(", in hangs")
    assert own[-1].strip() == "return handle_abort(signal.SIGABRT, None)"
    assert not any("in worker_abort" in line or module.__file__ in line for line in own)


def test_outside_the_handler_the_stack_is_whole() -> None:
    """Where no handler has interrupted anything, the stack goes down to the call itself."""
    own = blocks(worker_abort())[0]
    assert "in worker_abort" in own
    assert module.__file__ in own.splitlines()[-2]


def test_other_threads_are_there_too() -> None:
    """Another thread, by its name, has the stack of where it is."""
    ready, done = threading.Event(), threading.Event()

    def waits_for_a_database() -> None:
        ready.set()
        done.wait(30.0)

    thread = threading.Thread(target=waits_for_a_database, name="pool-7", daemon=True)
    thread.start()
    assert ready.wait(30.0)
    others = [block for block in blocks(hangs())[1:] if block.startswith(f"Thread pool-7 ({thread.ident}):")]
    done.set()
    thread.join()
    assert len(others) == 1
    assert "in waits_for_a_database" in others[0]


def test_threads_and_frames_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many threads only so many are shown, the calling one among them, and of a deep stack its end."""
    done = threading.Event()
    threads = [threading.Thread(target=done.wait, args=(30.0,), daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    monkeypatch.setattr(module, "MAX_THREADS", 2)
    monkeypatch.setattr(module, "MAX_FRAMES", 1)
    running = len(sys._current_frames())
    text = hangs()
    done.set()
    for thread in threads:
        thread.join()
    assert text.splitlines()[-1] == f"and {running - 2} more threads"
    assert len(blocks(text)) == 2
    assert blocks(text)[0].count("  File ") == 1
    assert ", in hangs" in blocks(text)[0]


def test_the_signal_that_is_handled() -> None:
    """Its number is found in gunicorn's handler, however far up; without one there is none."""

    def handle_quit(sig: int, frame: object) -> int:
        return worker_int()

    def worker_int() -> int:
        return handled_signal()

    assert handle_quit(signal.SIGQUIT, None) == signal.SIGQUIT
    assert worker_int() == 0

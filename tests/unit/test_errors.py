"""Where our own failures end."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn_prom_hooks.errors import LOG_EVERY_SECONDS, ErrorReporter


class Log:
    """Remembers what was logged, and can fail."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.broken = False

    def error(self, msg: str, *args: object, **kwargs: object) -> None:
        """Notes the message, and that it came with its traceback."""
        if self.broken:
            raise ValueError("I/O operation on closed file")
        assert kwargs == {"exc_info": True}
        self.lines.append(msg % args)


class Clock:
    """Stands still until it is told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_failure_is_logged_once_a_minute_and_always_counted() -> None:
    """Each place is logged at once, then again when the minute is over; every failure counts."""
    clock, log = Clock(), Log()
    errors = ErrorReporter(clock)
    errors.log = log
    for after in (0.0, 1.0, LOG_EVERY_SECONDS - 1.5, 0.5):
        clock.now += after
        errors.report("here")
    assert log.lines == ["gunicorn_prom_hooks: here failed; the server goes on"] * 2
    errors.report("there")
    assert log.lines[2:] == ["gunicorn_prom_hooks: there failed; the server goes on"]
    assert errors.counts == {"here": 4, "there": 1}


def test_failure_without_a_log_is_counted() -> None:
    """Before gunicorn has a logger failures are counted, and the first one after that is logged."""
    errors, log = ErrorReporter(Clock()), Log()
    errors.report("here")
    errors.log = log
    errors.report("here")
    assert errors.counts == {"here": 2}
    assert len(log.lines) == 1


def test_failure_with_a_raising_log_is_counted_and_published() -> None:
    """A log that raises is no reason to raise, and the failure is counted and published all the same."""
    errors, log, published = ErrorReporter(Clock()), Log(), list[str]()
    errors.log, errors.publish, log.broken = log, published.append, True
    errors.report("here")
    errors.report("here")
    assert errors.counts == {"here": 2}
    assert published == ["here", "here"]


def test_each_failure_is_published() -> None:
    """In a worker each failure is told to the slot, logged or not."""
    errors, log, published = ErrorReporter(Clock()), Log(), list[str]()
    errors.log, errors.publish = log, published.append
    for where in ("a", "a", "b"):
        errors.report(where)
    assert published == ["a", "a", "b"]
    assert len(log.lines) == 2


def test_failure_with_a_raising_publication_is_counted() -> None:
    """A slot that cannot take the count is no reason to raise."""

    def publish(where: str) -> None:
        raise RuntimeError(where)

    errors = ErrorReporter(Clock())
    errors.publish = publish
    errors.report("here")
    assert errors.counts == {"here": 1}


def test_handled_exception_is_logged_with_its_traceback() -> None:
    """What goes to the log is the failure that is being handled, with its traceback."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign,assignment]
    logger: Any = logging.Logger("alone")
    logger.addHandler(handler)
    errors = ErrorReporter(Clock())
    errors.log = logger
    try:
        raise KeyError("the cause")
    except KeyError:
        errors.report("here")
    (record,) = records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)

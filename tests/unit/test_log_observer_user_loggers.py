"""What the log observer is told where the logger is not gunicorn's own class."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import socket
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from gunicorn.glogging import Logger

from tests.helpers.log_observers import (
    LEVELS,
    METHODS,
    Ear,
    Record,
    Structured,
    config,
    in_master_and_worker,
    watched,
)

pytestmark = pytest.mark.usefixtures("error_log")


@in_master_and_worker
@pytest.mark.parametrize("error_log", [None, "x", object()])
def test_logger_without_an_error_log_is_counted_by_its_methods(error_log: Any, listening: bool) -> None:
    """A logger without an error_log is counted and listened to through its methods, once each, and works as before."""
    log, ear = Structured(error_log), Ear()
    for _ in range(3):
        ear.messages.attach(log, listening=listening)
    assert log.info("a %s", 1, user="u") == log.error("b") == "said"
    assert log.said == [("info", "a %s"), ("error", "b")]
    assert ear.counted == ["info", "error"]
    assert ear.heard == [("a %s", (1,)), ("b", ())]


@in_master_and_worker
def test_parameters_of_a_users_method_may_have_any_name(listening: bool) -> None:
    """A logger class of structured messages takes an event, by position or by name, and fields."""
    said: list[object] = []

    class Events(Structured):
        def info(self, event: str, **fields: object) -> str:  # type: ignore[override]
            said.append((event, fields))
            return "said"

    log, ear = Events(None), Ear()
    ear.messages.attach(log, listening=listening)
    assert log.info(event="ready", port=8000, msg="x") == log.info("ready", args=()) == "said"
    assert said == [("ready", {"port": 8000, "msg": "x"}), ("ready", {"args": ()})]
    assert ear.counted == ["info"] * 2


def test_logger_that_takes_no_attributes_is_named_once() -> None:
    """Its methods cannot be wrapped, so nothing is listened to: one line says what is not known for it."""
    said: list[object] = []

    class Fixed:
        __slots__ = ()

        def warning(self, msg: object, *args: object) -> None:
            said.append(msg)

    log, ear = Fixed(), Ear()
    for listening in (True, True, False):
        ear.messages.attach(log, listening=listening)
    assert len(said) == 1
    assert "cannot be wrapped" in str(said[0])


def test_failing_method_is_counted_each_time() -> None:
    """Where the method behind raises, the message was counted, and so is the next one of the same thread."""

    class Full(Structured):
        def error(self, msg: object, *args: object, **fields: object) -> str:
            raise OSError("the disk is full")

    log, ear = Full(), Ear()
    ear.messages.attach(log, listening=True)
    for _ in range(2):
        with pytest.raises(OSError, match="full"):
            log.error("x")
    assert ear.counted == ["error"] * 2


@contextlib.contextmanager
def statsd(loglevel: str) -> Iterator[Any]:
    """gunicorn's logger with statsd behind it, which overrides every method of the plain one."""
    from gunicorn.instrument.statsd import Statsd

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        cfg = config(loglevel)
        cfg.set("statsd_host", "{}:{}".format(*receiver.getsockname()))
        log: Any = Statsd(cfg)
        with log.sock:
            yield log


@in_master_and_worker
@pytest.mark.parametrize("loglevel", LEVELS)
def test_statsd_logger_counts_each_message_once(loglevel: str, listening: bool) -> None:
    """With gunicorn's other logger, whose info and debug take another way, each message is told once as well."""
    with statsd(loglevel) as log:
        ear = Ear()
        ear.messages.attach(log, listening=listening)
        for method in METHODS:
            getattr(log, method)("x")
    assert ear.counted == [level for level in METHODS.values() if level != "debug" or loglevel == "debug"]


class Where(Logger):
    """Names its caller, as logging does it."""

    def error(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Log the name of the caller."""
        self.error_log.error(msg, *args, stacklevel=2, **kwargs)


class WhereThroughAnother(Logger):
    """Names its caller, with a method in between."""

    def error(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Log the name of the caller."""
        self.say(msg, *args, **kwargs)

    def say(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Log the name of the caller's caller."""
        self.error_log.error(msg, *args, stacklevel=3, **kwargs)


class WhereByFrames(Logger):
    """Names its caller, by the first frame that is not of logging or of a logger."""

    def error(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Log the name of the caller."""
        name = next(frame.function for frame in inspect.stack()[1:] if frame.filename != logging.__file__)
        self.error_log.handle(
            logging.LogRecord("gunicorn.error", logging.ERROR, __file__, 1, msg, args, None, func=name)
        )


@pytest.mark.parametrize("made_by", [Where, WhereThroughAnother, WhereByFrames])
@in_master_and_worker
def test_caller_named_by_a_user_logger_class_is_unchanged(
    made_by: Any, listening: bool, error_log: logging.Logger
) -> None:
    """A logger class of the user's that names its caller names the same one as without the watch."""
    log, ear = watched("info", made_by, listening=listening)
    record = Record()
    error_log.addHandler(record)
    log.error("x")
    assert [found.funcName for found in record.records] == ["test_caller_named_by_a_user_logger_class_is_unchanged"]
    assert ear.heard == [("x", ())] * listening


def test_method_decorated_by_the_user_stays_decorated() -> None:
    """A method of the logger object that the user has put something around stays so, in a worker too."""
    log, ear = watched("info")
    said: list[object] = []
    watching = log.error

    @functools.wraps(watching)
    def loud(msg: object, *args: Any, **kwargs: Any) -> Any:
        said.append(msg)
        return watching(msg, *args, **kwargs)

    log.error = loud
    for listening in (True, False):
        ear.messages.attach(log, listening=listening)
        log.error("x")
    assert said == ["x", "x"]
    assert ear.counted == ["error", "error"]


class Answering(Structured):
    """A logger whose methods have any attribute that one asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.error = Mock(side_effect=super().error)  # type: ignore[method-assign]


def test_logger_with_every_attribute_is_wrapped_once() -> None:
    """An object that has every attribute is not taken for a function of this package."""
    log, ear = Answering(), Ear()
    for _ in range(2):
        ear.messages.attach(log, listening=True)
    log.error("x")
    assert log.said == [("error", "x")]
    assert ear.counted == ["error"]
    assert ear.heard == [("x", ())]


@in_master_and_worker
@pytest.mark.parametrize("loglevel", LEVELS)
def test_message_passed_on_between_methods_is_counted_once(loglevel: str, listening: bool) -> None:
    """What one method of a user's logger class hands on to another is one message, shown or not."""

    class Own(Logger):
        def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
            """An error."""
            self.error(msg, *args, **kwargs)

    log, ear = watched(loglevel, Own, listening=listening)
    log.exception("x")
    log.error("y")
    assert ear.counted == ["error", "error"]

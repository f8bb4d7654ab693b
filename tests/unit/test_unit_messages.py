"""What gunicorn's error log is told, with gunicorn's own logger."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger

from gunicorn_prom_hooks.messages import Messages, level_name

LEVELS = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}
METHODS = {**{name: name for name in LEVELS}, "exception": "error"}
"""Methods of gunicorn's logger, and the level at which each logs."""


@pytest.fixture(autouse=True)
def error_log() -> Iterator[logging.Logger]:
    """gunicorn's error log, without filters and handlers; it and all else of logging is then as it was before."""
    logs = [logging.getLogger(name) for name in ("gunicorn.error", "gunicorn.access")]
    before = [(log, log.level, log.handlers[:], log.filters[:], log.propagate, log.disabled) for log in logs]
    disabled = logging.root.manager.disable
    for log in logs:
        log.handlers[:], log.filters[:] = [], []
        log.disabled = False
    yield logs[0]
    logging.disable(disabled)
    for log, level, handlers, filters, propagate, off in before:
        log.handlers[:], log.filters[:] = handlers, filters
        log.propagate, log.disabled = propagate, off
        log.setLevel(level)


class Ear:
    """What is told by ``Messages``."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, object, Any]] = []
        self.messages = Messages(lambda *message: self.seen.append(message))


def config(loglevel: str) -> Config:
    """gunicorn's configuration with this level."""
    cfg = Config()
    cfg.set("loglevel", loglevel)
    return cfg


def watched(loglevel: str, made_by: Any = Logger) -> tuple[Any, Ear]:
    """gunicorn's logger of this level, and what listens to it."""
    ear, log = Ear(), made_by(config(loglevel))
    ear.messages.attach(log)
    return log, ear


class Record(logging.Handler):
    """Keeps the records that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps it."""
        self.records.append(record)


@pytest.mark.parametrize("loglevel", LEVELS)
@pytest.mark.parametrize("method", METHODS)
def test_each_message_is_told_once(method: str, loglevel: str) -> None:
    """A message is told once, not yet formatted, whether the level shows it or not; debug only where it is shown."""
    log, ear = watched(loglevel)
    getattr(log, method)("%s and %s", "a", "b")
    level = METHODS[method]
    told = level != "debug" or loglevel == "debug"
    assert ear.seen == [(level, "%s and %s", ("a", "b"))] * told


@pytest.mark.parametrize("loglevel", LEVELS)
def test_an_exception_is_told_once(loglevel: str) -> None:
    """log.exception in an except block is one error, shown or not."""
    log, ear = watched(loglevel)
    try:
        raise ValueError
    except ValueError:
        log.exception("failed")
        log.error("failed", exc_info=True)
    assert ear.seen == [("error", "failed", ())] * 2


@pytest.mark.parametrize("loglevel", LEVELS)
@pytest.mark.parametrize("method", METHODS)
def test_what_is_shown_stays_the_same(
    method: str, loglevel: str, error_log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """No message is filtered out and none is shown that would not be: the output is that of a logger left alone."""
    shown = []
    for attach in (False, True):
        error_log.handlers.clear()
        log: Any = Logger(config(loglevel))
        if attach:
            Ear().messages.attach(log)
        getattr(log, method)("%s and %s", "a", "b")
        shown.append(capsys.readouterr().err.partition("] [")[2])
    assert shown[0] == shown[1]
    assert bool(shown[0]) == (LEVELS[METHODS[method]] >= LEVELS[loglevel])


@pytest.mark.parametrize("loglevel", LEVELS)
@pytest.mark.parametrize("level", LEVELS)
def test_messages_straight_to_the_log(level: str, loglevel: str, error_log: logging.Logger) -> None:
    """What an application logs to gunicorn.error itself is told once where it is shown."""
    _, ear = watched(loglevel)
    getattr(logging.getLogger("gunicorn.error"), level)("%s", "x")
    assert ear.seen == [(level, "%s", ("x",))] * (LEVELS[level] >= LEVELS[loglevel])


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "debug"),
        (10, "debug"),
        (19, "debug"),
        (20, "info"),
        (25, "info"),
        (30, "warning"),
        (39, "warning"),
        (40, "error"),
        (49, "error"),
        (50, "critical"),
        (1000, "critical"),
    ],
)
def test_levels_in_between(number: int, name: str) -> None:
    """A level without a name of its own has that of the next lower one, also where it is logged."""
    assert level_name(number) == name
    if number:
        log, ear = watched("debug")
        log.error_log.setLevel(1)
        log.log(number, "x")
        assert ear.seen == [(name, "x", ())]


def test_attaching_again_changes_nothing() -> None:
    """However often it is attached, as by every hook of the master, each message is told once."""
    log, ear = watched("warning")
    methods = [getattr(log, name) for name in METHODS]
    for _ in range(3):
        ear.messages.attach(log)
    assert [getattr(log, name) for name in METHODS] == methods
    log.info("hidden")
    log.error("shown")
    assert [text for _, text, _ in ear.seen] == ["hidden", "shown"]


@pytest.mark.parametrize(("before", "after"), [("error", "info"), ("info", "error"), ("critical", "debug")])
def test_a_reload(before: str, after: str) -> None:
    """gunicorn's log.setup of a reload, with another level, loses no message and tells none twice."""
    log, ear = watched(before)
    log.setup(config(after))
    ear.messages.attach(log)
    for method in METHODS:
        getattr(log, method)("x")
    expected = [level for level in METHODS.values() if level != "debug" or after == "debug"]
    assert [level for level, _, _ in ear.seen] == expected


WITH_LOGCONFIG = """
import json
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn_prom_hooks.messages import Messages
seen = []
cfg = Config()
log = Logger(cfg)
messages = Messages(lambda *message: seen.append(message))
messages.attach(log)
told = []
for loggers, off in (({}, False), ({"gunicorn.error": {"level": "ERROR"}}, False), ({"x": {}}, True)):
    cfg.set("logconfig_dict", {"version": 1, "loggers": loggers, "disable_existing_loggers": off})
    log.setup(cfg)
    messages.attach(log)
    seen.clear()
    log.info("x")
    log.error("x")
    told.append([level for level, _, _ in seen])
print(json.dumps(told))
"""


def test_a_reload_that_configures_logging_itself() -> None:
    """A logconfig_dict that sets the level, or switches gunicorn's log off, loses no message and tells none twice."""
    # In a process of its own: it changes the whole configuration of logging.
    done = subprocess.run([sys.executable, "-c", WITH_LOGCONFIG], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == [["info", "error"]] * 3


def test_a_log_that_is_switched_off(error_log: logging.Logger) -> None:
    """Messages that logging.disable, or a disabled logger, keeps back are told all the same."""
    log, ear = watched("info")
    logging.disable(logging.ERROR)
    ear.messages.attach(log)
    log.error("a")
    log.critical("b")
    logging.disable(logging.NOTSET)
    error_log.disabled = True
    ear.messages.attach(log)
    log.error("c")
    assert ear.seen == [("error", "a", ()), ("critical", "b", ()), ("error", "c", ())]


@pytest.mark.parametrize("log", [None, object(), SimpleNamespace(error_log=None), SimpleNamespace(error_log="x")])
def test_a_logger_of_another_kind_is_left_alone(log: Any) -> None:
    """What has no error_log of logging's own is not touched."""
    before = dict(getattr(log, "__dict__", {}))
    Ear().messages.attach(log)
    assert getattr(log, "__dict__", {}) == before


def test_other_loggers_are_left_alone() -> None:
    """One object is watched, not its class: methods of another logger of gunicorn's are as they were."""
    methods = {name: Logger.__dict__[name] for name in METHODS}
    watched("critical")
    assert {name: Logger.__dict__[name] for name in METHODS} == methods
    assert not any(name in vars(Logger(config("critical"))) for name in METHODS)


def test_a_watched_method_gives_on_what_it_gets() -> None:
    """What the method returns and raises, its name and its keyword arguments are those of the method behind."""

    class Own(Logger):
        def info(self, msg: Any, *args: Any, **kwargs: Any) -> Any:
            """Of the user's own."""
            if kwargs.get("extra") is None:
                raise KeyError("extra")
            return msg, args, kwargs

    log, ear = watched("error", Own)
    assert log.info("x %s", 1, extra={"a": 2}) == ("x %s", (1,), {"extra": {"a": 2}})
    with pytest.raises(KeyError):
        log.info("y")
    assert (log.info.__name__, log.info.__doc__) == ("info", "Of the user's own.")
    assert ear.seen == [("info", "x %s", (1,)), ("info", "y", ())]


@pytest.mark.parametrize("method", METHODS)
def test_the_caller_of_a_record(method: str, error_log: logging.Logger) -> None:
    """Function, file and line that a record names are the same with the watch as without it."""
    callers = []
    for attach in (False, True):
        log: Any = Logger(config("debug"))
        record = Record()
        error_log.handlers[:] = [record]
        if attach:
            Ear().messages.attach(log)
        getattr(log, method)("x")
        (found,) = record.records
        callers.append((found.funcName, found.pathname, found.lineno))
    assert callers[0] == callers[1]


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


@pytest.mark.parametrize("loglevel", LEVELS)
def test_gunicorns_statsd_logger(loglevel: str) -> None:
    """With gunicorn's other logger, whose info and debug take another way, each message is told once as well."""
    with statsd(loglevel) as log:
        ear = Ear()
        ear.messages.attach(log)
        for method in METHODS:
            getattr(log, method)("x")
    assert [level for level, _, _ in ear.seen] == [
        level for level in METHODS.values() if level != "debug" or loglevel == "debug"
    ]


def test_where_a_shown_message_comes_from_for_a_logger_that_looks_further_up(error_log: logging.Logger) -> None:
    """A logger class of the user's that names its caller's caller still does: nothing of ours is in between."""

    class Own(Logger):
        def error(self, msg: Any, *args: Any, **kwargs: Any) -> None:
            """Says who called it."""
            self.error_log.error(msg, *args, stacklevel=2, **kwargs)

    records: list[logging.LogRecord] = []
    ear, log = Ear(), Own(config("info"))
    ear.messages.attach(log)
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign, assignment]
    error_log.addHandler(handler)
    try:
        log.error("x")
    finally:
        error_log.removeHandler(handler)
    assert [record.funcName for record in records] == [
        "test_where_a_shown_message_comes_from_for_a_logger_that_looks_further_up"
    ]


def test_a_logger_that_passes_a_message_on_to_itself() -> None:
    """What one method of a user's logger class hands on to another is one message, at a level that hides it."""

    class Own(Logger):
        def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
            """An error."""
            self.error(msg, *args, **kwargs)

    ear, log = Ear(), Own(config("critical"))
    ear.messages.attach(log)
    log.exception("x")
    log.error("y")
    assert [text for _, text, _ in ear.seen] == ["x", "y"]

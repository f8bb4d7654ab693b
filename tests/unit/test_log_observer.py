"""What gunicorn's error log is told, with gunicorn's own logger."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger

from gunicorn_prom_hooks.log_observer import LogObserver, level_name

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
    """What is told by ``Messages``: levels that were counted, and texts and arguments that were listened to."""

    def __init__(self) -> None:
        self.counted: list[str] = []
        self.heard: list[tuple[object, Any]] = []
        self.messages = LogObserver(self.counted.append, lambda *message: self.heard.append(message))


def config(loglevel: str) -> Config:
    """gunicorn's configuration with this level."""
    cfg = Config()
    cfg.set("loglevel", loglevel)
    return cfg


def watched(loglevel: str, made_by: Any = Logger, *, listening: bool = True) -> tuple[Any, Ear]:
    """gunicorn's logger of this level, and what is attached to it, as in the master or, not listening, a worker."""
    ear, log = Ear(), made_by(config(loglevel))
    ear.messages.attach(log, listening=listening)
    return log, ear


def wrapped(log: Any) -> set[str]:
    """The methods of this logger object that are called through functions of ours."""
    return {name for name in METHODS if name in vars(log)}


def hidden(loglevel: str) -> set[str]:
    """The methods, without debug, whose messages this level keeps back."""
    return {name for name, level in METHODS.items() if name != "debug" and LEVELS[level] < LEVELS[loglevel]}


in_master_and_worker = pytest.mark.parametrize("listening", [True, False], ids=["master", "worker"])


class Record(logging.Handler):
    """Keeps the records that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps it."""
        self.records.append(record)


@in_master_and_worker
@pytest.mark.parametrize("loglevel", LEVELS)
@pytest.mark.parametrize("method", METHODS)
def test_each_message_is_told_once(method: str, loglevel: str, listening: bool) -> None:
    """A message is counted once, whether the level shows it or not, and the master hears it once, not yet formatted."""
    log, ear = watched(loglevel, listening=listening)
    getattr(log, method)("%s and %s", "a", "b")
    level = METHODS[method]
    counted = level != "debug" or loglevel == "debug"
    heard = level != "debug" and (listening or method in hidden(loglevel))
    assert ear.counted == [level] * counted
    assert ear.heard == [("%s and %s", ("a", "b"))] * heard


@pytest.mark.parametrize("loglevel", LEVELS)
def test_which_methods_are_wrapped(loglevel: str) -> None:
    """In the master all but debug are; in a worker those that are hidden, the others are the class's own again."""
    log, ear = watched(loglevel)
    everything = METHODS.keys() - {"debug"}
    for listening, names in (
        (True, everything),
        (False, hidden(loglevel)),
        (False, hidden(loglevel)),
        (True, everything),
    ):
        ear.messages.attach(log, listening=listening)
        assert wrapped(log) == names
        log.error("x")
        log.info("x")
    assert ear.counted == ["error", "info"] * 4


def test_a_method_that_the_user_has_replaced_stays_replaced() -> None:
    """What somebody else has put on the logger object is called as before in the master."""
    log = Logger(config("info"))
    said: list[object] = []
    log.__dict__["error"] = said.append
    ear = Ear()
    for _ in range(2):
        ear.messages.attach(log, listening=True)
        log.error("x")
    assert said == ["x"] * 2
    assert [text for text, _ in ear.heard] == ["x"] * 2


@in_master_and_worker
@pytest.mark.parametrize("loglevel", LEVELS)
def test_an_exception_is_told_once(loglevel: str, listening: bool) -> None:
    """log.exception in an except block is one error, shown or not."""
    log, ear = watched(loglevel, listening=listening)
    try:
        raise ValueError
    except ValueError:
        log.exception("failed")
        log.error("failed", exc_info=True)
    assert ear.counted == ["error"] * 2
    assert ear.heard == [("failed", ())] * (2 if listening or "error" in hidden(loglevel) else 0)


@in_master_and_worker
@pytest.mark.parametrize("loglevel", LEVELS)
@pytest.mark.parametrize("method", METHODS)
def test_what_is_shown_stays_the_same(
    method: str, loglevel: str, listening: bool, error_log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """No message is filtered out and none is shown that would not be: the output is that of a logger left alone."""
    shown = []
    for attach in (False, True):
        error_log.handlers.clear()
        log: Any = Logger(config(loglevel))
        if attach:
            Ear().messages.attach(log, listening=listening)
        getattr(log, method)("%s and %s", "a", "b")
        shown.append(capsys.readouterr().err.partition("] [")[2])
    assert shown[0] == shown[1]
    assert bool(shown[0]) == (LEVELS[METHODS[method]] >= LEVELS[loglevel])


@pytest.mark.parametrize("loglevel", LEVELS)
@pytest.mark.parametrize("level", LEVELS)
def test_messages_straight_to_the_log(level: str, loglevel: str, error_log: logging.Logger) -> None:
    """What an application logs to gunicorn.error itself is counted once where it is shown; nobody listens to it."""
    _, ear = watched(loglevel)
    getattr(logging.getLogger("gunicorn.error"), level)("%s", "x")
    assert ear.counted == [level] * (LEVELS[level] >= LEVELS[loglevel])
    assert ear.heard == []


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
        assert ear.counted == [name]


@in_master_and_worker
def test_attaching_again_changes_nothing(listening: bool) -> None:
    """However often it is attached, as by every hook of the master, each message is told once."""
    log, ear = watched("warning", listening=listening)
    methods = [getattr(log, name) for name in METHODS]
    for _ in range(3):
        ear.messages.attach(log, listening=listening)
    assert [getattr(log, name) for name in METHODS] == methods
    log.info("hidden")
    log.error("shown")
    assert ear.counted == ["info", "error"]
    assert [text for text, _ in ear.heard] == ["hidden", "shown"][: 1 + listening]


@pytest.mark.parametrize(("before", "after"), [("error", "info"), ("info", "error"), ("critical", "debug")])
@in_master_and_worker
def test_a_reload(before: str, after: str, listening: bool) -> None:
    """gunicorn's log.setup of a reload, with another level, loses no message and tells none twice."""
    log, ear = watched(before, listening=listening)
    log.setup(config(after))
    ear.messages.attach(log, listening=listening)
    for method in METHODS:
        getattr(log, method)("x")
    assert ear.counted == [level for level in METHODS.values() if level != "debug" or after == "debug"]
    assert len(ear.heard) == (len(METHODS) - 1 if listening else len(hidden(after)))


WITH_LOGCONFIG = """
import json
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn_prom_hooks.log_observer import LogObserver
counted, heard = [], []
cfg = Config()
log = Logger(cfg)
messages = LogObserver(counted.append, lambda text, args: heard.append(text))
messages.attach(log, listening=True)
told = []
for loggers, off in (({}, False), ({"gunicorn.error": {"level": "ERROR"}}, False), ({"x": {}}, True)):
    cfg.set("logconfig_dict", {"version": 1, "loggers": loggers, "disable_existing_loggers": off})
    log.setup(cfg)
    messages.attach(log, listening=True)
    counted.clear()
    heard.clear()
    log.info("x")
    log.error("y")
    told.append(counted + heard)
print(json.dumps(told))
"""


def test_a_reload_that_configures_logging_itself() -> None:
    """A logconfig_dict that sets the level, or switches gunicorn's log off, loses no message and tells none twice."""
    # In a process of its own: it changes the whole configuration of logging.
    done = subprocess.run([sys.executable, "-c", WITH_LOGCONFIG], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == [["info", "error", "x", "y"]] * 3


@in_master_and_worker
def test_a_log_that_is_switched_off(listening: bool, error_log: logging.Logger) -> None:
    """Messages that logging.disable, or a disabled logger, keeps back are told all the same."""
    log, ear = watched("info", listening=listening)
    logging.disable(logging.ERROR)
    ear.messages.attach(log, listening=listening)
    log.error("a")
    log.critical("b")
    logging.disable(logging.NOTSET)
    error_log.disabled = True
    ear.messages.attach(log, listening=listening)
    log.error("c")
    assert ear.counted == ["error", "critical", "error"]
    assert [text for text, _ in ear.heard] == (["a", "b", "c"] if listening else ["a", "c"])


@pytest.mark.parametrize("log", [None, object(), SimpleNamespace(error_log=None), SimpleNamespace(error_log="x")])
@in_master_and_worker
def test_what_has_no_methods_is_left_alone(listening: bool, log: Any) -> None:
    """What has neither an error_log of logging's own nor methods to log with is not touched."""
    before = dict(getattr(log, "__dict__", {}))
    Ear().messages.attach(log, listening=listening)
    assert getattr(log, "__dict__", {}) == before


class Structured:
    """A logger of the user's that is not derived from gunicorn's, nor from logging's, and has no exception."""

    def __init__(self, error_log: Any = None) -> None:
        self.error_log = error_log
        self.said: list[tuple[str, object]] = []

    def error(self, msg: object, *args: object, **fields: object) -> str:
        """Keeps it."""
        self.said.append(("error", msg))
        return "said"

    def info(self, msg: object, *args: object, **fields: object) -> str:
        """Keeps it."""
        self.said.append(("info", msg))
        return "said"


@in_master_and_worker
@pytest.mark.parametrize("error_log", [None, "x", object()])
def test_a_logger_of_another_kind(error_log: Any, listening: bool) -> None:
    """A logger without an error_log is counted and listened to through its methods, once each, and works as before."""
    log, ear = Structured(error_log), Ear()
    for _ in range(3):
        ear.messages.attach(log, listening=listening)
    assert log.info("a %s", 1, user="u") == log.error("b") == "said"
    assert log.said == [("info", "a %s"), ("error", "b")]
    assert ear.counted == ["info", "error"]
    assert ear.heard == [("a %s", (1,)), ("b", ())]


def test_a_method_that_fails_is_still_told_from_then_on() -> None:
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
    assert ear.counted == ["info", "info"]
    assert ear.heard == [("x %s", (1,)), ("y", ())]


@in_master_and_worker
@pytest.mark.parametrize("method", METHODS)
def test_the_caller_of_a_record(method: str, listening: bool, error_log: logging.Logger) -> None:
    """Function, file and line that a record names are the same with the watch as without it."""
    callers = []
    for attach in (False, True):
        log: Any = Logger(config("debug"))
        record = Record()
        error_log.handlers[:] = [record]
        if attach:
            Ear().messages.attach(log, listening=listening)
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


@in_master_and_worker
@pytest.mark.parametrize("loglevel", LEVELS)
def test_gunicorns_statsd_logger(loglevel: str, listening: bool) -> None:
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
        """Says who called it."""
        self.error_log.error(msg, *args, stacklevel=2, **kwargs)


class WhereThroughAnother(Logger):
    """Names its caller, with a method in between."""

    def error(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Says who called it."""
        self.say(msg, *args, **kwargs)

    def say(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Says who called its caller."""
        self.error_log.error(msg, *args, stacklevel=3, **kwargs)


class WhereByFrames(Logger):
    """Names its caller, by the first frame that is not of logging or of a logger."""

    def error(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Says who called it."""
        name = next(frame.function for frame in inspect.stack()[1:] if frame.filename != logging.__file__)
        self.error_log.handle(
            logging.LogRecord("gunicorn.error", logging.ERROR, __file__, 1, msg, args, None, func=name)
        )


@pytest.mark.parametrize("made_by", [Where, WhereThroughAnother, WhereByFrames])
@in_master_and_worker
def test_where_a_message_comes_from(made_by: Any, listening: bool, error_log: logging.Logger) -> None:
    """A logger class of the user's that names its caller names the same one as without the watch."""
    log, ear = watched("info", made_by, listening=listening)
    record = Record()
    error_log.addHandler(record)
    log.error("x")
    assert [found.funcName for found in record.records] == ["test_where_a_message_comes_from"]
    assert ear.heard == [("x", ())] * listening


def test_a_decorated_method_is_the_users() -> None:
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


def test_a_method_that_answers_to_everything() -> None:
    """What has every attribute is not taken for a function of ours."""
    log, ear = Answering(), Ear()
    for _ in range(2):
        ear.messages.attach(log, listening=True)
    log.error("x")
    assert log.said == [("error", "x")]
    assert ear.counted == ["error"]
    assert ear.heard == [("x", ())]


@in_master_and_worker
@pytest.mark.parametrize("loglevel", LEVELS)
def test_a_logger_that_passes_a_message_on_to_itself(loglevel: str, listening: bool) -> None:
    """What one method of a user's logger class hands on to another is one message, shown or not."""

    class Own(Logger):
        def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
            """An error."""
            self.error(msg, *args, **kwargs)

    log, ear = watched(loglevel, Own, listening=listening)
    log.exception("x")
    log.error("y")
    assert ear.counted == ["error", "error"]

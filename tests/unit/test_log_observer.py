"""What gunicorn's error log is told, with gunicorn's own logger."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.glogging import Logger

from gunicorn_prom_hooks.log_observer import level_name
from tests.helpers.log_observers import (
    LEVELS,
    METHODS,
    Ear,
    Record,
    config,
    hidden,
    in_master_and_worker,
    watched,
    wrapped,
)

pytestmark = pytest.mark.usefixtures("error_log")


@in_master_and_worker
@pytest.mark.parametrize("loglevel", LEVELS)
@pytest.mark.parametrize("method", METHODS)
def test_each_message_is_counted_and_observed_once(method: str, loglevel: str, listening: bool) -> None:
    """A message is counted once, whether the level shows it or not, and the master hears it once, not yet formatted."""
    log, ear = watched(loglevel, listening=listening)
    getattr(log, method)("%s and %s", "a", "b")
    level = METHODS[method]
    counted = level != "debug" or loglevel == "debug"
    heard = level != "debug" and (listening or method in hidden(loglevel))
    assert ear.counted == [level] * counted
    assert ear.heard == [("%s and %s", ("a", "b"))] * heard


@pytest.mark.parametrize("loglevel", LEVELS)
def test_master_wraps_all_methods_but_debug_and_a_worker_the_hidden_ones(loglevel: str) -> None:
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


def test_method_replaced_by_the_user_is_still_called() -> None:
    """A function that other code has put on the logger object is called as before in the master."""
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
def test_logged_exception_is_counted_once_at_any_level(loglevel: str, listening: bool) -> None:
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
def test_output_is_that_of_an_unobserved_logger(
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
def test_message_logged_to_gunicorn_error_directly_is_counted_if_shown(
    level: str, loglevel: str, error_log: logging.Logger
) -> None:
    """What an application logs to gunicorn.error itself is counted once where it is shown, and not parsed."""
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
def test_unnamed_level_has_the_name_of_the_next_lower_one(number: int, name: str) -> None:
    """A level without a name of its own has that of the next lower one, also where it is logged."""
    assert level_name(number) == name
    if number:
        log, ear = watched("debug")
        log.error_log.setLevel(1)
        log.log(number, "x")
        assert ear.counted == [name]


@in_master_and_worker
def test_repeated_attach_counts_each_message_once(listening: bool) -> None:
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
def test_log_setup_at_a_reload_loses_or_repeats_no_message(before: str, after: str, listening: bool) -> None:
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


def test_logconfig_dict_at_a_reload_loses_or_repeats_no_message() -> None:
    """A logconfig_dict that sets the level, or switches gunicorn's log off, loses no message and tells none twice."""
    # In a process of its own: it changes the whole configuration of logging.
    done = subprocess.run([sys.executable, "-c", WITH_LOGCONFIG], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == [["info", "error", "x", "y"]] * 3


@in_master_and_worker
def test_message_is_counted_though_logging_is_disabled(listening: bool, error_log: logging.Logger) -> None:
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
def test_object_without_log_methods_is_unchanged(listening: bool, log: Any) -> None:
    """What has neither an error_log of logging's own nor methods to log with is not touched."""
    before = dict(getattr(log, "__dict__", {}))
    Ear().messages.attach(log, listening=listening)
    assert getattr(log, "__dict__", {}) == before


def test_logger_class_and_other_loggers_are_unchanged() -> None:
    """One object is watched, not its class: methods of another logger of gunicorn's are as they were."""
    methods = {name: Logger.__dict__[name] for name in METHODS}
    watched("critical")
    assert {name: Logger.__dict__[name] for name in METHODS} == methods
    assert not any(name in vars(Logger(config("critical"))) for name in METHODS)


def test_wrapped_method_passes_arguments_result_exception_and_name() -> None:
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
def test_caller_in_a_record_is_that_of_an_unobserved_logger(
    method: str, listening: bool, error_log: logging.Logger
) -> None:
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

"""The line in the log about a worker's death."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_prom_hooks.master.exits import MAX_NAMED, exit_line
from gunicorn_prom_hooks.model.exits import ExitReason
from gunicorn_prom_hooks.model.requests import InFlightRequest
from gunicorn_prom_hooks.paths import MAX_PATH, escape_unprintable

anything = st.text(st.characters(exclude_categories=()), max_size=2 * MAX_PATH)
"""Text, control characters and lone surrogates included."""


def line(*requests: InFlightRequest, unnamed: int = 0) -> str:
    """The line about the end of one worker at 110.0."""
    return exit_line(4711, "worker_7_1700000000", (ExitReason.SIGNAL, "SIGSEGV"), requests, unnamed, 110.0)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("/items/7?a=b c", "/items/7?a=b c"),
        ("/café/日本", "/café/日本"),
        ("/a\nb\r\nc", r"/a\nb\r\nc"),
        ("/\x1b[2J\x1b]0;x\x07", r"/\x1b[2J\x1b]0;x\x07"),
        ("/\x00\x7f\x9b31m", r"/\x00\x7f\x9b31m"),
        ("/\x85\u2028\u2029\x0b\x0c\x1c", r"/\x85\u2028\u2029\x0b\x0c\x1c"),
        ("/\u202egnp.exe\u2066\u200f", r"/\u202egnp.exe\u2066\u200f"),
        ("/\u200b\ufeff\xad\xa0\t", r"/\u200b\ufeff\xad\xa0\t"),
        ("/\ud800\udfff", r"/\ud800\udfff"),
        ("/\U000e0041", r"/\U000e0041"),
    ],
)
def test_what_is_shown_of_a_text(text: str, shown: str) -> None:
    """What can be read stays; control and escape characters, line ends, bidi marks and surrogates are escaped."""
    assert escape_unprintable(text) == shown


@pytest.mark.parametrize("char", ["x", "é", "\x1b", "\n", "\ud800", "\U000e0041"])
def test_a_long_text_is_cut(char: str) -> None:
    """However long a text is, escaped or not, the beginning of it is shown, and no more than so much."""
    assert len(escape_unprintable(char * 10_000)) == MAX_PATH
    assert escape_unprintable("/" + char * 10_000).startswith("/" + escape_unprintable(char))
    assert escape_unprintable("x" * MAX_PATH + char) == "x" * MAX_PATH


@settings(deadline=None, max_examples=300)
@given(anything)
def test_whatever_comes_can_be_shown(text: str) -> None:
    """The result is printable, on one line, within the bound, and can be encoded; what was so before is unchanged."""
    shown = escape_unprintable(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    assert len(shown) <= MAX_PATH
    assert shown.encode().decode() == shown
    if text.isprintable():
        assert shown == text[:MAX_PATH]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.builds(InFlightRequest, st.floats(-1e12, 1e12), anything, anything), max_size=MAX_NAMED + 2),
    st.integers(0, 10**6),
)
def test_it_is_always_one_line(requests: list[InFlightRequest], unnamed: int) -> None:
    """Whatever methods, paths and times the requests have, the line is one, printable and not too long."""
    text = line(*requests, unnamed=unnamed)
    assert text.isprintable()
    assert len(text.splitlines()) == 1
    assert len(text) <= 200 + MAX_NAMED * (2 * MAX_PATH + 50)


BEGINNING = "gunicorn_prom_hooks: worker worker_7_1700000000 (pid:4711) ended: signal (SIGSEGV), in the middle of "
REQUESTS = [InFlightRequest(100.0 + number, "GET", f"/{number}") for number in range(5)]
NAMED = ["GET /0 (10.000 s in flight)", "GET /1 (9.000 s in flight)", "GET /2 (8.000 s in flight)"]


@pytest.mark.parametrize(
    ("requests", "unnamed", "what"),
    [
        (0, 0, "no request"),
        (1, 0, NAMED[0]),
        (2, 0, ", ".join(NAMED[:2])),
        (3, 0, ", ".join(NAMED)),
        (4, 0, ", ".join([*NAMED, "1 other request"])),
        (5, 0, ", ".join([*NAMED, "2 other requests"])),
        (0, 1, "1 other request"),
        (0, 9, "9 other requests"),
        (1, 1, ", ".join([NAMED[0], "1 other request"])),
        (5, 100, ", ".join([*NAMED, "102 other requests"])),
    ],
)
def test_who_how_and_in_the_middle_of_what(requests: int, unnamed: int, what: str) -> None:
    """The worker, its reason and detail, the oldest three requests with their ages, and how many others."""
    assert line(*REQUESTS[:requests], unnamed=unnamed) == BEGINNING + what


@pytest.mark.parametrize(
    ("start", "age"), [(110.0, "0.000"), (109.9996, "0.000"), (10.1234, "99.877"), (111.0, "0.000")]
)
def test_ages_of_requests(start: float, age: str) -> None:
    """An age has milliseconds, and is never negative."""
    assert line(InFlightRequest(start, "GET", "/x")) == f"{BEGINNING}GET /x ({age} s in flight)"


def test_method_and_path_are_both_escaped() -> None:
    """Neither of what a client sends can end the line."""
    assert line(InFlightRequest(110.0, "G\nT", "/\r\x1b[m")) == rf"{BEGINNING}G\nT /\r\x1b[m (0.000 s in flight)"

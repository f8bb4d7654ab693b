"""The log line about a worker exit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_prom_hooks.master.exits import MAX_NAMED, exit_line
from gunicorn_prom_hooks.model.counts import InFlightRequest
from gunicorn_prom_hooks.model.exits import ExitReason
from gunicorn_prom_hooks.paths import MAX_PATH, escape_unprintable

anything = st.text(st.characters(exclude_categories=()), max_size=2 * MAX_PATH)
"""Text, control characters and lone surrogates included."""


def line(*requests: InFlightRequest, untracked: int = 0) -> str:
    """Return the line about a worker that exited at 110.0."""
    return exit_line(4711, "worker_7_1700000000", (ExitReason.SIGNAL, "SIGSEGV"), requests, untracked, 110.0)


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
def test_unprintable_characters_are_escaped_and_readable_text_stays(text: str, shown: str) -> None:
    """Readable text stays. Control characters, line ends, bidi marks and surrogates are escaped."""
    assert escape_unprintable(text) == shown


@pytest.mark.parametrize("char", ["x", "é", "\x1b", "\n", "\ud800", "\U000e0041"])
def test_escaped_text_is_cut_at_its_maximum(char: str) -> None:
    """The beginning of a long text is shown, up to MAX_PATH characters after escaping."""
    assert len(escape_unprintable(char * 10_000)) == MAX_PATH
    assert escape_unprintable("/" + char * 10_000).startswith("/" + escape_unprintable(char))
    assert escape_unprintable("x" * MAX_PATH + char) == "x" * MAX_PATH


@settings(deadline=None, max_examples=300)
@given(anything)
def test_escaped_text_of_any_input_is_printable(text: str) -> None:
    """The result is printable, one line, bounded and valid UTF-8. Printable input is unchanged."""
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
def test_exit_line_is_one_line_for_any_requests(requests: list[InFlightRequest], untracked: int) -> None:
    """For any methods, paths and times the result is one printable line of bounded length."""
    text = line(*requests, untracked=untracked)
    assert text.isprintable()
    assert len(text.splitlines()) == 1
    assert len(text) <= 200 + MAX_NAMED * (2 * MAX_PATH + 50)


BEGINNING = "gunicorn_prom_hooks: worker worker_7_1700000000 (pid:4711) exited: signal (SIGSEGV); "
REQUESTS = [InFlightRequest(100.0 + number, "GET", f"/{number}") for number in range(5)]
NAMED = ["GET /0 (10.000 s)", "GET /1 (9.000 s)", "GET /2 (8.000 s)"]


@pytest.mark.parametrize(
    ("requests", "untracked", "what"),
    [
        (0, 0, "no request in progress"),
        (1, 0, "in progress: " + NAMED[0]),
        (2, 0, "in progress: " + ", ".join(NAMED[:2])),
        (3, 0, "in progress: " + ", ".join(NAMED)),
        (4, 0, "in progress: " + ", ".join([*NAMED, "1 other request"])),
        (5, 0, "in progress: " + ", ".join([*NAMED, "2 other requests"])),
        (0, 1, "in progress: 1 other request"),
        (0, 9, "in progress: 9 other requests"),
        (1, 1, "in progress: " + ", ".join([NAMED[0], "1 other request"])),
        (5, 100, "in progress: " + ", ".join([*NAMED, "102 other requests"])),
    ],
)
def test_exit_line_names_the_oldest_requests(requests: int, untracked: int, what: str) -> None:
    """The line has worker, reason, detail, the oldest three requests with their ages, and the number of others."""
    assert line(*REQUESTS[:requests], untracked=untracked) == BEGINNING + what


@pytest.mark.parametrize(
    ("start", "age"), [(110.0, "0.000"), (109.9996, "0.000"), (10.1234, "99.877"), (111.0, "0.000")]
)
def test_age_of_a_request_has_milliseconds_and_is_never_negative(start: float, age: str) -> None:
    """An age has milliseconds, and is never negative."""
    assert line(InFlightRequest(start, "GET", "/x")) == f"{BEGINNING}in progress: GET /x ({age} s)"


def test_method_and_path_are_escaped() -> None:
    """Neither method nor path can end the line."""
    assert line(InFlightRequest(110.0, "G\nT", "/\r\x1b[m")) == rf"{BEGINNING}in progress: G\nT /\r\x1b[m (0.000 s)"

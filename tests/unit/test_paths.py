"""Normalized paths: bounded, and the same for paths that differ in ids only."""

from __future__ import annotations

import fnmatch
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_prom_hooks.paths import MAX_DECIDED, MAX_LENGTH, MAX_SEGMENTS, REST, normalize_path, path_filter

IDS = st.one_of(
    st.integers(0, 10**15).map(str),
    st.uuids().map(str),
    st.uuids().map(lambda uuid: str(uuid).upper()),
    st.uuids().map(lambda uuid: uuid.hex),
    st.from_regex(r"(?=[a-f]*[0-9])[0-9a-f]{8,64}", fullmatch=True),
    st.from_regex(r"[A-F]{16,40}", fullmatch=True),
    st.text(alphabet=st.characters(categories=["Nd"]), min_size=1, max_size=12),
)
WORDS = st.from_regex(r"[a-z]{1,7}(v[0-9]{1,2})?", fullmatch=True)
SHORT = st.lists(st.one_of(WORDS, IDS.map(lambda text: (text,))), max_size=MAX_SEGMENTS - 1)
"""Segments of a path that is within all bounds: words, and ids as tuples of one."""
ANY = st.one_of(
    st.text(max_size=400),
    st.lists(st.one_of(IDS, WORDS, st.text(alphabet="abf07-_.:%é~", max_size=40)), max_size=60).map(
        lambda parts: "/" + "/".join(parts)
    ),
    st.text(alphabet="/a1", max_size=600),
    st.characters(categories=["Cs", "Cc", "Nd"]).map(lambda character: "/" + character * 300),
)
VARIABLE = re.compile(
    r"\d+|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|(?=.*[0-9])[0-9A-Fa-f]{8,}|[A-Fa-f]{16,}"
)


@settings(deadline=None, max_examples=500)
@given(ANY)
def test_normalized_path_is_bounded_stable_and_has_no_ids(path: str) -> None:
    """Any text at all becomes one with bounded length and segments, that stays as it is and has no id in it."""
    general = normalize_path(path)
    assert normalize_path(general) == general
    assert len(general) <= MAX_LENGTH
    assert general.count("/") <= MAX_SEGMENTS
    assert [segment for segment in general.split("/") if VARIABLE.fullmatch(segment)] == []


@settings(deadline=None, max_examples=300)
@given(SHORT, st.data())
def test_paths_that_differ_only_in_ids_are_one_endpoint(segments: list[str | tuple[str]], data: st.DataObject) -> None:
    """Paths that differ in nothing but their ids are one endpoint; words stay."""
    one = "/" + "/".join(segment if isinstance(segment, str) else segment[0] for segment in segments)
    other = "/" + "/".join(segment if isinstance(segment, str) else data.draw(IDS) for segment in segments)
    assert normalize_path(one) == normalize_path(other)
    assert normalize_path(one) == "/" + "/".join(segment if isinstance(segment, str) else ":id" for segment in segments)


@pytest.mark.parametrize(
    ("path", "general"),
    [
        ("/" + "a/" * 100, "/" + "a/" * 15 + REST),
        ("/" + "a/" * 15, "/" + "a/" * 15),
        ("/" + "x" * 199, "/" + "x" * 199),
        ("/" + "x" * 200, "/" + REST),
        ("/wiki/" + "x" * 8000, "/wiki/" + REST),
        ("/a/" + "1" * 8000 + "/b", "/a/:id/b"),
        ("/a" * 90 + "/12345", "/a" * 15 + "/" + REST),
        ("x" * 300, REST),
        ("/abcdefabcdefabcdef/abcdefabcdefabc", "/:id/abcdefabcdefabc"),
        ("/items/٤٢", "/items/:id"),
    ],
)
def test_path_beyond_the_limits_ends_with_the_rest_placeholder(path: str, general: str) -> None:
    """The first segments stay, the others become one; ids do not count with their length."""
    assert normalize_path(path) == general


def test_path_filter_without_patterns_is_none() -> None:
    """No request then pays for a comparison."""
    assert path_filter(()) is None


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("/healthz", ["/healthz"], ["/healthz/", "/healthzz", "/a/healthz", "/Healthz", ""]),
        ("/static/*", ["/static/", "/static/a/b.css"], ["/static", "/a/static/x"]),
        ("*.css", [".css", "/a.css", "/a\n.css"], ["/a.css?", "/a.cs"]),
        ("/a*b*c", ["/abc", "/axbxc", "/abbcc"], ["/ac", "/acb", "/ab", "/abcd"]),
        ("/aa*aa", ["/aaaa", "/aaxaa"], ["/aa", "/aaa"]),
        ("/[a].(b)+?", ["/[a].(b)+?"], ["/a.b", "/a.(b)"]),
        ("*", ["", "/", "/anything"], []),
        ("/h z", ["/h z", "/h%20z"], ["/h+z", "/h%2520z"]),
        ("/h%20z", ["/h%20z"], ["/h z"]),
        ("/grün", ["/grün", "/gr%C3%BCn", "/grün".encode().decode("latin-1")], ["/grun"]),
        ("/plain", ["/%70lain", "http://host/plain", "http://host:80/plain?x=/y"], ["http://host/plain/", "x://plain"]),
    ],
)
def test_path_filter_matches_whole_paths_with_stars_as_wildcards(
    pattern: str, matches: list[str], others: list[str]
) -> None:
    """A star stands for any characters, also for none and for a slash; all others stand for themselves."""
    is_match = path_filter(("/never", pattern))
    assert is_match is not None
    for _ in range(2):
        assert [path for path in matches if not is_match(path)] == []
        assert [path for path in others if is_match(path)] == []


@given(st.lists(st.text(alphabet="ab*", min_size=1, max_size=6), min_size=1, max_size=3), st.text("ab", max_size=8))
def test_path_filter_agrees_with_fnmatch(patterns: list[str], path: str) -> None:
    """For patterns of letters and stars, the result is that of the standard library's fnmatch."""
    is_match = path_filter(patterns)
    assert is_match is not None
    assert is_match(path) == any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def test_path_filter_takes_regular_expressions_for_whole_paths() -> None:
    """They stand beside texts, and match the decoded path too."""
    is_match = path_filter((re.compile("/health(z|check)"), "/static/*"))
    assert is_match is not None
    assert [path for path in ("/healthz", "/healthcheck", "/health%7A", "/static/x") if not is_match(path)] == []
    assert [path for path in ("/health", "/healthz/", "/a/healthz") if is_match(path)] == []


def test_path_filter_remembers_a_bounded_number_of_short_paths() -> None:
    """A scanner with ever new paths makes the filter neither large nor wrong."""
    is_match = path_filter(("/static/*",))
    assert is_match is not None
    for number in range(3 * MAX_DECIDED):
        assert not is_match(f"/scan/{number}")
        assert is_match(f"/static/{number}")
    assert not is_match("/x" * 10_000)
    [decided] = [cell.cell_contents for cell in is_match.__closure__ or () if isinstance(cell.cell_contents, dict)]
    assert len(decided) <= MAX_DECIDED
    assert max(map(len, decided)) <= 256


def test_path_filter_takes_linear_time_for_a_hostile_path() -> None:
    """A path chosen to make a regular expression backtrack is decided at once."""
    is_match = path_filter(("/" + "a*" * 50 + "b",))
    assert is_match is not None
    start = time.monotonic()
    assert not is_match("/" + "a" * 8000)
    assert time.monotonic() - start < 1.0

"""The screen of ``top``, at every size and with whatever a server sends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gunicorn_prom_hooks.cli.terminal.cells import Style, width_of
from gunicorn_prom_hooks.cli.terminal.fields import number, parse
from gunicorn_prom_hooks.cli.terminal.view import View, plain
from tests.helpers.status_json import status

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def texts(view: View, data: dict[str, Any] | None, width: int = 80, height: int = 24, error: str = "") -> list[str]:
    """Return the text of each line of the screen."""
    return [line.text for line in view.screen(data, error, width, height)]


def test_screen_has_overview_table_and_keys() -> None:
    """The first screen has the overview, the workers and their requests, and the keys in the last line."""
    lines = texts(View(), status())
    assert len(lines) == 24
    assert lines[:6] == [
        "shop.wsgi:application: gunicorn 27.0.1, gthread workers, up 5 min 5 s",
        "Workers     2 of 2 running, 0 booting, 0 stopping, 1 reloads",
        "In progress 4 of 8, 1 hanging",
        "Requests    1,234, 12.3 per second; failed 5, 0 per second",
        "Listener    http://127.0.0.1:8000: queue 0 of 2,048, waiting in workers 1",
        "Period      the last 55 s: rates, CPU and latency are of this time",
    ]
    assert lines[6:12] == [
        "[w workers 2]    e endpoints 9     x exits 1 ",
        "PID  State     Busy  Requests  Failed     CPU    Memory  Heartbeat     Uptime",
        "101  running  2 / 4       617       2  12.5 %  30.0 MiB     300 ms  5 min 0 s",
        "    GET /slow/7 12 s hangs",
        "    and 3 more",
        "102  running  2 / 4       617       2  12.5 %  30.0 MiB     300 ms  5 min 0 s",
    ]
    assert lines[-1].startswith("q quit  p pause")


def test_keys_choose_the_table() -> None:
    """Each of w, e and x shows its table."""
    view = View()
    for key, head in (("e", "Endpoint"), ("x", "      Ago  Reason"), ("w", "PID")):
        assert view.press(key)
        assert texts(view, status())[7].startswith(head)
    view.press("e")
    assert texts(view, status())[8:11] == [
        "/items/1  GET          999        1.50       0  < 1 ms  25.0 ms  > 60 s",
        "/items/2  GET          998        1.50       0  < 1 ms  25.0 ms  > 60 s",
        "and 7 more endpoints",
    ]
    view.press("x")
    row = "1 min 0 s  timeout  SIGABRT   90  worker_1_1799999000  2027-01-15 07:59:00 UTC"
    assert texts(view, status())[8] == row


def test_q_ends_and_other_keys_do_not() -> None:
    """Only q ends the program."""
    view = View()
    assert all(view.press(key) for key in ("p", "w", "e", "x", "j", "k", "first", "last", "", "z"))
    assert not view.press("q")


def test_p_pauses_and_goes_on() -> None:
    """The last line says that the numbers are paused, until p is pressed again."""
    view = View()
    view.press("p")
    assert view.is_paused
    assert texts(view, status())[-1].startswith("PAUSED")
    view.press("p")
    assert not view.is_paused


def test_long_table_scrolls_between_its_ends() -> None:
    """Keys move the table by a line, a page or to its ends, and no further."""
    view, data = View(), status(endpoints=50)
    view.press("e")

    def first(*keys: str) -> str:
        for key in keys:
            view.press(key)
        return texts(view, data)[8].split()[0]

    assert first() == "/items/1"
    assert texts(view, data)[-1].endswith("1 to 15 of 51 lines")
    assert first("j", "down") == "/items/3"
    assert first("k", "up", "k", "k") == "/items/1"
    assert first("page down") == "/items/16"
    assert first("page up") == "/items/1"
    assert first("last") == "/items/37"
    assert texts(view, data)[-2] == "and 7 more endpoints"
    assert first("j") == "/items/37"
    assert first("k") == "/items/36"
    assert first("first") == "/items/1"
    assert first("j", "w", "e") == "/items/1"


def test_table_that_shrinks_is_still_on_the_screen() -> None:
    """If the table has fewer rows than were scrolled over, its end is shown."""
    view = View(table="e", offset=40)
    assert texts(view, status(endpoints=2))[8].startswith("/items/1")


def test_error_is_a_line_and_the_data_stay() -> None:
    """The error is below the title, and the latest data below the error."""
    lines = View().screen(status(), "no new answer for 5 s", 80, 24)
    assert (lines[1].text, lines[1].style) == ("no new answer for 5 s", Style.BAD)
    assert lines[2].text.startswith("Workers")
    assert texts(View(), None, error="no answer")[:2] == ["gunicorn", "no answer"]
    assert texts(View(), None)[1] == "waiting for the first answer"


@pytest.mark.parametrize("data", [None, status(endpoints=30)])
@pytest.mark.parametrize("error", ["", "no answer"])
def test_screen_fits_every_size(data: dict[str, Any] | None, error: str) -> None:
    """At every size, the screen has no more lines and cells than the terminal, and the keys if there is room."""
    for table in "wex":
        for width in (1, 2, 5, 20, 39, 80, 200):
            for height in (*range(1, 12), 24, 60):
                view = View(table=table)
                lines = texts(view, data, width, height, error)
                assert len(lines) <= height
                assert all(width_of(line) <= width for line in lines)
                if height > 5 and width > 6:
                    assert lines[-1].startswith("q quit"), (width, height)


def test_small_screen_has_the_table_rather_than_the_overview() -> None:
    """With ten lines, four of the table remain."""
    lines = texts(View(table="e"), status(endpoints=30), 80, 10)
    assert [line.split()[0] for line in lines] == [
        *("shop.wsgi:application:", "Workers", "In", "w", "Endpoint"),
        *("/items/1", "/items/2", "/items/3", "/items/4", "q"),
    ]


@given(st.dictionaries(st.sampled_from(sorted(status())), ANYTHING), ANYTHING)
@settings(max_examples=150, deadline=None)
def test_status_of_any_form_is_shown(parts: dict[str, Any], value: Any) -> None:
    """Whatever the parts of a status.json are, the screen is made, and has printable characters only."""
    rows: dict[str, Any] = {
        "workers": {"rows": [value, {"pid": value, "requests_in_progress": {"rows": [{"path": value}]}}]}
    }
    for data in (parts, status(parts), status(rows), status({"exits": [{"time": value, "reason": value}]})):
        for table in "wex":
            assert all(line.isprintable() for line in texts(View(table=table), data))
        assert all(line.isprintable() for line in plain(data))


def test_control_characters_are_escaped() -> None:
    """Control characters and those that change the direction of text are escaped in every table."""
    evil = "\x1b]0;x\x07\u202e\n"
    data = json.loads(json.dumps(status()).replace("/items/1", json.dumps(evil)[1:-1]).replace("/slow/7", r"\u001b[2J"))
    found = "\n".join(plain(data))
    assert r"\x1b]0;x\x07\u202e\n" in found
    assert r"GET \x1b[2J 12 s hangs" in found


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000, '{"server": 1' + "0" * 5000 + "}"])
def test_other_json_is_no_status(text: str) -> None:
    """What is not the JSON of a status page is a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        parse(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, 10**400, True, "7", None, []])
def test_value_that_is_no_number_is_unknown(value: object) -> None:
    """Infinite and huge numbers, switches and texts are no numbers, and 7 is one."""
    assert number({"pid": value}, "pid") is None
    assert number({"pid": 7}, "pid") == 7.0


def test_plain_text_has_all_tables_in_full_width() -> None:
    """The plain text has every table with all columns."""
    lines = plain(status())
    assert "workers: 2" in lines
    assert any(line.endswith("worker_1_1799999700") for line in lines)
    assert "endpoints: 9" in lines
    assert "exits: 1" in lines
    assert lines[-1] == "    and 3 more"

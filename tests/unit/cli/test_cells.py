"""Text in the cells of a terminal."""

from __future__ import annotations

import pytest

from gunicorn_prom_hooks.cli.terminal.cells import Line, Row, Style, Table, clip, render, width_of

ROWS = [Row(["7", "running", "worker_1"], below=[Line("GET /", Style.BAD)]), Row(["1234", "booting", "worker_2"])]
TABLE = Table("workers", ("#PID", "State", "Worker"), ROWS, 2, 2)


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("日本", 4), ("é", 1), ("e\u0301", 1), ("", 0)])
def test_width_is_the_number_of_cells(text: str, width: int) -> None:
    """Wide characters take two cells, and combining ones none."""
    assert width_of(text) == width


@pytest.mark.parametrize(
    ("text", "width", "clipped"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd~"),
        ("abcdef", 1, "~"),
        ("abcdef", 0, ""),
        ("日本語", 5, "日本~"),
        ("日本語", 4, "日~"),
    ],
)
def test_long_text_is_cut_to_the_cells(text: str, width: int, clipped: str) -> None:
    """A text that does not fit ends with the mark, and takes no more than the cells."""
    assert clip(text, width) == clipped


def test_table_without_limit_has_aligned_columns() -> None:
    """Numbers are at the right of their column, and lines below a row are indented."""
    head, body = render(TABLE, None)
    assert head == Line(" PID  State    Worker", Style.HEAD)
    assert body == [
        Line("   7  running  worker_1"),
        Line("    GET /", Style.BAD),
        Line("1234  booting  worker_2"),
    ]


def test_columns_without_room_are_left_out() -> None:
    """Columns at the right that do not fit are left out, and the flexible one is cut."""
    table = TABLE._replace(rows=[Row(["7", "running", "worker_1_1234567890"])])
    assert render(table, 31)[1] == [Line("  7  running  worker_1_1234567~")]
    assert render(table, 20)[1] == [Line("  7  running")]
    assert render(table, 2)[1] == [Line(" ~")]
    first = Table("endpoints", ("Endpoint", "State", "#Requests"), [Row(["/a/very/long/path", "ok", "12"])], 1, 0)
    assert render(first, 40)[1] == [Line("/a/very/long/path  ok           12")]
    assert render(first, 30)[1] == [Line("/a/very/long~  ok           12")]
    assert render(first, 20)[1] == [Line("/a/very/long~  ok")]


@pytest.mark.parametrize("width", range(60))
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """At every width, head and body fit."""
    head, body = render(TABLE._replace(more="and 3 more workers"), width)
    assert all(width_of(line.text) <= width for line in [head, *body])


def test_empty_table_says_none() -> None:
    """A table without rows says so, and one with rows left out how many."""
    assert render(TABLE._replace(rows=[]), None)[1] == [Line("none")]
    assert render(TABLE._replace(more="and 3 more workers"), None)[1][-1] == Line("and 3 more workers")

"""Text in the cells of a terminal: its width, and tables that fit a number of columns."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

CUT: Final = "~"
"""Stands for the rest of a text that does not fit. ASCII: every terminal has it."""
GAP: Final = 2
"""Cells between two columns."""
MIN_FLEXIBLE: Final = 10
"""Cells that the flexible column has at least, if its content is wider."""


class Style(Enum):
    """How a line is shown."""

    PLAIN = "plain"
    TITLE = "title"
    HEAD = "head"
    BAD = "bad"


class Line(NamedTuple):
    """A line of the screen."""

    text: str
    style: Style = Style.PLAIN


class Row(NamedTuple):
    """A row of a table, and the lines below it, which are indented."""

    cells: Sequence[str]
    style: Style = Style.PLAIN
    below: Sequence[Line] = ()


class Table(NamedTuple):
    """A table. The names of numeric columns begin with a #.

    Attributes:
        flexible: index of the column that is cut if there is no room.
        total: number of rows, those included that are left out.
        more: a last line about these; empty if there are none.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Row]
    total: int
    flexible: int
    more: str = ""


def width_of(text: str) -> int:
    """Return the number of cells that a text takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def clip(text: str, width: int) -> str:
    """Return the text, cut to a number of cells."""
    if width_of(text) <= width:
        return text
    if width < 1:
        return ""
    kept, used = [], 0
    for char in text:
        used += _width(char)
        if used > width - len(CUT):
            break
        kept.append(char)
    return "".join(kept) + CUT


def render(table: Table, width: int | None) -> tuple[Line, list[Line]]:
    """Return the head and the body of a table.

    Args:
        table: is rendered.
        width: cells of a line; None: as many as needed. Columns at the right that have no room are left out.
    """
    names = [name.lstrip("#") for name in table.columns]
    widths = [
        max(map(width_of, [name, *(row.cells[at] for row in table.rows)]), default=0) for at, name in enumerate(names)
    ]
    if width is not None:
        widths = _fitting(widths, table.flexible, width)
    head = _line(names, table.columns, widths)
    body = []
    for row in table.rows:
        body.append(Line(_line(row.cells, table.columns, widths), row.style))
        body += [Line(f"    {line.text}", line.style) for line in row.below]
    if not table.rows:
        body.append(Line("none"))
    if table.more:
        body.append(Line(table.more))
    found = [Line(head, Style.HEAD), *body]
    if width is not None:
        found = [Line(clip(line.text, width), line.style) for line in found]
    return found[0], found[1:]


def _fitting(widths: Sequence[int], flexible: int, width: int) -> list[int]:
    """Return the widths of the columns that fit."""
    needed = [min(wanted, MIN_FLEXIBLE) if at == flexible else wanted for at, wanted in enumerate(widths)]
    kept = needed[:1]
    free = width - needed[0]
    for wanted in needed[1:]:
        if wanted + GAP > free:
            break
        free -= wanted + GAP
        kept.append(wanted)
    if flexible < len(kept):
        kept[flexible] = max(0, min(widths[flexible], kept[flexible] + free))
    return kept


def _line(cells: Sequence[str], columns: Sequence[str], widths: Sequence[int]) -> str:
    shown = []
    for cell, column, width in zip(cells, columns, widths, strict=False):
        text = clip(cell, width)
        blank = " " * (width - width_of(text))
        shown.append(blank + text if column.startswith("#") else text + blank)
    return (" " * GAP).join(shown).rstrip()


def _width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1

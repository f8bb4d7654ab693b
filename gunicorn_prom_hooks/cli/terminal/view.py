"""The screen of ``top`` as lines: what fits a terminal of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .cells import Line, Style, clip, render
from .fields import Fields
from .tables import overview, tables, title

KEYS: Final = "q quit  p pause  j k scroll  w e x table"
MIN_BODY: Final = 4
"""Lines of the table that come before the overview, if there is no room for both."""


@dataclass
class View:
    """What the user has chosen.

    Attributes:
        table: key of the table.
        offset: number of lines of the table above the screen.
        is_paused: whether the numbers stay as they are.
        page: lines of the table that the screen had last.
    """

    table: str = "w"
    offset: int = 0
    is_paused: bool = False
    page: int = 1

    def press(self, key: str) -> bool:
        """Apply a key. Return whether the program continues.

        Args:
            key: a character, or one of up, down, page up, page down, first and last.
        """
        steps = {"j": 1, "down": 1, "k": -1, "up": -1, "page down": self.page, "page up": -self.page}
        if key == "q":
            return False
        if key == "p":
            self.is_paused = not self.is_paused
        elif key in ("w", "e", "x"):
            self.table, self.offset = key, 0
        elif key in steps:
            self.offset = max(0, self.offset + steps[key])
        elif key == "first":
            self.offset = 0
        elif key == "last":
            self.offset = 1 << 30
        return True

    def screen(self, data: Fields | None, error: str, width: int, height: int) -> list[Line]:
        """Return the lines of the screen, at most ``height`` lines of at most ``width`` cells.

        Args:
            data: the latest status.json; None if there has been none.
            error: why there is no later one; empty if there is no error.
            width: of the terminal.
            height: of the terminal.
        """
        top = [Line("gunicorn" if data is None else title(data), Style.TITLE)]
        if error:
            top.append(Line(error, Style.BAD))
        if data is None:
            lines = [*top, Line("" if error else "waiting for the first answer"), *[Line("")] * height]
            return _fit([*lines[: height - 1], Line(self._footer("")), *lines], width, height)
        found = tables(data)
        chosen = found[self.table]
        head, body = render(chosen, width)
        tabs = "   ".join(
            f"[{key} {table.name} {table.total}]" if table is chosen else f" {key} {table.name} {table.total} "
            for key, table in found.items()
        )
        room = max(0, height - len(top) - 3)
        above = overview(data)[: max(0, room - MIN_BODY)]
        self.page = max(1, room - len(above))
        self.offset = max(0, min(self.offset, len(body) - self.page))
        shown = body[self.offset : self.offset + self.page]
        empty = [Line("")] * (self.page - len(shown))
        where = (
            f"{self.offset + 1} to {self.offset + len(shown)} of {len(body)} lines" if len(shown) < len(body) else ""
        )
        return _fit([*top, *above, Line(tabs), head, *shown, *empty, Line(self._footer(where))], width, height)

    def _footer(self, where: str) -> str:
        return "  ".join(filter(None, ["PAUSED" if self.is_paused else "", KEYS, where]))


def plain(data: Fields) -> list[str]:
    """Return everything as text, without a limit of the width."""
    lines = [Line(title(data)), *overview(data)]
    for table in tables(data).values():
        head, body = render(table, None)
        lines += [Line(""), Line(f"{table.name}: {table.total}"), head, *body]
    return [line.text for line in lines]


def _fit(lines: Sequence[Line], width: int, height: int) -> list[Line]:
    return [Line(clip(line.text, width), line.style) for line in lines[:height]]

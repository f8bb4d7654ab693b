"""``top URL``: the status of a server in a terminal, or once as text."""

from __future__ import annotations

import contextlib
import locale
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

from ...paths import escape_unprintable
from ..client import Client, Unreachable
from ..findings import OK, PROBLEMS, Finding
from .cells import Line, Style
from .poller import Poller, fetch
from .view import View, plain

if TYPE_CHECKING:
    import curses

TICK_MILLISECONDS: Final = 100
"""Time for which a key is waited for, before the screen is drawn again."""
SECONDS: Final = 10.0
"""Deadline of a request."""


def run_top(client: Client, interval: float) -> tuple[list[str], int]:
    """Show the status until the user quits. Without a terminal, return it as lines. Return the exit code, too.

    Args:
        client: of the server.
        interval: seconds between two requests.
    """
    if sys.stdout.isatty() and sys.stdin.isatty() and _has_screen():
        return [], _run_screen(Poller(client, interval))
    try:
        return plain(fetch(client)), OK
    except Unreachable as error:
        sys.stderr.write(f"{Finding(error.what, error.advice).line}\n")
        return [], PROBLEMS


def _has_screen() -> bool:
    try:
        import curses
    except ImportError:  # a Python without it
        return False
    try:
        curses.setupterm()
    except curses.error:  # an unknown terminal
        return False
    return curses.tigetstr("cup") is not None


def _run_screen(poller: Poller) -> int:
    import curses

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    with contextlib.suppress(locale.Error):  # a locale that is not installed: text is ASCII
        locale.setlocale(locale.LC_ALL, "")
    # Through an exception: the terminal is restored.
    previous = signal.signal(signal.SIGTERM, end)
    # A shell that starts a program in the background has it ignore SIGINT: here it is a key.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    poller.start()
    try:
        curses.wrapper(_loop, poller)
    except KeyboardInterrupt:
        pass
    finally:
        poller.stop()
        signal.signal(signal.SIGTERM, previous)
        signal.signal(signal.SIGINT, interrupt)
    return OK


def _loop(window: curses.window, poller: Poller) -> None:
    import curses

    names = {
        curses.KEY_UP: "up",
        curses.KEY_DOWN: "down",
        curses.KEY_PPAGE: "page up",
        curses.KEY_NPAGE: "page down",
        curses.KEY_HOME: "first",
        curses.KEY_END: "last",
    }
    attributes = _attributes()
    window.timeout(TICK_MILLISECONDS)
    view = View()
    while True:
        latest = poller.latest
        height, width = window.getmaxyx()
        _draw(window, view.screen(latest.data, escape_unprintable(latest.trouble, 1000), width, height), attributes)
        key = window.getch()
        if not view.press(names.get(key) or (chr(key) if 0 < key < 128 else "")):
            return
        poller.pause(is_paused=view.is_paused)


def _attributes() -> dict[Style, int]:
    import curses

    bad = curses.A_BOLD
    with contextlib.suppress(curses.error):  # a terminal without colors
        curses.use_default_colors()
        curses.init_pair(1, curses.COLOR_RED, -1)
        bad |= curses.color_pair(1)
    with contextlib.suppress(curses.error):  # a terminal whose cursor cannot be hidden
        curses.curs_set(0)
    return {
        Style.PLAIN: curses.A_NORMAL,
        Style.TITLE: curses.A_REVERSE,
        Style.HEAD: curses.A_UNDERLINE,
        Style.BAD: bad,
    }


def _draw(window: curses.window, lines: list[Line], attributes: dict[Style, int]) -> None:
    import curses

    window.erase()
    for number, line in enumerate(lines):
        text = line.text.encode(window.encoding, "replace").decode(window.encoding)
        try:
            window.addstr(number, 0, text, attributes[line.style])
        except curses.error:
            continue  # the last cell of the screen: the cursor has no place behind it
    window.refresh()

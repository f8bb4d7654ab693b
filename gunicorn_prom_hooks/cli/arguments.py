"""Parsers of arguments whose help fits a screen of 80 columns and 24 lines."""

from __future__ import annotations

import argparse
import math
from typing import Final

PROGRAM: Final = "python -m gunicorn_prom_hooks"
EXIT_CODES: Final = "Exit code: 0 no problem found, 1 problems found, 2 wrong usage."
MAX_SECONDS: Final = 86400.0


class Parser(argparse.ArgumentParser):
    """A parser whose help has one line per option. What is no option is in the usage and in the text.

    Args:
        command: its name; empty for the program itself.
        usages: the ways to use it, without the program and the command.
        text: what it does.
        end: the last lines of the help.
    """

    def __init__(self, command: str, usages: list[str], text: str, end: str) -> None:
        name = f"{PROGRAM} {command}".strip()
        super().__init__(
            prog=name,
            usage="\n       ".join(f"{name} {usage}" for usage in usages),
            description=text,
            epilog=end,
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=31, width=79),
        )


def seconds(text: str) -> float:
    """Return a number of seconds, for argparse.

    Raises:
        ArgumentTypeError: it is no number, or not between 0.05 and ``MAX_SECONDS``.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.05 <= number <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.05 to {MAX_SECONDS:g}")
    return number

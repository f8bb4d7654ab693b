"""The cases of ``fault_cases.txt``: the server and activity in which each seam fails, and what comes of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

from tests.helpers.seams import all_seams

FILE: Final = Path(__file__).with_suffix(".txt")
ERRORS: Final = tuple(
    (re.compile(call), errors)
    for call, errors in (
        (r"psutil.*|(.*\.)?process\..*|child\..*|self\._process.*", ("AccessDenied", "OSError 24")),
        (r"_thread.*", ("RuntimeError", "MemoryError")),
        (r"prometheus_client.*|_process\.collect|ENCODERS.*|gzip.*|importlib.*", ("ValueError", "MemoryError")),
        (r"ssl.*|tls\..*|(self\._)?context\..*|self\._object.*", ("SSLError", "MemoryError")),
        (r".*log.*", ("OSError 28", "RuntimeError")),
        (r"mmap.*|.*madvise", ("OSError 12", "MemoryError")),
        (r".*(register_at_fork|atexit|signal).*", ("MemoryError", "OSError 1")),
        (r".*(write|fallocate|truncate).*", ("OSError 28", "OSError 5")),
        (r".*", ("OSError 24", "OSError 5")),
    )
)
"""The errors of a call: the first that fits. Numbers: 1 EPERM, 5 EIO, 12 ENOMEM, 24 EMFILE, 28 ENOSPC."""


class Case(NamedTuple):
    """A row of the file.

    Attributes:
        setup: the server, as in ``fault_server.SETUPS``; empty if no server of this test gets there.
        activity: what a test does with the server when the seam fails.
        outcome: reported: one line and one count. logged: a line only. counted: one count, and one line for each file.
            told: one line for each reason. quiet: neither. Two of them are for the two errors.
        seam: its name.
        reason: of all but reported ones, why that is right; of one without a server, what tests it.
    """

    setup: str
    activity: str
    outcome: str
    seam: str
    reason: str

    @property
    def errors(self) -> tuple[str, str]:
        """The errors that the call may raise."""
        return next(errors for call, errors in ERRORS if call.fullmatch(CALLS.get(self.seam, "")))


CALLS: Final = {seam.name: seam.call for seam in all_seams()}
"""By name of the seam, its call."""


def cases() -> list[Case]:
    """Return the cases of the file."""
    found = []
    for line in FILE.read_text().splitlines():
        text, _, reason = line.partition("  # ")
        if text.strip() and not text.startswith("#"):
            setup, activity, outcome, seam = text.split(maxsplit=3)
            found.append(Case(setup.strip("-"), activity, outcome, seam.strip(), reason))
    return found

"""What a check has found: one line each, in plain words, with what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ..paths import escape_unprintable

OK: Final = 0
PROBLEMS: Final = 1
USAGE: Final = 2
"""Exit codes. ``USAGE`` is also argparse's."""
MAX_LINE: Final = 1000
"""Characters of a line; names in it may come from a server."""


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        what: is wrong, without a period at the end.
        advice: what to do, likewise.
        is_problem: whether it changes the exit code; a note does not.
    """

    what: str
    advice: str
    is_problem: bool = True

    @property
    def line(self) -> str:
        """Return the line that is printed."""
        kind = "problem" if self.is_problem else "note"
        return escape_unprintable(f"{kind}: {self.what}. {self.advice}.", MAX_LINE)


def note(what: str, advice: str) -> Finding:
    """Return a finding that does not change the exit code."""
    return Finding(what, advice, is_problem=False)


def lines_of(facts: Iterable[str], findings: Sequence[Finding]) -> list[str]:
    """Return the lines of a report: facts, problems, notes, and a last line if there is no problem."""
    ordered = sorted(findings, key=lambda finding: not finding.is_problem)
    end = [] if any(finding.is_problem for finding in findings) else ["ok: no problem found"]
    return [*(escape_unprintable(fact, MAX_LINE) for fact in facts), *(finding.line for finding in ordered), *end]


def exit_code(findings: Sequence[Finding]) -> int:
    """Return the exit code of these findings."""
    return PROBLEMS if any(finding.is_problem for finding in findings) else OK

"""Where the files of the repository are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).parents[2]
"""The root of the repository."""
HELPERS: Final = Path(__file__).parent
APPLICATIONS: Final = HELPERS / "applications"
"""The applications that the integration tests serve."""


def repository() -> str:
    """Return the address of the repository. It is named in pyproject.toml."""
    [found] = re.findall(r'^Repository = "(\S+)"$', (TOP / "pyproject.toml").read_text(), re.MULTILINE)
    return str(found)

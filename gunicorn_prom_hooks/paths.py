"""Paths of requests made general, for want of anything better to call an endpoint."""

from __future__ import annotations

import re

_VARIABLE = re.compile(
    r"""(?<![0-9A-Za-z])(?:
        [0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}  # UUID
        | (?=[0-9A-Fa-f]*[0-9])[0-9A-Fa-f]{8,}                                       # long hex
        | [0-9]+
    )(?![0-9A-Za-z])""",
    re.VERBOSE,
)


def normalise(path: str) -> str:
    """The path with every number, UUID and long hex string replaced: ``/items/7`` gives ``/items/:id``.

    A number inside a word stays: ``/v1/items``.
    """
    return _VARIABLE.sub(":id", path)

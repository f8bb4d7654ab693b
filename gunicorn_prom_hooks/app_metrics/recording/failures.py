"""Which exceptions are this package's to handle, where a signal handler of the application may raise one, too."""

from __future__ import annotations

import struct
from typing import Final

_FAILURES: Final = (OSError, ValueError, MemoryError, OverflowError, struct.error)
"""What the code that writes files raises of its own. Anything else comes from a signal handler of the application's."""


def is_own_failure(error: BaseException) -> bool:
    """Return whether this package handles the exception, which no signal handler of the application has raised."""
    # A handler that ends what takes too long raises a TimeoutError; one of the system's has a number.
    return isinstance(error, _FAILURES) and not (isinstance(error, TimeoutError) and error.errno is None)

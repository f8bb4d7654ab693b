"""Route templates without any change to the application: one module per framework, named in the tuple."""

import sys
from collections.abc import Mapping
from typing import Any, Final, Protocol

from . import bottle, django, falcon, flask, litestar, pyramid, quart, starlette
from .annotations import ERROR, notes


class Framework(Protocol):
    """What a module of this package has. It never imports the framework: it takes it from ``sys.modules``.

    What a framework tells during a request is left in the environ or the scope, see ``annotations``; so are the
    exceptions that it turns into a response. ``route`` is then ``annotations.noted``. Where the framework leaves
    something there itself, ``route`` reads that.
    """

    @property
    def MODULE(self) -> str:  # noqa: N802 - a constant of the module
        """The name in ``sys.modules`` that tells that the application uses the framework."""

    def prepare(self) -> None:
        """Add the hooks, once in each worker whose application uses the framework, when that is loaded."""

    def route(self, given: Mapping[str, Any], /) -> str | None:
        """Return the route template of a request that has ended.

        Args:
            given: WSGI environ or ASGI scope, as it was handed to the application.

        Returns:
            The template, with the path that the application is mounted at; ``<unmatched>`` if the framework had the
            request and matched no route; None if it does not know.
        """


FRAMEWORKS: Final[tuple[Framework, ...]] = (flask, quart, django, falcon, pyramid, bottle, litestar, starlette)
"""Those that leave annotations come first: mounted in one of the others, they know the request better."""


def swallowed(given: Mapping[str, Any]) -> str | None:
    """Return the class name of the exception that a framework has turned into the response; None if there is none.

    It is asked for a 5xx only, at the end of the request: for ASGI, while the last message of the response is sent.

    Args:
        given: WSGI environ or ASGI scope, as it was handed to the application.
    """
    found: str | None = notes(given).get(ERROR)  # type: ignore[arg-type]  # it only reads
    if found is None and starlette.MODULE in sys.modules:
        return starlette.error(given)
    return found

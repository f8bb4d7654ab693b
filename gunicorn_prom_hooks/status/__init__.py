"""The status page: the state of the server at this moment, as HTML and as JSON."""

from .resources import StatusPage

__all__ = ["StatusPage"]

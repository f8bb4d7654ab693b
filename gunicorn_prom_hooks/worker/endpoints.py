"""The label ``endpoint``: the user's word, else the framework's route template, else the path made general."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from ..guard import Guard
from ..settings import Endpoint
from .frameworks import FRAMEWORKS

Resolve = Callable[[Mapping[str, Any]], "str | None"]
"""WSGI environ after the request, to the endpoint; None: make it from the path."""


def resolver(endpoint: Endpoint | None, guard: Guard) -> Resolve | None:
    """What resolves endpoints in this worker; None where nothing but the path is to be had.

    Called once the application is loaded: only frameworks that it has imported are asked.
    """
    asked: list[Resolve] = []
    for framework in FRAMEWORKS:
        if framework.MODULE in sys.modules:
            try:
                framework.prepare()
                asked.append(framework.route)
            except Exception:  # noqa: BLE001 - a version of the framework that is not as we know it
                guard.failed(framework.MODULE)
    if endpoint is not None:
        asked.insert(0, _users(endpoint, guard))
    if len(asked) < 2:
        return asked[0] if asked else None

    def first_answer(environ: Mapping[str, Any]) -> str | None:
        for resolve in asked:
            value = resolve(environ)
            if value is not None:
                return value
        return None

    return first_answer


def _users(endpoint: Endpoint, guard: Guard) -> Resolve:
    def resolve(environ: Mapping[str, Any]) -> str | None:
        if not environ:  # gunicorn refused the request before it made one
            return None
        try:
            value = endpoint(environ)
            if value is None:
                return None
            if isinstance(value, str):
                return str.__str__(value)  # no subclass: it is a key of ours from here on
            raise TypeError(f"endpoint returned {type(value).__name__}, not str or None")
        except Exception:  # noqa: BLE001 - the user's code may raise anything
            guard.failed("endpoint")
            return None

    return resolve

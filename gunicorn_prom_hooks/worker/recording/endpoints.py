"""The label ``endpoint``: the user's word, else the framework's route template, else the path made general."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import ErrorReporter
from ...settings import Endpoint
from ...shm.schema import UNMATCHED
from ..frameworks import FRAMEWORKS, Framework
from ..frameworks.annotations import noted

Resolve = Callable[[Mapping[str, Any]], "str | None"]
"""WSGI environ or ASGI scope after the request, to the endpoint; None: make it from the path."""


def resolver(endpoint: Endpoint | None, errors: ErrorReporter) -> Resolve | None:
    """What resolves endpoints in this worker; None where nothing but the path is to be had.

    Called once the application is loaded: only frameworks that it has imported are asked.
    """
    told = _by_frameworks(errors)
    return told if endpoint is None else _by_user(endpoint, told, errors)


def _by_frameworks(errors: ErrorReporter) -> Resolve | None:
    asked: list[Resolve] = []
    for framework in FRAMEWORKS:
        if framework.MODULE in sys.modules:
            try:
                framework.prepare()
            except Exception:  # noqa: BLE001 - a version of the framework that is not as we know it
                errors.report(_name(framework))
                continue
            if framework.route is not noted:
                asked.append(_guarded(framework, errors))
            elif noted not in asked:
                asked.append(noted)
    if len(asked) < 2:
        return asked[0] if asked else None

    def first_template(given: Mapping[str, Any]) -> str | None:
        unmatched = None
        for resolve in asked:
            value = resolve(given)
            if value is not None:
                if value != UNMATCHED:
                    return value
                unmatched = value
        return unmatched

    return first_template


def _guarded(framework: Framework, errors: ErrorReporter) -> Resolve:
    route, name = framework.route, _name(framework)

    def resolve(given: Mapping[str, Any]) -> str | None:
        try:
            return route(given)
        except Exception:  # noqa: BLE001 - what the framework left is not as we know it; the path will do
            errors.report(name)
            return None

    return resolve


def _name(framework: Framework) -> str:
    return framework.MODULE.partition(".")[0]


def _by_user(endpoint: Endpoint, told: Resolve | None, errors: ErrorReporter) -> Resolve:
    def resolve(given: Mapping[str, Any]) -> str | None:
        if not given:  # gunicorn refused the request before it made one
            return None
        try:
            value = endpoint(given)
            if isinstance(value, str):
                return str.__str__(value)  # no subclass: it is a key of ours from here on
            if value is not None:
                raise TypeError(f"endpoint returned {type(value).__name__}, not str or None")
        except Exception:  # noqa: BLE001 - the user's code may raise anything
            errors.report("endpoint")
        return None if told is None else told(given)

    return resolve

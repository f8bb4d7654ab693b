"""Django: the match of the URL resolver, its pattern made readable, and the exceptions that became a 500.

The request object alone tells which URLconf it was resolved with, below which prefix and in which language, and no
signal hands it out. So the ``resolve_request`` of each handler object is called through a function that notes
the match, or that there is none, and its ``process_exception_by_middleware`` through one that notes an exception that a
middleware of the application answers. No class is changed.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from typing import Any, Final

from .annotations import new_instances, note_error, note_route, noted

MODULE = "django.core.handlers.base"
route = noted
VARIABLE: Final = "<var>"
_SIGNS: Final = re.compile(r"[\^$(\\]|\.[*+?{]|\[.+\]")
"""What a route has that is a regular expression, and hardly any other."""
_CODES: Final = {"x": 2, "u": 4, "U": 8}
"""Hexadecimal digits after an escape that stands for a character by its number."""
_QUANTIFIER: Final = re.compile(r"(?:[*+?]|\{\d*,?\d*\})[?+]?")
_FLAGS: Final = re.compile(r"\?([aiLmsux]*)(?:-[imsx]+)?(:|$)")
_LOOKS_AROUND: Final = ("?=", "?!", "?<=", "?<!", "?#")


def prepare() -> None:
    """Watch every handler in this process, WSGI and ASGI, and connect to Django's signal."""
    signals = sys.modules["django.core.signals"]
    signals.got_request_exception.connect(_note_error, weak=False, dispatch_uid="gunicorn_prom_hooks")
    for handler in new_instances(sys.modules[MODULE].BaseHandler):
        _watch(handler, sys.modules["django.urls"].Resolver404)


def _watch(handler: Any, no_match: type[Exception]) -> None:
    resolve_request = handler.resolve_request

    def noting(request: Any) -> Any:
        try:
            match = resolve_request(request)
        except no_match:
            _note_match(request, None)
            raise
        _note_match(request, match)
        return match

    handler.resolve_request = noting
    process = handler.process_exception_by_middleware

    def processing(exception: Exception, request: Any, *args: Any, **kwargs: Any) -> Any:
        response = process(exception, request, *args, **kwargs)
        if response is not None:
            _note_error(handler, request=request, exception=exception)
        return response

    handler.process_exception_by_middleware = processing


def _note_match(request: Any, match: Any) -> None:
    try:
        template = None if match is None else _template(match.route)
        note_route(_given(request), template, request.META.get("SCRIPT_NAME", "").rstrip("/"))
    except Exception:  # noqa: BLE001, S110 - runs inside the application; the path serves as well
        pass


def _note_error(
    sender: object, *, request: Any = None, exception: BaseException | None = None, **extra: object
) -> None:
    try:
        exc = sys.exc_info()[1] if exception is None else exception
        if exc is not None:
            note_error(_given(request), exc)
    except Exception:  # noqa: BLE001, S110 - as above; the status serves as well
        pass


def _given(request: Any) -> Any:
    environ = getattr(request, "environ", None)
    return request.scope if environ is None else environ


@lru_cache(1024)
def _template(pattern: str) -> str:
    return "/" + readable(pattern)


def readable(pattern: str) -> str:
    r"""Return ``^items/(?P<pk>[0-9]+)/$`` as ``items/<pk>/``; what is no regular expression stays as it is.

    Anchors, quantifiers, flags and lookarounds are left out. A group without a name, a class of characters, an escape
    such as ``\d`` and a dot become ``<var>``. Not so a dot in front of a letter or digit: ``^robots.txt$`` means the
    character. What is left of a pattern that only excludes others, ``^(?!api/)``, is ``<var>``.
    """
    if not _SIGNS.search(pattern):
        return pattern
    branches = _branches(pattern)
    return "|".join(dict.fromkeys(filter(None, branches))) or (VARIABLE if "(?" in pattern else "")


def _branches(pattern: str) -> list[str]:
    """Return the alternatives of a pattern or group, each made readable."""
    done: list[str] = []
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        if pattern[at] == "|":
            done.append("".join(parts))
            parts = []
            at += 1
            continue
        part, end = _part(pattern, at)
        quantifier = _QUANTIFIER.match(pattern, end)
        if quantifier is not None:
            end = quantifier.end()
            if part == "." and pattern[end - len(quantifier[0]) - 1] == ".":
                part = VARIABLE
            elif part == "/" and not any(parts) and quantifier[0][0] in "?*":
                part = ""  # before it there is one anyway
        if part and not (part == VARIABLE and parts and parts[-1] == VARIABLE):
            parts.append(part)
        at = end
    return [*done, "".join(parts)]


def _part(pattern: str, at: int) -> tuple[str, int]:
    """Return what stands for the part that begins there, without its quantifier, and where it ends."""
    char = pattern[at]
    if char == "\\":
        return _escape(pattern, at + 1)
    if char == "[":
        end = _class_end(pattern, at)
        inside = pattern[at + 1 : end - 1].removeprefix("\\")
        # One character in brackets is that character: ``[.]html``.
        return (inside if len(inside) == 1 and not inside.isalnum() else VARIABLE), end
    if char == "(":
        end = _group_end(pattern, at)
        return _group(pattern[at + 1 : end - 1]), end
    if char == ".":
        return ("." if pattern[at + 1 : at + 2].isalnum() else VARIABLE), at + 1
    return ("" if char in "^$?*+)" else char), at + 1


def _escape(pattern: str, at: int) -> tuple[str, int]:
    char = pattern[at : at + 1]
    if char in "AZbB":  # or there is none
        return "", at + 1
    end = at + 1 + _CODES.get(char, 0)
    if end > at + 1:
        try:
            return chr(int(pattern[at + 1 : end], 16)), end
        except (ValueError, OverflowError):
            return VARIABLE, end
    return (VARIABLE if char.isalnum() else char), end


def _group(inside: str) -> str:
    if inside.startswith(("?P<", "?P=")):
        return "<" + inside[3:].partition(">")[0].strip() + ">"
    if inside.startswith(_LOOKS_AROUND):
        return ""
    flags = _FLAGS.match(inside)
    if flags is not None and flags[2] == "":
        return ""
    if flags is not None or inside.startswith("?>"):
        branches = _branches(inside[flags.end() if flags else 2 :])
        return branches[0] if len(branches) == 1 else VARIABLE
    if "(?P<" in inside:
        return _group("?:" + inside)
    return VARIABLE + "/" if inside.endswith("/") else VARIABLE


def _class_end(pattern: str, at: int) -> int:
    at += 1
    at += pattern.startswith("^", at)
    at += pattern.startswith("]", at)
    while at < len(pattern) and pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return at + 1


def _group_end(pattern: str, at: int) -> int:
    depth = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "[":
            at = _class_end(pattern, at)
            continue
        depth += (char == "(") - (char == ")")
        at += 2 if char == "\\" else 1
        if depth == 0:
            return at
    return len(pattern) + 1

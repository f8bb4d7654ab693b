"""Route patterns that are regular expressions, made readable."""

from __future__ import annotations

from typing import Final

VARIABLE: Final = "<var>"
_SIGNS: Final = frozenset("^$(\\")


def readable(pattern: str) -> str:
    r"""``^items/(?P<pk>[0-9]+)/$`` as ``items/<pk>/``; what is no regular expression stays as it is.

    Anchors, quantifiers, flags and what only looks around are left out. A group without a name, a class of characters
    and an escape such as ``\d`` become ``<var>``.
    """
    if not _SIGNS & set(pattern):
        return pattern
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        char, end = pattern[at], at + 1
        if char == "\\":
            end += 1
            parts.append(_escaped(pattern[at + 1 : end]))
        elif char == "[":
            end = _class_end(pattern, at)
            parts.append(VARIABLE)
        elif char == "(":
            end = _group_end(pattern, at)
            parts.append(_group(pattern[at + 1 : end - 1]))
        elif char == "{":
            end = pattern.find("}", at) + 1 or len(pattern)
        elif char not in "^$?*+":
            parts.append(char)
        at = end
    return "".join(parts)


def _escaped(char: str) -> str:
    if char in "AZbB":
        return ""
    return VARIABLE if char.isalnum() else char


def _group(inside: str) -> str:
    if inside.startswith("?P<"):
        return inside[2 : inside.find(">") + 1]
    if inside.startswith("?:"):
        return readable("^" + inside[2:])
    return "" if inside.startswith("?") else VARIABLE


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

"""HTML as a tree of elements and texts. Only ``document`` makes bytes of it, and escapes every text."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final, NamedTuple, TypeAlias

from ..paths import escape_unprintable

MAX_TEXT: Final = 1000
"""Characters of a text; a longer one is cut."""
_VOID: Final = frozenset({"link", "meta"})
_VERBATIM: Final = frozenset({"script", "style"})
"""Elements in which escaping has no effect: they stay empty."""


class Element(NamedTuple):
    """An element, made by ``tag``."""

    name: str
    attributes: dict[str, str | int | float | bool | None]
    children: tuple[Node, ...]


Node: TypeAlias = Element | str | int | None
"""Texts may come from clients, unescaped; None is left out."""


def tag(name: str, /, *children: Node, **attributes: str | int | float | bool | None) -> Element:
    """Return an element.

    Args:
        name: of the element; never from a client.
        children: elements and texts.
        attributes: ``class_`` is class, ``data_key`` is data-key; True is one without a value, False and None are none.

    Raises:
        ValueError: text in a script or a style.
    """
    if children and name in _VERBATIM:
        raise ValueError(f"{name} stays empty")
    return Element(name, attributes, children)


def document(root: Element) -> bytes:
    """Return the page as bytes."""
    return ("<!doctype html>\n" + "".join(_text(root))).encode("utf-8", "replace")


def _text(node: Node) -> Iterator[str]:
    if isinstance(node, Element):
        yield f"<{node.name}"
        for name, value in node.attributes.items():
            if value is not None and value is not False:
                yield f" {name.rstrip('_').replace('_', '-')}"
                if value is not True:
                    yield f'="{_safe(value)}"'
        yield ">"
        for child in node.children:
            yield from _text(child)
        if node.name not in _VOID:
            yield f"</{node.name}>"
    elif node is not None:
        yield _safe(node)


def _safe(value: object) -> str:
    return escape(escape_unprintable(str(value), MAX_TEXT), quote=True)

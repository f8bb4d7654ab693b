"""The builder of HTML: text from clients stays text."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gunicorn_prom_hooks.paths import escape_unprintable
from gunicorn_prom_hooks.status.html import MAX_TEXT, document, tag

NASTY = [
    "<script>alert(1)</script>",
    "</main><img src=x onerror=alert(1)>",
    "\"' onmouseover='alert(1)",
    "&lt;b&gt; &amp; &#60;",
    "]]><!-- --!>",
    "\u202egnp.exe\u2066\u200f",
    "\0\x08\x1b[31m\r\n\t\x7f\x85",
    "\udcff\ud800",
    "\ufffd\ufeff",
]


class Seen(HTMLParser):
    """Elements, attributes and text of a page, as a parser sees them."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep both."""
        self.elements.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        """Keep it."""
        self.text += data


@pytest.mark.parametrize("text", NASTY)
def test_hostile_text_stays_text(text: str) -> None:
    """Markup, quotes, control characters, bidi overrides and lone surrogates are text, in contents and attributes."""
    seen = Seen(document(tag("p", text, title=text)))
    shown = escape_unprintable(text, MAX_TEXT)
    assert seen.elements == ["p"]
    assert seen.attributes == [("title", shown)]
    assert seen.text == "\n" + shown
    assert shown.isprintable()


@given(st.text(st.characters(), max_size=300))
def test_any_text_stays_text(text: str) -> None:
    """Whatever the text, a parser sees one element and that text, made printable."""
    seen = Seen(document(tag("td", text, data_key=text)))
    assert (seen.elements, seen.attributes) == (["td"], [("data-key", escape_unprintable(text, MAX_TEXT))])
    assert seen.text == "\n" + escape_unprintable(text, MAX_TEXT)


def test_attributes_of_each_type_are_written() -> None:
    """True is an attribute without a value, None and False are left out, an underscore is a hyphen or goes."""
    page = document(tag("a", hidden=True, title=None, open=False, class_="x", data_key=1))
    assert page == b'<!doctype html>\n<a hidden class="x" data-key="1"></a>'


def test_void_elements_have_no_end_tag() -> None:
    """No end tag where HTML has none, and no text for None."""
    assert (
        document(tag("p", tag("meta", charset="utf-8"), None, 7)) == b'<!doctype html>\n<p><meta charset="utf-8">7</p>'
    )


def test_long_text_is_cut() -> None:
    """No text is longer than the limit."""
    assert len(document(tag("p", "x" * 10 * MAX_TEXT))) < MAX_TEXT + 50


@pytest.mark.parametrize("name", ["script", "style"])
def test_text_in_a_script_or_style_raises(name: str) -> None:
    """Scripts and styles stay empty."""
    with pytest.raises(ValueError, match="stays empty"):
        tag(name, "x")

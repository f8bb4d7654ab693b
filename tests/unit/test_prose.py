"""The words of the project: docstrings, comments, HELP texts, log lines and docs in plain technical English."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PERSONS = r"somebody|nobody|anybody|everybody|someone|whoever|whomever|whom|who|ours|theirs"
METAPHORS = (
    r"books?|booked|booking|ledger|obituary|obituaries|bury|buried|goodbyes?|patience|patient|crowds?|roster|homes?|"
    r"verdicts?|turnstile|housekeeping|word of|takes? note|it all|at all events|deaths?|die[sd]?|dying|dead worker"
)
BRITISH = (
    r"\w*behaviour\w*|\w*colour\w*|\w*favour\w*|honour\w*|neighbour\w*|catalogues?|centred?|licence|"
    r"(?:recogni|organi|normali|initiali|seriali|summari|optimi|minimi|maximi|speciali|generali|authori|customi|"
    r"prioriti|sanitis|sanitiz(?=x)|synchroni|anonymi|categori|finali|utili|visuali)s(?:e[ds]?|ing|ation)|"
    r"cancelled|cancelling|labelled|labelling|modelled|travelling|analyse[ds]?|grey|artefacts?|whilst|amongst"
)
FORBIDDEN = re.compile(rf"(?i)(?<![\w`/.-])(?:{PERSONS}|{METAPHORS}|{BRITISH})(?![\w`/-])")
ALLOWED = {"user = 'nobody'": "a user of the system"}
"""Phrases that hold such a word and are right, with the reason."""
CODE = re.compile(r"```.*?```|``[^`]*``|`[^`]*`|<[^>\n]*>|\]\([^)]*\)|https?://\S+", re.DOTALL)
PYTHON = sorted(
    path
    for folder in ("gunicorn_prom_hooks", "sample_configs", "benchmarks", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if path != Path(__file__)
)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def prose_of(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each comment, docstring and text with a blank in it."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(("#!", "# noqa", "# type:")):
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def forbidden(text: str) -> list[str]:
    """Return the words of a text that are not plain technical English."""
    text = CODE.sub(" ", text)
    for phrase in ALLOWED:
        text = text.replace(phrase, " ")
    return [found.group() for found in FORBIDDEN.finditer(text)]


def name_of(path: Path) -> str:
    """Return the path as a test's name has it."""
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_source_has_no_forbidden_word(path: Path) -> None:
    """Each docstring, comment, HELP text and log line is free of the words that are listed here."""
    found = [(line, words) for line, text in prose_of(path.read_text()) if (words := forbidden(text))]
    assert found == []


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_page_has_no_forbidden_word(path: Path) -> None:
    """Each sentence of the README and the docs is free of the words that are listed here."""
    text = CODE.sub(lambda code: "\n" * code.group().count("\n"), path.read_text())
    found = [(number, words) for number, line in enumerate(text.splitlines(), 1) if (words := forbidden(line))]
    assert found == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Requests that somebody sent.", ["somebody"]),
        ("The ledger of deaths.", ["ledger", "deaths"]),
        ("Its behaviour is normalised.", ["behaviour", "normalised"]),
        ("Return the worker `who` exited.", []),
        ("See [the list](docs/who.md) of homepages.", []),
    ],
)
def test_forbidden_word_is_found(text: str, words: list[str]) -> None:
    """Words are found by themselves, and not in code or links."""
    assert forbidden(text) == words

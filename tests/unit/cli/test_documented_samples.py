"""The list of sample files in docs/cli.md."""

from __future__ import annotations

import re

from gunicorn_prom_hooks.cli.samples import Application, sample_files
from tests.helpers.places import TOP


def test_each_file_that_init_writes_is_in_the_documented_list() -> None:
    """Each file is named, or the folder that it is in; each name is that of a file or a folder."""
    page = (TOP / "docs" / "cli.md").read_text()
    section = page[page.index("It writes the sample files") : page.index("If one of the files exists")]
    items = re.findall(r"^- ([^:]+):", section, re.MULTILINE)
    named = [name for item in items for name in re.findall(r"`([^`]+)`", item)]
    files = list(sample_files(Application()))
    folders = tuple(name for name in named if name.endswith("/"))
    assert [file for file in files if file not in named and not file.startswith(folders)] == []
    assert [name for name in named if name not in files and not any(file.startswith(name) for file in files)] == []

"""``init``: writes the sample files into a folder."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import Final

from ..paths import escape_unprintable
from .findings import OK, PROBLEMS
from .samples import CONFIG, Application, sample_files

_APP_PATTERN: Final = r"\w+(\.\w+)*(:\w+(\.\w+)*(\(\))?)?"
_NAME_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"


def app(text: str) -> str:
    """Return the location of an application, for argparse.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not re.fullmatch(_APP_PATTERN, text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a location such as shop.wsgi:application")
    return text


def name(text: str) -> str:
    """Return the name of a service, for argparse.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not re.fullmatch(_NAME_PATTERN, text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of letters, digits, '_', '.' and '-'")
    return text


def port(text: str) -> int:
    """Return a TCP port, for argparse.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def write_samples(folder: Path, application: Application, *, force: bool) -> tuple[list[str], int]:
    """Write the files, all of them or none. Return the lines to print, and the exit code.

    Args:
        folder: made if it is missing.
        application: what is filled in.
        force: whether files that exist are replaced.
    """
    try:
        application = application._replace(folder=folder.resolve().name)
        files = {folder / name: content for name, content in sample_files(application).items()}
        existing = [path for path in files if path.exists() or path.is_symlink()]
        if existing and not force:
            lines = [f"problem: {_shown(path)} exists" for path in existing]
            return [*lines, "Nothing is written. --force replaces these files."], PROBLEMS
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Without --force, a file that was made meanwhile stays.
            with path.open("wb" if force else "xb") as file:
                file.write(content)
    except OSError as error:
        return [f"problem: {_shown(error.filename or folder)}: {error.strerror or error}"], PROBLEMS
    config = shlex.quote(str(folder / CONFIG))
    return [
        *(f"wrote {_shown(path)}" for path in files),
        f"Start the server:  gunicorn --config {config}",
        f"Check it:          python -m gunicorn_prom_hooks check http://127.0.0.1:{application.port}",
    ], OK


def _shown(path: object) -> str:
    return escape_unprintable(str(path), 1000)

"""The sample files, with the name of an application, its location and its metrics port filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

PRODUCTION: Final = "gunicorn_production.conf.py"
CONFIG: Final = "gunicorn.conf.py"
_APP, _NAME, _PORT, _FOLDER = "shop.wsgi:application", "shop", "9091", "deploy"
"""What the samples have, and what is replaced."""
_RESOURCE, _IMAGE = f"name: {_NAME}", f".example.com/{_NAME}"
"""Names of a Kubernetes resource or a compose project, and of an image: fewer characters are allowed there."""
_REPLACED = re.compile(
    rf"(?<=^){_RESOURCE}$|(?<=^  ){_RESOURCE}$|{re.escape(_IMAGE)}\b|{re.escape(_APP)}|\b{_NAME}\b|\b{_PORT}\b"
    rf"|\b{_FOLDER}\b|{re.escape(PRODUCTION)}",
    re.MULTILINE,
)
_FILLED_IN: Final = (CONFIG, "prometheus.yml", "systemd/", "kubernetes/", "docker-compose/", "nginx/")
"""Beginnings of the paths of files that name an application or a port. The others are written as they are."""


class Application(NamedTuple):
    """What is filled in.

    Attributes:
        app: module and callable, as gunicorn takes it.
        name: of the service, and of the application in the metrics.
        port: of the metrics.
        folder: name of the folder that the files are written to.
    """

    app: str = _APP
    name: str = _NAME
    port: int = int(_PORT)
    folder: str = _FOLDER


def sample_files(application: Application, folder: Path | None = None) -> Mapping[str, bytes]:
    """Return the content of each file by its path, relative to the folder that it is written to.

    Args:
        application: what is filled in.
        folder: of the samples; None: those of this package.

    Raises:
        OSError: they cannot be read.
    """
    root = folder or samples_folder()
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        # The other Python files are programs: the demo, and what makes a sample.
        if not path.is_file() or (path.suffix in (".py", ".pyc") and name != PRODUCTION):
            continue
        content = path.read_bytes()
        target = CONFIG if name == PRODUCTION else name
        if target.startswith(_FILLED_IN):
            content = _fill_in(content.decode(), application).encode()
            target = re.sub(rf"\b{_NAME}\b", application.name, target)
        found[target] = content
    return found


def samples_folder() -> Path:
    """Return the folder of the samples: in an installed package inside of it, in a clone of the repository beside it.

    Raises:
        FileNotFoundError: there is none.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "sample_configs", package.parent / "sample_configs"):
        if (folder / PRODUCTION).is_file():
            return folder
    raise FileNotFoundError("the sample files are not installed")


def resource_name(name: str) -> str:
    """Return a name as Kubernetes (RFC 1123 labels) and docker compose accept it for what they manage."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:63].strip("-")


def _fill_in(text: str, application: Application) -> str:
    """Replace all names in one pass: a new name may be one that is replaced."""
    values = {
        _APP: application.app,
        _NAME: application.name,
        _PORT: str(application.port),
        _FOLDER: json.dumps(application.folder, ensure_ascii=False)[1:-1],  # in double quotes, of JSON or YAML
        _RESOURCE: f'name: "{resource_name(application.name)}"',  # in quotes: YAML reads ``9`` as a number
        _IMAGE: f".example.com/{resource_name(application.name)}",
        PRODUCTION: CONFIG,
    }
    return _REPLACED.sub(lambda found: values[found.group()], text)

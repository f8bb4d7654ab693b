"""The fixture that starts gunicorns, and tools that must be there in CI."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest

from tests.helpers import distributions
from tests.helpers.certificates import Certificates
from tests.helpers.places import APPLICATIONS, TOP
from tests.helpers.servers import Server

APP = APPLICATIONS / "default.py"

CONFIG = """
from gunicorn_prom_hooks import install
bind = "127.0.0.1:PORT"
control_socket_disable = True
install(globals(), port=METRICS_PORT)
"""

Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a gunicorn with our hooks and a small application; ``more`` is added to its config file."""
    with ExitStack() as stack:
        count = 0

        def start(more: str = "", *, app: Path | str = APP, config: str = CONFIG, **keywords: object) -> Server:
            nonlocal count
            count += 1
            server = Server(tmp_path / str(count), app=app, config=config + more, **keywords)  # type: ignore[arg-type]
            return stack.enter_context(server)

        yield start


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """Certificates for this test, from a new authority."""
    return Certificates(tmp_path / "certificates")


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of this repository, and with all that they require."""
    folder = tmp_path_factory.mktemp("wheels")
    if problem := distributions.download(folder):
        missing(f"the requirements cannot be downloaded: {problem}")
    distributions.build(TOP, folder)
    return folder


def pytest_configure(config: pytest.Config) -> None:
    """Declares the marker."""
    config.addinivalue_line("markers", "needs(tool): a program that the test runs")
    config.addinivalue_line("markers", "slow: takes about a minute, for make test-all")
    config.addinivalue_line("markers", "by_hand: one of hundreds of servers, for make faults")
    config.addinivalue_line("markers", "needs_module(module): a module that the test's server imports")


def missing(message: str) -> NoReturn:
    """Fail the test in CI and skip it elsewhere, with this reason."""
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A tool or module that is missing fails the test in CI and skips it elsewhere."""
    for marker in item.iter_markers("needs"):
        for tool in marker.args:
            if shutil.which(tool) is None:
                missing(f"{tool} is not installed")
    for marker in item.iter_markers("needs_module"):
        for module in marker.args:
            if importlib.util.find_spec(module) is None:
                missing(f"{module} is not installed")

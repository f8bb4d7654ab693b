"""What is released: the same bytes each time, links that work on a package index, and an installation that works."""

from __future__ import annotations

import email
import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest
import requests
from readme_renderer import markdown

from gunicorn_prom_hooks import __version__
from tests.helpers.distributions import REQUIREMENTS, CleanEnvironment, build, clone
from tests.helpers.places import APPLICATIONS, TOP, repository
from tests.helpers.servers import eventually, running, unused_port

CHANGELOG: Final = (TOP / "CHANGELOG.md").read_text()
README: Final = (TOP / "README.md").read_text()
IS_RELEASE: Final = "dev" not in __version__


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Sdist and wheel of this checkout."""
    return dict(build(TOP, tmp_path_factory.mktemp("dist")))


def wheel_file(built: dict[str, bytes], name: str) -> str:
    """Return the text of a file of the wheel, by the end of its name."""
    [wheel] = [content for path, content in built.items() if path.endswith(".whl")]
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        [found] = [path for path in archive.namelist() if path.endswith(name)]
        return archive.read(found).decode()


def test_wheel_and_sdist_of_another_checkout_are_the_same_bytes(built: dict[str, bytes], tmp_path: Path) -> None:
    """Another path, other times of the files and files that git ignores make no difference."""
    other = clone(tmp_path / "another checkout")
    for path in other.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    cache = other / "gunicorn_prom_hooks" / "__pycache__"
    cache.mkdir()
    (cache / "x.cpython-311.pyc").write_bytes(b"x")
    again = build(other, tmp_path / "dist")
    assert len(again) == 2
    assert again.keys() == built.keys()
    assert [name for name in again if again[name] != built[name]] == []
    (other / "gunicorn_prom_hooks" / "paths.py").write_text("changed = True\n")
    changed = build(other, tmp_path / "changed")
    assert all(changed[name] != built[name] for name in built)


def test_distributions_pass_twine(built: dict[str, bytes], tmp_path: Path) -> None:
    """``twine check --strict`` has no complaint."""
    for name, content in built.items():
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, tmp_path.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_long_description_has_absolute_links_to_files_of_the_version(built: dict[str, bytes]) -> None:
    """The package index renders it, and each link or image is absolute and leads to a file of the repository."""
    metadata = email.message_from_string(wheel_file(built, ".dist-info/METADATA"))
    text = metadata.get_payload()
    assert isinstance(text, str)
    html = markdown.render(text)
    assert html is not None
    links = re.findall(r'(?:href|src)="([^"]*)"', html)
    assert len(links) > 20
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    owner = repository().removeprefix("https://github.com/")
    for base in (f"{repository()}/blob/v{__version__}/", f"https://raw.githubusercontent.com/{owner}/v{__version__}/"):
        files = [link.removeprefix(base).partition("#")[0] for link in links if link.startswith(base)]
        assert files
        assert [file for file in files if not (TOP / file).is_file()] == []


def test_metadata_has_the_version_and_addresses_of_one_place(built: dict[str, bytes]) -> None:
    """The version is that of the one file, and all addresses are of the repository that pyproject.toml names."""
    metadata = email.message_from_string(wheel_file(built, ".dist-info/METADATA"))
    assert (
        metadata["Version"]
        == __version__
        == re.findall(r'^__version__ = "(.+)"', wheel_file(built, "/_version.py"), re.M)[0]
    )
    sources = [path for path in (TOP / "gunicorn_prom_hooks").rglob("*.py") if f'"{__version__}"' in path.read_text()]
    assert [path.name for path in sources] == ["_version.py"]
    assert __version__ not in (TOP / "pyproject.toml").read_text()
    required = {requirement for requirement in metadata.get_all("Requires-Dist", []) if "extra ==" not in requirement}
    assert {re.split(r"[>=]", one)[0].replace("-", "_") for one in required} == {
        one.partition(">=")[0] for one in REQUIREMENTS
    }
    owner = repository().removeprefix("https://github.com/")
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", ".github/ISSUE_TEMPLATE/config.yml"):
        found = re.findall(r"https://(?:raw\.githubusercontent|github)\.com/([\w-]+/[\w-]+)", (TOP / name).read_text())
        assert set(found) == {owner}, name


def test_changelog_and_readme_fit_the_version() -> None:
    """Before a release the changelog begins with Unreleased and the README has the repository; afterwards neither."""
    first = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)[0]
    if IS_RELEASE:
        assert re.fullmatch(rf"\[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d", first)
    else:
        assert first == "[Unreleased]"
    assert ("pip install git+" in README) == (__version__ == "1.0.0.dev0")
    for heading in re.findall(r"^## (\[[^]]+\])", CHANGELOG, re.MULTILINE):
        assert f"\n{heading}: https://" in CHANGELOG
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE)) <= kinds


@pytest.mark.parametrize("name", ["bug", "feature", "config"])
def test_issue_templates_are_valid_by_their_schemas(name: str) -> None:
    """The forms and their config have no unknown key."""
    schema = "vendor.github-issue-config" if name == "config" else "vendor.github-issue-forms"
    path = TOP / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml"
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_lines_of_the_readme_work_in_a_clean_environment(kind: str, wheels: Path, tmp_path: Path) -> None:
    """Installed with nothing but its three requirements, the README's config serves metrics, and ``init`` its files."""
    [file] = wheels.glob("gunicorn_prom_hooks-*" + (".whl" if kind == "wheel" else ".tar.gz"))
    clean = CleanEnvironment(tmp_path / "environment", wheels)
    clean.run("python", "-m", "pip", "install", "-q", file)
    assert {"gunicorn", "prometheus-client", "psutil", "gunicorn-prom-hooks"} <= clean.packages()
    assert clean.packages() <= {"gunicorn", "prometheus-client", "psutil", "gunicorn-prom-hooks", "packaging"}
    where = (
        "import gunicorn_prom_hooks, pathlib; folder = pathlib.Path(gunicorn_prom_hooks.__file__).parent;"
        "print(folder, (folder / 'py.typed').exists())"
    )
    package, typed = clean.run("python", "-c", where, folder=tmp_path).split()
    assert package.startswith(str(tmp_path))
    assert typed == "True"
    [config] = re.findall(r"```python\n(from gunicorn_prom_hooks import install\n.*?)```", README, re.DOTALL)
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "gunicorn.conf.py").write_text(config)
    (folder / "app.py").write_text((APPLICATIONS / "default.py").read_text())
    port, metrics_port = unused_port(), unused_port()
    program = [f"PROMETHEUS_METRICS_PORT={metrics_port}", str(clean.bin / "gunicorn")]
    with running(["env", *program, "--bind", f"127.0.0.1:{port}", "app:app"], folder, tmp_path / "log"):
        eventually(lambda: requests.get(f"http://127.0.0.1:{port}/", timeout=10).ok, "the application answers")
        page = eventually(
            lambda: (
                (text := requests.get(f"http://127.0.0.1:{metrics_port}/metrics", timeout=10).text)
                and 'gunicorn_requests_total{endpoint="/",method="GET",status="200"}' in text
                and text
            ),
            "the request is on the page",
        )
        assert "gunicorn_worker_memory_bytes" in str(page)
        url = f"http://127.0.0.1:{metrics_port}"
        assert "ok: no problem found" in clean.run("python", "-m", "gunicorn_prom_hooks", "check", url, folder=folder)
    out = clean.run("python", "-m", "gunicorn_prom_hooks", "init", "deploy", folder=folder)
    for name in ("gunicorn.conf.py", "docker-compose/compose.yaml", "nginx/shop.conf", "prometheus/alertmanager.yml"):
        assert f"wrote deploy/{name}" in out
        assert (folder / "deploy" / name).is_file()

"""``init`` and the sample files."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from gunicorn_prom_hooks.cli.init import write_samples
from gunicorn_prom_hooks.cli.samples import Application, sample_files, samples_folder
from tests.helpers.places import TOP

FRONT = Application("shop.shop:shop", "front", 9555)
FILES = {
    "gunicorn.conf.py",
    "prometheus.yml",
    "kubernetes/podmonitor.yaml",
    "systemd/gunicorn@.service",
    "systemd/front.env",
    "docker-compose/compose.yaml",
    "docker-compose/Dockerfile",
    "docker-compose/prometheus.yml",
    "nginx/front.conf",
}


def test_samples_are_those_of_the_repository() -> None:
    """In a clone, the samples are read from the one folder that has them."""
    assert samples_folder() == TOP / "sample_configs"


def test_files_have_application_name_and_port() -> None:
    """Names and ports are filled in, also where a new name contains one that is replaced; the rest is unchanged."""
    files = {name: content.decode() for name, content in sample_files(FRONT).items()}
    assert set(files) >= FILES
    assert not any(name.endswith(".py") for name in files.keys() - {"gunicorn.conf.py"})
    config = files["gunicorn.conf.py"]
    assert 'wsgi_app = "shop.shop:shop"\nproc_name = "front"' in config
    assert 'setdefault("PROMETHEUS_METRICS_PORT", "9555")' in config
    assert "--config gunicorn.conf.py" in config
    assert '"127.0.0.1:9555"' in files["prometheus.yml"]
    assert "APP=shop.shop:shop\n" in files["systemd/front.env"]
    assert "PROMETHEUS_METRICS_PORT=9555\n" in files["systemd/front.env"]
    assert "gunicorn@front" in files["systemd/gunicorn@.service"]
    assert "upstream front {" in files["nginx/front.conf"]
    assert "unix:/run/gunicorn-front/gunicorn.sock" in files["nginx/front.conf"]
    assert '"127.0.0.1:9555:9555"' in files["docker-compose/compose.yaml"]
    assert '"gunicorn:9555"' in files["docker-compose/prometheus.yml"]
    assert "EXPOSE 8000 9555\n" in files["docker-compose/Dockerfile"]
    assert not any("9091" in files[name] for name in FILES)


def test_folder_and_project_are_filled_in_as_docker_compose_takes_them() -> None:
    """The name of the folder is quoted, and that of the project has no characters that docker compose refuses."""
    files = sample_files(Application(name="Front._v2.", folder='my "files"'))
    compose = yaml.safe_load(files["docker-compose/compose.yaml"])
    assert compose["name"] == "front-v2"
    assert compose["services"]["gunicorn"]["build"]["dockerfile"] == 'my "files"/docker-compose/Dockerfile'
    [command] = re.findall(r"^CMD (.*)$", files["docker-compose/Dockerfile"].decode(), re.MULTILINE)
    assert json.loads(command) == ["gunicorn", "--config", 'my "files"/gunicorn.conf.py']


@pytest.mark.parametrize("name", ["Front.App", "a_b-", "x" * 64, "9.", "true", "shop"])
def test_kubernetes_accepts_the_samples_whatever_the_name_is(name: str) -> None:
    """The Deployment has a name and an image that are allowed; gunicorn's name stays as it was given."""
    deployment = yaml.safe_load(sample_files(Application(name=name))["kubernetes/deployment.yaml"])
    label = deployment["metadata"]["name"]
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", label)
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == f"registry.example.com/{label}:1.0"
    assert container["name"] == "gunicorn"
    assert container["args"][3:5] == ["--name", name]


def test_name_of_the_folder_is_that_which_the_files_are_written_to(tmp_path: Path) -> None:
    """``init`` fills in the last part of the path, also of a relative one."""
    assert write_samples(tmp_path / "x" / ".." / "ops", FRONT, force=False)[1] == 0
    assert '"ops/gunicorn.conf.py"' in (tmp_path / "ops" / "docker-compose" / "Dockerfile").read_text()


def test_other_files_of_the_samples_are_written_unchanged(tmp_path: Path) -> None:
    """A file that names no application is copied, and a program that makes one is not."""
    (tmp_path / "grafana").mkdir()
    (tmp_path / "grafana" / "board.json").write_bytes(b'{"shop": 9091}\xff')
    (tmp_path / "grafana" / "make.py").write_text("")
    (tmp_path / "gunicorn_production.conf.py").write_text("shop")
    assert sample_files(FRONT, tmp_path) == {"grafana/board.json": b'{"shop": 9091}\xff', "gunicorn.conf.py": b"front"}


def test_existing_files_are_kept_without_force(tmp_path: Path) -> None:
    """If one file exists nothing is written; with force the files are replaced."""
    (tmp_path / "prometheus.yml").write_text("mine")
    lines, code = write_samples(tmp_path, FRONT, force=False)
    assert code == 1
    assert lines[0] == f"problem: {tmp_path}/prometheus.yml exists"
    assert [path.name for path in tmp_path.iterdir()] == ["prometheus.yml"]
    assert (tmp_path / "prometheus.yml").read_text() == "mine"
    lines, code = write_samples(tmp_path, FRONT, force=True)
    assert code == 0
    assert "9555" in (tmp_path / "prometheus.yml").read_text()


def test_dangling_link_is_kept_without_force(tmp_path: Path) -> None:
    """A symbolic link to nothing counts as a file that exists."""
    (tmp_path / "gunicorn.conf.py").symlink_to(tmp_path / "elsewhere")
    assert write_samples(tmp_path, FRONT, force=False)[1] == 1
    assert not (tmp_path / "elsewhere").exists()


def test_folder_that_cannot_be_made_is_a_problem(tmp_path: Path) -> None:
    """A file in place of the folder is one line."""
    (tmp_path / "file").write_text("")
    lines, code = write_samples(tmp_path / "file" / "folder", FRONT, force=False)
    assert code == 1
    assert lines == [f"problem: {tmp_path}/file/folder: Not a directory"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    """A folder without write permission is one line that names it."""
    tmp_path.chmod(0o500)
    lines, code = write_samples(tmp_path, FRONT, force=False)
    assert (code, len(lines)) == (1, 1)
    assert lines[0].endswith("Permission denied")

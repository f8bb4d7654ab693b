"""The samples for docker compose: valid, in agreement with each other, and what they run, run without containers."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from gunicorn_prom_hooks.settings import Settings
from tests.helpers.distributions import CleanEnvironment
from tests.helpers.namespaces import namespace
from tests.helpers.places import APPLICATIONS, TOP
from tests.helpers.servers import eventually, running
from tests.integration.conftest import missing

FOLDER: Final = TOP / "sample_configs" / "docker-compose"
COMPOSE: Final = FOLDER / "compose.yaml"
DOCKERFILE: Final = FOLDER / "Dockerfile"
CHECK: Final = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
FETCH: Final = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=10).read().decode())"
HADOLINT: Final = Path(sys.executable).with_name("hadolint")
UNPINNED: Final = "DL3013"
"""Hadolint's rule that pip installs exact versions: those are the user's to choose."""


def load(path: Path) -> Any:
    """Return the content of a YAML file."""
    return yaml.safe_load(path.read_text())


def services(path: Path = COMPOSE) -> Mapping[str, Any]:
    """Return the services of a compose file."""
    found = load(path)["services"]
    assert isinstance(found, dict)
    return found


def mounted(service: str, compose: Path = COMPOSE) -> dict[str, Path]:
    """Return the files that a service mounts, by their paths in its container."""
    found = {}
    for volume in services(compose)[service]["volumes"]:
        source, target, *mode = volume.split(":")
        if source.startswith("."):
            assert mode == ["ro"]
            found[target] = (compose.parent / source).resolve()
    return found


def done(*command: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command, with these variables beside those of this process."""
    inherited = {name: value for name, value in os.environ.items() if name != "GRAFANA_PASSWORD"}
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, env={**inherited, **environ}
    )


def test_compose_file_is_valid_by_the_schema_of_the_specification(tmp_path: Path) -> None:
    """No key is unknown or of another type; a misspelled key is found."""
    assert done(*CHECK, COMPOSE).returncode == 0
    misspelled = tmp_path / "compose.yaml"
    misspelled.write_text(COMPOSE.read_text().replace("healthcheck:", "health_check:"))
    assert "health_check" in done(*CHECK, misspelled).stdout


@pytest.mark.needs("docker-compose")
def test_docker_compose_reads_the_file_and_asks_for_a_password(tmp_path: Path) -> None:
    """``docker-compose config`` resolves all paths to files that exist, and refuses to run without the password."""
    text = COMPOSE.read_text()
    if done("docker-compose", "version", "--short").stdout.startswith("1."):  # it knows no name in the file
        text = text.replace("name: shop\n", "", 1)
    project = tmp_path / "project"
    shutil.copytree(TOP / "sample_configs", project / "deploy")
    file = project / "deploy" / "docker-compose" / "compose.yaml"
    file.write_text(text)
    assert "set GRAFANA_PASSWORD" in done("docker-compose", "-f", file, "config").stderr
    found = done("docker-compose", "-f", file, "config", GRAFANA_PASSWORD="a b")
    assert found.returncode == 0, found.stderr
    config = yaml.safe_load(found.stdout)
    assert config["services"]["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == "a b"
    build = config["services"]["gunicorn"]["build"]
    assert build["context"] == str(project)
    assert (project / build["dockerfile"]).samefile(file.with_name("Dockerfile"))


def test_mounted_files_exist_and_services_name_each_other() -> None:
    """Files that are mounted are there, and host names and ports in the configs are those of services."""
    found = services()
    for name in ("prometheus", "alertmanager", "grafana"):
        assert mounted(name)
        assert all(path.exists() for path in mounted(name).values())
    [source] = load(FOLDER / "grafana" / "datasources" / "prometheus.yaml")["datasources"]
    config = load(FOLDER / "prometheus.yml")
    [[alerts]] = [[one["static_configs"][0]["targets"]] for one in config["alerting"]["alertmanagers"]]
    [scraped] = [one["static_configs"][0]["targets"] for one in config["scrape_configs"]]
    targets = [*alerts, *scraped, source["url"].removeprefix("http://")]
    for target in targets:
        host, _, port = target.partition(":")
        assert any(entry.endswith(f":{port}") for entry in found[host]["ports"]), target
    assert all(entry.startswith("127.0.0.1:") for service in found.values() for entry in service["ports"])
    assert scraped == [f"gunicorn:{Settings().port}"]
    assert {one["job_name"] for one in config["scrape_configs"]} == {"gunicorn"}


@pytest.mark.needs("promtool", "amtool")
def test_mounted_configs_are_valid_where_they_are_mounted(tmp_path: Path) -> None:
    """Promtool and amtool accept the configs in folders like those of the containers."""
    for service in ("prometheus", "alertmanager"):
        for target, source in mounted(service).items():
            path = tmp_path / target.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, path)
    checked = done("promtool", "check", "config", tmp_path / "etc" / "prometheus" / "prometheus.yml")
    assert checked.returncode == 0, checked.stderr
    assert "rules found" in checked.stdout
    checked = done("amtool", "check-config", tmp_path / "etc" / "alertmanager" / "alertmanager.yml")
    assert checked.returncode == 0, checked.stderr


def test_provisioning_of_grafana_fits_the_dashboard() -> None:
    """The data source is the default one, of the type that the dashboard's variable lists; the folders agree."""
    [source] = load(FOLDER / "grafana" / "datasources" / "prometheus.yaml")["datasources"]
    assert source["isDefault"]
    dashboard = json.loads((TOP / "sample_configs" / "grafana" / "gunicorn.json").read_text())
    [variable] = [one for one in dashboard["templating"]["list"] if one["type"] == "datasource"]
    assert variable["query"] == source["type"]
    assert "current" not in variable  # so Grafana chooses the default data source
    used = {panel["datasource"]["uid"] for panel in dashboard["panels"] if "datasource" in panel}
    assert used == {f"${{{variable['name']}}}"}
    [provider] = load(FOLDER / "grafana" / "dashboards" / "gunicorn.yaml")["providers"]
    paths = mounted("grafana")
    assert paths[f"{provider['options']['path']}/gunicorn.json"] == TOP / "sample_configs" / "grafana" / "gunicorn.json"
    for kind in ("datasources", "dashboards"):
        assert paths[f"/etc/grafana/provisioning/{kind}"] == FOLDER / "grafana" / kind
    [config] = load(FOLDER / "prometheus.yml")["scrape_configs"]
    assert source["jsonData"]["timeInterval"] == load(FOLDER / "prometheus.yml")["global"]["scrape_interval"]
    assert "scrape_interval" not in config


def test_dockerfile_passes_hadolint(tmp_path: Path) -> None:
    """Hadolint has no complaint, except that versions are not pinned; a shell form of CMD would be one."""
    if not HADOLINT.exists():
        missing("hadolint is not installed")
    assert done(HADOLINT, "--ignore", UNPINNED, DOCKERFILE).stdout == ""
    shell = tmp_path / "Dockerfile"
    shell.write_text(DOCKERFILE.read_text().replace('["gunicorn", "--config", "deploy/gunicorn.conf.py"]', "gunicorn"))
    assert "DL3025" in done(HADOLINT, "--ignore", UNPINNED, shell).stdout


def instructions(dockerfile: Path, folder: Path) -> dict[str, list[str]]:
    """Return the values of a Dockerfile by instruction.

    Args:
        dockerfile: the file.
        folder: for a file of the parser.
    """
    parser = DockerfileParser(str(folder))
    parser.content = dockerfile.read_text()
    found: dict[str, list[str]] = {}
    for one in parser.structure:
        found.setdefault(one["instruction"], []).append(one["value"])
    return found


def test_documented_dockerfile_is_the_sample() -> None:
    """The lines of docs/deploying.md are those of the sample, without its comments."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    assert "```dockerfile\n" + "\n".join(lines) + "\n```" in (TOP / "docs" / "deploying.md").read_text()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a network")
@pytest.mark.needs("prometheus", "prometheus-alertmanager", "unshare", "nsenter", "ip")
def test_services_of_a_new_folder_run_and_find_each_other(tmp_path: Path, wheels: Path) -> None:
    """What ``init`` writes, run by the commands of the Dockerfile and the compose file, in a network of its own.

    The image is a virtual environment, and host names are the loopback address. Prometheus scrapes gunicorn, has the
    rules, and knows the Alertmanager. Grafana is not run.
    """
    image = CleanEnvironment(tmp_path / "image", wheels)
    project = tmp_path / "project"
    (project / "shop").mkdir(parents=True)
    (project / "shop" / "wsgi.py").write_text((APPLICATIONS / "default.py").read_text())
    compose = project / "deploy" / "docker-compose" / "compose.yaml"
    with ExitStack() as stack:
        image.run("python", "-m", "pip", "install", "-q", "gunicorn-prom-hooks", "--pre")
        init = "python -m gunicorn_prom_hooks init deploy --app shop.wsgi:app --name Front.v2 --port 9555"
        image.run(*shlex.split(init), folder=project)
        assert load(compose)["name"] == "front-v2"
        assert done(*CHECK, compose).returncode == 0
        gunicorn = services(compose)["gunicorn"]
        build = gunicorn["build"]
        assert (compose.parent / build["context"]).samefile(project)
        steps = instructions(project / build["dockerfile"], tmp_path)
        # The build: its commands, in the environment that is the image.
        image = CleanEnvironment(tmp_path / "built", wheels)
        for command in steps["RUN"]:
            image.run(*shlex.split(command), "--pre")
        assert steps["COPY"] == [". ."]
        served = shutil.copytree(project, tmp_path / "srv")
        variables = [*shlex.split(" ".join(steps["ENV"])), *(f"{k}={v}" for k, v in gunicorn["environment"].items())]
        [command] = map(json.loads, steps["CMD"])

        inside = stack.enter_context(namespace(tmp_path, list(services(compose))))
        environ = ["env", f"PATH={image.environ['PATH']}", *variables]
        stack.enter_context(running(inside.command([*environ, *command], served), served, tmp_path / "gunicorn.log"))
        for service, program, storage in (
            ("alertmanager", "prometheus-alertmanager", "--storage.path"),
            ("prometheus", "prometheus", "--storage.tsdb.path"),
        ):
            root = tmp_path / service
            for target, source in mounted(service, compose).items():
                (root / target.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, root / target.lstrip("/"))
            [config] = root.glob(f"etc/{service}/{service}.yml")
            started = [program, f"--config.file={config}", f"{storage}={root}/data"]
            if service == "alertmanager":
                started.append("--cluster.listen-address=")
            stack.enter_context(running(inside.command(started, root), root, root / "log"))

        def fetch(url: str) -> Any:
            return json.loads(inside.run(sys.executable, "-c", FETCH, f"http://{url}"))

        def scraped() -> bool:
            targets = fetch("prometheus:9090/api/v1/targets")["data"]["activeTargets"]
            assert [(one["labels"]["instance"], one["health"]) for one in targets] == [("gunicorn:9555", "up")], targets
            return True

        eventually(scraped, "Prometheus scrapes gunicorn")
        assert inside.run(sys.executable, "-c", FETCH, "http://127.0.0.1:8000/").strip().isdigit()
        test = gunicorn["healthcheck"]["test"]
        assert test[0] == "CMD"
        inside.run("env", f"PATH={image.environ['PATH']}", *test[1:])
        [info] = eventually(
            lambda: fetch("prometheus:9090/api/v1/query?query=gunicorn_build_info")["data"]["result"], "a sample"
        )
        assert info["metric"]["app"] == "Front.v2"
        assert len(fetch("prometheus:9090/api/v1/rules?type=alert")["data"]["groups"]) >= 3
        known = eventually(
            lambda: fetch("prometheus:9090/api/v1/alertmanagers")["data"]["activeAlertmanagers"], "an Alertmanager"
        )
        assert [one["url"] for one in known] == ["http://alertmanager:9093/api/v2/alerts"]
        receivers = {one["name"] for one in fetch("alertmanager:9093/api/v2/receivers")}
        assert receivers == {"critical", "warning", "info"}

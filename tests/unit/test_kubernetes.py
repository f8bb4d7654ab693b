"""The samples for Kubernetes: valid by the schemas of the API, and in agreement with each other."""

from __future__ import annotations

import runpy
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gunicorn_prom_hooks.settings import Settings, checks
from tests.helpers.places import TOP

FOLDER = TOP / "sample_configs" / "kubernetes"
RULES = TOP / "sample_configs" / "prometheus" / "gunicorn.rules.yml"
VERSIONS = ("1.28", kubernetes_validate.latest_version())


def sample(name: str) -> Any:
    """Return the content of a sample."""
    return yaml.safe_load((FOLDER / name).read_text())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["deployment.yaml", "networkpolicy.yaml"])
def test_sample_is_valid_by_the_schema_of_kubernetes(name: str, version: str) -> None:
    """No field is unknown or of another type."""
    kubernetes_validate.validate(sample(name), version, strict=True)


def test_misspelled_field_is_found_by_the_schema() -> None:
    """The check above sees such a mistake."""
    wrong = sample("deployment.yaml")
    wrong["spec"]["replica"] = wrong["spec"].pop("replicas")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_deployment_monitor_and_policy_name_the_same_pods_and_ports() -> None:
    """Labels and port names agree, and the metrics port is the package's default."""
    deployment, monitor, policy = map(sample, ("deployment.yaml", "podmonitor.yaml", "networkpolicy.yaml"))
    template = deployment["spec"]["template"]
    pods = template["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == pods
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pods.items()
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= pods.items()
    [container] = template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["metrics"] == Settings().port
    assert [endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]] == ["metrics"]
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == set(ports)
    for probe, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": "metrics"}
    assert {entry["name"] for entry in container["env"]} <= {variable for variable, _ in checks.CHECKS.values()}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]


def test_prometheus_rule_has_the_rules_of_the_file_for_prometheus() -> None:
    """It is what its program makes of the rules file, and has the same groups."""
    made = runpy.run_path(str(FOLDER / "prometheusrule.py"))["prometheus_rule"](RULES.read_text())
    assert (FOLDER / "prometheusrule.yaml").read_text() == made
    found = sample("prometheusrule.yaml")
    assert (found["apiVersion"], found["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert found["spec"] == yaml.safe_load(RULES.read_text())

"""The sample config of the Alertmanager: which alerts silence which, and how they are grouped."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.helpers.alertmanager import alertmanager
from tests.helpers.places import TOP
from tests.helpers.prometheus import RULES, Labels, prometheus, shortened_rules
from tests.helpers.servers import eventually
from tests.integration.conftest import Serve
from tests.integration.test_alertmanager import NEVER_BOOTS

SAMPLE: Final = TOP / "sample_configs" / "prometheus" / "alertmanager.yml"
SEVERITIES: Final[Mapping[str, str]] = dict(
    re.findall(r"- alert: (\w+)\n(?:.*\n)*? +severity: (\w+)", RULES.read_text())
)
"""Severity of each alert of the sample rules."""
INFO: Final = {alert for alert, severity in SEVERITIES.items() if severity == "info"}
CAUSES: Final = {"GunicornServerRestarts", "GunicornReloadFailed"}
EXITS: Final = {"GunicornCrashLoop", "GunicornWorkerExits", "GunicornWorkerExit"}
SILENCED: Final[Mapping[str, set[str]]] = {
    "GunicornTargetDown": SEVERITIES.keys() - CAUSES - {"GunicornTargetDown"},
    "GunicornNoWorkersReady": SEVERITIES.keys() - CAUSES - EXITS - {"GunicornTargetDown", "GunicornNoWorkersReady"},
    "GunicornWorkersMissing": INFO,
    "GunicornWorkerExits": INFO | {"GunicornWorkerExit"},
    "GunicornCrashLoop": INFO | {"GunicornWorkerExits", "GunicornWorkerExit"},
    "GunicornServerRestarts": INFO,
    "GunicornReloadFailed": INFO,
    "GunicornErrorBudgetBurnsFast": INFO | {"GunicornErrorBudgetBurnsSlowly", "GunicornRequestKilled"},
    "GunicornErrorBudgetBurnsSlowly": {"GunicornRequestFailed", "GunicornRequestKilled"},
    "GunicornBacklogFull": INFO | {"GunicornBacklogGrowing", "GunicornConnectionsWaiting", "GunicornThreadsBusy"},
    "GunicornBacklogGrowing": INFO | {"GunicornConnectionsWaiting", "GunicornThreadsBusy"},
    "GunicornEventLoopBlocked": {"GunicornEventLoopLag"},
}
"""The alerts of a server that each of its alerts silences."""


def sample() -> Mapping[str, Any]:
    """Return the content of the sample."""
    found = yaml.safe_load(SAMPLE.read_text())
    assert isinstance(found, dict)
    return found


def labels(alert: str, instance: str = "host:9091", **more: str) -> Labels:
    """Return the labels of an alert as the rules make them."""
    worker = {"worker_id": "worker_0"} if "EventLoop" in alert else {}
    found = {"alertname": alert, "severity": SEVERITIES[alert], "job": "gunicorn", "instance": instance, "app": "shop"}
    return {**found, **worker, **more}


@pytest.mark.needs("amtool")
def test_sample_passes_amtool() -> None:
    """The config is valid, and has no receiver that is not used."""
    done = subprocess.run(["amtool", "check-config", SAMPLE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    route = sample()["route"]
    used = {route["receiver"], *(inner["receiver"] for inner in route["routes"])}
    assert used == {receiver["name"] for receiver in sample()["receivers"]}


def test_inhibition_names_alerts_of_the_rules_only() -> None:
    """Each name in the matchers is an alert of the rules."""
    names = re.findall(r"Gunicorn\w+", " ".join(re.findall(r"alertname[^\]\n]*", SAMPLE.read_text())))
    assert len(names) > 20
    assert [name for name in names if not any(alert.startswith(name) for alert in SEVERITIES)] == []


@pytest.mark.needs("prometheus-alertmanager")
def test_alert_silences_the_ones_that_follow_from_it_and_no_other(tmp_path: Path) -> None:
    """Of each two alerts of one server the first silences the second only if it is listed here."""
    assert len(SEVERITIES) == RULES.read_text().count("- alert: ")
    pairs = list(itertools.permutations(SEVERITIES, 2))
    with alertmanager(tmp_path, sample()) as found:
        found.send([labels(alert, f"{one} {other}") for one, other in pairs for alert in (one, other)])

        def silenced() -> bool:
            alerts = found.alerts()
            assert len(alerts) == 2 * len(pairs)
            assert all(source["instance"] == target["instance"] for target, sources in alerts for source in sources)
            has = {(source["alertname"], target["alertname"]) for target, sources in alerts for source in sources}
            assert has == {(one, other) for one, others in SILENCED.items() for other in others}
            return True

        eventually(silenced, "each alert silences those that are listed")


@pytest.mark.needs("prometheus-alertmanager")
def test_alert_about_one_worker_does_not_silence_one_about_another(tmp_path: Path) -> None:
    """A blocked event loop silences its own lag only."""
    lag = "GunicornEventLoopLag"
    with alertmanager(tmp_path, sample()) as found:
        found.send([labels("GunicornEventLoopBlocked"), labels(lag), labels(lag, worker_id="worker_1")])

        def silent() -> set[str]:
            return {target["worker_id"] for target, sources in found.alerts() if sources}

        eventually(lambda: silent() == {"worker_0"}, "its own lag is silenced, and no other")


@pytest.mark.needs("prometheus-alertmanager")
def test_message_has_the_alerts_of_an_application_by_severity(tmp_path: Path) -> None:
    """Alerts of several servers of an application are one group per severity; another application has its own."""
    with alertmanager(tmp_path, sample()) as found:
        alerts = [
            labels(alert, instance) for alert in ("GunicornWorkersMissing", "GunicornOldRequest") for instance in "ab"
        ]
        other = labels("GunicornRequestFailed", "c", app="blog")
        found.send([*alerts, other])
        groups = eventually(lambda: has if len(has := found.groups()) == 3 else None, "three groups")
        shop, blog = {"job": "gunicorn", "app": "shop"}, {"job": "gunicorn", "app": "blog"}
        grouped = [(group, receiver, sorted(alert["instance"] for alert in has)) for group, receiver, has in groups]
        for expected in ((shop, "critical", ["a", "b"]), (shop, "warning", ["a", "b"]), (blog, "info", ["c"])):
            assert expected in grouped
        assert len(grouped) == 3
        eventually(lambda: len(found.received) >= 5, "all of them are sent")
        assert all(found.find(alert) is not None for alert in (*alerts, other))


@pytest.mark.slow
@pytest.mark.needs("prometheus", "prometheus-alertmanager")
def test_server_without_a_running_worker_sends_the_cause_and_not_what_follows(serve: Serve, tmp_path: Path) -> None:
    """A real gunicorn whose workers do not boot: the webhook gets the cause, and not that workers are missing."""
    server = serve("graceful_timeout = 1\nproc_name = 'shop'\n")
    with (
        alertmanager(tmp_path / "alertmanager", sample()) as receiver,
        prometheus(
            tmp_path / "prometheus", {"shop": server}, rules=shortened_rules(15, hold=2), alertmanager=receiver.address
        ) as monitor,
    ):
        monitor.wait_for_sums()
        server.write_application(NEVER_BOOTS)
        os.kill(server.pid, signal.SIGHUP)

        def arrived() -> bool:
            sources = {target["alertname"]: {one["alertname"] for one in found} for target, found in receiver.alerts()}
            assert "GunicornNoWorkersReady" in sources.get("GunicornWorkersMissing", set()), sources
            assert "GunicornCrashLoop" in sources.get("GunicornWorkerExits", set()), sources
            assert not sources["GunicornNoWorkersReady"]
            assert not sources["GunicornCrashLoop"]
            return True

        eventually(arrived, "the alerts are in the Alertmanager", 60)
        wanted = {"GunicornNoWorkersReady", "GunicornCrashLoop"}
        eventually(lambda: wanted <= {has["alertname"] for has, _ in receiver.received}, "both arrive")
        assert "GunicornWorkersMissing" not in {has["alertname"] for has, _ in receiver.received}

"""The Kubernetes examples, as far as the code can judge them. A cluster's own schemas are not on this machine."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from system_migration import Migrator, Registry, Settings, Startup, connect
from system_migration.cli import exit_codes
from system_migration.web import create_health_router
from tests.deploy.conftest import ROOT
from tests.deploy.containers import parse, unread
from tests.deploy.dockerfile import read

FILES = sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
DOCUMENTS: dict[str, Any] = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FILES}
JOB, DEPLOYMENT = DOCUMENTS["migrate-job"], DOCUMENTS["deployment"]
PORT = next(int(it.text) for it in read(ROOT / "deploy/Dockerfile") if it.name == "EXPOSE")


def pod(document: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = document["spec"]["template"]["spec"]
    return spec


def containers(document: dict[str, Any]) -> list[dict[str, Any]]:
    spec = pod(document)
    return [*spec.get("initContainers", []), *spec["containers"]]


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


ALL = [pytest.param(each, id=f"{name}-{each['name']}") for name in DOCUMENTS for each in containers(DOCUMENTS[name])]


@pytest.mark.parametrize("container", ALL)
def test_a_container_runs_the_one_image_with_variables_that_are_read(container: dict[str, Any]) -> None:
    assert container["image"] == "ante-backend:1.0.0"
    assert unread(variables(container)) == []
    assert [name for name in variables(container) if any(word in name for word in ("KEY", "SECRET", "URL"))] == []
    assert container["envFrom"] == [{"secretRef": {"name": "ante-backend"}}]
    if "command" in container:
        parse(container["command"])


@pytest.mark.parametrize("container", ALL)
def test_a_container_may_do_nothing_that_it_need_not(container: dict[str, Any]) -> None:
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_pod_is_not_root_and_has_time_to_end(name: str) -> None:
    spec = pod(DOCUMENTS[name])
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert spec["automountServiceAccountToken"] is False
    assert spec["terminationGracePeriodSeconds"] >= 30


def test_the_job_ends_at_what_a_new_try_cannot_help_and_only_there() -> None:
    """Whatever leaves the run resumable is tried again: another runner's lease, SIGTERM, a kill."""
    assert pod(JOB)["restartPolicy"] == "Never"  # a podFailurePolicy needs it
    rules = JOB["spec"]["podFailurePolicy"]["rules"]
    (ends,) = [rule["onExitCodes"] for rule in rules if rule["action"] == "FailJob"]
    assert set(ends["values"]) == {exit_codes.FAILED, exit_codes.USAGE, exit_codes.REFUSED}
    assert ends["containerName"] == containers(JOB)[0]["name"]
    assert {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]} in rules


def test_only_the_init_container_may_migrate() -> None:
    init, server = containers(DEPLOYMENT)
    assert init["command"] == ["migration", "startup"]
    assert variables(init).items() >= {"AUTO_MIGRATE": "true", "ALLOW_PRODUCTION_AUTO_MIGRATE": "true"}.items()
    assert "AUTO_MIGRATE" not in variables(server)  # the image says false
    assert "command" not in server


def test_the_probes_ask_what_the_server_answers(sqlite_url: str) -> None:
    _, server = containers(DEPLOYMENT)
    assert server["ports"] == [{"name": "http", "containerPort": PORT}]
    probes = [server[kind]["httpGet"] for kind in ("livenessProbe", "readinessProbe")]
    assert probes == [{"path": f"/health/{name}", "port": "http"} for name in ("live", "ready")]
    with Migrator(connect(sqlite_url), Registry([]), Settings()) as migrator:
        answered = {route.path for route in create_health_router(Startup(migrator)).routes}
    assert {probe["path"] for probe in probes} <= answered
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels
    assert JOB["spec"]["template"]["metadata"]["labels"] != labels  # or a service would send requests to the job

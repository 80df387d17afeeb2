"""The compose file: the specification's variables, demanded secrets, and an order that waits for the database."""

from __future__ import annotations

import re
from typing import Any

import yaml
from distributed.cli import dask_scheduler, dask_worker

from ante_backend.settings import Canary, HostSettings
from tests.deploy.conftest import ROOT
from tests.deploy.containers import interpolate, unread

FILE = ROOT / "deploy/compose.yaml"
TEXT = FILE.read_text(encoding="utf-8")
SERVICES: dict[str, Any] = yaml.safe_load(TEXT)["services"]
BACKEND, DATABASE = SERVICES["backend"], SERVICES["database"]
CLUSTER = {name: SERVICES[name] for name in ("scheduler", "worker")}
SECRETS = {"POSTGRES_PASSWORD", "AUTH_SECRET"}
LEGACY = {"ENCRYPTION_KEY", "ENCRYPTION_KEYS_OLD", "ENCRYPTION_CANARY"}
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text(encoding="utf-8"))


def test_the_backend_is_told_what_the_specification_says() -> None:
    told = BACKEND["environment"]
    assert {"RUN_MIGRATIONS_ON_STARTUP": "true", "AUTO_MIGRATE": "false"}.items() <= told.items()
    assert unread(told) == []


def test_no_secret_is_in_the_file_and_none_has_a_default() -> None:
    used = re.findall(r"\$\{(\w+)(?:(:-|:\?)([^}]*))?", TEXT)
    assert {name for name, how, _ in used if how == ":?"} == SECRETS | {"MIGRATION_ENVIRONMENT"}
    assert {name for name, how, default in used if how == ":-" and default} == {"ANTE_IMAGE", "PORT"}
    assert {name for name, how, default in used if how != ":?" and not default} == LEGACY
    literal = {**BACKEND["environment"], **DATABASE["environment"]}
    secret = {name: value for name, value in literal.items() if re.search("KEY|CANARY|SECRET|PASSWORD", name)}
    assert len(secret) == 6
    assert [name for name, value in secret.items() if not value.startswith("${")] == []
    assert ":" not in BACKEND["environment"]["DATABASE_URL"].partition("://")[2]


def test_the_keys_of_the_old_passwords_reach_the_container_and_may_be_missing() -> None:
    """They are needed until the old passwords are gone, and then nobody has them any more."""
    demanded = dict.fromkeys(SECRETS | {"MIGRATION_ENVIRONMENT"}, "given")

    def told(given: dict[str, str]) -> HostSettings:
        return HostSettings.from_environment(
            {name: interpolate(value, demanded | given) for name, value in BACKEND["environment"].items()}
        )

    without = told({})
    assert (without.encryption_key or None, without.encryption_keys_old, without.canaries) == (None, (), ())
    given = dict(zip(sorted(LEGACY), ("somebody:a password", "a key", "an old key\nan older one"), strict=True))
    full = told(given)
    assert (full.encryption_key, full.encryption_keys_old) == ("a key", ("an old key", "an older one"))
    assert full.canaries == (Canary("somebody", "a password"),)


def test_the_workflow_hands_on_every_secret_that_the_file_takes() -> None:
    (start,) = [step for step in WORKFLOW["jobs"]["deploy"]["steps"] if step["name"] == "Start the new version"]
    taken = set(re.findall(r"\$\{(\w+)", TEXT)) - {"ANTE_IMAGE", "PORT"}
    assert set(start["env"]) == taken
    secrets = {name: value for name, value in start["env"].items() if name != "MIGRATION_ENVIRONMENT"}
    assert [name for name, value in secrets.items() if value != f"${{{{ secrets.{name} }}}}"] == []


def test_the_backend_waits_for_a_healthy_database_and_is_confined() -> None:
    assert BACKEND["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert DATABASE["healthcheck"]["test"][:3] == ["CMD", "pg_isready", "--host=127.0.0.1"]
    assert BACKEND["read_only"] is True
    assert BACKEND["cap_drop"] == ["ALL"]
    assert BACKEND["ports"] == ["127.0.0.1:${PORT:-8000}:8000"]  # not to the world: a proxy with TLS stands before it


def test_it_builds_the_image_from_the_root_and_the_workflow_finds_the_container() -> None:
    assert (FILE.parent / BACKEND["build"]["context"]).resolve() == ROOT
    assert (ROOT / BACKEND["build"]["dockerfile"]).is_file()
    assert BACKEND["container_name"] == "ante-backend"
    assert "entrypoint" not in BACKEND  # the image's own command: no shell comes between it and SIGTERM
    assert "command" not in BACKEND


def test_the_cluster_is_started_only_when_asked_for_and_is_of_the_same_image() -> None:
    assert [name for name, service in SERVICES.items() if service.get("profiles") == ["dask"]] == list(CLUSTER)
    assert {service["image"] for service in CLUSTER.values()} == {BACKEND["image"]}
    assert all(service["healthcheck"] == {"disable": True} for service in CLUSTER.values())
    assert "container_name" not in CLUSTER["worker"]  # it has to scale


def test_workers_get_the_keys_that_open_rows_and_nothing_of_the_database() -> None:
    told = CLUSTER["worker"]["environment"]
    assert set(told) == {"ENCRYPTION_KEY", "ENCRYPTION_KEYS_OLD"}
    assert {name: BACKEND["environment"][name] for name in told} == told
    assert "environment" not in CLUSTER["scheduler"]
    networks = {name: service.get("networks", ["default"]) for name, service in SERVICES.items()}
    assert networks["backend"] == ["default", "cluster"]
    assert networks["database"] == ["default"]
    assert all(networks[name] == ["cluster"] for name in CLUSTER)


def test_scheduler_and_workers_are_started_as_the_program_takes_it() -> None:
    """Each command line is read by the very commands of Dask, and confined as the backend is."""
    scheduler, worker = (CLUSTER[name]["command"] for name in ("scheduler", "worker"))
    assert scheduler[:3] == ["python", "-m", dask_scheduler.__name__]
    assert worker[:3] == ["python", "-m", dask_worker.__name__]
    ports = dask_scheduler.main.make_context("scheduler", scheduler[3:]).params
    given = dask_worker.main.make_context("worker", worker[3:]).params
    assert given["scheduler"] == f"tcp://scheduler:{ports['port']}"
    assert (given["nthreads"], given["nanny"], given["dashboard"]) == (1, False, False)
    for service in CLUSTER.values():
        assert {name: service[name] for name in ("read_only", "cap_drop", "security_opt", "init", "tmpfs")} == {
            name: BACKEND[name] for name in ("read_only", "cap_drop", "security_opt", "init", "tmpfs")
        }
        assert "ports" not in service

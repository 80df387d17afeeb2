"""The compose file: the specification's variables, demanded secrets, and an order that waits for the database."""

from __future__ import annotations

import re
from typing import Any

import yaml

from ante_backend.settings import Canary, HostSettings
from tests.deploy.conftest import ROOT
from tests.deploy.containers import interpolate, unread

FILE = ROOT / "deploy/compose.yaml"
TEXT = FILE.read_text(encoding="utf-8")
SERVICES: dict[str, Any] = yaml.safe_load(TEXT)["services"]
BACKEND, DATABASE = SERVICES["backend"], SERVICES["database"]
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

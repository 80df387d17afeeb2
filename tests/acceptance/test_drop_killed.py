"""The contract step, killed in its midst: no account is cleared by half, and the next run clears the rest."""

from __future__ import annotations

from typing import Any

import pytest

from ante_backend.passwords import hash_password
from tests.support.accounts import DROP, KEY, create_table, insert, make, read
from tests.support.command import Project, wait_until
from tests.support.databases import application_engine

ACCOUNTS = 30


def cleared(project: Project) -> int:
    return int(project.sql('SELECT count(*) FROM "Account" WHERE "password" IS NULL')[0][0])


@pytest.mark.databases("sqlite")
def test_what_was_killed_goes_on(project: Project) -> None:
    project.environ |= {
        "MIGRATIONS": "ante_backend.migrations",
        "MIGRATION_LEASE_SECONDS": "0.5",
        "ENCRYPTION_KEY": KEY,
        "LEGACY_OBSERVATION_DAYS": "0",
        "PASSWORD_VERIFY_SAMPLE": "5",
    }
    engine = application_engine(project.url)
    create_table(engine)
    stored = hash_password(b"one password for all", 4, "hold")
    columns: dict[str, Any] = {"passwordHash": stored}
    project.sql('ALTER TABLE "Account" ADD COLUMN "passwordHash" VARCHAR(255)')
    insert(engine, [make(number, "one password for all") | columns for number in range(ACCOUNTS)])
    before = read(engine)
    project.run("run")

    slowly = ("run", DROP, "--workers", "1", "--batch-size", "2", "--max-rate", "20")
    with project.start(*slowly) as running:
        wait_until(lambda: cleared(project) >= 4 or not running.going, "some accounts")
        assert running.kill().code == -9
    assert 4 <= cleared(project) < ACCOUNTS
    for name, row in read(engine).items():
        assert row in (before[name], before[name] | {"password": None, "key": None})

    (report,) = project.json("run", DROP, "--wait")["reports"]
    assert (report["status"], report["verified"], report["recordsProcessed"]) == ("COMPLETED", True, ACCOUNTS)
    assert read(engine) == {name: row | {"password": None, "key": None} for name, row in before.items()}
    engine.dispose()

"""A database belongs to one environment: another one is refused, a copy is recognised, and `adopt` rebinds it."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, make_url, text

from system_migration import ConfigurationError, Migrator, Refused, Registry, Row, RunOptions, Settings, Status
from system_migration.errors import Interrupted
from system_migration.store import leases
from tests.db.test_workbench import (
    Increment,
    execute,
    fingerprint,
    make_numbers,
    migrator,
    quick,
    rows_of,
)
from tests.support.databases import MakeDatabaseUrl, application_engine

SHARED = RunOptions(allow_environment=True)


def y_of(engine: Engine) -> list[int]:
    return [y for (y,) in rows_of(engine, "SELECT y FROM number ORDER BY id")]


# --- one database, one environment -----------------------------------------------------------------------------------


def test_a_bound_database_refuses_another_environment_whatever_the_verb(engine: Engine) -> None:
    make_numbers(engine, 2)
    migrator(engine, Increment, environment="production").run()
    before = fingerprint(engine, but=set())
    staging = migrator(engine, Increment, environment="staging")
    sentence = (
        "This database belongs to environment 'production', not 'staging'. Check DATABASE_URL and "
        "MIGRATION_ENVIRONMENT; if both environments really share it, add --allow-environment."
    )
    verbs: dict[str, Any] = {
        "run": staging.run,
        "run by name": lambda: staging.run("001-increment"),
        "dry run": staging.dry_run,
        "skip": lambda: staging.skip("001-increment", "because"),
        "reset": lambda: staging.reset("001-increment", "because"),
    }
    for verb, call in verbs.items():
        with pytest.raises(Refused) as refusal:
            call()
        assert str(refusal.value) == sentence, verb
    assert fingerprint(engine, but=set()) == before
    assert staging.status().warnings == ["This database belongs to environment 'production', not 'staging'."]


def test_environments_that_share_a_database_knowingly_are_tracked_apart(engine: Engine) -> None:
    make_numbers(engine, 2)
    production = migrator(engine, Increment, environment="production")
    staging = migrator(engine, Increment, environment="staging")
    production.run()
    assert [each.status for each in staging.status().migrations] == [Status.PENDING]
    staging.run(options=SHARED)
    assert y_of(engine) == [12, 22]  # once in each
    assert staging.run(options=SHARED) == production.run() == []
    staging.reset("001-increment", "again", allow_environment=True)
    assert [each.status for each in staging.status().migrations] == [Status.PENDING]
    assert [each.status for each in production.status().migrations] == [Status.COMPLETED]
    assert [run.outcome for run in production.history()] == ["succeeded"]


def test_names_of_environments_that_differ_in_case_differ(engine: Engine) -> None:
    make_numbers(engine, 1)
    migrator(engine, Increment, environment="prod").run()
    with pytest.raises(Refused, match="belongs to environment 'prod', not 'PROD'"):
        migrator(engine, Increment, environment="PROD").run()


@pytest.mark.databases("postgresql", "mariadb")
def test_a_server_database_wants_its_environment_named_the_first_time(engine: Engine) -> None:
    make_numbers(engine, 1)
    unnamed = migrator(engine, Increment, environment=None)
    for verb in (unnamed.status, unnamed.run, unnamed.dry_run, unnamed.init, unnamed.pending):
        with pytest.raises(ConfigurationError, match=r"Set MIGRATION_ENVIRONMENT or give --environment\."):
            verb()
    assert "system_migration_meta" not in fingerprint(engine)
    migrator(engine, Increment, environment="staging").init()
    later = migrator(engine, Increment, environment=None)
    assert later.run()[0].status is Status.COMPLETED
    assert later.environment == "staging"


@pytest.mark.databases("sqlite")
def test_an_unbound_sqlite_file_counts_as_development(engine: Engine) -> None:
    make_numbers(engine, 1)
    unnamed = migrator(engine, Increment, environment=None)
    assert unnamed.status().environment == "development"
    unnamed.run()
    assert rows_of(engine, "SELECT environment FROM system_migration_meta") == [("development",)]
    with pytest.raises(Refused, match="belongs to environment 'development'"):
        migrator(engine, Increment, environment="production").run()


# --- copies ----------------------------------------------------------------------------------------------------------


@contextmanager
def copied(engine: Engine, make_database_url: MakeDatabaseUrl) -> Iterator[Engine]:
    """A copy of the whole database elsewhere, made with the product's own means."""
    engine.dispose()  # and with it our migrators: PostgreSQL copies only what nobody is connected to
    copy = {"sqlite": _copied_file, "postgresql": _copied_by_template, "mysql": _copied_by_dump}
    with copy[engine.dialect.name](engine, make_database_url) as url:
        elsewhere = application_engine(url)
        yield elsewhere
        elsewhere.dispose()


@contextmanager
def _copied_file(engine: Engine, make_database_url: MakeDatabaseUrl) -> Iterator[str]:
    url = make_database_url("sqlite")
    source, target = sqlite3.connect(str(engine.url.database)), sqlite3.connect(str(make_url(url).database))
    source.backup(target)
    source.close()
    target.close()
    yield url


@contextmanager
def _copied_by_template(engine: Engine, make_database_url: MakeDatabaseUrl) -> Iterator[str]:
    administrator = application_engine(engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    name = f"{engine.url.database}_copy"
    with administrator.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {engine.url.database}"))
        yield engine.url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def _copied_by_dump(engine: Engine, make_database_url: MakeDatabaseUrl) -> Iterator[str]:
    url = make_database_url("mariadb")
    where = [f"--host={engine.url.host}", f"--port={engine.url.port}", f"--user={engine.url.username}"]
    if engine.url.password:
        where.append(f"--password={engine.url.password}")
    database = make_url(url).database
    dump = subprocess.run(
        ["mariadb-dump", "--no-defaults", *where, str(engine.url.database)], capture_output=True, check=True
    )
    subprocess.run(["mariadb", "--no-defaults", *where, str(database)], input=dump.stdout, check=True)
    yield url


class StopsAfterOneBatch(Increment):
    """Asks its migrator to stop as soon as it sees a row."""

    migrator: Migrator

    def transform(self, row: Row) -> dict[str, Any]:
        type(self).migrator.request_stop(15)
        return super().transform(row)


def test_a_restored_copy_is_recognised_and_adopted_with_its_history(
    engine: Engine, make_database_url: MakeDatabaseUrl
) -> None:
    make_numbers(engine, 6)
    StopsAfterOneBatch.migrator = migrator(engine, StopsAfterOneBatch, environment="production")
    with pytest.raises(Interrupted):
        StopsAfterOneBatch.migrator.run(options=RunOptions(batch_size=2, workers=1))
    # As if the dump was taken while the run was going: its lease is alive and travels along.
    future = "'2999-01-01 00:00:00.000000'"
    execute(
        engine, f"UPDATE system_migration_lease SET released = (1 = 0), expires_at = {future}, takeover_at = {future}"
    )

    with copied(engine, make_database_url) as elsewhere:
        for environment in ("staging", "production"):
            with pytest.raises(Refused, match=r"This database is a copy: .*run `migration adopt --environment "):
                migrator(elsewhere, Increment, environment=environment).run()
        fence_before = rows_of(elsewhere, "SELECT MAX(fence) FROM system_migration_lease")[0][0]

        staging = migrator(elsewhere, Increment, environment="staging")
        assert staging.adopt() == ("This database now belongs to 'staging' (before: 'production'), with its history.")
        assert rows_of(elsewhere, "SELECT fence FROM system_migration_lease") == [(fence_before + 1,)]
        (status,) = staging.status().migrations
        assert (status.status, status.stale, status.held_by) == (Status.RUNNING, True, None)
        assert [run.migration for run in staging.history()] == ["001-increment"]
        staging.run(options=RunOptions(accept_code_change=True))
        assert y_of(elsewhere) == [11, 21, 31, 41, 51, 61]  # the inherited batch is not done again
        with pytest.raises(Refused, match="belongs to environment 'staging', not 'production'"):
            migrator(elsewhere, Increment, environment="production").run()
        elsewhere.dispose()

    assert y_of(engine) == [11, 21, 30, 40, 50, 60]
    (status,) = migrator(engine, Increment, environment="production").status().migrations
    assert (status.status, status.stale) == (Status.RUNNING, False)  # the original still is its runner's


def test_a_copy_may_keep_the_name_of_its_environment(engine: Engine, make_database_url: MakeDatabaseUrl) -> None:
    """A database that moved to another server: same environment, confirmed once."""
    make_numbers(engine, 1)
    migrator(engine, Increment).run()
    with copied(engine, make_database_url) as elsewhere:
        moved = migrator(elsewhere, Increment)
        with pytest.raises(Refused, match="is a copy"):
            moved.skip("001-increment", "because")
        assert moved.pending() == []  # looking is allowed
        moved.adopt()
        moved.reset("001-increment", "because")
        assert moved.run()[0].records_processed == 1
        assert y_of(elsewhere) == [12]


@pytest.mark.databases("sqlite")
def test_a_file_that_was_moved_or_restored_in_its_place_is_not_a_copy(engine: Engine, tmp_path: Path) -> None:
    make_numbers(engine, 1)
    migrator(engine, Increment).run()
    engine.dispose()
    file = Path(str(engine.url.database))

    moved = tmp_path / "moved.sqlite"
    file.rename(moved)
    elsewhere = application_engine(f"sqlite:///{moved}")
    migrator(elsewhere, Increment).reset("001-increment", "because")
    elsewhere.dispose()

    content = moved.read_bytes()
    moved.rename(file)
    original = file.stat().st_ino
    (tmp_path / "placeholder").write_bytes(b"")  # keeps the inode from being given out again
    backup = tmp_path / "backup"
    backup.write_bytes(content)
    backup.replace(file)
    assert file.stat().st_ino != original
    assert migrator(engine, Increment).run()[0].status is Status.COMPLETED


def test_there_must_be_a_history_and_a_name_to_adopt(engine: Engine) -> None:
    with pytest.raises(Refused, match=r"no migration history to adopt\. `migration init` binds it"):
        migrator(engine, Increment, environment="staging").adopt()
    migrator(engine, Increment, environment="production").init()
    with pytest.raises(ConfigurationError, match="Name the environment that adopts this database"):
        migrator(engine, Increment, environment=None).adopt()


def test_a_renamed_environment_is_adopted_in_place_and_says_who_did_it(engine: Engine) -> None:
    make_numbers(engine, 1)
    migrator(engine, Increment, environment="prod").run()
    renamed = migrator(engine, Increment, environment="production")
    renamed.adopt()
    assert [each.status for each in renamed.status().migrations] == [Status.COMPLETED]
    assert renamed.run() == []
    events = rows_of(engine, "SELECT environment, action, actor, detail FROM system_migration_event ORDER BY id")
    assert events[-1] == ("production", "adopted", "tester", '{"from": "prod"}')
    assert {environment for environment, *_ in events} == {"production"}


def test_two_histories_are_never_mixed_by_adopting(engine: Engine) -> None:
    make_numbers(engine, 1)
    migrator(engine, Increment, environment="production").run()
    migrator(engine, Increment, environment="staging").run(options=SHARED)
    before = fingerprint(engine, but=set())
    with pytest.raises(Refused, match="Environment 'staging' already has a history of its own"):
        migrator(engine, Increment, environment="staging").adopt()
    assert fingerprint(engine, but=set()) == before


def test_a_start_that_was_refused_is_no_history_and_one_that_goes_on_is_waited_for(engine: Engine) -> None:
    make_numbers(engine, 1)
    migrator(engine, Increment, environment="production").run()
    settings = Settings(environment="staging", require_approval=True)
    with Migrator(quick(engine), Registry([Increment]), settings, executed_by="tester") as refused:
        with pytest.raises(Refused, match="approv"):
            refused.run(options=SHARED)
    left = "SELECT released FROM system_migration_lease WHERE environment = 'staging'"
    assert [bool(released) for (released,) in rows_of(engine, left)] == [True]
    renamed = migrator(engine, Increment, environment="staging")
    with engine.begin() as connection:
        claim = leases.acquire(connection, "staging", "001-increment", "somebody", "somebody", 60)
    before = fingerprint(engine, but=set())
    with pytest.raises(Refused, match="Somebody starts a migration in this database as 'staging' right now"):
        renamed.adopt()
    assert fingerprint(engine, but=set()) == before
    with engine.begin() as connection:
        assert claim is not None
        leases.release(connection, claim)
    renamed.adopt()
    assert [each.status for each in renamed.status().migrations] == [Status.COMPLETED]


def test_what_is_connected_is_the_engine_and_not_the_setting(engine: Engine) -> None:
    """`Migrator` never opens another database than its engine's, whatever DATABASE_URL a setting carries."""
    make_numbers(engine, 1)
    with Migrator(quick(engine), Registry([Increment]), Settings("sqlite:////nowhere", "test")) as elsewhere:
        assert elsewhere.run()[0].records_processed == 1
    assert y_of(engine) == [11]
    assert not re.search("nowhere", str(fingerprint(engine)))

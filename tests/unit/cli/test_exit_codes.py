"""Every error class has its exit code, and nothing that is said about an error carries data."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from system_migration import errors
from system_migration.cli.exit_codes import exit_code
from system_migration.cli.failures import describe

EXPECTED = {
    "MigrationSystemError": 1,
    "ConfigurationError": 2,
    "LoadError": 2,
    "UnknownMigration": 2,
    "Refused": 5,
    "HeldElsewhere": 4,
    "LeaseLost": 4,
    "MigrationFailed": 1,
    "Paused": 1,
    "Cancelled": 1,
    "VerificationFailed": 1,
    "Interrupted": 128,
    "Withdrawn": 128,
    "UnknownRun": 2,
    "InvalidKey": 2,
    "UnreadableKey": 2,
    "AuditKeyError": 2,
    "NotHeld": 5,
    "ChangedMeanwhile": 5,
    "NotApproved": 5,
    "WaitsForSchema": 5,
}
ARGUMENTS = {
    "UnknownMigration": ("002-x", ("001-a",)),
    "HeldElsewhere": ("001-a", "host:1"),
    "LeaseLost": ("001-a", "expired"),
    "MigrationFailed": ("001-a", "why"),
    "Paused": ("001-a", "why"),
    "Cancelled": ("001-a", "ada"),
    "VerificationFailed": ("001-a", "why"),
    "Interrupted": (15,),
    "InvalidKey": ("from_key", "account", "why"),
    "NotHeld": ("001-a", 1, 2, "7"),
    "WaitsForSchema": ("001-a", "schema revision b, the database is at a"),
    "ChangedMeanwhile": ("001-a", "Migration 001-a is RUNNING now."),
    "NotApproved": ("001-a", "why", "Approve it."),
}


def tree(root: type[BaseException]) -> Iterator[type[BaseException]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


CLASSES = {kind for kind in tree(errors.MigrationSystemError) if kind.__module__ == errors.__name__}


def make(kind: type[BaseException]) -> BaseException:
    return kind(*ARGUMENTS.get(kind.__name__, ("what happened",)))


def test_the_table_speaks_of_every_class() -> None:
    assert {kind.__name__ for kind in CLASSES} == set(EXPECTED)


@pytest.mark.parametrize("kind", sorted(CLASSES, key=lambda kind: kind.__name__))
def test_each_class_has_its_code(kind: type[BaseException]) -> None:
    error = make(kind)
    signal_number = error.signal_number if isinstance(error, errors.Interrupted) else 0
    assert exit_code(error) == EXPECTED[kind.__name__] + signal_number


def test_interrupted_tells_which_signal() -> None:
    assert [exit_code(errors.Interrupted(number)) for number in (2, 15)] == [130, 143]


@pytest.mark.parametrize("kind", sorted(CLASSES, key=lambda kind: kind.__name__))
def test_a_command_ends_with_the_code_and_the_sentence(kind, migrator, migration) -> None:
    migrator.answers["status"] = make(kind)
    told = migration("status")
    assert told.code == exit_code(make(kind))
    assert told.out == ""
    assert told.err.startswith("migration: ")
    assert "Traceback" not in told.err


def test_errors_are_documents_under_json(migrator, migration) -> None:
    migrator.answers["status"] = errors.HeldElsewhere("001-a", "host:1")
    told = migration("status", "--json")
    assert told.code == 4
    assert told.json["error"]["code"] == "held-elsewhere"
    assert "host:1" in told.json["error"]["message"]
    assert told.err == ""


@pytest.mark.parametrize(
    "error", [ValueError("secret-value"), RuntimeError("secret-value"), SystemExit("secret-value")]
)
def test_an_unexpected_error_is_told_by_type_and_place_only(error, migrator, migration) -> None:
    migrator.answers["status"] = error
    told = migration("status")
    assert told.code == 1
    assert type(error).__name__ in told.err
    assert "stub.py:" in told.err
    assert "secret-value" not in told.out + told.err
    assert "Traceback" not in told.err


def test_a_database_error_names_the_code_and_no_parameters(migrator, migration) -> None:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(sa.exc.OperationalError) as caught:
        connection.execute(sa.text("SELECT * FROM nowhere WHERE a = :a"), {"a": "secret-value"})
    engine.dispose()
    migrator.answers["status"] = caught.value
    told = migration("status")
    assert told.code == 1
    assert "The database answered with an error (OperationalError, SQLITE_ERROR)" in told.err
    assert "secret-value" not in told.err


def test_an_unreachable_database_is_called_so() -> None:
    engine = sa.create_engine("sqlite:////nowhere/at/all.db")
    with pytest.raises(sa.exc.OperationalError) as caught:
        engine.connect()
    assert describe(caught.value)[2].startswith("The database could not be reached (OperationalError, SQLITE_CANTOPEN)")
    assert describe(sqlite3.OperationalError("secret"))[1] == "database"


def test_passwords_in_urls_are_masked(migrator, migration) -> None:
    url = "postgresql://ada:secret-value@db/ante"
    migrator.answers["status"] = errors.ConfigurationError(f"Cannot use {url}.")
    for told in (migration("status"), migration("status", "--json"), migration("status", url)):
        assert told.code == 2
        assert "secret-value" not in told.out + told.err
        assert "://***@db" in told.out + told.err


@pytest.mark.parametrize("arguments", [("nonsense",), ("run", "--workers"), ("show",), ("run", "--no-such-option")])
def test_usage_errors_exit_with_2(arguments, migrator, migration) -> None:
    told = migration(*arguments)
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("migration: ")
    told = migration(*arguments, "--json")
    assert told.code == 2
    assert json.loads(told.out)["error"]["code"] == "usage"


def test_ctrl_c_outside_a_run_exits_with_130(migrator, migration) -> None:
    migrator.answers["status"] = KeyboardInterrupt()
    told = migration("status")
    assert told.code == 130
    assert "Interrupted" in told.err

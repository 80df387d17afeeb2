"""Each defence of a batch, of a connection and of the end of a run; and what happens without it.

A test of a defence fails when the defence is deleted from the library. The test after it, `test_without_...`, takes
the defence away in the child alone and sees the damage: proof that the first test looks in the right place. The
fence check, the heartbeat and the second look after the lease is won are in `test_takeover`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from system_migration import BatchMigration, MigrationFailed, Refused, Row
from system_migration.batching import settling
from system_migration.errors import VerificationFailed
from system_migration.running import verification
from system_migration.store import ledger
from system_migration.store.dialects.mariadb import MariaDB
from system_migration.store.dialects.sqlite import SQLite
from tests.crash import controls
from tests.crash.harness import Child, Gate, Job, after_commit_of_a_batch
from tests.crash.subjects import Chosen, Flagged, InPlace, Items, item
from tests.support.databases import application_engine

both_forms = pytest.mark.parametrize("form", [InPlace, Flagged])


# The ledger row, in the batch's own transaction


def test_a_batch_that_was_committed_is_in_the_ledger(items: Items) -> None:
    job = Job(items.url, InPlace)
    assert job.start_and_kill(after_commit_of_a_batch).killed_at is not None
    assert items.values() != items.initial
    items.expire_lease()
    job.run()
    assert items.values() == items.migrated


def test_without_the_ledger_row_in_the_transaction_a_batch_is_done_twice(items: Items) -> None:
    def record_after_the_commit() -> None:
        commit, record = settling.commit_batch, ledger.record
        ledger.record = lambda *_: None

        def commit_then_record(database: Any, run: Any, *rest: Any) -> Any:
            entry = commit(database, run, *rest)
            with database.write() as connection:
                record(connection, run, entry)
            return entry

        settling.commit_batch = commit_then_record

    job = Job(items.url, InPlace)
    assert job.start_and_kill(after_commit_of_a_batch, record_after_the_commit).killed_at is not None
    items.expire_lease()
    with pytest.raises(VerificationFailed):
        job.run()
    assert items.values() == items.migrated | {key: items.initial[key] + 2 for key in (1, 2, 3)}


# The guard: only where the row still is what was read


def start_and_stop(items: Items, form: type[InPlace | Flagged], gate: Gate, patch: Callable[[], None]) -> Child:
    """A runner that has read its first batch and not yet written it."""

    def arrange() -> None:
        patch()
        form.before_transform = staticmethod(gate.stop)

    child = Job(items.url, form).start(arrange)
    child.wait_for(gate)
    return child


def nothing() -> None:
    """What a child patches when it keeps every defence."""


@both_forms
def test_what_the_application_wrote_meanwhile_survives(items: Items, gate: Gate, form: type[InPlace]) -> None:
    """The row is done again from its new value, a row that is gone stays gone, the others are done once."""
    with start_and_stop(items, form, gate, nothing) as child:
        items.write(2, origin=1000, y=1000)
        items.change(item.delete().where(item.c.id == 3))
        gate.open()
        ending = child.wait()
    assert ending.error is None, ending.message
    expected = {**items.migrated, 2: 1001}
    del expected[3]
    assert items.values() == expected
    assert items.status() == "COMPLETED"


def test_a_row_that_the_application_did_itself_meanwhile_is_left_as_it_is(items: Items, gate: Gate) -> None:
    with start_and_stop(items, Flagged, gate, nothing) as child:
        items.write(2, origin=999, y=1000)
        items.change(sa.text("UPDATE item SET done = 1 WHERE id = 2"))
        gate.open()
        ending = child.wait()
    assert ending.error is None, ending.message
    assert items.values() == {**items.migrated, 2: 1000}


def test_a_row_that_is_no_longer_pending_is_left_as_it_is(items: Items, gate: Gate) -> None:
    """Although nothing has changed of what was read or is to be written."""
    with start_and_stop(items, Chosen, gate, nothing) as child:
        items.write(2, origin=-1)
        gate.open()
        ending = child.wait()
    assert ending.error is None, ending.message
    assert items.values() == {**items.migrated, 2: items.initial[2]}


@both_forms
def test_without_the_guard_what_the_application_wrote_is_lost(items: Items, gate: Gate, form: type[InPlace]) -> None:
    with start_and_stop(items, form, gate, controls.without_guard) as child:
        items.write(2, origin=1000, y=1000)
        gate.open()
        child.wait()
    assert items.values()[2] == items.migrated[2]


# An explicit BEGIN on SQLite


class FailsInPrepare(InPlace):
    """Its second schema change fails."""

    name = "001-fails-in-prepare"

    def prepare(self, schema: Any) -> None:
        schema.add_column("item", sa.Column("extra", sa.Integer))
        schema.create_index("ix_item_nothing", "item", ["no_such_column"])


@pytest.mark.databases("sqlite", "postgresql")  # MariaDB has no transactional DDL
def test_a_failed_prepare_leaves_no_column_behind(items: Items) -> None:
    with pytest.raises(MigrationFailed, match="no_such_column"):
        Job(items.url, FailsInPrepare).run()
    assert items.columns() == ["id", "origin", "y"]


@pytest.mark.databases("sqlite")
def test_without_an_explicit_begin_a_failed_prepare_leaves_its_column_behind(
    items: Items, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SQLite, "listen", lambda *_: None)
    with pytest.raises(MigrationFailed, match="no_such_column"):
        Job(items.url, FailsInPrepare).run()
    assert items.columns() == ["id", "origin", "y", "extra"]


# FOUND_ROWS on MariaDB


class Restates(BatchMigration):
    """Writes the value that is there, in another form: matched, and not changed."""

    name = "001-restates"
    table = "item"
    reads = ("y",)
    writes = ("y",)

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"y": float(row.y)}


def counts_changed_rows(url: str) -> Engine:
    return application_engine(url, connect_args={"client_flag": 0})


@pytest.mark.databases("mariadb")
def test_a_connection_that_does_not_count_matched_rows_is_refused(items: Items) -> None:
    with pytest.raises(Refused, match=r"counts changed rows, not matched ones \(FOUND_ROWS is off\)"):
        Job(items.url, InPlace, engine=counts_changed_rows).run()
    assert items.values() == items.initial
    assert Job(items.url, Restates).run()[0].records_processed == len(items.initial)


@pytest.mark.databases("mariadb")
def test_without_the_refusal_a_good_batch_counts_as_half_written(items: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MariaDB, "shortcomings", lambda *_: [])
    with pytest.raises(MigrationFailed, match="3 rows of 'item' were locked, but 0 were written"):
        Job(items.url, Restates, engine=counts_changed_rows).run()


# Strict mode on MariaDB


class TooLong(BatchMigration):
    """Writes four letters where three fit."""

    name = "001-too-long"
    table = "item"
    reads = ("y",)
    writes = ("note",)

    def prepare(self, schema: Any) -> None:
        schema.add_column("item", sa.Column("note", sa.String(3)))

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"note": "abcd"}


def lenient(url: str) -> Engine:
    """The engine of a host whose sessions cut what is too long."""
    return application_engine(url, connect_args={"init_command": "SET SESSION sql_mode = ''"})


@pytest.mark.databases("mariadb")
def test_a_value_that_is_too_long_is_an_error_even_in_a_lenient_session(items: Items) -> None:
    with pytest.raises(MigrationFailed, match="rows held: 6"):
        Job(items.url, TooLong, engine=lenient).run()
    assert items.notes() == {None}


@pytest.mark.databases("mariadb")
@pytest.mark.filterwarnings("ignore")
def test_without_strict_mode_a_value_that_is_too_long_is_cut(items: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MariaDB, "listen", lambda *_: None)
    with pytest.raises(Refused, match="STRICT_ALL_TABLES"):  # a second defence, and the last
        Job(items.url, TooLong, engine=lenient).run()
    monkeypatch.setattr(MariaDB, "shortcomings", lambda *_: [])
    Job(items.url, TooLong, engine=lenient).run()
    assert items.notes() == {"abc"}


# Verification, the only way to COMPLETED


class Wrong(InPlace):
    """Its transform is wrong, and its check is right."""

    name = "001-wrong"

    def transform(self, row: Row) -> Mapping[str, Any]:
        return {"y": row.y + 2}


def test_a_wrong_transform_does_not_complete(items: Items) -> None:
    with pytest.raises(VerificationFailed, match="verify"):
        Job(items.url, Wrong).run()
    assert items.status() == "FAILED"


def test_without_verification_a_wrong_transform_completes(items: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "verify", lambda *_: verification.Verdict(True))
    Job(items.url, Wrong).run()
    assert items.status() == "COMPLETED"

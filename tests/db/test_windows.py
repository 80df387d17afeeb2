"""A run that keeps to a part of the keys: from a first one to a last one, both included."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from system_migration import BatchMigration, Migration, MigrationContext, MigrationResult, Refused, RunOptions, Status
from system_migration.errors import ConfigurationError, Interrupted, InvalidKey, MigrationSystemError
from tests.db.test_workbench import Fill, Increment, execute, make_numbers, make_table, migrator, rows_of

FILLED = "SELECT id FROM number WHERE z = y * 10 ORDER BY id"


def window(first: str | None, last: str | None, **more: Any) -> RunOptions:
    return RunOptions(from_key=first, to_key=last, **more)


@pytest.mark.parametrize(
    ("first", "last", "done", "words"),
    [
        ("20", "40", [20, 30, 40], "Keys 20 to 40 are done; 3 rows outside of them remain"),
        ("15", "35", [20, 30], "Keys 15 to 35 are done; 4 rows outside of them remain"),
        (None, "20", [10, 20], "Keys up to 20 are done; 4 rows outside of them remain"),
        ("50", None, [50, 60], "Keys from 50 on are done; 4 rows outside of them remain"),
    ],
)
def test_only_rows_between_the_keys_are_migrated(
    engine: Engine, first: str | None, last: str | None, done: list[int], words: str
) -> None:
    make_numbers(engine, 6)
    running = migrator(engine, Fill)
    (report,) = running.run("001-fill", window(first, last, batch_size=2))
    assert (report.status, report.records_processed) == (Status.PAUSED, len(done))
    assert report.metadata["note"].startswith(words)
    assert [key for (key,) in rows_of(engine, FILLED)] == done
    (status,) = running.status().migrations
    assert status.error == report.metadata["note"]
    (report,) = running.run("001-fill")
    assert (report.status, report.verified, report.records_processed) == (Status.COMPLETED, True, 6)


def test_windows_that_together_hold_every_row_complete_it(engine: Engine) -> None:
    make_numbers(engine, 6)
    running = migrator(engine, Fill)
    assert running.run("001-fill", window("40", None))[0].status is Status.PAUSED
    (report,) = running.run("001-fill", window(None, "39"))
    assert (report.status, report.verified, report.records_processed) == (Status.COMPLETED, True, 6)


def test_a_takeover_keeps_to_the_window_and_to_no_other(engine: Engine) -> None:
    class Stopping(Fill):
        stopped = False

        def transform(self, row: Any) -> dict[str, Any]:
            if not type(self).stopped:
                type(self).stopped = True
                running.request_stop(15)
            return super().transform(row)

    make_numbers(engine, 6)
    running = migrator(engine, Stopping)
    with pytest.raises(Interrupted):
        running.run("001-fill", window("20", "40", batch_size=1, workers=1))
    with pytest.raises(Refused, match=r"unfinished run of migration 001-fill is for keys 20 to 40\. Finish it first"):
        migrator(engine, Stopping).run("001-fill", window("50", "60"))
    (report,) = migrator(engine, Stopping).run("001-fill")
    assert report.status is Status.PAUSED
    assert [key for (key,) in rows_of(engine, FILLED)] == [20, 30, 40]
    assert len(migrator(engine, Stopping).history("001-fill")) == 1


def test_the_keys_are_kept_with_the_run(engine: Engine) -> None:
    make_numbers(engine, 3)
    migrator(engine, Fill).run("001-fill", window("10", "30"))
    assert rows_of(engine, "SELECT from_key, to_key FROM system_migration_run") == [("[10]", "[30]")]


def test_without_pending_a_part_cannot_be_told_from_the_whole(engine: Engine) -> None:
    class Up(Migration):
        name = "002-up"
        version = "1.0.0"

        def up(self, context: MigrationContext) -> MigrationResult:
            return MigrationResult()

    make_numbers(engine, 3)
    running = migrator(engine, Increment, Up)
    for name in ("001-increment", "002-up"):
        with pytest.raises(Refused, match=rf"{name} declares no pending\(\), so only the order of its batches tells"):
            running.run(name, window("10", "20"))
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE y = id") == [(3,)]


NO_INT = r"cannot be read as a key of table 'number': a value of type int is expected\."
SENSELESS: dict[str, tuple[RunOptions, type[MigrationSystemError], str]] = {
    "word": (window("ten", None), ConfigurationError, f"--from-key {NO_INT}"),
    "fraction": (window(None, "1.5"), ConfigurationError, f"--to-key {NO_INT}"),
    "reversed": (window("20", "10"), Refused, "--from-key lies behind --to-key"),
}


@pytest.mark.parametrize(("options", "kind", "sentence"), SENSELESS.values(), ids=list(SENSELESS))
def test_keys_that_make_no_sense_are_refused_before_any_write(
    engine: Engine, options: RunOptions, kind: type[MigrationSystemError], sentence: str
) -> None:
    make_numbers(engine, 3)
    with pytest.raises(kind, match=sentence):
        migrator(engine, Fill).run("001-fill", options)
    assert rows_of(engine, FILLED) == []
    assert migrator(engine, Fill).status().migrations[0].status is Status.PENDING


@pytest.mark.parametrize("key", [str(2**63), str(-(10**40))])
@pytest.mark.parametrize("options", [window("KEY", None), window(None, "KEY")], ids=["first", "last"])
@pytest.mark.databases("sqlite")
def test_a_key_that_the_database_has_no_place_for_is_refused_before_any_write(
    engine: Engine, options: RunOptions, key: str
) -> None:
    make_numbers(engine, 3)
    asked = window(options.from_key and key, options.to_key and key)
    with pytest.raises(InvalidKey, match="no key there can be so large") as refused:
        migrator(engine, Fill).run("001-fill", asked)
    assert key not in str(refused.value)
    assert migrator(engine, Fill).status().migrations[0].status is Status.PENDING


def test_a_window_needs_a_name_and_rows(engine: Engine) -> None:
    make_numbers(engine, 0)
    with pytest.raises(Refused, match="Name the migration that --from-key and --to-key mean"):
        migrator(engine, Fill).run(None, window("10", None))
    with pytest.raises(Refused, match="'number' is empty: there is no key for migration 001-fill"):
        migrator(engine, Fill).run("001-fill", window("10", None))


class Named(BatchMigration):
    name = "001-named"
    table = "named"
    reads = ("y",)
    writes = ("z",)

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.z.is_(None)

    def transform(self, row: Any) -> dict[str, Any]:
        return {"z": row.y}


def test_a_key_of_several_columns_is_a_list(engine: Engine) -> None:
    make_table(
        engine,
        "named",
        sa.Column("a", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("b", sa.String(10), primary_key=True),
        sa.Column("y", sa.Integer()),
        sa.Column("z", sa.Integer()),
        rows=[{"a": a, "b": b, "y": 1} for a in (1, 2) for b in "xyz"],
    )
    with pytest.raises(ConfigurationError, match="the key has 2 columns: write it as a JSON list of 2 values"):
        migrator(engine, Named).run("001-named", window("1", None))
    migrator(engine, Named).run("001-named", window('[1, "y"]', '[2, "x"]'))
    done = rows_of(engine, "SELECT a, b FROM named WHERE z IS NOT NULL ORDER BY a, b")
    assert done == [(1, "y"), (1, "z"), (2, "x")]


@pytest.mark.databases("postgresql", "mariadb")
def test_a_key_is_read_as_the_database_answers_it(engine: Engine) -> None:
    ids = sorted(uuid.UUID(int=number) for number in (1, 2, 3))
    make_table(
        engine,
        "named",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("y", sa.Integer()),
        sa.Column("z", sa.Integer()),
        rows=[{"id": key, "y": 1} for key in ids],
    )
    migrator(engine, Named).run("001-named", window(str(ids[1]), str(ids[1])))
    assert rows_of(engine, "SELECT COUNT(*) FROM named WHERE z IS NOT NULL") == [(1,)]


def test_batches_are_listed_newest_first(engine: Engine) -> None:
    make_numbers(engine, 6)
    running = migrator(engine, Fill)
    (report,) = running.run("001-fill", RunOptions(batch_size=2, workers=1))
    batches = running.batches("001-fill")
    assert sum(batch.changed for batch in batches) == 6
    assert {batch.run_id for batch in batches} == {report.run_id}
    assert [batch.committed_at for batch in batches] == sorted((b.committed_at for b in batches), reverse=True)
    assert [batch.range for batch in batches] == sorted((b.range for b in batches), reverse=True)
    assert running.batches("001-fill", limit=1) == batches[:1]
    assert running.batches("001-fill", run_id="another") == []
    execute(engine, "UPDATE system_migration_ledger SET batches = 7")
    assert {batch.batches for batch in running.batches("001-fill")} == {7}


@pytest.mark.databases("sqlite")
def test_the_writing_of_a_batch_is_a_part_of_its_duration(engine: Engine) -> None:
    make_numbers(engine, 6)
    running = migrator(engine, Fill)

    def slowly(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE number"):
            time.sleep(0.02)

    sa.event.listen(running._database.engine, "before_cursor_execute", slowly)
    running.run("001-fill", RunOptions(batch_size=2, workers=1))
    assert min(batch.seconds for batch in running.batches("001-fill")) >= 0.02

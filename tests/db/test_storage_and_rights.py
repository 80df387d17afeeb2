"""A full disk, a missing right, a spoilt record: told for what it is, nothing harmed, resumed once it is mended."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, create_engine, event

from system_migration import (
    BatchMigration,
    MigrationFailed,
    Migrator,
    Refused,
    Registry,
    Row,
    RunOptions,
    Settings,
    Status,
)
from system_migration.errors import MigrationSystemError
from system_migration.migration import SilentProgress
from tests.db.test_preflight import read_only
from tests.db.test_workbench import Fill, Increment, execute, make_numbers, migrator, quick, rows_of
from tests.support.databases import application_engine
from tests.support.host import wait_for
from tests.support.roles import plain_role

ROWS = 30
LEDGER = "system_migration_ledger"


class Waits(Exception):
    """Stands where no error is expected: the run waits, says why, and goes on by itself."""


Expected = tuple[type[Exception], str]
Case = Callable[["Ground"], Iterator[Expected]]
"""Spoils something, yields what a run must answer to it and with which words, and mends it."""


class Told(SilentProgress):
    """Keeps the reasons of waiting, and tells when a looked-for one came."""

    def __init__(self, words: str) -> None:
        self.words, self.came = words, threading.Event()

    def waiting(self, reason: str) -> None:
        if re.search(self.words, reason):
            self.came.set()


@dataclass
class Ground:
    """A database with a migration to run; `runs_as` is the engine that the runner connects with."""

    engine: Engine
    stack: ExitStack
    runs_as: Engine = field(init=False)
    migration: type[BatchMigration] = Increment
    finished: str = "y = id + 1"

    def __post_init__(self) -> None:
        self.runs_as = self.engine
        make_numbers(self.engine, ROWS)
        migrator(self.engine, Increment).init()

    @property
    def product(self) -> str:
        return self.engine.dialect.name

    def migrator(self, progress: SilentProgress | None = None) -> Migrator:
        made = Migrator(
            self.runs_as,
            Registry([self.migration]),
            Settings(environment="test"),
            progress=progress or SilentProgress(),
        )
        self.stack.callback(made.close)
        return made

    def run(self, progress: SilentProgress | None = None) -> Status:
        options = RunOptions(batch_size=10, workers=1, accept_code_change=True)
        (report,) = self.migrator(progress).run(options=options)
        return report.status

    def connect_as(self, engine: Engine) -> None:
        self.runs_as = quick(engine)
        self.stack.callback(engine.dispose)

    def become_plain_role(self) -> str:
        """Run as a role of its own from now on; returns its name."""
        role, engine = self.stack.enter_context(plain_role(self.engine))
        self.connect_as(engine)
        return role

    def grant_all(self, role: str, *, but: tuple[str, ...] = ()) -> None:
        for table in set(sa.inspect(self.engine).get_table_names()) - set(but):
            execute(self.engine, f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}")
        if self.product == "postgresql":
            execute(self.engine, f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")

    def changed(self) -> int:
        ((rows,),) = rows_of(self.engine, f"SELECT count(*) FROM number WHERE {self.finished}")
        return int(rows)

    def is_whole(self) -> bool:
        """Every row is either as it was or finished, and the ledger, where it can be read, knows how many are."""
        ((untouched,),) = rows_of(self.engine, "SELECT count(*) FROM number WHERE y = id AND z IS NULL")
        if untouched + self.changed() != ROWS:
            return False
        if not sa.inspect(self.engine).has_table(LEDGER):
            return True
        ((recorded,),) = rows_of(self.engine, f"SELECT COALESCE(SUM(changed), 0) FROM {LEDGER}")
        return int(recorded) == self.changed()


# --- storage ---------------------------------------------------------------------------------------------------------


class Growing(Increment):
    """Needs room on the disk for every row."""

    writes = ("y", "note")

    def transform(self, row: Row) -> dict[str, Any]:
        return {"y": row.y + 1, "note": "x" * 3000}


def full_file(ground: Ground) -> Iterator[Expected]:
    execute(ground.engine, "ALTER TABLE number ADD COLUMN note TEXT")
    ground.migration = Growing
    ((pages,),) = rows_of(ground.engine, "PRAGMA page_count")
    limits = [pages + 12]  # room for the first batch, not for all
    limited = create_engine(ground.engine.url)

    @event.listens_for(limited, "connect")
    def limit(connection: Any, _record: Any) -> None:
        for most in limits:
            connection.execute(f"PRAGMA max_page_count = {most}")

    ground.connect_as(limited)
    yield Waits, "SQLITE_FULL"
    limits.clear()


def full_disk(ground: Ground) -> Iterator[Expected]:
    execute(ground.engine, "CREATE TABLE disk (full_from INT)")
    execute(ground.engine, "INSERT INTO disk VALUES (150)")
    if ground.product == "postgresql":
        execute(
            ground.engine,
            """CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF new.id > (SELECT full_from FROM disk) THEN
                 RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100';
               END IF; RETURN new; END $$""",
        )
        execute(ground.engine, "CREATE TRIGGER disk BEFORE UPDATE ON number FOR EACH ROW EXECUTE FUNCTION disk_full()")
    else:
        execute(
            ground.engine,
            """CREATE TRIGGER disk BEFORE UPDATE ON number FOR EACH ROW IF NEW.id > (SELECT full_from FROM disk) THEN
               SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'The table is full'; END IF""",
        )
    yield Waits, "53100|1114"
    execute(ground.engine, "UPDATE disk SET full_from = 9999")


def locked_file(ground: Ground) -> Iterator[Expected]:
    with application_engine(ground.engine.url).connect() as writer:
        writer.exec_driver_sql("BEGIN IMMEDIATE")
        yield Waits, "database is locked"
        writer.rollback()


def only_reads(ground: Ground) -> Iterator[Expected]:
    ground.runs_as = quick(read_only(ground.engine))
    yield Refused, r"The database is read-only\. Connect to the primary"
    ground.runs_as = ground.engine


def no_transactions(ground: Ground) -> Iterator[Expected]:
    execute(ground.engine, "ALTER TABLE number ENGINE = MyISAM")
    yield Refused, "'number' uses the engine MyISAM, which has no transactions"
    execute(ground.engine, "ALTER TABLE number ENGINE = InnoDB")


def virtual_table(ground: Ground) -> Iterator[Expected]:
    execute(ground.engine, "ALTER TABLE number RENAME TO kept")
    execute(ground.engine, "CREATE VIRTUAL TABLE number USING fts5(id, y, z)")
    execute(ground.engine, "INSERT INTO number SELECT * FROM kept")
    yield Refused, "'number' is a virtual table"
    execute(ground.engine, "DROP TABLE number")
    execute(ground.engine, "ALTER TABLE kept RENAME TO number")


class TooLarge(Fill):
    """Writes what the column cannot hold, which a server that is not strict would cut to what it can."""

    name = "001-increment"

    def transform(self, row: Row) -> dict[str, Any]:
        return {"z": 10**12}


class Mended(Fill):
    name = "001-increment"


def lenient_mode(ground: Ground) -> Iterator[Expected]:
    lenient = ground.engine.url.update_query_dict({"init_command": "SET SESSION sql_mode = ''"})
    ground.connect_as(create_engine(lenient))
    ground.migration, ground.finished = TooLarge, "z = y * 10"
    yield MigrationFailed, "1264|held"
    ground.migration = Mended


# --- rights ----------------------------------------------------------------------------------------------------------


def no_right_on_the_record(ground: Ground) -> Iterator[Expected]:
    role = ground.become_plain_role()
    ground.grant_all(role, but=(LEDGER,))
    execute(ground.engine, f"GRANT SELECT ON {LEDGER} TO {role}")
    yield Refused, f"The role lacks INSERT on table {LEDGER}, needed for .*Let a privileged role grant"
    ground.grant_all(role)


def no_right_to_create_the_record(ground: Ground) -> Iterator[Expected]:
    for table in [name for name in sa.inspect(ground.engine).get_table_names() if name != "number"]:
        execute(ground.engine, f"DROP TABLE {table} CASCADE")
    role = ground.become_plain_role()
    ground.grant_all(role)
    yield MigrationSystemError, "permission denied for schema public.*Let a privileged role run `migration init`"
    migrator(ground.engine, Increment).init()
    ground.grant_all(role)


def no_right_to_write_a_column(ground: Ground) -> Iterator[Expected]:
    role = ground.become_plain_role()
    ground.grant_all(role, but=("number",))
    execute(ground.engine, f"GRANT SELECT ON number TO {role}")
    yield Refused, "The role lacks UPDATE on column y of table 'number'. Grant it"
    execute(ground.engine, f"GRANT UPDATE (y) ON number TO {role}")


def no_right_to_read_a_column(ground: Ground) -> Iterator[Expected]:
    role = ground.become_plain_role()
    ground.grant_all(role, but=("number",))
    execute(ground.engine, f"GRANT SELECT (id), UPDATE ON number TO {role}")
    yield Refused, "lacks SELECT on column y of table 'number'. Grant it|SELECT command denied.*Grant this role"
    execute(ground.engine, f"GRANT SELECT ON number TO {role}")


def hidden_rows(ground: Ground) -> Iterator[Expected]:
    role = ground.become_plain_role()
    ground.grant_all(role)
    execute(ground.engine, "ALTER TABLE number ENABLE ROW LEVEL SECURITY")
    execute(ground.engine, "CREATE POLICY few ON number USING (id < 100)")
    yield Refused, "Row-level security hides rows of table 'number' from this role"
    execute(ground.engine, "ALTER TABLE number DISABLE ROW LEVEL SECURITY")


# --- the record ------------------------------------------------------------------------------------------------------


def newer_record(ground: Ground) -> Iterator[Expected]:
    execute(ground.engine, "UPDATE system_migration_meta SET schema_version = schema_version + 1")
    yield Refused, r"The tracking tables have version \d+, this program knows \d+\. Upgrade system-migration"
    execute(ground.engine, "UPDATE system_migration_meta SET schema_version = schema_version - 1")


def damaged_record(ground: Ground) -> Iterator[Expected]:
    execute(ground.engine, f"ALTER TABLE {LEDGER} RENAME TO lost")
    yield MigrationSystemError, LEDGER
    execute(ground.engine, f"ALTER TABLE lost RENAME TO {LEDGER}")


CASES: dict[str, list[Case]] = {
    "sqlite": [full_file, only_reads, locked_file, virtual_table, newer_record, damaged_record],
    "postgresql": [
        *(full_disk, only_reads, newer_record, damaged_record),
        *(no_right_on_the_record, no_right_to_create_the_record),
        *(no_right_to_write_a_column, no_right_to_read_a_column, hidden_rows),
    ],
    "mariadb": [
        *(full_disk, only_reads, newer_record, damaged_record),
        *(no_right_on_the_record, no_right_to_write_a_column, no_right_to_read_a_column),
        *(no_transactions, lenient_mode),
    ],
}


def run_and_mend(ground: Ground, steps: Iterator[Expected]) -> None:
    """Run on the spoilt ground, see that it is told and that nothing is damaged, mend it, and come to the end."""
    kind, words = next(steps)
    if kind is not Waits:
        with pytest.raises(kind, match=words):
            ground.run()
        assert ground.is_whole()
        assert next(steps, None) is None
        assert ground.run() is Status.COMPLETED
        return
    told = Told(words)
    with ThreadPoolExecutor(1) as beside:
        run = beside.submit(ground.run, told)
        try:
            wait_for(lambda: told.came.is_set() or run.done(), 30, "the run to say why it waits")
            assert told.came.is_set() or run.result() is Waits  # the result raises what the run ended with
            assert ground.is_whole()
        finally:
            assert next(steps, None) is None
        assert run.result(60) is Status.COMPLETED


@pytest.mark.parametrize(
    ("kind", "case"),
    [(kind, case) for kind, cases in CASES.items() for case in cases],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_it_is_told_harms_nothing_and_can_be_mended(
    make_database_url: Callable[[str], str], kind: str, case: Case
) -> None:
    engine = application_engine(make_database_url(kind))
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        ground = Ground(engine, stack)
        run_and_mend(ground, case(ground))
        assert ground.changed() == ROWS
        assert ground.is_whole()

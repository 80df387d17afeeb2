"""Rows that MariaDB does not take as one packet: split, written without their old values, and at last held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, create_engine
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError

from system_migration import BatchMigration, Row, RunOptions, Status
from system_migration.migration import SilentProgress
from system_migration.store.database import Database
from system_migration.store.dialects import Fault
from tests.db.test_workbench import execute, make_table, migrator, quick, rows_of

pytestmark = pytest.mark.databases("mariadb")
LIMIT = 1 << 20
KIB = 1 << 10


class Rewrite(BatchMigration):
    """Doubles each body in `doubled`, and else replaces its letters by others."""

    name = "001-rewrite"
    table = "document"
    reads = ("body",)
    writes = ("body",)
    doubled: ClassVar[str] = "d"

    def transform(self, row: Row) -> dict[str, Any]:
        return {"body": row.body * 2 if row.body[0] == self.doubled else row.body.upper()}


class Undoable(Rewrite):
    name = "001-undoable"
    rollbackable = True


class Impatient(SilentProgress):
    """Fails a run that waits for anything: what it waits for here would never come."""

    def waiting(self, reason: str) -> None:
        raise AssertionError(f"waits: {reason}")


@pytest.fixture
def documents(engine: Engine) -> Iterator[Callable[[str], None]]:
    """Makes a table of such bodies, "a600" being 600 KiB of the letter a, on a server that takes 1 MiB at once."""
    ((before,),) = rows_of(engine, "SELECT @@GLOBAL.max_allowed_packet")

    def make(bodies: str) -> None:
        columns = sa.Column("id", sa.Integer(), primary_key=True), sa.Column("body", mysql.LONGTEXT())
        make_table(engine, "document", *columns)
        for key, body in enumerate(bodies.split(), 1):
            execute(
                engine, "INSERT INTO document VALUES (:key, REPEAT(:c, :n))", key=key, c=body[0], n=int(body[1:]) * KIB
            )
        execute(engine, f"SET GLOBAL max_allowed_packet = {LIMIT}")
        engine.dispose()  # it is so for new connections

    yield make
    execute(engine, f"SET GLOBAL max_allowed_packet = {before}")


def outcome(engine: Engine, migration: type[BatchMigration]) -> tuple[dict[Any, str], list[str]]:
    """The codes of the held rows, by key; and of each row the first letter and the length in KiB, in order."""
    running = migrator(engine, migration, progress=Impatient())
    (report,) = running.run(options=RunOptions(batch_size=6, workers=1, max_issues=6))
    assert report.status is Status.COMPLETED
    bodies = rows_of(engine, "SELECT CONCAT(LEFT(body, 1), LENGTH(body) DIV 1024) FROM document ORDER BY id")
    return {issue.key: issue.code for issue in running.issues(migration.name)}, [body for (body,) in bodies]


def test_a_row_that_is_too_large_is_held_and_all_others_are_done(
    engine: Engine, documents: Callable[[str], None]
) -> None:
    documents("a1 b1 d600 c1 d100 e1")
    assert outcome(engine, Rewrite) == ({3: "row_too_large"}, ["A1", "B1", "d600", "C1", "d200", "E1"])


def test_a_batch_that_is_too_large_is_split(engine: Engine, documents: Callable[[str], None]) -> None:
    documents("a300 b300 c300 e300 f300 g300")
    assert outcome(engine, Rewrite) == ({}, ["A300", "B300", "C300", "E300", "F300", "G300"])


def test_a_row_that_fits_without_its_old_value_is_done(engine: Engine, documents: Callable[[str], None]) -> None:
    documents("a600")
    assert outcome(engine, Rewrite) == ({}, ["A600"])


def test_a_row_whose_images_are_too_large_for_the_journal_is_held(
    engine: Engine, documents: Callable[[str], None]
) -> None:
    documents("a600 b400")
    assert outcome(engine, Undoable) == ({1: "row_too_large"}, ["a600", "B400"])


@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_is_the_servers(engine: Engine, documents: Callable[[str], None], over: int) -> None:
    """The largest statement that is let through arrives; one byte more the server would not take, and is not sent."""
    documents("a1")
    statement = f"SELECT LENGTH('{'x' * (LIMIT - len('_SELECT LENGTH()') - 3 + over)}')"
    database = Database(quick(create_engine(engine.url)))
    with database.read() as connection:
        if over:
            with pytest.raises(DBAPIError) as caught:
                connection.exec_driver_sql(statement)
            assert database.dialect.fault(caught.value) is Fault.ROW
            assert database.dialect.describe(caught.value).startswith("MariaDB error 1153: a statement of 1,048,576 ")
            with pytest.raises(DBAPIError), engine.connect() as unguarded:
                unguarded.exec_driver_sql(statement)
        else:
            connection.exec_driver_sql(statement)
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    database.close()


@pytest.mark.parametrize("limit", [LIMIT, LIMIT // 4])
def test_many_rows_are_inserted_in_portions_that_the_server_takes(
    engine: Engine, documents: Callable[[str], None], limit: int
) -> None:
    documents("")
    execute(engine, f"SET GLOBAL max_allowed_packet = {limit}")
    table = sa.Table("document", sa.MetaData(), autoload_with=engine)
    database = Database(quick(create_engine(engine.url)))
    with database.write() as connection:
        connection.execute(sa.insert(table), [{"id": n, "body": "ä" * 200} for n in range(1, 5_001)])
    database.close()
    assert rows_of(engine, "SELECT COUNT(*), SUM(CHAR_LENGTH(body)) FROM document") == [(5_000, 1_000_000)]


def test_many_rows_of_which_one_is_too_large_are_refused(engine: Engine, documents: Callable[[str], None]) -> None:
    documents("")
    table = sa.Table("document", sa.MetaData(), autoload_with=engine)
    database = Database(quick(create_engine(engine.url)))
    with pytest.raises(DBAPIError) as caught, database.write() as connection:
        connection.execute(sa.insert(table), [{"id": n, "body": "x" * (LIMIT if n == 5 else 1)} for n in range(1, 10)])
    assert database.dialect.is_too_large(caught.value)
    database.close()

"""What the tests of this folder work with, and proof that it tells the truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Engine, event, text
from sqlalchemy.dialects import mysql

from system_migration import BatchMigration, Migration, Migrator, Registry, Row, Settings

PREFIX = "system_migration_"
SPOKEN = {PREFIX + "run", PREFIX + "log"}
"""What a dry run may write to: its own attempt and what it said."""

Timestamp = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
ExactText = sa.String(40).with_variant(mysql.VARCHAR(40, collation="utf8mb4_nopad_bin"), "mysql", "mariadb")
Bytes = sa.LargeBinary().with_variant(mysql.VARBINARY(40), "mysql", "mariadb")
Double = sa.Double()


class Increment(BatchMigration):
    """In place and not idempotent: only the ledger tells which rows are done."""

    name = "001-increment"
    table = "number"
    reads = ("y",)
    writes = ("y",)

    def transform(self, row: Row) -> dict[str, Any]:
        return {"y": row.y + 1}


class Fill(BatchMigration):
    """With `pending`: a row is done when it has a `z`."""

    name = "001-fill"
    table = "number"
    reads = ("y",)
    writes = ("z",)

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.z.is_(None)

    def transform(self, row: Row) -> dict[str, Any]:
        return {"z": row.y * 10}


def migrator(engine: Engine, *migrations: type[Migration], **more: Any) -> Migrator:
    """A migrator over these migrations, in environment "test" unless told otherwise; closed with `engine`."""
    given = {key: more.pop(key) for key in ("environment", "lease_seconds") if key in more}
    settings = Settings(**{"environment": "test"} | given)
    made = Migrator(quick(engine), Registry(migrations), settings, **{"executed_by": "tester"} | more)
    event.listen(engine, "engine_disposed", lambda _: made.close())
    return made


def quick(engine: Engine) -> Engine:
    """The engine, without TLS to MariaDB: PyMySQL reads the system's certificates for every connection, 50 ms each."""
    if engine.dialect.driver == "pymysql" and not event.contains(engine, "do_connect", _without_tls):
        event.listen(engine, "do_connect", _without_tls)
    return engine


def _without_tls(_dialect: Any, _record: Any, _args: Any, options: dict[str, Any]) -> None:
    options["ssl_disabled"] = True


def make_table(engine: Engine, name: str, *columns: sa.Column[Any], rows: list[dict[str, Any]] | None = None) -> None:
    """A table of the application's, with rows."""
    table = sa.Table(name, sa.MetaData(), *columns, mysql_engine="InnoDB", mysql_charset="utf8mb4")
    with quick(engine).begin() as connection:
        table.create(connection)
        if rows:
            connection.execute(table.insert(), rows)


def make_numbers(engine: Engine, count: int, *, table: str = "number") -> None:
    """A table with the keys 10, 20, ..., y = key and z = NULL."""
    keys = range(10, 10 * count + 1, 10)
    make_table(
        engine,
        table,
        sa.Column("id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("y", sa.Integer()),
        sa.Column("z", sa.Integer()),
        rows=[{"id": key, "y": key, "z": None} for key in keys],
    )


def execute(engine: Engine, statement: str, **values: Any) -> None:
    """A statement of the application, or of an operator's hand, committed."""
    with quick(engine).begin() as connection:
        connection.execute(text(statement), values)


def rows_of(engine: Engine, query: str, **values: Any) -> list[tuple[Any, ...]]:
    """What a query answers now."""
    with quick(engine).connect() as connection:
        return [tuple(row) for row in connection.execute(text(query), values)]


def stored_status(engine: Engine, name: str) -> str:
    """The status as it is in the table, whatever the library says."""
    query = "SELECT status FROM system_migration_migration WHERE name = :name"
    ((status,),) = rows_of(engine, query, name=name)
    return str(status)


def fingerprint(engine: Engine, *, but: set[str] = SPOKEN) -> dict[str, Any]:
    """Every table's columns and rows, except those of `but`."""
    inspector = sa.inspect(engine)
    found: dict[str, Any] = {}
    for table in sorted(set(inspector.get_table_names()) - but):
        quoted = engine.dialect.identifier_preparer.quote(table)
        columns = [column["name"] for column in inspector.get_columns(table)]
        found[table] = columns, sorted(map(repr, rows_of(engine, f"SELECT * FROM {quoted}")))
    return found


@contextmanager
def statements(containing: str = PREFIX) -> Iterator[list[str]]:
    """The SQL that any engine of this process executes within the block, as far as it mentions `containing`."""
    heard: list[str] = []

    def hear(_c: Any, _cursor: Any, statement: str, _p: Any, _x: Any, _many: bool) -> None:
        if containing in statement:
            heard.append(statement)

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        yield heard
    finally:
        event.remove(Engine, "before_cursor_execute", hear)


def test_the_fingerprint_sees_rows_columns_and_tables(engine: Engine) -> None:
    make_numbers(engine, 3)
    seen = [fingerprint(engine)]
    execute(engine, "UPDATE number SET y = 99 WHERE id = 10")
    seen.append(fingerprint(engine))
    execute(engine, "ALTER TABLE number ADD COLUMN another INTEGER")
    seen.append(fingerprint(engine))
    execute(engine, "CREATE TABLE system_migration_run (id INTEGER)")
    assert fingerprint(engine) == seen[-1]
    execute(engine, "CREATE TABLE system_migration_event (id INTEGER)")
    seen.append(fingerprint(engine))
    assert all(seen[a] != seen[b] for a in range(4) for b in range(a))


def test_statements_are_heard_from_every_engine(engine: Engine) -> None:
    with statements("FROM number") as heard:
        make_numbers(engine, 1)
        rows_of(engine, "SELECT id FROM number")
        rows_of(engine, "SELECT 1")
        migrator(engine, Increment).run()
    assert "SELECT id FROM number" in heard
    assert len(heard) > 1  # the library's own engine reads the table too

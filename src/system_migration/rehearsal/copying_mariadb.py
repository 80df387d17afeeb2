"""Copies of a MariaDB database: scratch databases, the first filled from the source, the others from the first.

Rows go through this process. `INSERT ... SELECT` from the source would lock the rows that it reads there, unless each
statement saw another moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Select, text
from sqlalchemy.exc import DBAPIError

from system_migration.migration import Migration
from system_migration.rehearsal.choosing import Choice
from system_migration.rehearsal.rows_mariadb import copy_rows
from system_migration.rehearsal.sampling import TooSlow
from system_migration.rehearsal.schema_mariadb import Schema, make, quoted, read_schema, run
from system_migration.rehearsal.selection import Selection
from system_migration.rehearsal.server_mariadb import MariaDBServer, like
from system_migration.rehearsal.tables import SourceTable, Tables, portions, shown
from system_migration.rehearsal.tables_mariadb import read_tables
from system_migration.rehearsal.watching import STATEMENT_SECONDS, Watch
from system_migration.store.dialects import dialect_of
from system_migration.wording import counted

_TIMED_OUT = 1969
# 0 is a number like others, and dates are taken as they are, even those of months that do not exist.
_AS_THEY_ARE = "NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,ALLOW_INVALID_DATES"
_LOADING = f"SET SESSION foreign_key_checks = 0, unique_checks = 0, time_zone = '+00:00', sql_mode = '{_AS_THEY_ARE}'"


class MariaDBCopies:
    """Databases filled from `base`."""

    def __init__(
        self, server: MariaDBServer, options: str, base: Engine, tables: Tables, schema: Schema, notes: Sequence[str]
    ) -> None:
        self._server, self._options, self._base = server, options, base.url.database or ""
        self._tables, self._schema, self.not_covered = tables, schema, notes

    @contextmanager
    def fresh(self) -> Iterator[Engine]:
        """A database of its own."""
        with self._server.database(self._options) as engine:
            with engine.connect() as connection:
                connection.execute(text(_LOADING))
                make(connection, self._schema.before, self._server.dialect)
                for name in _made(connection):
                    self._fill(connection, self._tables[None, name])
                make(connection, self._schema.after, self._server.dialect)
                connection.commit()
                connection.invalidate()  # it must not go on with these settings
            yield engine

    def _fill(self, connection: Connection, table: SourceTable) -> None:
        columns, name = ", ".join(map(quoted, table.columns)), quoted(table.name[1])
        run(connection, f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {quoted(self._base)}.{name}")


@contextmanager
def copied_mariadb(
    engine: Engine, migration: type[Migration], rows: int | None, watch: Watch, scratch: Engine
) -> Iterator[MariaDBCopies]:
    """Copies of the database that `engine` opens, on the server of `scratch`."""
    database = engine.url.database or ""
    source, server = dialect_of(engine).own_engine(engine), MariaDBServer(scratch, database)
    try:
        server.remove_leftovers(watch)
        with source.connect() as connection:
            options = like(connection)
        with server.database(options) as base:
            with _snapshot(source) as connection, base.connect() as target:
                tables, schema, notes = _copy(connection, target, engine, migration, rows, watch)
            source.dispose()
            yield MariaDBCopies(server, options, base, tables, schema, notes)
    finally:
        source.dispose()
        server.close()


@contextmanager
def _snapshot(source: Engine) -> Iterator[Connection]:
    """One moment of the source. The server itself refuses to write in this transaction."""
    with source.connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ")
        _limit(connection, STATEMENT_SECONDS)
        connection.execute(text("SET SESSION time_zone = '+00:00'"))
        connection.execute(text("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"))
        yield connection
        connection.rollback()
        connection.invalidate()


def _limit(source: Connection, seconds: float) -> None:
    source.execute(text(f"SET SESSION max_statement_time = {seconds}"))


def _copy(
    source: Connection, target: Connection, engine: Engine, migration: type[Migration], rows: int | None, watch: Watch
) -> tuple[Tables, Schema, list[str]]:
    """Copy schema and chosen rows; what was copied, and sentences about what is missing."""
    dialect = dialect_of(engine)
    tables, notes = read_tables(source, dialect)
    choice = Choice(source, lambda query: _ask(source, query), tables, migration)
    selection = choice.choose(rows, watch)
    watch.tell("copying the schema")
    schema = read_schema(source, engine.url.database or "", dialect)
    target.execute(text(_LOADING))
    notes += make(target, schema.before, dialect)
    _limit(source, watch.seconds)  # which counts how long we take to read
    _copy_rows(source, target, tables, selection, watch)
    notes += make(target, schema.after, dialect)
    target.commit()
    target.invalidate()
    return tables, schema, [*choice.notes, *notes, *schema.notes]


def _ask(source: Connection, query: Select[Any]) -> Sequence[Any]:
    try:
        return source.execute(query).all()
    except DBAPIError as error:
        if getattr(error.orig, "args", (None,))[0] == _TIMED_OUT:  # the snapshot survives it
            raise TooSlow from error
        raise


def _made(target: Connection) -> list[str]:
    """The tables that are there to be filled."""
    found = text(
        "SELECT table_name FROM information_schema.tables"
        " WHERE table_schema = DATABASE() AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')"
    )
    return list(target.execute(found).scalars())


def _copy_rows(source: Connection, target: Connection, tables: Tables, selection: Selection, watch: Watch) -> None:
    for each in _made(target):
        name = (None, each)
        if name not in tables:
            continue  # its rows may not be read
        table, keys = tables[name], None if name in selection.whole else selection.keys.get(name, {})
        watch.tell(f"copying {shown(name)}" + (f": {counted(len(keys), 'row')}" if keys is not None else ""))
        for part in [None] if keys is None else portions(keys):
            copy_rows(source, target, table, part, watch)
    target.commit()

"""Copies of a PostgreSQL database: scratch databases, the first filled from the source, the others its copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, Select, text
from sqlalchemy.exc import DBAPIError

from system_migration.migration import Migration
from system_migration.rehearsal.choosing import Choice
from system_migration.rehearsal.sampling import TooSlow
from system_migration.rehearsal.schema_postgresql import LOCK_SECONDS, make_after, make_before, read_schema
from system_migration.rehearsal.selection import Selection
from system_migration.rehearsal.server_postgresql import PostgreSQLServer, template
from system_migration.rehearsal.tables import Key, SourceTable, Tables, portions, shown
from system_migration.rehearsal.tables_postgresql import read_tables
from system_migration.rehearsal.watching import COPY_SECONDS, STATEMENT_SECONDS, Watch
from system_migration.store.dialects import dialect_of
from system_migration.wording import counted

if TYPE_CHECKING:
    from psycopg import Connection as Driver

_TIMED_OUT = "57014"
_SPELLING = {  # of values, the same on both sides
    "client_encoding": "UTF8",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}
_LIMITS = {
    "statement_timeout": f"{int(STATEMENT_SECONDS * 1000)}ms",
    "lock_timeout": f"{int(LOCK_SECONDS * 1000)}ms",
    "idle_in_transaction_session_timeout": f"{int(COPY_SECONDS * 1000)}ms",
}


class PostgreSQLCopies:
    """Databases made from the template `base`."""

    def __init__(self, server: PostgreSQLServer, base: Engine, not_covered: Sequence[str]) -> None:
        self._server, self._options, self.not_covered = server, template(base), not_covered

    def fresh(self) -> AbstractContextManager[Engine]:
        """A database of its own."""
        return self._server.database(self._options)


@contextmanager
def copied_postgresql(
    engine: Engine, migration: type[Migration], rows: int | None, watch: Watch, scratch: Engine
) -> Iterator[PostgreSQLCopies]:
    """Copies of the database that `engine` opens, on the server of `scratch`."""
    source = dialect_of(engine).own_engine(engine)
    server = PostgreSQLServer(scratch, engine.url.database or engine.url.username or "")
    try:
        server.remove_leftovers(watch)
        with source.connect() as connection:
            options = server.like(connection)
        with server.database(options) as base:
            with _snapshot(source) as connection, base.begin() as target:
                notes = _fill(connection, target, engine, migration, rows, watch)
            source.dispose()
            yield PostgreSQLCopies(server, base, notes)
    finally:
        source.dispose()
        server.close()


@contextmanager
def _snapshot(source: Engine) -> Iterator[Connection]:
    """One moment of the source. The server itself refuses to write in this transaction."""
    with source.connect() as connection:
        yield connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        connection.rollback()


def _fill(
    source: Connection,
    target: Connection,
    engine: Engine,
    migration: type[Migration],
    rows: int | None,
    watch: Watch,
) -> list[str]:
    """Copy schema and chosen rows; sentences about what is missing."""
    dialect = dialect_of(engine)
    _set(source, _LIMITS | _SPELLING)
    _set(target, _SPELLING)
    default = source.execute(text("SELECT current_schema()")).scalar_one()
    tables, notes = read_tables(source)
    choice = Choice(source, lambda query: _ask(source, query), tables, migration)
    selection = choice.choose(rows, watch)
    _set(source, {"statement_timeout": f"{int(watch.seconds * 1000)}ms"})  # which counts how long we take to read
    watch.tell("copying the schema")
    schema = read_schema(source, engine.url, watch)
    make_before(target, schema, dialect)
    _copy_rows(source, target, tables, selection, default, watch)
    _set_sequences(source, target)
    watch.tell("making indexes, foreign keys and triggers")
    make_after(target, schema, dialect)
    return [*choice.notes, *notes, *schema.notes]


def _set(connection: Connection, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        connection.execute(text("SELECT set_config(:name, :value, true)"), {"name": name, "value": value})


def _ask(source: Connection, query: Select[Any]) -> Sequence[Any]:
    try:
        with source.begin_nested():  # a timeout would end the snapshot with the transaction
            return source.execute(query).all()
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _TIMED_OUT:
            raise TooSlow from error
        raise


def _copy_rows(
    source: Connection, target: Connection, tables: Tables, selection: Selection, default: str, watch: Watch
) -> None:
    # As text, not binary: in binary the values of a user's own types carry numbers of the database they come from.
    for name, table in tables.items():
        keys = None if name in selection.whole else selection.keys.get(name, {})
        if not table.columns or not _is_there(target, name[0] or default, name[1]):
            continue
        watch.tell(f"copying {shown(name)}" + (f": {counted(len(keys), 'row')}" if keys is not None else ""))
        _copy_table(_driver(source), _driver(target), table, keys, default, watch)


def _is_there(target: Connection, schema: str, name: str) -> bool:
    found = text("SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = :schema AND tablename = :name)")
    return bool(target.execute(found, {"schema": schema, "name": name}).scalar_one())


def _copy_table(
    source: Driver[Any],
    target: Driver[Any],
    table: SourceTable,
    keys: dict[Key, None] | None,
    default: str,
    watch: Watch,
) -> None:
    from psycopg import sql

    name = sql.Identifier(table.name[0] or default, table.name[1])
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    wanted = sql.SQL("SELECT {} FROM {} {}").format(columns, sql.SQL("ONLY" if table.only else ""), name)
    with source.cursor() as reader, target.cursor() as writer:
        with writer.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(name, columns)) as into:
            for part in [None] if keys is None else portions(keys):
                query, values = (wanted, ()) if part is None else _named(wanted, table, part)
                with reader.copy(sql.SQL("COPY ({}) TO STDOUT").format(query), values) as out:
                    for block in out:
                        into.write(block)
                        watch.heed()


def _named(wanted: Any, table: SourceTable, keys: list[Key]) -> tuple[Any, list[Any]]:
    """The query for the rows with these keys, and its values, which psycopg spells into it."""
    from psycopg import sql

    one = sql.SQL("({})").format(sql.SQL(", ").join([sql.Placeholder()] * len(table.key)))
    of = sql.SQL(", ").join(map(sql.Identifier, table.key))
    condition = sql.SQL("({}) IN ({})").format(of, sql.SQL(", ").join([one] * len(keys)))
    return sql.SQL("{} WHERE {}").format(wanted, condition), [value for key in keys for value in key]


_SEQUENCES = text("""
SELECT format('%I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
 WHERE relkind = 'S' AND relpersistence <> 't' AND has_schema_privilege(n.oid, 'USAGE')
   AND CASE WHEN relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT') END
""")


def _set_sequences(source: Connection, target: Connection) -> None:
    """Let the copy's sequences go on where the source's stand: those that it may read."""
    for name in source.execute(_SEQUENCES).scalars().all():
        # Not pg_sequences: what that shows is read under a lock as nextval takes it.
        last, called = source.exec_driver_sql(
            f"SELECT last_value, is_called FROM {name}", execution_options={"no_parameters": True}
        ).one()
        target.execute(
            text("SELECT setval(to_regclass(:name), :last, :called)"), {"name": name, "last": last, "called": called}
        )


def _driver(connection: Connection) -> Driver[Any]:
    driver: Any = connection.connection.dbapi_connection
    return driver  # type: ignore[no-any-return]

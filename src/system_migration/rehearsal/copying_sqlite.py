"""Copies of a SQLite database: files in a temporary folder. All of it is copied at once, then made smaller there."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine

from system_migration.engines import connect
from system_migration.migration import Migration
from system_migration.rehearsal import scratch_names
from system_migration.rehearsal.choosing import Choice
from system_migration.rehearsal.selection import Selection
from system_migration.rehearsal.tables import Key, SourceTable, Tables, is_ours
from system_migration.rehearsal.tables_sqlite import quoted, read_tables
from system_migration.rehearsal.watching import Watch
from system_migration.wording import size

_OWNER = "system-migration"
PAGES = 2_048
"""How many pages are copied while the source is locked against commits: some milliseconds."""


class SQLiteCopies:
    """Files made from `base`, each beside it."""

    def __init__(self, base: Path, not_covered: Sequence[str]) -> None:
        self.base, self.not_covered = base, not_covered

    @contextmanager
    def fresh(self) -> Iterator[Engine]:
        """A file of its own."""
        path = self.base.with_name(f"{scratch_names.make(self.base.stem)}.sqlite")
        try:
            shutil.copyfile(self.base, path)
            engine = connect(f"sqlite:///{path}")
            try:
                yield engine
            finally:
                engine.dispose()
        finally:
            for each in path.parent.glob(f"{path.name}*"):  # with what SQLite keeps beside a file
                each.unlink(missing_ok=True)


@contextmanager
def copied_sqlite(engine: Engine, migration: type[Migration], rows: int | None, watch: Watch) -> Iterator[SQLiteCopies]:
    """Copies of the database, in memory or in a file, that `engine` opens."""
    _remove_leftovers(watch)
    folder = Path(tempfile.gettempdir()) / scratch_names.make(_OWNER)
    try:
        folder.mkdir(mode=0o700)
        base = folder / "base.sqlite"
        _back_up(engine, base, watch)
        yield SQLiteCopies(base, _make_smaller(base, migration, rows, watch))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(watch: Watch) -> None:
    for entry in os.scandir(tempfile.gettempdir()):
        if scratch_names.is_leftover(entry.name, _OWNER):
            watch.tell(f"removing {entry.path}, which a rehearsal left behind when it was killed")
            shutil.rmtree(entry.path, ignore_errors=True)  # it may be another user's


def _back_up(engine: Engine, base: Path, watch: Watch) -> None:
    with engine.connect() as connection, closing(sqlite3.connect(base)) as target:
        source = connection.connection.dbapi_connection
        assert isinstance(source, sqlite3.Connection)
        page = int(source.execute("PRAGMA page_size").fetchone()[0])

        def tell(status: int, remaining: int, total: int) -> None:
            watch.heed()
            watch.tell(f"copying the database: {size((total - remaining) * page)} of {size(total * page)}")

        # A page at a time would let every commit of others make it begin anew; all at once would make them wait.
        source.backup(target, pages=PAGES, progress=tell, sleep=0.001)


def _make_smaller(base: Path, migration: type[Migration], rows: int | None, watch: Watch) -> list[str]:
    """Remove the tracking tables, and the rows that are not chosen; sentences about what is missing then."""
    with closing(sqlite3.connect(base, isolation_level=None)) as file:
        for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            if is_ours((None, name)):
                file.execute(f"DROP TABLE {quoted(name)}")
    engine = connect(f"sqlite:///{base}")
    try:
        with engine.connect() as connection:
            selection, tables, notes = _choose(connection, migration, rows, watch)
    finally:
        engine.dispose()
    if selection.keys:
        with closing(sqlite3.connect(base, isolation_level=None)) as file:
            _delete_others(file, selection, tables, watch)
    return notes


def _choose(
    connection: Connection, migration: type[Migration], rows: int | None, watch: Watch
) -> tuple[Selection, Tables, list[str]]:
    tables = read_tables(connection)
    choice = Choice(connection, lambda query: connection.execute(query).all(), tables, migration)
    return choice.choose(rows, watch), tables, choice.notes


def _delete_others(file: sqlite3.Connection, selection: Selection, tables: Tables, watch: Watch) -> None:
    """Delete what is not chosen, with the triggers out of the way."""
    triggers = file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    file.execute("BEGIN")
    for name, _ in triggers:
        file.execute(f"DROP TRIGGER {quoted(name)}")
    for table_name, keys in selection.keys.items():
        watch.heed()
        _keep_only(file, tables[table_name], keys)
    for _, statement in triggers:
        file.execute(statement)
    file.execute("COMMIT")
    file.execute("VACUUM")  # else every copy would have the size of the whole


def _keep_only(file: sqlite3.Connection, table: SourceTable, keys: dict[Key, None]) -> None:
    name = quoted(table.name[1])
    if not keys:
        file.execute(f"DELETE FROM {name}")
        return
    key = ", ".join(map(quoted, table.key))
    file.execute(f"CREATE TEMP TABLE chosen AS SELECT {key} FROM {name} WHERE 0")
    file.executemany(f"INSERT INTO chosen VALUES ({', '.join('?' * len(table.key))})", keys)
    file.execute(f"CREATE INDEX temp.chosen_key ON chosen ({key})")
    file.execute(f"DELETE FROM {name} WHERE ({key}) NOT IN (SELECT {key} FROM chosen)")
    file.execute("DROP TABLE chosen")

"""Scratch databases made from rows that a test gives: copies of a SQLite file, or databases on a server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, event, insert

from system_migration.engines import connect
from system_migration.store.dialects import dialect_of

if TYPE_CHECKING:
    from system_migration.rehearsal.server_mariadb import MariaDBServer
    from system_migration.rehearsal.server_postgresql import PostgreSQLServer

Rows = Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping[str, Any]]] | Callable[[Connection], object]
"""Rows of the migration's table; rows by the name of their table; or what fills the database."""
Tables = MetaData | Table | Iterable[Table]


class FilledFiles:
    """`Copies` of a SQLite file in `folder`, filled once by `fill`."""

    def __init__(self, folder: Path, fill: Callable[[Engine], None]) -> None:
        self.not_covered: Sequence[str] = ()
        self._folder, self._numbers, self._source = folder, count(1), folder / "rehearsal.sqlite"
        with _engine(self._source) as engine:
            fill(engine)

    @contextmanager
    def fresh(self) -> Iterator[Engine]:
        """A copy of the file, removed at the end."""
        path = self._folder / f"rehearsal-{next(self._numbers)}.sqlite"
        shutil.copyfile(self._source, path)
        try:
            with _engine(path) as engine:
                yield engine
        finally:
            for leftover in self._folder.glob(path.name + "*"):
                leftover.unlink()


@contextmanager
def _engine(path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{path}")
    # Nothing here is to outlive a power cut; a killed process loses nothing by it.
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    try:
        yield engine
    finally:
        engine.dispose()


class FilledDatabases:
    """`Copies` that are new databases on the server of `url`, each filled alike and dropped at the end."""

    def __init__(self, url: str, fill: Callable[[Engine], None]) -> None:
        self.not_covered: Sequence[str] = ()
        self._url, self._fill = url, fill

    @contextmanager
    def fresh(self) -> Iterator[Engine]:
        """A new database. Raises `Refused` where the role may not make one."""
        administrator = connect(self._url)
        with closing(_server(administrator)) as server, server.database(_OPTIONS[server.dialect.product]) as engine:
            self._fill(engine)
            yield engine
        administrator.dispose()


_OPTIONS = {"PostgreSQL": "TEMPLATE template0", "MariaDB": "CHARACTER SET utf8mb4"}


def _server(engine: Engine) -> PostgreSQLServer | MariaDBServer:
    name = engine.url.database or "migrations"
    if dialect_of(engine).product == "PostgreSQL":
        from system_migration.rehearsal.server_postgresql import PostgreSQLServer

        return PostgreSQLServer(engine, name)
    from system_migration.rehearsal.server_mariadb import MariaDBServer

    return MariaDBServer(engine, name)


def filling(migration: type[Any], rows: Rows, tables: Tables | None) -> Callable[[Engine], None]:
    """What fills an empty database. Raises `ValueError` where it is not known what its tables are."""
    known = _tables(tables)
    own = getattr(migration, "table", None)
    if isinstance(own, Table) and own.key not in {table.key for table in known}:
        known = [*known, own]
    by_table = rows if isinstance(rows, Mapping) or callable(rows) else {_name(own): rows}
    if not callable(by_table) and (missing := set(by_table) - {table.name for table in known}):
        raise ValueError(
            f"rehearse does not know the columns of table {sorted(missing)[0]!r}: give it a SQLAlchemy table or its "
            "MetaData, as tables=..."
        )

    def fill(engine: Engine) -> None:
        with engine.begin() as connection:
            for metadata in dict.fromkeys(table.metadata for table in known):
                metadata.create_all(connection, tables=[table for table in known if table.metadata is metadata])
            if callable(by_table):
                by_table(connection)
                return
            for table in known:
                if given := by_table.get(table.name):
                    connection.execute(insert(table), [dict(row) for row in given])

    return fill


def _tables(tables: Tables | None) -> list[Table]:
    match tables:
        case None:
            return []
        case MetaData():
            return list(tables.sorted_tables)
        case Table():
            return [tables]
    return list(tables)


def _name(table: Any) -> str:
    if isinstance(table, Table):
        return str(table.name)
    if isinstance(table, str):
        return table
    raise ValueError("rehearse needs rows by table, such as rows={'account': [...]}: this migration declares no table.")

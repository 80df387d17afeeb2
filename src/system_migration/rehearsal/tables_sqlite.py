"""SQLite's tables, keys and foreign keys."""

from __future__ import annotations

from sqlalchemy import Connection

from system_migration.rehearsal.tables import ForeignKey, SourceTable, TableName, with_keys

_TABLES = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"


def read_tables(connection: Connection) -> dict[TableName, SourceTable]:
    """The ordinary tables. Virtual ones, and those that these keep their data in, are left as they are."""
    found = {name: sql or "" for name, sql in connection.exec_driver_sql(_TABLES)}
    virtual = [name for name, sql in found.items() if sql.upper().startswith("CREATE VIRTUAL")]
    ordinary = [
        name for name in found if name not in virtual and not any(name.startswith(f"{each}_") for each in virtual)
    ]
    keys = {name: _key(connection, name) for name in ordinary}
    by_case = {name.lower(): name for name in ordinary}
    return with_keys(_table(connection, name, keys, by_case) for name in ordinary)


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _columns(connection: Connection, name: str) -> list[tuple[str, int]]:
    """The columns with their place in the primary key, without generated ones."""
    rows = connection.exec_driver_sql(f"PRAGMA table_xinfo({quoted(name)})")
    return [(row[1], row[5]) for row in rows if row[6] == 0]


def _key(connection: Connection, name: str) -> tuple[str, ...]:
    """The primary key, or the number that every row of a table without one has."""
    columns = _columns(connection, name)
    key = tuple(column for column, place in sorted(columns, key=lambda each: each[1]) if place)
    hidden = next(
        (each for each in ("rowid", "_rowid_", "oid") if each not in {name.lower() for name, _ in columns}), ""
    )
    return key or ((hidden,) if hidden else ())


def _table(connection: Connection, name: str, keys: dict[str, tuple[str, ...]], by_case: dict[str, str]) -> SourceTable:
    columns = tuple(column for column, _ in _columns(connection, name))
    about = connection.exec_driver_sql(f"SELECT count(*) FROM {quoted(name)}").scalar_one()
    return SourceTable((None, name), columns, keys[name], _foreign_keys(connection, name, keys, by_case), about)


def _foreign_keys(
    connection: Connection, name: str, keys: dict[str, tuple[str, ...]], by_case: dict[str, str]
) -> tuple[ForeignKey, ...]:
    parts: dict[int, list[tuple[str, str, str | None]]] = {}
    rows = connection.exec_driver_sql(f"PRAGMA foreign_key_list({quoted(name)})").all()
    for row in sorted(rows, key=lambda each: (each[0], each[1])):
        parts.setdefault(row[0], []).append((row[2], row[3], row[4]))
    found = []
    for columns in parts.values():
        parent = by_case.get(columns[0][0].lower())
        if parent is not None:
            named = tuple(to for _, _, to in columns if to is not None)
            found.append(ForeignKey(tuple(each for _, each, _ in columns), (None, parent), named or keys[parent]))
    return tuple(found)

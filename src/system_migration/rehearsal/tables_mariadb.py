"""MariaDB's tables, keys and foreign keys, of one database."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from system_migration.rehearsal.tables import ForeignKey, SourceTable, TableName, shown, with_keys
from system_migration.store.dialects import Dialect

_TABLES = text("""
SELECT table_name, table_rows FROM information_schema.tables
 WHERE table_schema = DATABASE() AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY 1
""")
_COLUMNS = text("""
SELECT table_name, column_name, data_type FROM information_schema.columns
 WHERE table_schema = DATABASE() AND is_generated = 'NEVER' ORDER BY table_name, ordinal_position
""")
_KEYS = text("""
SELECT table_name, constraint_name, column_name, referenced_table_schema = DATABASE() AS here,
       referenced_table_name, referenced_column_name
  FROM information_schema.key_column_usage
 WHERE table_schema = DATABASE() AND (constraint_name = 'PRIMARY' OR referenced_table_name IS NOT NULL)
 ORDER BY table_name, constraint_name, ordinal_position
""")


def read_tables(connection: Connection, dialect: Dialect) -> tuple[dict[TableName, SourceTable], list[str]]:
    """The tables whose rows can be copied, and sentences about the others."""
    columns: dict[str, list[str]] = defaultdict(list)
    floats: dict[str, set[str]] = defaultdict(set)
    for table, column, kind in connection.execute(_COLUMNS):
        columns[table].append(column)
        if kind == "float":
            floats[table].add(column)
    keys, foreign = _keys(connection)
    found, notes = [], []
    for name, about in connection.execute(_TABLES).all():
        table = SourceTable(
            (None, name),
            tuple(columns[name]),
            tuple(keys[name]),
            tuple(foreign[name]),
            about,
            floats=frozenset(floats[name]),
        )
        if _is_readable(connection, table, dialect):
            found.append(table)
        else:
            notes.append(f"rows of {shown(table.name)}: this role may not read it")
    return with_keys(found), notes


def _keys(connection: Connection) -> tuple[dict[str, list[str]], dict[str, list[ForeignKey]]]:
    """Of each table the primary key, and the foreign keys that stay in this database."""
    keys: dict[str, list[str]] = defaultdict(list)
    parts: dict[tuple[str, str], list[tuple[str, str, str]]] = defaultdict(list)
    for table, constraint, column, here, parent, referred in connection.execute(_KEYS):
        if parent is None:
            keys[table].append(column)
        elif here:
            parts[table, constraint].append((column, parent, referred))
    foreign: dict[str, list[ForeignKey]] = defaultdict(list)
    for (table, _), columns in parts.items():
        own, parents, referred_columns = zip(*columns, strict=True)
        foreign[table].append(ForeignKey(own, (None, parents[0]), referred_columns))
    return keys, foreign


def _is_readable(connection: Connection, table: SourceTable, dialect: Dialect) -> bool:
    """What a role may not do is not in information_schema, so it is tried."""
    try:
        connection.execute(table.clause.select().limit(0))
    except DBAPIError as error:
        if dialect.denied(error):
            return False
        raise
    return True

"""PostgreSQL's tables, keys and foreign keys, of all its schemas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from system_migration.rehearsal.tables import ForeignKey, SourceTable, TableName, shown, with_keys

# Not what belongs to extensions: they bring their tables, and their rows, themselves.
_TABLES = text("""
SELECT c.oid, NULLIF(n.nspname, current_schema()) AS schema, c.relname AS name, c.relkind = 'r' AS only,
       NULLIF(c.reltuples, -1)::bigint AS about,
       CASE WHEN NOT has_table_privilege(c.oid, 'SELECT') THEN 'this role may not read it'
            WHEN row_security_active(c.oid) THEN 'row security hides rows of it' END AS hidden
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND has_schema_privilege(n.oid, 'USAGE')
   AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
 ORDER BY 2 NULLS FIRST, 3
""")
_COLUMNS = text("""
SELECT attrelid, attnum, attname, attgenerated FROM pg_attribute
 WHERE attrelid = ANY (:tables) AND attnum > 0 AND NOT attisdropped ORDER BY 1, 2
""")
_KEYS = text("""
SELECT conrelid, contype, conkey, confrelid, confkey FROM pg_constraint
 WHERE contype IN ('p', 'f') AND conrelid = ANY (:tables) AND conparentid = 0 ORDER BY conname
""")


def read_tables(connection: Connection) -> tuple[dict[TableName, SourceTable], list[str]]:
    """The tables whose rows can be copied, and sentences about the others."""
    found = connection.execute(_TABLES).all()
    notes = [f"rows of {shown((row.schema, row.name))}: {row.hidden}" for row in found if row.hidden]
    listed = [row for row in found if not row.hidden]
    return with_keys(_described(connection, listed)), notes


def _described(connection: Connection, listed: Sequence[Any]) -> list[SourceTable]:
    of = {"tables": [row.oid for row in listed]}
    columns: dict[int, dict[int, str]] = {row.oid: {} for row in listed}
    written: dict[int, list[str]] = {row.oid: [] for row in listed}
    for table, number, name, generated in connection.execute(_COLUMNS, of):
        columns[table][number] = name
        if not generated:
            written[table].append(name)
    names = {row.oid: (row.schema, row.name) for row in listed}
    keys: dict[int, tuple[str, ...]] = {}
    foreign: dict[int, list[ForeignKey]] = {}
    for table, kind, own, parent, referred in connection.execute(_KEYS, of):
        here = tuple(columns[table][number] for number in own)
        if kind == "p":
            keys[table] = here
        elif parent in names:
            there = tuple(columns[parent][number] for number in referred)
            foreign.setdefault(table, []).append(ForeignKey(here, names[parent], there))
    return [
        SourceTable(
            names[row.oid],
            tuple(written[row.oid]),
            keys.get(row.oid, ()),
            tuple(foreign.get(row.oid, ())),
            row.about,
            only=row.only,
        )
        for row in listed
    ]

"""SQLite's schema table and its query plans."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, Table, text

from system_migration.store.dialects.inspection import Explain, Inspection, Trigger

_UPDATE = re.compile(r"\bUPDATE\s+(?:OF\s+(?P<columns>.+?)\s+)?ON\b", re.IGNORECASE | re.DOTALL)


class SQLiteInspection(Inspection):
    """It has no rights and no sessions."""

    def not_a_table(self, connection: Connection, name: str, schema: str | None) -> str | None:
        row = connection.execute(
            text(
                f"SELECT type, sql FROM {_schema_table(connection, schema)}"
                " WHERE type IN ('table', 'view') AND name = :name COLLATE NOCASE"
            ),
            {"name": name},
        ).one_or_none()
        if row is None:
            return None
        if row.type == "view":
            return "is a view"
        return "is a virtual table" if re.match(r"CREATE\s+VIRTUAL\b", row.sql, re.IGNORECASE) else None

    def sorts(self, connection: Connection, query: Select[Any]) -> bool:
        steps = connection.execute(Explain("EXPLAIN QUERY PLAN", query)).all()
        return any("TEMP B-TREE" in str(step[-1]) for step in steps)

    def update_triggers(self, connection: Connection, table: Table, writes: Sequence[str]) -> list[Trigger]:
        found = connection.execute(
            text(
                f"SELECT name, sql FROM {_schema_table(connection, table.schema)}"
                " WHERE type = 'trigger' AND tbl_name = :table COLLATE NOCASE ORDER BY 1"
            ),
            {"table": table.name},
        )
        return [Trigger(name) for name, sql in found if _fires(sql, writes)]


def _fires(sql: str, writes: Sequence[str]) -> bool:
    """Whether an UPDATE of these columns sets the trigger off, by its heading: what stands before its BEGIN."""
    event = _UPDATE.search(re.split(r"\bBEGIN\b", sql, maxsplit=1, flags=re.IGNORECASE)[0])
    if event is None or event["columns"] is None:
        return event is not None
    columns = {name.strip(' "`[]').lower() for name in event["columns"].split(",")}
    return not columns.isdisjoint(name.lower() for name in writes)


def _schema_table(connection: Connection, schema: str | None) -> str:
    quote = connection.dialect.identifier_preparer.quote
    return f"{quote(schema)}.sqlite_master" if schema else "sqlite_master"

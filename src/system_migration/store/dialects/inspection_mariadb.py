"""MariaDB's information_schema, its plans and its status counters."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from sqlalchemy import Connection, Select, Table, text
from sqlalchemy.exc import DBAPIError

from system_migration.store.dialects.inspection import Explain, Inspection, Trigger

_TRANSACTIONAL = text("SELECT engine FROM information_schema.engines WHERE transactions = 'YES'")
_DENIED = {1142, 1143}  # to the table, to the column


class MariaDBInspection(Inspection):
    """What a role may not know is not in information_schema, so rights are tried, by explaining a statement."""

    def not_a_table(self, connection: Connection, name: str, schema: str | None) -> str | None:
        row = connection.execute(
            text(
                "SELECT table_type, engine FROM information_schema.tables"
                " WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name"
            ),
            {"schema": schema, "name": name},
        ).one_or_none()
        if row is None:
            return None
        if row.table_type != "BASE TABLE":
            return f"is a {row.table_type.lower()}"
        if row.engine not in connection.execute(_TRANSACTIONAL).scalars().all():
            return f"uses the engine {row.engine}, which has no transactions, so a batch could be written in part"
        return None

    def sorts(self, connection: Connection, query: Select[Any]) -> bool:
        steps = connection.execute(Explain("EXPLAIN", query)).mappings()
        return any("filesort" in (step["Extra"] or "") for step in steps)

    def missing_rights(
        self, connection: Connection, table: Table, reads: Sequence[str], writes: Sequence[str]
    ) -> list[str]:
        quote = connection.dialect.identifier_preparer
        name = quote.format_table(table)
        wanted = [("SELECT", column, f"SELECT {quote.quote(column)} FROM {name} WHERE 1 = 0") for column in reads]
        wanted += [
            ("UPDATE", column, f"UPDATE {name} SET {quote.quote(column)} = NULL WHERE 1 = 0") for column in writes
        ]
        return [
            f"{right} on column {column}" for right, column, statement in wanted if _is_denied(connection, statement)
        ]

    def missing_table_rights(
        self, connection: Connection, added_to: Sequence[Table], changed: Sequence[Table]
    ) -> list[str]:
        wanted = [("INSERT", t.name, f"INSERT INTO {t.name} SELECT * FROM {t.name} WHERE 1 = 0") for t in added_to]
        for table in changed:
            column = table.columns.keys()[-1]
            wanted.append(("UPDATE", table.name, f"UPDATE {table.name} SET {column} = {column} WHERE 1 = 0"))
        return [f"{right} on table {name}" for right, name, statement in wanted if _is_denied(connection, statement)]

    def update_triggers(self, connection: Connection, table: Table, writes: Sequence[str]) -> list[Trigger]:
        found = connection.execute(
            text(
                "SELECT trigger_name FROM information_schema.triggers WHERE event_manipulation = 'UPDATE'"
                " AND event_object_schema = COALESCE(:schema, DATABASE()) AND event_object_table = :name ORDER BY 1"
            ),
            {"schema": table.schema, "name": table.name},
        )
        return [Trigger(name) for name in found.scalars()]

    def replication_lag(self, connection: Connection) -> float | None:
        """Of the server of this connection itself: a primary does not know how far its replicas are."""
        lags = [row["Seconds_Behind_Master"] for row in connection.execute(text("SHOW ALL SLAVES STATUS")).mappings()]
        return max((inf if lag is None else float(lag) for lag in lags), default=None)

    def active_sessions(self, connection: Connection) -> int | None:
        running = connection.execute(text("SHOW GLOBAL STATUS LIKE 'Threads_running'")).one()[1]
        return max(0, int(running) - 1)  # one of them is this one


def _is_denied(connection: Connection, statement: str) -> bool:
    """Whether this role may not run the statement, which is only explained."""
    try:
        connection.exec_driver_sql(f"EXPLAIN {statement}")
    except DBAPIError as error:
        if getattr(error.orig, "args", (None,))[0] in _DENIED:
            return True
        raise
    return False

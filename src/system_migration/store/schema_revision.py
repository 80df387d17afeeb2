"""Where the schema of the migrated database is, as Alembic has written it down. Read here, never written."""

from __future__ import annotations

from sqlalchemy import ColumnClause, Connection, String, column, inspect, select, table

_NUMBER: ColumnClause[str] = column("version_num", String)
_VERSIONS = table("alembic_version", _NUMBER)


def current(connection: Connection) -> tuple[str, ...] | None:
    """The revisions that the database is at, in order: several where branches are not merged. None without the table.

    Alembic deletes a revision's row when the next one is applied, so what came before is not among them.
    """
    if not inspect(connection).has_table(_VERSIONS.name):
        return None  # asked first, because a failed statement would end a transaction on PostgreSQL
    return tuple(sorted(connection.scalars(select(_NUMBER).select_from(_VERSIONS))))

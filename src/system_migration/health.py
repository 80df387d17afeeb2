"""Ready-made checks for a migration's `healthy(context)`: each answers with a reason to wait, or None.

    def healthy(self, context):
        return replication_lag(context.connection, seconds=10) or active_sessions(context.connection, limit=50)

Each is one small query. On SQLite, which has neither replicas nor sessions, both answer None.
"""

from __future__ import annotations

from math import isinf
from typing import TYPE_CHECKING

from system_migration.store.dialects import dialect_of

if TYPE_CHECKING:
    from sqlalchemy import Connection


def replication_lag(connection: Connection, *, seconds: float) -> str | None:
    """A reason to wait while a replica is more than `seconds` behind.

    PostgreSQL's primary knows this of all its replicas; the role needs `pg_read_all_stats`. MariaDB's does not: give
    it a connection to the replica itself, as a role with REPLICA MONITOR. Raises `ConfigurationError` without the
    right on PostgreSQL, and what the driver raises on MariaDB.
    """
    lag = dialect_of(connection.engine).inspection.replication_lag(connection)
    if lag is None or lag <= seconds:
        return None
    if isinf(lag):
        return "replication stands still"
    return f"a replica is {lag:,.0f} s behind, the limit is {seconds:g} s"


def active_sessions(connection: Connection, *, limit: int) -> str | None:
    """A reason to wait while more than `limit` other sessions of the server are at work at once.

    The run's own workers are among them. PostgreSQL: the role needs `pg_read_all_stats`, else `ConfigurationError`.
    """
    active = dialect_of(connection.engine).inspection.active_sessions(connection)
    if active is None or active <= limit:
        return None
    return f"{active:,} sessions are active, the limit is {limit:,}"

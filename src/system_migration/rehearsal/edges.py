"""The edges of a run: just before and just after each COMMIT that changes something of the database's own."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, event

from system_migration.rehearsal.fingerprints import OWN_TABLES
from system_migration.store.database import Database

BEFORE, AFTER = "before a COMMIT", "after a COMMIT, before its answer was used"
_WRITE = re.compile(
    r"\s*(?:WITH\b|(?:INSERT\s+(?:OR\s+\w+\s+|IGNORE\s+)?INTO|REPLACE\s+INTO|UPDATE|DELETE\s+FROM|MERGE\s+INTO"
    r"|(?:CREATE|ALTER|DROP)\s+TABLE(?:\s+IF\s+(?:NOT\s+)?EXISTS)?|TRUNCATE(?:\s+TABLE)?)\s+[\"`]?(\w+))",
    re.IGNORECASE,
)
Edge = Callable[[str], None]


def writes(statement: str) -> bool:
    """Whether a statement writes to a table that is not one of our record."""
    found = _WRITE.match(statement)
    return found is not None and not (found[1] or "").startswith(OWN_TABLES)


def is_heartbeat() -> bool:
    """Whether this is the thread that renews the lease."""
    return threading.current_thread().name.startswith("lease ")


def watch_edges(database: Database, edge: Edge) -> None:
    """Call `edge` at every edge on these connections, for as long as the engine lives."""
    engine, writing = database.engine, set[int]()

    def before(connection: Connection, _cursor: Any, sql: str, _p: Any, _x: Any, _many: bool) -> None:
        if writes(sql):
            writing.add(_identity(connection))
            if not database.dialect.in_transaction(connection):
                edge(BEFORE)  # it is its own transaction

    def after(connection: Connection, _cursor: Any, sql: str, _p: Any, _x: Any, _many: bool) -> None:
        if writes(sql) and not database.dialect.in_transaction(connection):
            writing.discard(_identity(connection))
            edge(AFTER)

    def rolled_back(connection: Connection) -> None:
        writing.discard(_identity(connection))

    original = engine.dialect.do_commit

    def do_commit(pooled: Any) -> None:
        wrote = id(pooled.dbapi_connection) in writing
        if wrote:
            edge(BEFORE)
        original(pooled)
        writing.discard(id(pooled.dbapi_connection))
        if wrote:
            edge(AFTER)

    # SQLAlchemy has no event after a COMMIT.
    engine.dialect.do_commit = do_commit  # type: ignore[assignment, method-assign]
    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    event.listen(engine, "rollback", rolled_back)


def _identity(connection: Connection) -> int:
    return id(connection.connection.dbapi_connection)

"""SQLite: one file, one writer, and a driver that must be told to begin."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

from sqlalchemy import Connection, Engine, Select, event
from sqlalchemy.exc import DBAPIError

from system_migration.errors import ConfigurationError
from system_migration.store.dialects.base import WRITES, Dialect, Fault, Fingerprint
from system_migration.store.dialects.inspection_sqlite import SQLiteInspection

_FAULTS: dict[str, Fault] = {
    "SQLITE_BUSY": Fault.RETRY,
    "SQLITE_LOCKED": Fault.RETRY,
    "SQLITE_PROTOCOL": Fault.RETRY,  # a race for the WAL's locks
    "SQLITE_INTERRUPT": Fault.RETRY,
    "SQLITE_READONLY": Fault.WAIT,
    "SQLITE_READONLY_DBMOVED": Fault.STOP,  # another file took the place of the one we have open
    "SQLITE_FULL": Fault.WAIT,
    "SQLITE_NOMEM": Fault.WAIT,
    "SQLITE_CONSTRAINT": Fault.ROW,
    "SQLITE_MISMATCH": Fault.ROW,
    "SQLITE_TOOBIG": Fault.ROW,
}
"""By whole name, else by its first two words. An I/O error stops: a full disk has its own name, a broken one waits
for a person, and writing on may spoil what is left."""


class SQLite(Dialect):
    """The embedded default."""

    product = "SQLite"
    driver = "sqlite+pysqlite"
    inspection = SQLiteInspection()
    is_server = False

    def own_engine(self, engine: Engine) -> Engine:
        if engine.url.database in (None, "", ":memory:") or "mode=memory" in str(engine.url.query):
            raise ConfigurationError(
                "An in-memory SQLite database cannot be migrated: the record of what ran would vanish with it. "
                "Use a file: sqlite:///path/to/file.db."
            )
        return super().own_engine(engine)

    def listen(self, engine: Engine) -> None:
        event.listen(engine, "connect", _take_over_transactions)
        event.listen(engine, "begin", _begin)

    def widening(self, table: str, column: str) -> str | None:
        return None  # every integer has 64 bits there

    def read_options(self) -> dict[str, Any]:
        return {}  # without an explicit BEGIN the driver now leaves each statement its own transaction

    def lock_rows(self, query: Select[Any]) -> Select[Any]:
        return query  # BEGIN IMMEDIATE already excludes every other writer

    def lock_free_rows(self, query: Select[Any]) -> Select[Any]:
        return query

    def share_row(self, query: Select[Any]) -> Select[Any]:
        return query

    def fingerprint(self, connection: Connection, table: str) -> Fingerprint:
        file = _file(connection)
        return Fingerprint(place=os.path.realpath(file), body=f"inode {os.stat(file).st_ino}")

    def fault(self, error: DBAPIError) -> Fault:
        if "no such table" in str(error.orig):
            return Fault.NO_TABLE
        if str(error.orig).startswith("Error binding parameter"):
            return Fault.ROW  # by the driver, which has a code for what SQLite itself says only
        name = self.code(error)
        return _FAULTS.get(name) or _FAULTS.get("_".join(name.split("_")[:2])) or Fault.STOP

    def is_violation(self, error: DBAPIError) -> bool:
        return self.code(error).startswith("SQLITE_CONSTRAINT")

    def code(self, error: DBAPIError) -> str:
        return str(getattr(error.orig, "sqlite_errorname", type(error.orig).__name__))

    def shortcomings(self, connection: Connection) -> list[str]:
        version = sqlite3.sqlite_version_info
        if version < (3, 35):
            return [f"SQLite {sqlite3.sqlite_version} is too old; use a Python whose SQLite is 3.35 or newer."]
        return []

    def in_transaction(self, connection: Connection) -> bool:
        return bool(connection.connection.dbapi_connection.in_transaction)  # type: ignore[union-attr]

    def denied(self, error: DBAPIError) -> bool:
        return False  # it knows no rights but those of its file, which `read_only` tells

    def read_only(self, connection: Connection) -> bool:
        asked = connection.exec_driver_sql("PRAGMA query_only").scalar_one()
        opened = connection.engine.url.query  # sqlite:///file:...?mode=ro&uri=true
        as_read_only = opened.get("mode") == "ro" or opened.get("immutable") == "1"
        return bool(asked) or as_read_only or not os.access(_file(connection), os.W_OK)


def _take_over_transactions(connection: sqlite3.Connection, record: Any) -> None:
    # The driver's own mode begins late and leaves DDL outside of the transaction: a rollback keeps new tables
    # and columns (reliability, M1). With None it begins nothing, and we do.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {int(SQLite.lock_seconds * 1000)}")


def _begin(connection: Connection) -> None:
    # IMMEDIATE, because a transaction that reads first and writes later fails at once when another writer
    # committed in between, whatever the busy timeout (reliability, M2).
    if connection.get_execution_options().get(WRITES):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _file(connection: Connection) -> str:
    """The path of the main database; temporary ones may stand beside it."""
    return next(str(row[2]) for row in connection.exec_driver_sql("PRAGMA database_list") if row[1] == "main")

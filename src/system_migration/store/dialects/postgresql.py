"""PostgreSQL, directly or behind a pooler in transaction mode: nothing here outlives its transaction."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError

from system_migration.store.dialects.base import Dialect, Fault, Fingerprint
from system_migration.store.dialects.inspection_postgresql import PostgreSQLInspection

# serialization failure, deadlock, lock not available, statement timeout
_RETRY = {"40001", "40P01", "55P03", "57014"}


class PostgreSQL(Dialect):
    """Through psycopg 3."""

    product = "PostgreSQL"
    driver = "postgresql+psycopg"
    inspection = PostgreSQLInspection()
    extra = "postgres"

    def engine_options(self) -> dict[str, Any]:
        return {"isolation_level": "READ COMMITTED"}  # psycopg says it in each BEGIN, so poolers carry it

    def listen(self, engine: Engine) -> None:
        event.listen(engine, "connect", _no_prepared_names)

    def begin(self, connection: Connection, idle_seconds: float) -> None:
        connection.execute(
            text(
                "SELECT set_config('lock_timeout', :lock, true),"
                " set_config('idle_in_transaction_session_timeout', :idle, true)"
            ),
            {"lock": f"{int(self.lock_seconds * 1000)}ms", "idle": f"{int(idle_seconds * 1000)}ms"},
        )

    def fingerprint(self, connection: Connection, table: str) -> Fingerprint:
        system, oid, name = connection.execute(
            text(
                "SELECT (SELECT system_identifier FROM pg_control_system()), oid, datname"
                " FROM pg_database WHERE datname = current_database()"
            )
        ).one()
        return Fingerprint(place=f"{system}/{name}", body=f"{system}/{oid}")

    def fault(self, error: DBAPIError) -> Fault:
        code = self.code(error)
        if code in _RETRY:
            return Fault.RETRY
        if code == "42P01":
            return Fault.NO_TABLE
        if error.connection_invalidated or code.startswith(("08", "57P")):
            return Fault.LOST
        return Fault.OTHER

    def code(self, error: DBAPIError) -> str:
        return str(getattr(error.orig, "sqlstate", None) or type(error.orig).__name__)

    def message(self, error: DBAPIError) -> str:
        # The primary line only: DETAIL quotes the row. Of data exceptions (22) that line quotes the value, and what a
        # trigger raises (P0) may say anything.
        diagnostics = getattr(error.orig, "diag", None)
        primary = getattr(diagnostics, "message_primary", None)
        match self.code(error)[:2]:
            case "P0":
                return "raised by a function or trigger of the database, its text is withheld"
            case "22" if primary:
                return re.sub(r'".*"', '"..."', primary, flags=re.DOTALL)
        return primary or super().message(error)

    def shortcomings(self, connection: Connection) -> list[str]:
        major = connection.execute(text("SELECT current_setting('server_version_num')::int / 10000")).scalar_one()
        if major < 12:
            return [f"PostgreSQL {major} is too old; use version 12 or newer."]
        return []

    def in_transaction(self, connection: Connection) -> bool:
        from psycopg.pq import TransactionStatus  # an extra: imported where PostgreSQL is in use

        status = connection.connection.dbapi_connection.info.transaction_status  # type: ignore[union-attr]
        return bool(status == TransactionStatus.INTRANS)

    def denied(self, error: DBAPIError) -> bool:
        return self.code(error) == "42501"

    def read_only(self, connection: Connection) -> bool:
        return bool(
            connection.execute(
                text("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool")
            ).scalar_one()
        )


def _no_prepared_names(connection: Any, record: Any) -> None:
    # A pooler hands the next transaction to another backend, which has never heard of our statement's name.
    connection.prepare_threshold = None

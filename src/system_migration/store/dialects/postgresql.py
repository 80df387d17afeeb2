"""PostgreSQL, directly or behind a pooler in transaction mode: nothing here outlives its transaction."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from system_migration.store.dialects.base import Dialect, Fault, Fingerprint
from system_migration.store.dialects.inspection_postgresql import PostgreSQLInspection
from system_migration.store.dialects.silence import LIMITED, notice_silence

_FAULTS: dict[str, Fault] = {
    "40001": Fault.RETRY,  # serialization failure
    "40P01": Fault.RETRY,  # deadlock
    "55P03": Fault.RETRY,  # lock not available
    "55006": Fault.RETRY,  # object in use
    "57014": Fault.RETRY,  # cancelled, or past the statement timeout
    "25006": Fault.WAIT,  # read-only transaction: a standby, or a switch
    "53": Fault.WAIT,  # disk full, out of memory, too many connections
    "57P03": Fault.WAIT,  # starting, or recovering
    "08": Fault.LOST,
    "40003": Fault.LOST,  # statement completion unknown
    "25P03": Fault.LOST,  # idle in a transaction for too long
    "25P04": Fault.LOST,  # transaction timeout
    "57P01": Fault.LOST,  # shut down, or terminated by an administrator
    "57P02": Fault.LOST,  # crash of another session
    "57P05": Fault.LOST,  # idle for too long
    "22": Fault.ROW,
    "23": Fault.ROW,
    "44000": Fault.ROW,  # a view's check option
    "54000": Fault.ROW,  # too long for its index
    "P0001": Fault.ROW,  # raised by a trigger
    "42P01": Fault.NO_TABLE,
}
"""By whole code, else by its class, the first two characters."""
_REFUSALS = re.compile(r"authentication|no pg_hba\.conf|no such user|does not exist|permission denied|is not permitted")
"""What a server says to a connection it will not take later either. Such errors come without a code."""


_OF_TCP = (b"keepalives", b"tcp_user_timeout")
_SETTINGS = text(
    "SELECT set_config('lock_timeout', :lock, true),"
    " set_config('idle_in_transaction_session_timeout', :idle, true),"
    " set_config('application_name', :session, true)"
)


class PostgreSQL(Dialect):
    """Through psycopg 3."""

    product = "PostgreSQL"
    driver = "postgresql+psycopg"
    inspection = PostgreSQLInspection()
    extra = "postgres"

    def url_defaults(self) -> Mapping[str, str]:
        from psycopg.pq import Conninfo  # an extra: imported where PostgreSQL is in use

        # What a URL says beats libpq's environment and service file, so what those say must not be said anew.
        said = {option.keyword for option in Conninfo.get_defaults() if option.val is not None}
        return {} if b"connect_timeout" in said else {"connect_timeout": "10"}  # as PyMySQL; psycopg's own is 130

    def engine_options(self) -> dict[str, Any]:
        return {"isolation_level": "READ COMMITTED"}  # psycopg says it in each BEGIN, so poolers carry it

    def listen(self, engine: Engine) -> None:
        event.listen(engine, "connect", _no_prepared_names)
        event.listen(engine, "connect", self._notice_silence)

    def wire(self, driver: Any) -> socket.socket:
        # Not os.dup: on Windows the number is a socket's, no file's. What kind of socket, Python finds out.
        return socket.fromfd(driver.fileno(), -1, -1, -1)

    def _notice_silence(self, connection: Any, record: Any) -> None:
        # Not info.get_parameters(), which fails for a user who has no home directory.
        options = [each for each in connection.pgconn.info if each.val is not None and each.keyword.startswith(_OF_TCP)]
        given = {option.keyword.decode(): option.val.decode() for option in options}
        with suppress(OSError), self.wire(connection) as connected:
            record.info[LIMITED] = notice_silence(connected, given)

    def begin(self, connection: Connection, idle_seconds: float, lock_seconds: float, session: str) -> None:
        # True: until the end of the transaction, so that a pooler's next client inherits nothing.
        lock, idle = f"{int(lock_seconds * 1000)}ms", f"{int(idle_seconds * 1000)}ms"
        connection.execute(_SETTINGS, {"lock": lock, "idle": idle, "session": session})

    def fingerprint(self, connection: Connection, table: str) -> Fingerprint:
        system, oid, name = connection.execute(
            text(
                "SELECT (SELECT system_identifier FROM pg_control_system()), oid, datname"
                " FROM pg_database WHERE datname = current_database()"
            )
        ).one()
        return Fingerprint(place=f"{system}/{name}", body=f"{system}/{oid}")

    def fault(self, error: DBAPIError) -> Fault:
        code = getattr(error.orig, "sqlstate", None)
        if code is None:
            return _fault_of_the_driver(error)
        fault = _FAULTS.get(code) or _FAULTS.get(code[:2])
        return fault or (Fault.LOST if error.connection_invalidated else Fault.STOP)

    def is_violation(self, error: DBAPIError) -> bool:
        return self.code(error).startswith("23")

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


def _fault_of_the_driver(error: DBAPIError) -> Fault:
    """What an error means that the server gave no code for: it did not connect, lost its server, or refused a value."""
    if str(error.orig).startswith(("cannot adapt", "cannot dump")):
        return Fault.ROW  # a value that the driver refuses before anything is sent
    if isinstance(error, OperationalError):
        return Fault.STOP if _REFUSALS.search(str(error.orig)) else Fault.LOST
    if error.connection_invalidated:
        return Fault.LOST
    return Fault.ROW if isinstance(error, DataError) else Fault.STOP


def _no_prepared_names(connection: Any, record: Any) -> None:
    # A pooler hands the next transaction to another backend, which has never heard of our statement's name.
    connection.prepare_threshold = None

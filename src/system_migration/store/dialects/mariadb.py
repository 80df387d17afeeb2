"""MariaDB: DDL commits by itself, a lock timeout undoes one statement only, and rowcount needs a flag."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from math import ceil
from typing import Any

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DataError, DBAPIError

from system_migration.store.dialects.base import Dialect, Fault, Fingerprint
from system_migration.store.dialects.inspection_mariadb import MariaDBInspection
from system_migration.store.dialects.packets_mariadb import TOO_LARGE, refuse_large_statements
from system_migration.store.dialects.silence import LIMITED, notice_silence

_NO_TABLE = 1146
# NULL where none may be, duplicate key, foreign keys (both directions), CHECK
_VIOLATIONS = {1048, 1062, 1216, 1217, 1451, 1452, 1557, 1586, 4025}
_FAULTS: dict[Fault, set[int]] = {
    # lock wait timeout, deadlock, changed since read (snapshot isolation), lock table full; statement interrupted,
    # or past its time limit (MariaDB's number, MySQL's number)
    Fault.RETRY: {1205, 1213, 1020, 1206} | {1317, 1969, 3024},
    # read-only by an option, in its storage engine, in new transactions; table or disk full, out of memory;
    # too many connections, of all and of this user
    Fault.WAIT: {1290, 1836, 1792} | {1114, 1021, 1037, 1041} | {1040, 1203, 1226},
    # shutting down, network trouble seen by the server, killed; by the driver: cannot connect, gone away, lost
    Fault.LOST: {1053, 1079, 1158, 1159, 1160, 1161, 1184, 1927} | {0, 2002, 2003, 2006, 2013, 2014, 2055},
    # duplicates and foreign keys; NULL or nothing where a value must be; out of range, cut off, not a value of the
    # type; too long for its index or the packet; refused by a check, and by a trigger's SIGNAL
    Fault.ROW: {1022, 1062, 1169, 1586, 1859, 1216, 1217, 1451, 1452, 1761, 1762}
    | {1048, 1263, 1364}
    | {1264, 1265, 1292, 1365, 1366, 1367, 1406, 1411, 1416, 1441, 1690, 1918}
    | {1071, 1118, TOO_LARGE, 1301}
    | {3819, 4025, 1369, 1644},
    Fault.NO_TABLE: {_NO_TABLE},
}
_NO_SPACE_LEFT = re.compile(r"\b(?:error|errno|errcode):? 28\b", re.IGNORECASE)
# access denied (to database, user, command, column), unknown column, no such table
_QUOTES_NAMES_ONLY = {1044, 1045, 1142, 1143, 1054, _NO_TABLE}
_DUPLICATE = re.compile(r"Duplicate entry '.*' for key '(?P<key>[^']*)'", re.DOTALL)
# access denied: to the database, the user, the command, the column, and for want of an administrator's right
_DENIED = {1044, 1045, 1142, 1143, 1227}


class MariaDB(Dialect):
    """Through PyMySQL."""

    product = "MariaDB"
    driver = "mysql+pymysql"
    inspection = MariaDBInspection()
    extra = "mariadb"
    transactional_ddl = False

    def engine_options(self) -> dict[str, Any]:
        # The default, REPEATABLE READ, shows a transaction its own past and locks rows it merely looked at.
        return {"isolation_level": "READ COMMITTED"}

    def listen(self, engine: Engine) -> None:
        event.listen(engine, "connect", _session_settings)
        _survive_resets(engine)

    def wire(self, driver: Any) -> socket.socket:
        duplicate: socket.socket = driver._sock.dup()
        return duplicate

    def table_options(self) -> dict[str, str]:
        # Binary collation: names and keys that differ in case only are different names and keys.
        return {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}

    def widening(self, table: str, column: str) -> str | None:
        return f"ALTER TABLE {table} MODIFY {column} BIGINT NOT NULL"

    def begin(self, connection: Connection, idle_seconds: float, lock_seconds: float, session: str) -> None:
        # Both: the first counts only from a transaction's first write, and the guard's locks come before it.
        connection.exec_driver_sql(
            f"SET SESSION idle_write_transaction_timeout = {ceil(idle_seconds)},"
            f" idle_transaction_timeout = {ceil(idle_seconds)},"
            f" innodb_lock_wait_timeout = {max(1, int(lock_seconds))}"
        )
        # A session has no name here that one transaction could set; a comment stands in the server's logs at least.
        connection.exec_driver_sql(f"START TRANSACTION /* {session} */")

    def fingerprint(self, connection: Connection, table: str) -> Fingerprint:
        host, port, name, created = connection.execute(
            text(
                "SELECT @@hostname, @@port, table_schema, create_time FROM information_schema.tables"
                " WHERE table_schema = DATABASE() AND table_name = :table"
            ),
            {"table": table},
        ).one()
        return Fingerprint(place=f"{host}:{port}/{name}", body=f"{name} created {created}")

    def fault(self, error: DBAPIError) -> Fault:
        number = _number(error)
        if number == 1290 and "read" not in str(error.orig):
            return Fault.STOP  # another option of the server is in the way, and will stay
        for fault, numbers in _FAULTS.items():
            if number in numbers:
                return fault
        if error.connection_invalidated:
            return Fault.LOST
        if _NO_SPACE_LEFT.search(str(error.orig)):
            return Fault.WAIT  # the storage engine passes the system's error on
        return Fault.ROW if isinstance(error, DataError) else Fault.STOP

    def is_violation(self, error: DBAPIError) -> bool:
        return _number(error) in _VIOLATIONS

    def is_too_large(self, error: DBAPIError) -> bool:
        return _number(error) == TOO_LARGE

    def code(self, error: DBAPIError) -> str:
        return str(_number(error) or type(error.orig).__name__)

    def message(self, error: DBAPIError) -> str:
        text = str(getattr(error.orig, "args", ("",))[-1])
        if _number(error) in _QUOTES_NAMES_ONLY:
            return text
        if duplicate := _DUPLICATE.fullmatch(text):
            return f"Duplicate entry for key '{duplicate['key']}'"
        return re.sub(r"'.*'", "'...'", text, flags=re.DOTALL)

    def shortcomings(self, connection: Connection) -> list[str]:
        from pymysql.constants import CLIENT  # an extra: imported where MariaDB is in use

        problems = []
        if not connection.connection.client_flag & CLIENT.FOUND_ROWS:
            problems.append(
                "The MariaDB connection counts changed rows, not matched ones (FOUND_ROWS is off). "
                "Remove client_flag from the connection's arguments."
            )
        mode, version = connection.execute(text("SELECT @@SESSION.sql_mode, VERSION()")).one()
        if "STRICT_ALL_TABLES" not in mode:
            problems.append("sql_mode lost STRICT_ALL_TABLES: a value that is too long would be cut silently.")
        if "SIMULTANEOUS_ASSIGNMENT" not in mode:
            problems.append("sql_mode lost SIMULTANEOUS_ASSIGNMENT: assign would see columns that it has just changed.")
        if "MariaDB" not in version:
            problems.append(f"The server is not MariaDB but says it is {version}; only MariaDB is supported.")
        return problems

    def in_transaction(self, connection: Connection) -> bool:
        from pymysql.constants import SERVER_STATUS

        status = connection.connection.server_status
        return bool(status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def denied(self, error: DBAPIError) -> bool:
        return _number(error) in _DENIED

    def read_only(self, connection: Connection) -> bool:
        return bool(connection.execute(text("SELECT @@read_only OR @@tx_read_only")).scalar_one())


def _session_settings(connection: Any, record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            # Without SIMULTANEOUS_ASSIGNMENT an expression of `assign` would see what those before it have written.
            "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES,SIMULTANEOUS_ASSIGNMENT'),"
            f" innodb_lock_wait_timeout = {int(MariaDB.lock_seconds)},"
            # A schema change that waits for a reader makes everybody else wait behind it; the default is a day.
            f" lock_wait_timeout = {int(MariaDB.lock_seconds)}"
        )
    refuse_large_statements(connection)
    # PyMySQL has no option for it: its read_timeout would cut off statements that merely take long.
    record.info[LIMITED] = notice_silence(connection._sock, {})


def _survive_resets(engine: Engine) -> None:
    """Give a connection back although it dies just then.

    Giving back one that read turns its autocommit off. An error there would end the work that is done, and the pool
    would never see the connection again. Closed, it fails the ping before it is lent, and is replaced.
    """
    reset = engine.dialect.reset_isolation_level

    def reset_or_close(connection: Any) -> None:
        try:
            reset(connection)
        except engine.dialect.loaded_dbapi.Error:
            with suppress(engine.dialect.loaded_dbapi.Error):
                connection.close()

    engine.dialect.reset_isolation_level = reset_or_close  # type: ignore[method-assign, assignment]


def _number(error: DBAPIError) -> int | None:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None

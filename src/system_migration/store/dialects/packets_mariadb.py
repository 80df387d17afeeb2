"""Statements that are larger than MariaDB takes as one packet, refused before they are sent.

The server would hang up in the middle of such a statement, so that its answer is lost with the connection: from here
that looks like any lost connection, and the statement would be sent again and again.
"""

from __future__ import annotations

from functools import cache
from typing import Any

TOO_LARGE = 1153
"""The server's own number for it."""
_BYTES_OF_A_CHARACTER = 4


def refuse_large_statements(connection: Any) -> None:
    """Let the cursors of a new PyMySQL connection raise error 1153 for what its server would not take."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        (limit,) = cursor.fetchone()
    connection.cursorclass = _weighing(connection.cursorclass, int(limit))


@cache
def _weighing(cursors: type[Any], limit: int) -> type[Any]:
    from pymysql.err import OperationalError  # an extra: imported where MariaDB is in use

    class Weighing(cursors):  # type: ignore[misc]
        max_stmt_length = min(cursors.max_stmt_length, limit - 2)
        """So long become the statements that the driver's `executemany` makes of many rows."""

        def execute(self, query: str | bytearray, args: Any = None) -> int:
            """As the driver's, which writes the values into the statement; then only is it known how long it is."""
            statement = self.mogrify(query, args)
            if len(statement) * _BYTES_OF_A_CHARACTER >= limit:
                size = 1 + len(_encoded(statement, self.connection.encoding))
                if size >= limit:
                    message = f"a statement of {size:,} bytes is more than max_allowed_packet ({limit:,}) lets through"
                    raise OperationalError(TOO_LARGE, message)
            done: int = super().execute(statement)
            return done

    return Weighing


def _encoded(statement: str | bytearray, encoding: str) -> bytes | bytearray:
    # What the driver's `executemany` hands on it has encoded already.
    return statement.encode(encoding, "surrogateescape") if isinstance(statement, str) else statement

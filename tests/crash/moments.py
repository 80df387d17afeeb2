"""The moments of a process's work on its connections, in whatever thread.

A *moment* is the point before each SQL statement, and just before and just after each COMMIT. The heartbeat is not
counted: it beats by the clock. While one thread works at a time the numbers repeat exactly; with several they vary
from run to run.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, event


@dataclass(frozen=True)
class Moment:
    """A point in the life of a child. `transaction` is what its connection has sent since its last COMMIT."""

    number: int
    kind: str
    transaction: tuple[str, ...]

    def has_sent(self, beginning: str) -> bool:
        """Whether the transaction holds a statement that begins so."""
        return any(statement.startswith(beginning) for statement in self.transaction)

    def __str__(self) -> str:
        last = " ".join(self.transaction[-1].split())[:100] if self.transaction else "nothing"
        return f"moment {self.number}, {self.kind} ({last})"


STATEMENT, COMMIT, COMMITTED = "before a statement", "before COMMIT", "after COMMIT"

OnMoment = Callable[[Moment], None]


HEARTBEAT = "lease "
"""How the name of a heartbeat's thread begins."""


def watch(on_moment: OnMoment) -> None:
    """Call `on_moment` at every moment of this process, in the thread that lives it, for the rest of its life."""
    numbers = itertools.count(1)  # each is given to one thread only
    sent: dict[int, list[str]] = {}

    def tell(kind: str, connection: Any) -> None:
        if not threading.current_thread().name.startswith(HEARTBEAT):
            on_moment(Moment(next(numbers), kind, tuple(sent.get(id(connection), ()))))

    def statement(connection: Connection, _cursor: Any, sql: str, _p: Any, _x: Any, _many: bool) -> None:
        driver = connection.connection.dbapi_connection
        sent.setdefault(id(driver), []).append(sql)
        tell(STATEMENT, driver)

    def commit(connection: Connection) -> None:
        _tell_after_commit(connection, committed)
        tell(COMMIT, connection.connection.dbapi_connection)

    def committed(driver: Any) -> None:
        tell(COMMITTED, driver)
        sent.pop(id(driver), None)

    def rollback(connection: Connection) -> None:
        sent.pop(id(connection.connection.dbapi_connection), None)

    event.listen(Engine, "before_cursor_execute", statement)
    event.listen(Engine, "commit", commit)
    event.listen(Engine, "rollback", rollback)


_wrapping = threading.Lock()


def _tell_after_commit(connection: Connection, committed: Callable[[Any], None]) -> None:
    """SQLAlchemy has no event after a COMMIT, so the dialect's own step is wrapped, once for each engine."""
    dialect = connection.dialect
    with _wrapping:
        if "do_commit" not in vars(dialect):
            _wrap_commit(dialect, committed)


def _wrap_commit(dialect: Dialect, committed: Callable[[Any], None]) -> None:
    original = dialect.do_commit

    def do_commit(pooled: Any) -> None:
        original(pooled)
        committed(pooled.dbapi_connection)

    dialect.do_commit = do_commit  # type: ignore[assignment, method-assign]

"""What the library must know about a database, as one class with a subclass for each."""

from __future__ import annotations

import re
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from sqlalchemy import Connection, Engine, Select, create_engine, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.pool import QueuePool

from system_migration.errors import ConfigurationError
from system_migration.store.dialects.inspection import Inspection
from system_migration.store.dialects.silence import unlimited

IDLE_BEFORE_PING = 1.0
"""Seconds a connection may lie idle before it is looked at again."""
_LAST_USE = "system_migration_last_use"
CONNECTIONS = 72
"""The most connections of ours: one for each of 64 writers, the planner, the heartbeat, and some for short looks.

They are opened when they are needed, so a run has as many as it has writers, and a few more.
"""

WRITES = "system_migration_writes"
"""Execution option of the connections that open a transaction to write."""


class Fault(Enum):
    """What a database error means for the work at hand. After any of them: roll back, never continue."""

    RETRY = "another transaction or a time limit was in the way; the same work may be tried again"
    WAIT = "the database takes no work for now: read-only, full, or out of connections; somebody must mend it first"
    LOST = "the connection is gone; whether a COMMIT arrived is unknown"
    ROW = "the database refuses the values of a row; without that row the work goes on"
    NO_TABLE = "a table does not exist"
    STOP = "nothing that time or another attempt would mend: a missing right, another schema, or an error unknown here"


@dataclass(frozen=True)
class Fingerprint:
    """Two independent marks of a database. Either one unchanged means: the same database, not a copy elsewhere."""

    place: str
    body: str

    def is_copy_of(self, other: Fingerprint) -> bool:
        """Whether `other` was taken from a different database than this one."""
        return self.place != other.place and self.body != other.body


class Dialect(ABC):
    """One database product, as far as this library's behaviour depends on it."""

    product: ClassVar[str]
    driver: ClassVar[str]
    extra: ClassVar[str | None] = None
    is_server: ClassVar[bool] = True
    transactional_ddl: ClassVar[bool] = True
    lock_seconds: ClassVar[float] = 5.0
    inspection: ClassVar[Inspection]

    def own_engine(self, engine: Engine) -> Engine:
        """An engine of our own on the same database, which connects the way the host's does, its listeners included.

        Ours, because the session settings below must never reach the application's connections; with a pool of our
        own, because a heartbeat that shares its connection with a batch would commit it. Raises `ConfigurationError`
        for a driver whose behaviour we do not know.
        """
        if engine.dialect.driver != self.driver.partition("+")[2]:
            raise ConfigurationError(
                f"The engine uses the driver {engine.dialect.driver!r}; migrations need {self.driver!r}. "
                "Build an engine for them with system_migration.connect(url)."
            )
        host = engine.pool
        pool = QueuePool(host._creator, pool_size=CONNECTIONS, max_overflow=0, _dispatch=host.dispatch)
        _leave_first_connection_to_the_host(pool)
        own = create_engine(engine.url, pool=pool, hide_parameters=True, **self.engine_options())
        _ping_after_idleness(own)
        self.listen(own)
        return own

    def url_defaults(self) -> Mapping[str, str]:
        """Options for URLs that do not set them."""
        return {}

    def engine_options(self) -> dict[str, Any]:
        """Keywords for `create_engine`."""
        return {}

    @abstractmethod
    def listen(self, engine: Engine) -> None:
        """Attach what every new connection of our own engine needs."""

    def table_options(self) -> dict[str, str]:
        """Options of our own tables, as keywords of a SQLAlchemy table."""
        return {}

    def widening(self, table: str, column: str) -> str | None:
        """The statement that lets a counter of ours, NOT NULL, hold 64 bits; None where it already does."""
        return f"ALTER TABLE {table} ALTER COLUMN {column} TYPE BIGINT"

    def begin(  # noqa: B027
        self, connection: Connection, idle_seconds: float, lock_seconds: float, session: str
    ) -> None:
        """First statements of a write transaction: how long it may wait for locks, and idle while holding them.

        A runner that freezes inside a transaction must not keep its row locks for long (reliability, M4 and M5).
        `session` names the transaction to whoever looks at the server's sessions.
        """

    def wire(self, driver: Any) -> socket.socket:
        """A duplicate of the socket under a driver's connection, for the caller to close. Only servers have one."""
        raise NotImplementedError(self.product)

    def unhurried(self, connection: Connection) -> AbstractContextManager[None]:
        """Within the block, the server may take as long as it likes to read what is sent on `connection`.

        For code that is not ours: it may send statement upon statement before it waits for an answer.
        """
        return unlimited(connection, self.wire)

    def read_options(self) -> dict[str, Any]:
        """Execution options of a connection that only reads and leaves no transaction open."""
        return {"isolation_level": "AUTOCOMMIT"}

    def lock_rows(self, query: Select[Any]) -> Select[Any]:
        """The query, locking the rows it returns until the end of the transaction."""
        return query.with_for_update()

    def lock_free_rows(self, query: Select[Any]) -> Select[Any]:
        """As `lock_rows`, without the rows that somebody else has locked."""
        return query.with_for_update(skip_locked=True)

    def share_row(self, query: Select[Any]) -> Select[Any]:
        """The query, keeping others from changing the rows it returns until the end of the transaction."""
        return query.with_for_update(read=True)

    @abstractmethod
    def fingerprint(self, connection: Connection, table: str) -> Fingerprint:
        """Marks of this database; `table` is one of ours that exists."""

    @abstractmethod
    def fault(self, error: DBAPIError) -> Fault:
        """What a driver's error means."""

    @abstractmethod
    def is_violation(self, error: DBAPIError) -> bool:
        """Whether an error that is a row's fault is the breach of a constraint, not a value that has no place."""

    def is_too_large(self, error: DBAPIError) -> bool:
        """Whether a statement was refused for its size alone: one with fewer rows, or with less of them, may pass."""
        return False

    @abstractmethod
    def code(self, error: DBAPIError) -> str:
        """The database's own code of an error."""

    def describe(self, error: DBAPIError) -> str:
        """An error in words that carry no row's values: the code and the message without what it quotes."""
        message = re.sub(r"\s+", " ", self.message(error)).strip()
        return f"{self.product} error {self.code(error)}: {message}"

    def message(self, error: DBAPIError) -> str:
        """The driver's message without quoted values: a value may hold a quote, so all between the outer ones goes."""
        return re.sub(r"'.*'", "'...'", str(error.orig), flags=re.DOTALL)

    @abstractmethod
    def shortcomings(self, connection: Connection) -> list[str]:
        """Settings of a connection of ours without which our promises do not hold, each with its remedy."""

    @abstractmethod
    def in_transaction(self, connection: Connection) -> bool:
        """Whether the transaction we began is still open, and no statement has ended it behind our back."""

    @abstractmethod
    def denied(self, error: DBAPIError) -> bool:
        """Whether a right is missing."""

    def read_only(self, connection: Connection) -> bool:
        """Whether the database accepts no writes."""
        return False


def _leave_first_connection_to_the_host(pool: QueuePool) -> None:
    """Take out what is done at the first connection only, such as the set-up of the host engine's dialect.

    SQLAlchemy does it once for all who share the listener: done for a connection of ours, the host's own first
    connection would go on without it, or beside it while it is half done.
    """
    listeners = pool.dispatch.connect.listeners
    for listener in [each for each in listeners if getattr(each, "__qualname__", "").startswith("only_once.")]:
        listeners.remove(listener)


def _ping_after_idleness(engine: Engine) -> None:
    """Have a connection that lay idle looked at before its next use: servers and firewalls end those.

    Not every time, as `pre_ping` does: a ping costs as much as the rest of a small batch. A connection that was lost a
    moment ago is met by the next statement, and whoever sent that knows what to do.
    """

    def used(connection: Any, record: Any) -> None:
        record.info[_LAST_USE] = time.monotonic()

    def ping(connection: Any, record: Any, proxy: Any) -> None:
        if time.monotonic() - record.info.get(_LAST_USE, time.monotonic()) < IDLE_BEFORE_PING:
            return
        try:
            alive = engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error:
            alive = False
        if not alive:
            raise DisconnectionError

    event.listen(engine, "checkin", used)
    event.listen(engine, "checkout", ping)

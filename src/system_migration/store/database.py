"""A database as the library uses it: connections that read, and transactions that write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from system_migration.store.dialects import dialect_of
from system_migration.store.dialects.base import WRITES

IDLE_SECONDS = 30.0
"""How long one of our short transactions may sit idle before the server ends it."""


class Database:
    """The host's database, through connections of our own. `close()` gives them back."""

    def __init__(self, engine: Engine) -> None:
        self.dialect = dialect_of(engine)
        self.engine = self.dialect.own_engine(engine)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that reads what is committed and holds neither transaction nor lock between statements."""
        with self.engine.connect().execution_options(**self.dialect.read_options()) as connection:
            yield connection

    @contextmanager
    def read_afresh(self) -> Iterator[Connection]:
        """As `read`, on a connection that nothing has used before."""
        with self.engine.connect() as connection:
            connection.invalidate()
        with self.read() as connection:
            yield connection

    @contextmanager
    def write(self, idle_seconds: float = IDLE_SECONDS) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back by any exception out of it."""
        with self.engine.connect().execution_options(**{WRITES: True}) as connection:
            with connection.begin():
                self.dialect.begin(connection, idle_seconds)
                yield connection

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()

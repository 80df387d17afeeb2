"""A database as the library uses it: connections that read, and transactions that write."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from system_migration.store.dialects import Fault, dialect_of
from system_migration.store.dialects.base import WRITES

_T = TypeVar("_T")
IDLE_SECONDS = 30.0
"""How long one of our short transactions may sit idle before the server ends it."""
PATIENCE_SECONDS = 60.0
"""How long a short step of ours is tried again while other transactions are in its way."""


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
            connection.invalidate()  # it connects anew at its next use
            yield connection.execution_options(**self.dialect.read_options())

    @contextmanager
    def write(self, idle_seconds: float = IDLE_SECONDS) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back by any exception out of it."""
        with self.engine.connect().execution_options(**{WRITES: True}) as connection:
            with connection.begin() as transaction:
                try:
                    self.dialect.begin(connection, idle_seconds)
                    yield connection
                finally:
                    if not transaction.is_active:
                        # Code in the block tried to end it, and was stopped half-way: SQLAlchemy would now give the
                        # connection back with the transaction still open. Closing it is what surely rolls back.
                        connection.invalidate()

    def transact(self, step: Callable[[Connection], _T], waiting: Callable[[str], None] = lambda reason: None) -> _T:
        """Run `step` in one write transaction, again from its beginning while others are in the way.

        For short steps of our own. Raises what `step` raises, and the last error after `PATIENCE_SECONDS`.
        """
        return self._patiently(self.write, step, waiting, {Fault.RETRY})

    def ask(self, step: Callable[[Connection], _T], waiting: Callable[[str], None] = lambda reason: None) -> _T:
        """Run a `step` that only reads, or that may be repeated, again also after a lost connection."""
        return self._patiently(self.read, step, waiting, {Fault.RETRY, Fault.LOST})

    def _patiently(
        self,
        connect: Callable[[], AbstractContextManager[Connection]],
        step: Callable[[Connection], _T],
        waiting: Callable[[str], None],
        mended: set[Fault],
    ) -> _T:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with connect() as connection:
                    return step(connection)
            except DBAPIError as error:
                if self.dialect.fault(error) not in mended or time.monotonic() > until:
                    raise
                waiting(self.dialect.describe(error))
                time.sleep(random.uniform(0.05, 0.25))  # jitter, so that equals do not meet again

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()

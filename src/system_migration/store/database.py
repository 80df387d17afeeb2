"""A database as the library uses it: connections that read, transactions that write, and patience with both."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from system_migration.signing import AuditKey
from system_migration.store.chain import SIGNER
from system_migration.store.dialects import Fault, dialect_of
from system_migration.store.dialects.base import WRITES
from system_migration.store.patience import NORMAL, Patience, Waiting

_T = TypeVar("_T")
IDLE_SECONDS = 30.0
"""How long one of our short transactions may sit idle before the server ends it, unless the lease is shorter."""


def _tell_nobody(reason: str) -> None:
    """For steps that nobody watches."""


class Database:
    """The host's database, through connections of our own. `close()` gives them back.

    `heed` is called while we wait for a database that is away, and may raise to end the wait. After `idle_seconds` the
    server ends a transaction of ours in which nothing happens: a runner that is frozen in it must not keep its locks
    for longer than others wait to take over. The `signer` is the key by which events are signed.
    """

    patience: ClassVar[Patience] = NORMAL

    def __init__(
        self,
        engine: Engine,
        heed: Callable[[], None] = lambda: None,
        idle_seconds: float = IDLE_SECONDS,
        signer: AuditKey | None = None,
    ) -> None:
        self.dialect = dialect_of(engine)
        self.engine = self.dialect.own_engine(engine)
        self.heed = heed
        self.idle_seconds = idle_seconds
        self.signer = signer
        self._session = "system_migration"
        # Where one transaction excludes all others, our threads take turns: polling for the lock is slower by far.
        self._turn: AbstractContextManager[Any] = nullcontext() if self.dialect.is_server else threading.Lock()

    def named(self, session: str) -> Database:
        """The same database, its write transactions bearing a name by which administrators and takeovers know them."""
        view = copy.copy(self)
        view._session = session
        return view

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that reads what is committed and holds neither transaction nor lock between statements."""
        with self.engine.connect() as connection, self._giving_up(connection):
            yield connection.execution_options(**self.dialect.read_options())

    @contextmanager
    def read_afresh(self) -> Iterator[Connection]:
        """As `read`, on a connection that nothing has used before."""
        with self.engine.connect() as connection, self._giving_up(connection):
            connection.invalidate()  # it connects anew at its next use
            yield connection.execution_options(**self.dialect.read_options())

    @contextmanager
    def write(self, idle_seconds: float | None = None, lock_seconds: float | None = None) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back by any exception out of it."""
        options = {WRITES: True, SIGNER: self.signer}
        with self._turn, self.engine.connect().execution_options(**options) as connection:
            with self._giving_up(connection), connection.begin() as transaction:
                try:
                    locks = self.dialect.lock_seconds if lock_seconds is None else lock_seconds
                    idle = self.idle_seconds if idle_seconds is None else idle_seconds
                    self.dialect.begin(connection, idle, locks, self._session)
                    yield connection
                finally:
                    if not transaction.is_active:
                        # Code in the block tried to end it, and was stopped half-way: SQLAlchemy would now give the
                        # connection back with the transaction still open. Closing it is what surely rolls back.
                        connection.invalidate()

    @contextmanager
    def _giving_up(self, connection: Connection) -> Iterator[None]:
        """Close a connection whose server takes no work: the next one may reach the server that took its place.

        SQLAlchemy lets a driver's error through as it is where it changes a connection's mode. Here it becomes the
        error that everybody expects.
        """
        try:
            try:
                yield
            except self.engine.dialect.loaded_dbapi.Error as error:
                base = self.engine.dialect.loaded_dbapi.Error
                raise DBAPIError.instance(None, None, error, base) from error
        except DBAPIError as error:
            if self.dialect.fault(error) in (Fault.WAIT, Fault.LOST):
                connection.invalidate()
            raise

    def transact(
        self,
        step: Callable[[Connection], _T],
        waiting: Callable[[str], None] = _tell_nobody,
        *,
        landed: Callable[[Connection], _T | None] | None = None,
        patience: Patience | None = None,
        lock_seconds: float | None = None,
    ) -> _T:
        """Run `step` in one write transaction, again from its beginning while others are in the way or all is away.

        For short steps of our own. A connection lost at COMMIT leaves unknown whether the step is done: `landed` is
        asked, on a new connection, before the step is repeated. It answers with what the step would return, or None.
        Without it the step must be one that may be done twice. Raises what `step` and `heed` raise, and the last
        error when patience ends.
        """
        unknown = False

        def once() -> _T:
            nonlocal unknown
            if unknown and landed is not None and (done := self._look(landed)) is not None:
                return done
            try:
                with self.write(lock_seconds=lock_seconds) as connection:
                    return step(connection)
            except Exception as error:
                if not self._is_lost(error):
                    # A COMMIT on its way when we looked may have arrived by now: that is what this attempt met.
                    if unknown and landed is not None and (done := self._look(landed)) is not None:
                        return done
                else:
                    unknown = True
                raise

        return self._patiently(once, waiting, patience or self.patience)

    def ask(
        self,
        step: Callable[[Connection], _T],
        waiting: Callable[[str], None] = _tell_nobody,
        *,
        connect: Callable[[], AbstractContextManager[Connection]] | None = None,
        patience: Patience | None = None,
    ) -> _T:
        """Run a `step` that only reads, or that may be repeated, again while the database is away."""

        def once() -> _T:
            with (connect or self.read)() as connection:
                return step(connection)

        return self._patiently(once, waiting, patience or self.patience)

    def _look(self, landed: Callable[[Connection], _T | None]) -> _T | None:
        with self.read() as connection:
            return landed(connection)

    def _is_lost(self, error: Exception) -> bool:
        return isinstance(error, DBAPIError) and self.dialect.fault(error) is Fault.LOST

    def _patiently(self, once: Callable[[], _T], waiting: Callable[[str], None], patience: Patience) -> _T:
        wait = Waiting(self.heed)
        limits = {Fault.RETRY: patience.in_the_way, Fault.WAIT: patience.away, Fault.LOST: patience.away}
        while True:
            try:
                return once()
            except DBAPIError as error:
                limit = limits.get(self.dialect.fault(error))
                if limit is None or wait.exceeds(limit):
                    raise
                waiting(self.dialect.describe(error))
                wait.pause()

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()

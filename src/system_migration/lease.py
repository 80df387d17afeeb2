"""Holding a lease: a heartbeat in its own thread and connection, and a deadline nobody can outlive unknowingly."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from system_migration.clock import Clock
from system_migration.errors import Interrupted, LeaseLost
from system_migration.store import leases
from system_migration.store.database import Database
from system_migration.store.leases import Claim
from system_migration.store.patience import BRIEF, ENDLESS

log = logging.getLogger(__name__)


def host_name() -> str:
    """Where this process runs, for people."""
    return socket.gethostname()


def ensure_row(
    database: Database, environment: str, name: str, waiting: Callable[[str], None] = lambda reason: None
) -> None:
    """Make sure the lease has a row to compete for."""
    if database.ask(lambda connection: leases.exists(connection, environment, name), waiting):
        return
    with suppress(IntegrityError):  # another starter was faster, or the answer to our own first attempt was lost
        database.transact(lambda connection: leases.insert_missing(connection, environment, name), waiting)


class HeldLease:
    """A lease we hold, kept alive by a heartbeat."""

    def __init__(
        self,
        database: Database,
        claim: Claim,
        clock: Clock,
        anchor: float,
        waiting: Callable[[str], None] = lambda reason: None,
        let_go: Callable[[Connection, Claim], None] = leases.release,
    ) -> None:
        self.claim = claim
        self._let_go = let_go
        self._database, self._clock, self._waiting = database, clock, waiting
        self._lost = False
        self._stop = threading.Event()
        self._deadline = 0.0
        self._extend(anchor)

    def _extend(self, sent: float) -> None:
        # Anchored before sending: the answer may have travelled for long, and the database counts from earlier.
        self._deadline = max(self._deadline, sent + self.claim.seconds * 2 / 3)

    def check(self) -> None:
        """Return while the lease is ours; raise `LeaseLost` when it is gone.

        Past the local deadline the database is asked first. While it is away this waits, as long as it takes: nobody
        may begin a batch meanwhile, and nobody can have lost anything. A stop asked for ends the wait.
        """
        while not self._lost and self._clock.monotonic() > self._deadline:
            sent = self._clock.monotonic()
            self._note(sent, self._database.transact(self._renew, self._waiting, patience=ENDLESS))
        if self._lost:
            raise LeaseLost(self.claim.name, "another runner took it over")

    def _renew(self, connection: Connection) -> bool:
        return leases.renew(connection, self.claim)

    def _note(self, sent: float, renewed: bool) -> None:
        if renewed:
            self._extend(sent)
        else:
            self._lost = True

    def _beat(self) -> None:
        while not self._stop.wait(self.claim.seconds / 3) and not self._lost:
            try:
                sent = self._clock.monotonic()
                with self._database.write() as connection:
                    renewed = self._renew(connection)
                self._note(sent, renewed)
            except SQLAlchemyError as error:
                # Not yet a loss: the deadline stands, and the next beat or check asks again.
                self._warn("not renewed", "lease.renew_failed", error)

    @contextmanager
    def beating(self) -> Iterator[HeldLease]:
        """Renew in the background for as long as the block runs; afterwards it is let go."""
        thread = threading.Thread(target=self._beat, name=f"lease {self.claim.name}", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join(timeout=self.claim.seconds)  # a daemon: it may hang in a dead connection for long
            self._release()

    def _release(self) -> None:
        try:
            self._database.transact(lambda connection: self._let_go(connection, self.claim), patience=BRIEF)
        except (SQLAlchemyError, Interrupted) as error:
            self._warn("not released, it will expire", "lease.release_failed", error)

    def _warn(self, what: str, action: str, error: Exception) -> None:
        extra = {"action": action, "migration": self.claim.name}
        log.warning("lease of %s %s: %s", self.claim.name, what, type(error).__name__, extra=extra)

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
from system_migration.store import leases, pulses
from system_migration.store.database import Database
from system_migration.store.leases import Claim
from system_migration.store.patience import BRIEF, ENDLESS
from system_migration.store.pulses import Said

log = logging.getLogger(__name__)
PULSE_SECONDS = 1.0
"""What a run says of itself is written this often at the most; unchanged, it is written with each renewal."""
_LOOK_SECONDS = 0.25


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


def _nothing() -> Said:
    """Of a run that says nothing."""
    return pulses.NOTHING


class HeldLease:
    """A lease we hold, kept alive by a heartbeat, which also writes down what the run `says` of itself."""

    def __init__(
        self,
        database: Database,
        claim: Claim,
        clock: Clock,
        anchor: float,
        waiting: Callable[[str], None] = lambda reason: None,
        let_go: Callable[[Connection, Claim], None] = leases.release,
        says: Callable[[], Said] = _nothing,
    ) -> None:
        self.claim = claim
        self._let_go, self._says = let_go, says
        self._database, self._clock, self._waiting = database, clock, waiting
        self._lost = False
        self._stop = threading.Event()
        self._deadline = 0.0
        self._tried, self._failed, self._written = anchor, False, pulses.NOTHING
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

    def _renew(self, connection: Connection) -> Said | None:
        """Renew, with what the run says now; None when the lease is gone, and then nothing is written."""
        said = self._says()
        return said if leases.renew(connection, self.claim, pulses.encode(said)) else None

    def _note(self, sent: float, written: Said | None) -> None:
        if written is None:
            self._lost = True
            return
        self._tried, self._written, self._failed = sent, written, False
        self._extend(sent)

    def _keep_beating(self) -> None:
        # A look asks nobody: it compares two values in memory. Small leases need smaller steps to be renewed in time.
        look = min(_LOOK_SECONDS, self.claim.seconds / 12)
        while not self._stop.wait(look) and not self._lost:
            self.beat_if_due()

    def beat_if_due(self) -> None:
        """Renew when a third of the lease has passed, or a second when the run has something new to say."""
        now = self._clock.monotonic()
        quiet = now - self._tried
        news = quiet >= PULSE_SECONDS and not self._failed and self._says() != self._written
        if news or quiet >= self.claim.seconds / 3:
            self._beat(now)

    def _beat(self, sent: float) -> None:
        self._tried = sent
        try:
            with self._database.write() as connection:
                written = self._renew(connection)
            self._note(sent, written)
        except SQLAlchemyError as error:
            # Not yet a loss: the deadline stands, and the next beat or check asks again. News wait until one succeeds.
            self._failed = True
            self._warn("not renewed", "lease.renew_failed", error)

    @contextmanager
    def beating(self) -> Iterator[HeldLease]:
        """Renew in the background for as long as the block runs; afterwards it is let go."""
        thread = threading.Thread(target=self._keep_beating, name=f"lease {self.claim.name}", daemon=True)
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

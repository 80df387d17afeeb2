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
"""What is new of what a run says of itself is written this often at the most. Every renewal says it all again."""
_LOOK_SECONDS = 0.25
_TALK_SECONDS = 1.0
"""A server makes talk wait this long for the lease row at the most: the next renewal may be due soon."""


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
        self._beaten = self._spoke = anchor
        self._written, self._mute = pulses.NOTHING, False
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

    def _note(self, sent: float, said: Said | None) -> None:
        if said is None:
            self._lost = True
            return
        self._extend(sent)
        self._written, self._spoke, self._mute = said, sent, False

    def _keep_beating(self) -> None:
        # A look asks nobody: it compares two values in memory. Short leases need shorter steps to be renewed in time.
        look = min(_LOOK_SECONDS, self.claim.seconds / 12)
        while not self._stop.wait(look) and not self._lost:
            self.beat_if_due()

    def beat_if_due(self) -> None:
        """Renew, if a third of the lease has passed since; else write down what the run has to say that is new."""
        moment = self._clock.monotonic()
        if moment - self._beaten >= self.claim.seconds / 3:
            self._beat(moment)
        elif not self._mute and moment - self._spoke >= PULSE_SECONDS and self._says() != self._written:
            self._speak(moment)

    def _beat(self, sent: float) -> None:
        self._beaten = sent
        try:
            with self._database.write() as connection:
                said = self._renew(connection)
            self._note(sent, said)
        except SQLAlchemyError as error:
            # Not yet a loss: the deadline stands, and the next beat or check asks again.
            self._warn("not renewed", "lease.renew_failed", error)

    def _speak(self, sent: float) -> None:
        self._spoke, said = sent, self._says()
        try:
            with self._database.write(lock_seconds=_TALK_SECONDS) as connection:
                leases.say(connection, self.claim, pulses.encode(said))
            self._written = said
        except SQLAlchemyError:
            self._mute = True  # until a renewal gets through, which says it all

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

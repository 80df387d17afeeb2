"""Holding a lease: a heartbeat in its own thread and connection, and a deadline nobody can outlive unknowingly."""

from __future__ import annotations

import logging
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from system_migration.clock import Clock
from system_migration.errors import LeaseLost
from system_migration.store import leases
from system_migration.store.database import Database
from system_migration.store.leases import Claim

log = logging.getLogger(__name__)

HOLDER = str(uuid.uuid4())
"""This process start. A host name or a process number comes back after a restart; this does not."""


def host_name() -> str:
    """Where this process runs, for people."""
    return socket.gethostname()


def ensure_row(database: Database, environment: str, name: str) -> None:
    """Make sure the lease has a row to compete for."""
    with database.read() as connection:
        if leases.exists(connection, environment, name):
            return
    try:
        with database.write() as connection:
            leases.insert_missing(connection, environment, name)
    except IntegrityError:
        pass  # another starter was faster


class HeldLease:
    """A lease we hold, kept alive by a heartbeat."""

    def __init__(self, database: Database, claim: Claim, clock: Clock, anchor: float) -> None:
        self.claim = claim
        self._database, self._clock = database, clock
        self._lost = False
        self._stop = threading.Event()
        self._renewal = threading.Lock()
        self._extend(anchor)

    def _extend(self, sent: float) -> None:
        # Anchored before sending: the answer may have travelled for long, and the database counts from earlier.
        self._deadline = sent + self.claim.seconds * 2 / 3

    def check(self) -> None:
        """Raise `LeaseLost` when the lease is gone. Past the local deadline, ask the database first."""
        if not self._lost and self._clock.monotonic() > self._deadline:
            self._renew()
        if self._lost:
            raise LeaseLost(self.claim.name, "another runner took it over")

    def _renew(self) -> None:
        # A heartbeat may be stuck in a dead connection, holding the right to renew.
        if not self._renewal.acquire(timeout=self.claim.seconds / 3):
            raise LeaseLost(self.claim.name, "the database did not answer in time")
        try:
            sent = self._clock.monotonic()
            if self._database.transact(lambda connection: leases.renew(connection, self.claim)):
                self._extend(sent)
            else:
                self._lost = True
        finally:
            self._renewal.release()

    def _beat(self) -> None:
        while not self._stop.wait(self.claim.seconds / 3) and not self._lost:
            try:
                self._renew()
            except (SQLAlchemyError, LeaseLost) as error:
                # Not yet a loss: the deadline stands, and the next beat or check asks again.
                log.warning(
                    "lease of %s not renewed: %s",
                    self.claim.name,
                    type(error).__name__,
                    extra={"action": "lease.renew_failed", "migration": self.claim.name},
                )

    @contextmanager
    def beating(self) -> Iterator[HeldLease]:
        """Renew in the background for as long as the block runs; afterwards the lease is released."""
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
            with self._database.write() as connection:
                leases.release(connection, self.claim)
        except SQLAlchemyError as error:
            log.warning(
                "lease of %s not released, it will expire: %s",
                self.claim.name,
                type(error).__name__,
                extra={"action": "lease.release_failed", "migration": self.claim.name},
            )

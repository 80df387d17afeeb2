"""A defence taken away, for a child that must show the damage: proof that a test looks in the right place.

Each function patches the library in the process that calls it. Call it in a child only.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select, update

from system_migration.batching import writes
from system_migration.batching.writes import Verdict
from system_migration.lease import HeldLease
from system_migration.schema_changes import SchemaChanges
from system_migration.store import leases, runs, tables
from system_migration.store.dialects.base import Dialect
from system_migration.store.dialects.mariadb import MariaDB
from system_migration.store.dialects.postgresql import PostgreSQL
from system_migration.store.dialects.sqlite import SQLite
from system_migration.store.leases import Claim


def without_guard() -> None:
    """Every row of a batch is written, whatever it is by now."""

    def write(connection: Any, _dialect: Any, target: Any, rows: Any, outcomes: Any, **_: Any) -> Verdict:
        found = writes.sort(target, rows, outcomes)
        if found.rows:
            target.writer.write(connection, found.rows, found.values)
        return Verdict(written=found.rows, values=found.values)

    writes.write_exactly = writes.write_carefully = write


def without_lease() -> None:
    """Nobody is told that another one runs; whoever asks for the lease gets it."""

    def acquire(
        connection: Connection, environment: str, name: str, holder: str, _held_by: str, seconds: float
    ) -> Claim:
        connection.execute(update(tables.lease).values(holder=holder, fence=tables.lease.c.fence + 1, released=False))
        fence = connection.execute(select(tables.lease.c.fence)).scalar_one()
        return Claim(environment, name, holder, fence, seconds)

    leases.acquire = acquire
    leases.holder = lambda *_: None


def without_fence_check() -> None:
    """A batch is committed, whoever holds the lease."""
    runs.check_fence = lambda *_: None


def without_deadline() -> None:
    """A runner never asks whether its lease still stands."""
    HeldLease.check = lambda self: None  # type: ignore[method-assign]


def with_idle_seconds(seconds: float) -> None:
    """The server ends a transaction of ours that idles for so long; an hour is as good as never."""
    for dialect in (PostgreSQL, MariaDB):
        _begin_with(dialect, seconds)


def _begin_with(dialect: type[Dialect], seconds: float) -> None:
    begin = dialect.begin
    dialect.begin = lambda self, connection, _, *rest: begin(self, connection, seconds, *rest)  # type: ignore[method-assign]


def with_lock_seconds(seconds: float) -> None:
    """A statement of ours waits so long for a lock; an hour is as good as for ever."""
    for dialect in (PostgreSQL, MariaDB):
        dialect.lock_seconds = seconds


def without_transactional_ddl() -> None:
    """Each schema change is committed by itself."""
    for dialect in (SQLite, PostgreSQL):
        dialect.transactional_ddl = False


def without_catalogue() -> None:
    """A schema change is made, whether or not it has been made before."""
    change = SchemaChanges._change
    SchemaChanges._change = lambda self, _, *rest: change(self, False, *rest)  # type: ignore[method-assign]

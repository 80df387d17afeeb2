"""One batch, one transaction: this module is the crash-safety argument.

The rows, their images, the issues and the ledger entry of a batch become visible together or not at all, and only while
the fence of the run stands. Killed at any statement, the database is as it was; killed after the commit, the ledger
says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from system_migration.batching import images, writes
from system_migration.batching.keys import Key
from system_migration.batching.ranges import Numbers
from system_migration.batching.target import Target
from system_migration.batching.transform import Outcome
from system_migration.batching.writes import RawRow, Verdict
from system_migration.store import issues, ledger, runs
from system_migration.store.database import Database
from system_migration.store.dialects import Dialect
from system_migration.store.ledger import Entry
from system_migration.store.runs import Attempt

Settle = Callable[[Connection, Dialect, Target, "Batch"], Verdict]
"""How the rows of a batch are compared with what was read, and written."""


@dataclass(frozen=True)
class Batch:
    """The rows of one range as they were read, in key order, with what transform made of them.

    `named` are the keys of a batch that no walk found: rows that were put off, or that are held and tried again. Then
    the rows are these and no others, whatever the bounds; with `releases` their issues go in the batch's transaction.
    """

    pass_number: int
    numbers: Numbers
    lower: Key | None
    upper: Key | None
    rows: Sequence[RawRow]
    outcomes: Sequence[Outcome]
    seconds: float = 0.0
    vanished: int = 0
    named: tuple[Key, ...] | None = None
    releases: bool = False

    def halves(self, target: Target) -> tuple[Batch, Batch]:
        """Two batches with half of the rows and of the numbers each."""
        return self.split(target, len(self.rows) // 2)

    def split(self, target: Target, count: int) -> tuple[Batch, Batch]:
        """A batch of the first `count` rows, and one of the others, with half of the numbers each."""
        first, second = self.numbers.halves()
        keys = {target.key_of(row): None for row in self.rows[:count]}
        edge = next(reversed(keys))
        front, back = replace(self, numbers=first, upper=edge, vanished=0), replace(self, numbers=second, lower=edge)
        if self.named is not None:
            front = replace(front, named=tuple(key for key in self.named if key in keys))
            back = replace(back, named=tuple(key for key in self.named if key not in keys))
        return (
            replace(front, rows=self.rows[:count], outcomes=self.outcomes[:count]),
            replace(back, rows=self.rows[count:], outcomes=self.outcomes[count:]),
        )


def commit_batch(
    database: Database,
    run: Attempt,
    target: Target,
    batch: Batch,
    attempt: str,
    settle: Settle,
    approve: Callable[[int], None] = lambda changed: None,
) -> Entry:
    """Write one transformed batch. Any exception rolls everything back; after a lost connection, ask the ledger.

    `attempt` is a fresh UUID: it tells this transaction's commit from everybody else's. `approve` hears how many rows
    are changed, and raises if that is too many. Raises `Missed` when `settle` cannot tell which rows have changed.
    """
    began = time.monotonic()
    with database.write() as connection:
        if batch.releases:
            issues.release_rows(connection, run, batch.named or ())
        verdict = settle(connection, database.dialect, target, batch)
        approve(verdict.changed)
        if target.journalled and verdict.changed:
            before = verdict.before or images.of_rows(target, verdict.written)
            images.keep(connection, run, target, batch.pass_number, batch.numbers.first, before)
        issues.hold(connection, run, verdict.held)
        entry = _entry(batch, verdict, attempt, writing=time.monotonic() - began)
        ledger.record(connection, run, entry)
        # Last, so that the run's row is shared for microseconds, and because nothing after it could be fenced.
        runs.check_fence(connection, database.dialect, run)
    return entry


def exactly(connection: Connection, dialect: Dialect, target: Target, batch: Batch) -> Verdict:
    """Compare and write in one statement; raises `Missed` when a row is not what was read."""
    return writes.write_exactly(connection, dialect, target, batch.rows, batch.outcomes)


def carefully(connection: Connection, dialect: Dialect, target: Target, batch: Batch) -> Verdict:
    """Lock the rows, read them again, compare in Python, write those that still are what was read."""
    return writes.write_carefully(connection, dialect, target, batch.rows, batch.outcomes)


def around_locks(connection: Connection, dialect: Dialect, target: Target, batch: Batch) -> Verdict:
    """As `carefully`, but rows that somebody else has locked are put off instead of being waited for."""
    return writes.write_carefully(connection, dialect, target, batch.rows, batch.outcomes, around_locks=True)


def in_sql(connection: Connection, dialect: Dialect, target: Target, batch: Batch) -> Verdict:
    """Let the database compute the new values, by key range, from the rows as they are now."""
    if not target.journalled and batch.named is None:
        return writes.assign(connection, target, batch.lower, batch.upper)
    if not target.journalled:
        return Verdict(assigned=writes.assign_named(connection, target, batch.named or ()))
    # Just these rows: what somebody adds to the range meanwhile has no image, and what needs no change must have none.
    keys = _lock_todo(connection, dialect, target, batch)
    before = images.read(connection, target, keys, lock=dialect)
    return Verdict(assigned=writes.assign_locked(connection, target, keys), before=before)


def _lock_todo(connection: Connection, dialect: Dialect, target: Target, batch: Batch) -> list[Key]:
    """The keys of those rows of the batch that need the change, locked."""
    if batch.named is None:
        queries = [target.keys_todo(batch.lower, batch.upper)]
    else:
        queries = [target.keys_todo(None, None).where(target.is_one_of(some)) for some in target.portions(batch.named)]
    return [tuple(key) for query in queries for key in connection.execute(dialect.lock_rows(query))]


def _entry(batch: Batch, verdict: Verdict, attempt: str, writing: float) -> Entry:
    return Entry(
        attempt=attempt,
        pass_number=batch.pass_number,
        numbers=batch.numbers,
        lower=batch.lower,
        upper=batch.upper,
        rows_read=len(batch.rows) or verdict.assigned,
        changed=verdict.changed,
        unchanged=len(verdict.unchanged),
        held=len(verdict.held),
        vanished=len(verdict.vanished) + batch.vanished,
        deferred=verdict.deferred,
        seconds=batch.seconds + writing,
    )

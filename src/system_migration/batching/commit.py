"""One batch, one transaction: this module is the crash-safety argument.

The rows, the issues and the ledger entry of a batch become visible together or not at all, and only while the fence
of the run stands. Killed at any statement, the database is as it was; killed after the commit, the ledger says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from system_migration.batching import images, writes
from system_migration.batching.keys import Key
from system_migration.batching.target import ReadRow, Target
from system_migration.batching.transform import Outcome
from system_migration.batching.writes import Verdict
from system_migration.store import issues, ledger, runs
from system_migration.store.database import Database
from system_migration.store.ledger import Entry
from system_migration.store.runs import Attempt


@dataclass(frozen=True)
class Batch:
    """The rows of one range as they were read, with what transform made of them."""

    pass_number: int
    range_number: int
    lower: Key | None
    upper: Key | None
    rows: Sequence[ReadRow]
    outcomes: Sequence[Outcome]
    seconds: float
    vanished: int = 0


def commit_batch(database: Database, run: Attempt, target: Target, batch: Batch, attempt: str) -> Entry:
    """Write one transformed batch. Any exception rolls everything back; after a lost connection, ask the ledger.

    `attempt` is a fresh UUID: it tells this transaction's commit from everybody else's.
    """
    with database.write() as connection:
        verdict = writes.guard(connection, database.dialect, target, batch.rows, batch.outcomes)
        writes.write(connection, target, verdict.writes)
        if target.journalled and verdict.writes:
            written = {key for key, _ in verdict.writes}
            before = images.of_rows(target, (row for row in batch.rows if row.key in written))
            images.keep(connection, run, target, batch.pass_number, batch.range_number, before)
        issues.hold(connection, run, verdict.held)
        entry = _entry(batch, verdict, attempt)
        ledger.record(connection, run, entry)
        # Last, so that the run's row is shared for microseconds, and because nothing after it could be fenced.
        runs.check_fence(connection, database.dialect, run)
    return entry


def _entry(batch: Batch, verdict: Verdict, attempt: str) -> Entry:
    return Entry(
        attempt=attempt,
        pass_number=batch.pass_number,
        range_number=batch.range_number,
        lower=batch.lower,
        upper=batch.upper,
        rows_read=len(batch.rows),
        changed=len(verdict.writes),
        unchanged=len(verdict.unchanged),
        held=len(verdict.held),
        vanished=len(verdict.vanished) + batch.vanished,
        deferred=verdict.deferred,
        seconds=batch.seconds,
    )

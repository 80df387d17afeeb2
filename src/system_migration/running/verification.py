"""Verification: other code than the run's, on a connection nothing has used before. Only it may say "verified"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Select, and_, func, not_

from system_migration.batch_migration import BatchMigration
from system_migration.batching import keys
from system_migration.batching.keys import Key
from system_migration.batching.resolution import resolve
from system_migration.batching.target import SCAN_ROWS, Target, scan
from system_migration.errors import Interrupted, Refused
from system_migration.migration import Migration
from system_migration.records import RunOptions
from system_migration.running.contexts import batch_context, call, describe, heed_stop, plain_context
from system_migration.running.run_log import RunLog
from system_migration.running.workspace import Workspace
from system_migration.store import issues, ledger
from system_migration.store.migrations import MigrationRow
from system_migration.store.runs import Attempt


@dataclass(frozen=True)
class Verdict:
    """What verification says: passed, or the reason why not. `possible` is False where a migration brings no check."""

    passed: bool
    reason: str | None = None
    possible: bool = True


def _go_on() -> None:
    """Whoever asks may go on."""


NOT_POSSIBLE = Verdict(False, None, possible=False)


def verify(
    workspace: Workspace, migration: Migration, row: MigrationRow, attempt: Attempt, options: RunOptions, log: RunLog
) -> Verdict:
    """Check a migration's work. `attempt` names the generation; nothing is written.

    An error is a failed check. `Refused`, for a check that cannot be made now, and `Interrupted` go through.
    """

    def check(connection: Connection) -> Verdict:
        workspace.progress.goes_on()  # connected: a long look moves no rows that would say so
        if isinstance(migration, BatchMigration):
            return _verify_batches(workspace, connection, migration, row, attempt, options, log)
        return _verify_imperative(workspace, connection, migration, options, log)

    database = workspace.database
    try:
        return database.ask(check, workspace.progress.waiting, connect=database.read_afresh)
    except (Interrupted, Refused):
        raise
    except Exception as error:
        reason = describe(error, workspace.database.dialect, type(migration))
        return Verdict(False, f"verification ended with an error: {reason}")


def _verify_imperative(
    workspace: Workspace, connection: Connection, migration: Migration, options: RunOptions, log: RunLog
) -> Verdict:
    if not migration.defines("verify"):
        return NOT_POSSIBLE
    passed = call(migration.verify, plain_context(workspace, connection, log, options))
    return Verdict(passed is True, None if passed is True else "its verify() did not return True.")


def _verify_batches(
    workspace: Workspace,
    connection: Connection,
    migration: BatchMigration,
    row: MigrationRow,
    attempt: Attempt,
    options: RunOptions,
    log: RunLog,
) -> Verdict:
    if not migration.defines("pending", "check", "verify"):
        return NOT_POSSIBLE
    target = resolve(connection, migration)
    heed = partial(heed_stop, workspace)
    left = rows_left(connection, target, row, attempt, heed)
    if left:
        return Verdict(False, f"{left:,} rows are neither migrated nor held. Run it again by name.")
    if migration.defines("check"):
        failed = _first_failing(connection, migration, target, row, attempt, heed)
        if failed is not None:
            return Verdict(False, f"check() does not hold for the row with key {keys.shown(failed)!r}.")
    if migration.defines("verify"):
        context = batch_context(workspace, connection, log, options, target, dict(row.pins))
        if call(migration.verify, context) is not True:
            return Verdict(False, f"its verify() did not return True; see `migration logs {row.name}`.")
    return Verdict(True)


def rows_left(
    connection: Connection, target: Target, row: MigrationRow, attempt: Attempt, heed: Callable[[], None] = _go_on
) -> int:
    """How many rows are neither migrated nor held. A long look asks `heed` in between, which may raise."""
    if target.pending is not None:
        return pending_rows(connection, target, attempt, heed)
    return _left_over(connection, target, row, attempt)


def pending_rows(connection: Connection, target: Target, attempt: Attempt, heed: Callable[[], None] = _go_on) -> int:
    """How many rows still need the change and are not held, by a scan of its own. `heed` as in `rows_left`."""
    left, lower = 0, None
    while True:
        heed()
        rows = connection.execute(target.batch(lower, None, SCAN_ROWS)).all()
        found = [target.key_of(row) for row in rows]
        left += len(found) - len(issues.held_among(connection, attempt, found))
        if len(found) < SCAN_ROWS:
            return left
        lower = found[-1]


def _left_over(connection: Connection, target: Target, row: MigrationRow, attempt: Attempt) -> int:
    """Without `pending` the ledger must have no gap up to the bound the run began with, and nothing put off."""
    if not row.upper_bound:
        return 0
    bound = keys.decode(row.upper_bound)
    gaps = ledger.missing(connection, attempt, 1)
    left = sum(
        connection.execute(target.count(gap.lower, bound if gap.last is None else gap.upper)).scalar_one()
        for gap in gaps
    )
    return int(left) + sum(len(deferred.keys) for deferred in ledger.deferred_ranges(connection, attempt))


def _first_failing(
    connection: Connection,
    migration: BatchMigration,
    target: Target,
    row: MigrationRow,
    attempt: Attempt,
    heed: Callable[[], None],
) -> Key | None:
    """The key of the first row, among those that should be migrated, for which `check` is not true."""
    migration.setup_worker()
    if target.pending is not None:
        done = not_(func.coalesce(target.pending, False))
    elif row.upper_bound:
        done = and_(*target.between(None, keys.decode(row.upper_bound)))
    else:
        return None  # the table was empty at the start: whatever is there now was never ours

    def read(query: Select[Any]) -> Sequence[Any]:
        heed()
        return connection.execute(query).all()

    for key, values in scan(read, target, target.columns, done):
        if not migration.check(values) and not issues.held_among(connection, attempt, [key]):
            return key
    return None

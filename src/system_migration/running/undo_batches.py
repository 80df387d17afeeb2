"""The rollback of a batch migration from its journal: newest part first, each in one fenced transaction.

A row is restored only while it still is exactly what the migration made of it; every other row is listed and never
touched. Killed anywhere, the rollback starts again at the part before the oldest one that the ledger has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import uuid4

from sqlalchemy import Connection

from system_migration.batch_migration import BatchMigration
from system_migration.batching import images
from system_migration.batching.keys import Key
from system_migration.batching.ranges import Numbers
from system_migration.batching.resolution import resolve_written
from system_migration.batching.target import Target
from system_migration.batching.throttle import RateLimit
from system_migration.batching.writes import same
from system_migration.errors import MigrationFailed, Refused, VerificationFailed
from system_migration.lease import HeldLease
from system_migration.migration import Migration
from system_migration.running import journalling
from system_migration.running.contexts import heed_stop
from system_migration.running.undo_comparison import Sorted, intact, listed_among, sort
from system_migration.running.workspace import Workspace
from system_migration.store import issues, journal, ledger, runs
from system_migration.store.issues import NOT_RESTORED
from system_migration.store.journal import Image, Part
from system_migration.store.ledger import Entry
from system_migration.store.migrations import MigrationRow
from system_migration.store.runs import Attempt

_T = TypeVar("_T")
REPAIRS = 3
"""How often rows that have the migrated value again are restored before verification gives up."""
_REPAIRED_AT_ONCE = 1_000


def plan(workspace: Workspace, migration: Migration, run: Attempt, row: MigrationRow) -> Target:
    """The table to restore. Raises `Refused`, with the reason, when the journal cannot undo the generation."""
    assert isinstance(migration, BatchMigration)

    def look(connection: Connection) -> Target:
        if shortcomings := workspace.database.dialect.shortcomings(connection):
            raise Refused(" ".join(shortcomings))
        journalling.demand_possible(connection, run, row.pins, migration)
        return resolve_written(connection, migration)

    return workspace.database.ask(look, workspace.progress.waiting)


@dataclass
class UndoBatches:
    """A rollback at work under one attempt."""

    workspace: Workspace
    target: Target
    attempt: Attempt
    lease: HeldLease
    max_listed: int | None = None
    before_part: Callable[[], None] = lambda: None
    rate: RateLimit = field(default_factory=RateLimit)

    def work(self) -> None:
        """Undo everything that can be undone, and verify it. Raises `Interrupted` and `MigrationFailed`: resumable."""
        total, done, below = self._ask(
            lambda connection: (
                journal.size(connection, self.attempt).rows,
                journal.undone(connection, self.attempt),
                journal.undone_from(connection, self.attempt),
            )
        )
        while (part := self._next(below)) is not None:
            self._between_parts()
            began = self.workspace.clock.monotonic()
            entry = self._commit_surely(part)
            self.workspace.progress.committed(entry, self.workspace.clock.monotonic() - began)
            done, below = done + entry.rows_read, part.id
            self._report(done, total)
            self._rest(self.rate.wait_after(part.rows, self.workspace.clock.monotonic()))
        self._verify(total)

    def listed(self) -> int:
        """How many rows were left as they are."""
        place = self.attempt.environment, self.attempt.name, self.attempt.generation
        return self._ask(lambda connection: issues.count(connection, *place, codes=NOT_RESTORED))

    def restored(self) -> int:
        """How many changes were undone, and stayed undone."""
        restored, listed = self._ask(lambda connection: journal.restored(connection, self.attempt))
        return restored - (self.listed() - listed)  # those that verification listed had been restored before

    def _next(self, below: int | None) -> Part | None:
        return self._ask(lambda connection: journal.newest_part(connection, self.attempt, below))

    def _ask(self, question: Callable[[Connection], _T]) -> _T:
        return self.workspace.database.ask(question, self.workspace.progress.waiting)

    def _ask_afresh(self, question: Callable[[Connection], _T]) -> _T:
        database = self.workspace.database
        return database.ask(question, self.workspace.progress.waiting, connect=database.read_afresh)

    def _rest(self, seconds: float) -> None:
        until = self.workspace.clock.monotonic() + seconds
        while (left := until - self.workspace.clock.monotonic()) > 0:
            self._between_parts()
            self.workspace.clock.sleep(min(left, 0.2))

    def _between_parts(self) -> None:
        self.lease.check()
        heed_stop(self.workspace)
        self.before_part()

    def _report(self, done: int, total: int) -> None:
        listed = self.listed()
        self.workspace.progress.rows(done, total, listed)
        if self.max_listed is not None and listed > self.max_listed:
            name = self.attempt.name
            raise MigrationFailed(
                name,
                f"rows that are not what the migration made of them any more: {listed:,}, accepted: "
                f"{self.max_listed:,}. See `migration issues {name}`; to go on, roll back with a higher --max-issues.",
            )

    def _commit_surely(self, part: Part) -> Entry:
        """Undo the part, again after an error that allows it, and never without asking the ledger first."""
        attempt = str(uuid4())
        return self.workspace.database.transact(
            lambda connection: self._undo(connection, part, attempt),
            self.workspace.progress.waiting,
            landed=lambda connection: self._committed(connection, attempt),
        )

    def _committed(self, connection: Connection, attempt: str) -> Entry | None:
        runs.check_fence(connection, self.workspace.database.dialect, self.attempt)
        return ledger.find(connection, [attempt])

    def _undo(self, connection: Connection, part: Part, attempt: str) -> Entry:
        """One part, one transaction. Any exception rolls everything back."""
        rows = self._sort_locked(connection, intact(part))
        images.write_back(connection, self.target, rows.restorable)
        issues.hold_anew(connection, self.attempt, rows.listed)
        entry = _entry(part, rows, attempt)
        ledger.record(connection, self.attempt, entry)
        # Last, for the reasons it is last in a batch.
        runs.check_fence(connection, self.workspace.database.dialect, self.attempt)
        return entry

    def _sort_locked(self, connection: Connection, part: Sequence[Image]) -> Sorted:
        keys = [image.key for image in part]
        current = images.read(connection, self.target, keys, lock=self.workspace.database.dialect)
        return sort(part, current, listed_among(connection, self.attempt, self.target, part))

    # --- verification --------------------------------------------------------------------------------------------

    def _verify(self, total: int) -> None:
        """Every change is accounted for, and every row is what it was, or listed. Raises `VerificationFailed`.

        What has the migrated value is restored: the application wrote it again, or we did not. What has any other
        value was changed after it was restored, for that is looked at before a part commits; it is listed.
        """
        name = self.attempt.name
        self.workspace.progress.phase(name, "verifying")
        undone = self._ask_afresh(lambda connection: journal.undone(connection, self.attempt))
        if undone != total:
            raise VerificationFailed(name, f"{undone:,} of {total:,} journalled changes were undone.")
        for remaining in reversed(range(REPAIRS + 1)):
            wrong = self._ask_afresh(self._not_as_before)
            if not wrong:
                return
            if remaining:
                self._repair(list(wrong.values()))
        raise VerificationFailed(
            name,
            f"{len(wrong):,} rows are still not what they were: the application keeps changing them. Deploy the code "
            "that writes the old form first, then roll it back again.",
        )

    def _not_as_before(self, connection: Connection) -> dict[Key, Image]:
        """Rows that are neither what they were nor listed. A row's oldest image decides, so newer ones come first."""
        wrong: dict[Key, Image] = {}
        part = journal.newest_part(connection, self.attempt)
        while part is not None:
            heed_stop(self.workspace)
            current = images.read(connection, self.target, [image.key for image in intact(part)])
            listed = listed_among(connection, self.attempt, self.target, intact(part))
            for image in intact(part):
                if image.key in listed or (image.key in current and same(current[image.key], image.before)):
                    wrong.pop(image.key, None)
                else:
                    wrong[image.key] = image
            part = journal.newest_part(connection, self.attempt, part.id)
        return wrong

    def _repair(self, wrong: Sequence[Image]) -> None:
        for start in range(0, len(wrong), _REPAIRED_AT_ONCE):
            self._between_parts()
            some = wrong[start : start + _REPAIRED_AT_ONCE]
            self.workspace.database.transact(
                lambda connection, some=some: self._restore_again(connection, some),  # type: ignore[misc]
                self.workspace.progress.waiting,
            )

    def _restore_again(self, connection: Connection, wrong: Sequence[Image]) -> None:
        """Compared as a part is, so that doing it twice does nothing."""
        rows = self._sort_locked(connection, wrong)
        before = {image.key: image.before for image in wrong}
        current = images.read(connection, self.target, rows.changed)
        rows.changed = [key for key in rows.changed if not same(current[key], before[key])]
        images.write_back(connection, self.target, rows.restorable)
        issues.hold_anew(connection, self.attempt, rows.listed)
        runs.check_fence(connection, self.workspace.database.dialect, self.attempt)


def _entry(part: Part, rows: Sorted, attempt: str) -> Entry:
    return Entry(
        attempt=attempt,
        pass_number=journal.UNDOING,
        numbers=Numbers(part.id, part.id),
        lower=None,
        upper=None,
        rows_read=part.rows,
        changed=len(rows.restorable),
        unchanged=0,
        held=len(rows.changed),
        vanished=len(rows.vanished),
        deferred=(),
        seconds=0.0,
    )

"""The batch loop: plan a range, read it, transform it with no transaction open, commit it (see `commit`).

Killed anywhere, the loop starts again from the numbers the ledger lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from sqlalchemy import Select
from sqlalchemy.exc import DBAPIError

from system_migration.batching import throttle
from system_migration.batching.commit import Batch, commit_batch
from system_migration.batching.executors import Transformer
from system_migration.batching.keys import Key
from system_migration.batching.ranges import Gap
from system_migration.batching.sizing import BatchSize
from system_migration.batching.target import ReadRow, Target
from system_migration.batching.transform import Outcome
from system_migration.clock import Clock
from system_migration.errors import Interrupted, MigrationFailed, Paused
from system_migration.lease import HeldLease
from system_migration.migration import Progress
from system_migration.store import issues, ledger, runs
from system_migration.store.database import Database
from system_migration.store.dialects import Fault
from system_migration.store.ledger import Entry
from system_migration.store.runs import Attempt

PASSES = 5
"""Passes that may still find new rows before the run pauses: writers are adding them faster than we finish."""
_TRIES = 6
_PAUSE_SECONDS = 0.05
_WAIT_SLICE = 0.2


@dataclass(frozen=True)
class Range:
    """Where a batch stands: its pass, its number, the keys between which its rows lie."""

    pass_number: int
    number: int
    lower: Key | None
    upper: Key | None


@dataclass
class Tally:
    """Rows finished so far in this generation, for progress and limits. Begins with the ledger's totals."""

    changed: int = 0
    unchanged: int = 0
    held: int = 0
    vanished: int = 0
    deferred: int = 0

    def add(self, entry: Entry) -> None:
        self.changed += entry.changed
        self.unchanged += entry.unchanged
        self.held += entry.held
        self.vanished += entry.vanished
        self.deferred += len(entry.deferred)

    @property
    def done(self) -> int:
        return self.changed + self.unchanged + self.held + self.vanished


@dataclass
class BatchLoop:
    """Drives one run of a batch migration over its table."""

    database: Database
    target: Target
    run: Attempt
    lease: HeldLease
    transformer: Transformer
    progress: Progress
    clock: Clock
    size: BatchSize
    tally: Tally
    total: int | None = None
    upper_bound: Key | None = None
    max_rate: float | None = None
    stop_after_issues: int | None = None
    stop_signal: Callable[[], int | None] = lambda: None
    after_batch: Callable[[Entry], None] = lambda entry: None
    _held_before: bool = field(default=False, init=False)

    def run_passes(self, first_pass: int) -> None:
        """Work until nothing is left. `Interrupted`, `Paused`, `LeaseLost`, `MigrationFailed`: all resumable."""
        self._held_before = self.tally.held > 0
        if self.target.pending is None:
            self._walk(1, self.upper_bound)
            self._redo_deferred()
        else:
            self._sweep(first_pass)

    def _sweep(self, first_pass: int) -> None:
        for number in range(first_pass, first_pass + PASSES + 1):
            self._walk(number, self._highest_key())
            with self.database.read() as connection:
                clean = ledger.last_pass(connection, self.run) < number
            if clean:
                return
            self._held_before = self.tally.held > 0
        raise Paused(
            self.run.name,
            f"{PASSES} passes over the table all found new rows: writers still add rows that need the migration. "
            "Deploy the code that writes the new form first, then run it again by name.",
        )

    def _redo_deferred(self) -> None:
        """Rows that changed under a batch's hands are done again, each in a range of the next pass."""
        with self.database.read() as connection:
            newest = ledger.last_pass(connection, self.run)
        number, finished = 1, False
        while not finished:
            with self.database.read() as connection:
                deferred = ledger.deferred_ranges(connection, self.run, number)
            if number >= newest + PASSES and deferred:
                raise Paused(
                    self.run.name,
                    "some rows changed again in every one of the last passes. Run it again by name in a quieter hour.",
                )
            for range_number, keys in deferred.items():
                self._before_batch()
                rows = [row for part in self.target.portions(keys) for row in self._read(self.target.rows_by_key(part))]
                self._process(Range(number + 1, range_number, None, None), rows, vanished=len(keys) - len(rows))
            finished = not deferred and number >= newest
            number += 1

    def _walk(self, pass_number: int, bound: Key | None) -> None:
        if bound is None:
            return  # the table was empty when the pass began
        with self.database.read() as connection:
            gaps = ledger.missing(connection, self.run, pass_number)
        for gap in gaps:
            self._walk_gap(pass_number, gap, bound)

    def _walk_gap(self, pass_number: int, gap: Gap, bound: Key) -> None:
        number, lower = gap.first, gap.lower
        upper = bound if gap.last is None else gap.upper
        while gap.last is None or number <= gap.last:
            self._before_batch()
            limit = None if gap.closes_with(number) else self.size.rows
            rows = self._read(self.target.batch(lower, upper, limit))
            if not rows and gap.last is None:
                return
            reached = rows[-1].key if rows and limit is not None else upper
            kept = self._without_held(rows)
            if kept or gap.last is not None or self.target.pending is None:
                self._process(Range(pass_number, number, lower, reached), kept)
                number += 1
            lower = reached

    def _read(self, query: Select[Any]) -> list[ReadRow]:
        rows = self.database.ask(lambda connection: connection.execute(query).all(), self.progress.waiting)
        return [self.target.split(row) for row in rows]

    def _without_held(self, rows: list[ReadRow]) -> list[ReadRow]:
        if not self._held_before:
            return rows  # within one pass a row is met once, so what this pass holds cannot come again
        with self.database.read() as connection:
            held = set()
            for keys in self.target.portions([row.key for row in rows]):
                held |= issues.held_among(connection, self.run, keys)
        return [row for row in rows if row.key not in held]

    def _highest_key(self) -> Key | None:
        with self.database.read() as connection:
            row = connection.execute(self.target.highest()).one_or_none()
        return None if row is None else tuple(row)

    def _process(self, place: Range, rows: Sequence[ReadRow], vanished: int = 0) -> None:
        began = self.clock.monotonic()
        outcomes = self._transform(rows)
        transformed = self.clock.monotonic()
        batch = Batch(
            place.pass_number,
            place.number,
            place.lower,
            place.upper,
            rows,
            outcomes,
            transformed - began,
            vanished,
        )
        entry = self._commit_surely(batch)
        finished = self.clock.monotonic()

        self.tally.add(entry)
        self.after_batch(entry)
        self.progress.rows(self.tally.done, self.total, self.tally.held)
        self.size = self.size.after(len(rows), finished - began, finished - transformed)
        self._check_issue_limit()
        self._wait(throttle.pause(len(rows), finished - began, self.max_rate))

    def _transform(self, rows: Sequence[ReadRow]) -> list[Outcome]:
        done = self.tally.done
        width = len(self.target.reads)

        def advance(finished: int) -> None:
            nonlocal done
            done += finished
            self.progress.rows(done, self.total, self.tally.held)

        return self.transformer.run(self.target.reads, [row.values[:width] for row in rows], advance)

    def _commit_surely(self, batch: Batch) -> Entry:
        """Commit the batch, again after an error that allows it, and never without asking the ledger first."""
        attempts: list[str] = []
        while True:
            attempts.append(str(uuid4()))
            try:
                return commit_batch(self.database, self.run, self.target, batch, attempts[-1])
            except DBAPIError as error:
                self.lease.check()
                # A COMMIT whose answer was lost may have arrived, even while a later attempt was under way.
                if entry := self._committed(attempts):
                    return entry
                fault = self.database.dialect.fault(error)
                if fault not in (Fault.RETRY, Fault.LOST) or len(attempts) == _TRIES:
                    raise
                self.size = self.size.halved()
                self.progress.waiting(self.database.dialect.describe(error))
                self.clock.sleep(_PAUSE_SECONDS * 2 ** len(attempts))

    def _committed(self, attempts: Sequence[str]) -> Entry | None:
        with self.database.read() as connection:
            runs.check_fence(connection, self.database.dialect, self.run)
            return ledger.find(connection, attempts)

    def _before_batch(self) -> None:
        self.lease.check()
        signal_number = self.stop_signal()
        if signal_number is not None:
            raise Interrupted(signal_number)

    def _check_issue_limit(self) -> None:
        if self.stop_after_issues is not None and self.tally.held >= self.stop_after_issues:
            raise MigrationFailed(
                self.run.name,
                f"{self.tally.held} rows are held, and the run was to stop at {self.stop_after_issues}. "
                f"See `migration issues {self.run.name}`.",
            )

    def _wait(self, seconds: float) -> None:
        until = self.clock.monotonic() + seconds
        while (left := until - self.clock.monotonic()) > 0 and self.stop_signal() is None:
            self.clock.sleep(min(left, _WAIT_SLICE))

"""From the rows of a range to its ledger rows: transform, commit, and whatever an error calls for in between.

Called by several threads at once, each with batches of its own. After any error the transaction is rolled back, and the
ledger is asked before anything is tried again: a commit whose answer was lost may have arrived.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from uuid import uuid4

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, StatementError

from system_migration.batching.commit import Batch, Settle, around_locks, carefully, commit_batch, exactly, in_sql
from system_migration.batching.executors import Transformer
from system_migration.batching.limits import ChangeLimit
from system_migration.batching.sizing import BATCH_SECONDS
from system_migration.batching.target import Target
from system_migration.batching.transform import Held, Outcome
from system_migration.clock import Clock
from system_migration.errors import LeaseLost
from system_migration.migration import Progress
from system_migration.store import ledger, runs
from system_migration.store.database import Database
from system_migration.store.dialects import Fault
from system_migration.store.ledger import Entry
from system_migration.store.runs import Attempt
from system_migration.store.writers import BadValue, Missed

TRIES = 5
"""How often a single row is tried while other transactions are in its way."""
LOSSES = 3
"""Connections lost with one batch in hand, after which its halves are tried."""
FALSE_ALARMS = 8
"""After so many batches that SQL could not tell to be unchanged, although they were, SQL is not asked any more."""
_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE = 3.0
_WAIT_SLICE = 0.2
_OF_A_VALUE = (TypeError, ValueError, ArithmeticError)
CONSTRAINT_VIOLATION = "constraint_violation"
VALUE_REFUSED = "value_refused"
ROW_TOO_LARGE = "row_too_large"


@dataclass
class Settled:
    """What became of one planned range: its ledger rows, and where the time went.

    `advanced` are the rows that were told to `done`: transformed, and now committed.
    """

    first_number: int
    rows: int
    advanced: int = 0
    entries: list[Entry] = field(default_factory=list)
    transform_seconds: float = 0.0
    write_seconds: float = 0.0
    waited_seconds: float = 0.0
    hindered: bool = False


@dataclass(frozen=True)
class _Work:
    """A batch on its way into the ledger: in which way it is tried, and what was tried so far."""

    batch: Batch
    settle: Settle
    attempts: tuple[str, ...] = ()
    hindrances: int = 0


@dataclass
class Settler:
    """Transforms and commits the batches of one run. `heed` is called while it waits, and raises to stop it."""

    database: Database
    target: Target
    run: Attempt
    transformer: Transformer
    clock: Clock
    progress: Progress
    heed: Callable[[], None]
    limit: ChangeLimit
    _false_alarms: int = 0

    def settle(self, batch: Batch, done: Callable[[int], None] = lambda rows: None) -> Settled:
        """Transform the rows of `batch`, which has no outcomes yet, and commit all of it, in as many parts as it takes.

        A transform that takes longer than a batch may take is committed as far as it has come, so that a wish to stop
        is heeded soon. What it leaves when it dies half-way: whole parts, each with its ledger row.
        """
        settled = Settled(batch.numbers.first, len(batch.rows))

        def advance(rows: int) -> None:
            settled.advanced += rows
            done(rows)

        rest: Batch | None = batch
        while rest is not None:
            rest = self._settle_part(rest, settled, advance)
        settled.rows = sum(entry.rows_read for entry in settled.entries)
        return settled

    def _settle_part(self, batch: Batch, settled: Settled, advance: Callable[[int], None]) -> Batch | None:
        """Transform and commit as much as the time allows. What is left, or None."""
        began = self.clock.monotonic()
        outcomes = self._transform(batch, advance)
        transformed, waited = self.clock.monotonic(), settled.waited_seconds
        rest = None
        if len(outcomes) < len(batch.rows):
            batch, rest = batch.split(self.target, len(outcomes))
        part = replace(batch, outcomes=outcomes, seconds=transformed - began)
        self._commit_all(_Work(part, self._first_way()), settled)
        settled.transform_seconds += transformed - began
        settled.write_seconds += self.clock.monotonic() - transformed - (settled.waited_seconds - waited)
        if rest is not None:
            self.heed()
        return rest

    def _commit_all(self, work: _Work, settled: Settled) -> None:
        waiting = [work]
        while waiting:
            waiting += self._advance(waiting.pop(), settled)
            if waiting:
                self.heed()  # what is committed is a whole part; the rest can wait for another run
            if settled.entries:
                # All that the last entry covers is done: it may be the whole of which we had begun to try the halves.
                done = settled.entries[-1].numbers.last
                waiting = [work for work in waiting if work.batch.numbers.first > done]

    def hold(self, batch: Batch, code: str, message: str) -> Settled:
        """Commit the rows of `batch` as held, without transforming them."""
        settled = Settled(batch.numbers.first, len(batch.rows))
        self._commit_all(_Work(_held(self._with_rows(batch), code, message), carefully), settled)
        return settled

    def _transform(self, batch: Batch, done: Callable[[int], None]) -> Sequence[Outcome]:
        if self.target.assigned is not None or not batch.rows:
            return [{}] * len(batch.rows)
        seen = itemgetter(slice(self.target.key_width, self.target.reads_end))
        seconds = BATCH_SECONDS if batch.numbers.can_split else math.inf
        return self.transformer.run(self.target.reads, list(map(seen, batch.rows)), done, seconds)

    def _first_way(self) -> Settle:
        if self.target.assigned is not None:
            return in_sql
        sql_can_tell = self.target.writer.exact_guard and not self.target.journalled
        return exactly if sql_can_tell and self._false_alarms < FALSE_ALARMS else carefully

    def _advance(self, work: _Work, settled: Settled) -> list[_Work]:
        """Try to commit. What is left to do for it, last first: nothing once it is in the ledger."""
        work = replace(work, attempts=(*work.attempts, str(uuid4())))
        try:
            entry = self._commit(work)
        except Missed:
            return [replace(work, settle=carefully)]
        except DBAPIError as error:
            arrived = self._committed(work)
            if arrived is None:
                return self._after(error, work, settled)
            entry = arrived
        except (BadValue, StatementError, OverflowError, UnicodeEncodeError) as error:
            if isinstance(error, StatementError) and not isinstance(error.orig, _OF_A_VALUE):
                raise  # a statement of ours that is wrong, whatever the row
            # Not the database but its driver refuses a value, before anything is sent.
            return self._isolate(error, work, VALUE_REFUSED, f"the driver refuses a value ({_kind(error)})", settled)
        self._note_false_alarm(work, entry)
        settled.entries.append(entry)
        return []

    def _commit(self, work: _Work) -> Entry:
        with self.limit.reservation() as reserved:
            return commit_batch(
                self.database, self.run, self.target, work.batch, work.attempts[-1], work.settle, reserved.approve
            )

    def _committed(self, work: _Work) -> Entry | None:
        """The entry of an attempt whose COMMIT arrived although it looked otherwise."""

        def look(connection: Connection) -> Entry | None:
            runs.check_fence(connection, self.database.dialect, self.run)
            found = ledger.find(connection, work.attempts)
            if found is None and ledger.covers(connection, self.run, work.batch.pass_number, work.batch.numbers.first):
                raise LeaseLost(self.run.name, "somebody else has committed the same range")
            return found

        entry = self.database.ask(look, self.progress.waiting)
        if entry is not None:
            self.limit.add(entry.changed)
        return entry

    def _after(self, error: DBAPIError, work: _Work, settled: Settled) -> list[_Work]:
        """What an error calls for, once the ledger has said that nothing was committed."""
        dialect = self.database.dialect
        reason = dialect.describe(error)
        match dialect.fault(error):
            case Fault.ROW if dialect.is_too_large(error) and work.settle is exactly:
                return [replace(work, settle=carefully)]  # which does not send the old values once more
            case Fault.ROW:
                code = CONSTRAINT_VIOLATION if dialect.is_violation(error) else VALUE_REFUSED
                code = ROW_TOO_LARGE if dialect.is_too_large(error) else code
                return self._isolate(error, work, code, reason, settled)
            case Fault.RETRY:
                return self._make_way(error, work, reason, settled)
            case Fault.WAIT | Fault.LOST:
                self._wait(reason, len(work.attempts), settled)
                # Lost again and again with the same batch, it may be what the server does not take, by its size.
                too_often = dialect.fault(error) is Fault.LOST and len(work.attempts) % LOSSES == 0
                return (self._halves(work) if too_often else []) or [work]
        raise error

    def _isolate(self, error: Exception, work: _Work, code: str, reason: str, settled: Settled) -> list[_Work]:
        """Halve the batch until the row that was refused is alone, and hold it."""
        settled.hindered = True
        if halves := self._halves(work):
            return halves
        batch = self._with_rows(work.batch)
        if len(batch.rows) > 1 or all(isinstance(outcome, Held) for outcome in batch.outcomes):
            raise error  # it has no numbers left to be halved with, or the refusal is not of a new value
        return [replace(work, batch=_held(batch, code, reason), settle=carefully)]

    def _make_way(self, error: DBAPIError, work: _Work, reason: str, settled: Settled) -> list[_Work]:
        """Try again around what is locked; then with half of the rows; one row a few times, and no more."""
        settled.hindered = True
        hindrances = work.hindrances + 1
        if hindrances > 1 and (halves := self._halves(work)):
            return halves
        if hindrances == TRIES:
            raise error
        self._wait(reason, hindrances, settled)
        settle = work.settle if work.settle is in_sql else around_locks
        return [replace(work, settle=settle, hindrances=hindrances)]

    def _halves(self, work: _Work) -> list[_Work]:
        """The two halves, the first one last; none if the batch is one row, or has but one number."""
        batch = self._with_rows(work.batch)
        if len(batch.rows) < 2 or not batch.numbers.can_split:
            return []
        # The attempts stay: a COMMIT of the whole may still be on its way.
        halves = reversed(batch.halves(self.target))
        return [_Work(half, self._first_way(), work.attempts) for half in halves]

    def _with_rows(self, batch: Batch) -> Batch:
        """The batch with its rows: a range that is changed in SQL has not read them yet."""
        if batch.rows or batch.named is not None or self.target.assigned is None:
            return batch
        query = self.target.batch(batch.lower, batch.upper, None)
        rows = self.database.ask(lambda connection: self.target.fetch(connection, query), self.progress.waiting)
        return replace(batch, rows=rows, outcomes=[{}] * len(rows))

    def _note_false_alarm(self, work: _Work, entry: Entry) -> None:
        sql_missed = work.settle is carefully and len(work.attempts) > 1
        if sql_missed and not entry.deferred and not entry.vanished and not entry.held:
            self._false_alarms += 1

    def _wait(self, reason: str, times: int, settled: Settled) -> None:
        self.progress.waiting(reason)
        began = self.clock.monotonic()
        until = began + min(_LONGEST_PAUSE, _PAUSE_SECONDS * 2 ** min(times, 10))
        while (left := until - self.clock.monotonic()) > 0:
            self.heed()
            self.clock.sleep(min(left, _WAIT_SLICE))
        settled.waited_seconds += self.clock.monotonic() - began


def _held(batch: Batch, code: str, message: str) -> Batch:
    return replace(batch, outcomes=[Held(code, message)] * len(batch.rows))


def _kind(error: Exception) -> str:
    """What went wrong, without its text, which may quote the value."""
    cause = error.orig if isinstance(error, StatementError) else error.__cause__
    return type(cause or error).__name__

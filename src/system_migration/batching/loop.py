"""The batch loop: plan ranges of the key, read them, and hand them to the threads that settle them (see `settling`).

One thread plans. Killed anywhere, the loop starts again from the numbers the ledger lacks.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from system_migration.batching.commit import Batch
from system_migration.batching.crew import Crew, sensible_size
from system_migration.batching.keys import Key
from system_migration.batching.pace import Pace
from system_migration.batching.ranges import NAMED_ROWS, Gap, Numbers
from system_migration.batching.reading import Page, Reader
from system_migration.batching.settling import Settled, Settler
from system_migration.batching.sizing import BatchSize
from system_migration.batching.suspicion import INNOCENT, KILLED_MESSAGE, KILLED_THE_RUNNER, Suspect
from system_migration.batching.target import Target
from system_migration.batching.throttle import RateLimit
from system_migration.batching.writes import RawRow
from system_migration.clock import Clock
from system_migration.errors import MigrationFailed, Paused
from system_migration.migration import Progress
from system_migration.store import issues, ledger, runs
from system_migration.store.database import Database
from system_migration.store.dialects import Fault
from system_migration.store.ledger import Entry
from system_migration.store.patience import BRIEF
from system_migration.store.runs import Attempt

_T = TypeVar("_T")
PASSES = 5
"""Passes that may still find new rows before the run pauses: writers are adding them faster than we finish."""
COMPACT_EVERY = 500
"""So many batches later their ledger rows are put into one."""
MEASURED_BATCHES = 4
"""So many batches are settled one by one before the number of threads is chosen."""
_LOOK_SECONDS = 0.2
RESTLESS = "some rows changed again in every one of the last passes. Run it again by name in a quieter hour."


@dataclass
class Finished:
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
    def rows(self) -> int:
        return self.changed + self.unchanged + self.held + self.vanished


@dataclass
class BatchLoop:
    """Drives one run of a batch migration over its table.

    `heed` is called before each batch and several times a second while the loop waits; it raises to end the run
    (a signal, a request, a lost lease) and may block to hold it. `workers` is what the operator wants, or None.
    """

    database: Database
    target: Target
    run: Attempt
    settler: Settler
    reader: Reader
    progress: Progress
    clock: Clock
    heed: Callable[[], None]
    size: BatchSize
    rate: RateLimit
    finished: Finished
    workers: int | None = None
    total: int | None = None
    upper_bound: Key | None = None
    stop_after_issues: int | None = None
    after_batch: Callable[[Entry], None] = lambda entry: None
    notice: Callable[[str], None] = lambda text: None
    sized: Callable[[int, int], None] = lambda batch_size, workers: None
    committed: Callable[[Entry], None] = lambda entry: None
    _crew: Crew[Settled] = field(init=False)
    _held_before: bool = field(default=False, init=False)
    _began_with: int = field(init=False)
    _under_way: set[int] = field(default_factory=set, init=False)
    _last_first: deque[int] = field(default_factory=lambda: deque(maxlen=COMPACT_EVERY), init=False)
    _since_compaction: int = field(default=COMPACT_EVERY, init=False)
    _measured: list[Settled] = field(default_factory=list, init=False)
    _pace: Pace = field(default_factory=Pace, init=False)
    _read_seconds: float = field(default=0.0, init=False)
    _in_hand: int = field(default=0, init=False)
    _put_off: list[Key] = field(default_factory=list, init=False)
    _turn: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self._crew = Crew(self.workers or 1)
        self._began_with = self.size.rows

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The loop's threads live as long as the block. Batches in their hands are finished, also after an error."""
        self._held_before = self.finished.held > 0
        self._tell_size()
        try:
            yield
        finally:
            for settled in self._crew.dismiss():
                self._note(settled)

    def run_passes(self, first_pass: int) -> None:
        """Work until nothing is left. `Interrupted`, `Paused`, `LeaseLost`, `MigrationFailed`: all resumable."""
        if self.target.pending is None:
            self._walk(1, self.upper_bound)
            self._redo_deferred()
        else:
            self._sweep(first_pass)

    def walk_once(self, pass_number: int) -> None:
        """One pass over the target's window, and no sweep after it."""
        self._walk(pass_number, self.reader.highest_key())

    def retry_held(self, pass_number: int, digests: Collection[str] | None = None) -> None:
        """Try the held rows again and no others, each released in the transaction of its batch.

        With `digests` only those whose keys have them.
        """
        if self.target.pending is None:
            self._redo_deferred()  # of a retry that died: this one's numbers would pass for their redo
            pass_number = self._last_pass() + 1
        keys = self._ask(lambda connection: issues.held_keys(connection, self.run, digests))
        self._do_named(pass_number, keys, released=True)
        if self.target.pending is None:
            self._redo_deferred()
            return
        for number in range(pass_number + 1, pass_number + 1 + PASSES):
            put_off, self._put_off = self._put_off, []
            if not put_off:
                return
            self._do_named(number, put_off, released=False)
        if self._put_off:
            raise Paused(self.run.name, RESTLESS)

    def _do_named(self, pass_number: int, keys: Sequence[Key], *, released: bool) -> None:
        """Named rows and no others, under numbers that no walk of a pass uses."""
        gap = Gap(self._ask(lambda connection: ledger.next_named(connection, self.run)), None, None, None)
        at_once = min(self._began_with, self.target.at_once)
        for start in range(0, len(keys), at_once):
            part = tuple(keys[start : start + at_once])
            batch = self._named(pass_number, gap.next_share(), part)
            self._hand_over(replace(batch, releases=released))
            gap = gap.after(batch.numbers, None)
        self._drain()

    def _named(self, pass_number: int, numbers: Numbers, keys: tuple[Key, ...]) -> Batch:
        """A batch of these rows, as far as they are still there and need the change; the others count as vanished."""
        rows = self.reader.named_rows(keys)
        return Batch(pass_number, numbers, None, None, rows, (), vanished=len(keys) - len(rows), named=keys)

    def _sweep(self, first_pass: int) -> None:
        for number in range(first_pass, first_pass + PASSES + 1):
            self._walk(number, self.reader.highest_key())
            if self._last_pass() < number:
                return
            self._held_before = self.finished.held > 0
        raise Paused(
            self.run.name,
            f"{PASSES} passes over the table all found new rows: writers still add rows that need the migration. "
            "Deploy the code that writes the new form first, then run it again by name.",
        )

    def _redo_deferred(self) -> None:
        """Rows that changed under a batch's hands are done again, under the same numbers of the next pass."""
        newest = self._last_pass()
        while put_off := self._ask(lambda connection: ledger.deferred_ranges(connection, self.run)):
            oldest = put_off[0].pass_number
            if oldest >= newest + PASSES:
                raise Paused(self.run.name, RESTLESS)
            for deferred in put_off:
                if deferred.pass_number == oldest:
                    self._hand_over(self._named(oldest + 1, deferred.numbers, tuple(deferred.keys)))
            self._drain()

    def _last_pass(self) -> int:
        return self._ask(lambda connection: ledger.last_pass(connection, self.run))

    def _ask(self, question: Callable[[Connection], _T]) -> _T:
        return self.database.ask(question, self.progress.waiting)

    def _walk(self, pass_number: int, bound: Key | None) -> None:
        if bound is None:
            return  # the table was empty when the pass began
        self._leave_out_held()
        for gap in self._ask(lambda connection: ledger.missing(connection, self.run, pass_number)):
            self._walk_gap(pass_number, gap if gap.is_closed else replace(gap, upper=bound))
        self._drain()

    def _walk_gap(self, pass_number: int, gap: Gap) -> None:
        suspect = Suspect.look(self.database, self.run, pass_number, gap, self._began_with, self.progress.waiting)
        while True:
            limit = None if gap.must_close else self._rows_wanted(suspect)
            page = self._page(gap, limit)
            if page.reached is None and not gap.is_closed:
                return
            reached = gap.upper if page.exhausted and gap.is_closed else page.reached
            kept = self._without_held(page.rows)
            if kept or self.reader.leaves_rows or self.target.pending is None or gap.is_closed:
                numbers = gap.all_numbers() if page.exhausted else gap.next_share()
                named = tuple(map(self.target.key_of, kept)) if self.reader.by_name else None
                self._hand_over(Batch(pass_number, numbers, gap.lower, reached, kept, (), named=named), suspect)
                gap = gap.after(numbers, reached)
            else:
                gap = gap.beyond(reached)
            if page.exhausted:
                return
            suspect = suspect.after_a_batch(gap)

    def _page(self, gap: Gap, limit: int | None) -> Page:
        self.heed()
        began = self.clock.monotonic()
        while True:
            try:
                page = self.reader.page(gap.lower, gap.upper, limit)
            except DBAPIError as error:
                if limit in (None, 1) or self.database.dialect.fault(error) is not Fault.RETRY:
                    raise
                limit, self.size = max(1, (limit or 1) // 2), self.size.halved()  # it took longer than it may
            else:
                self._read_seconds += self.clock.monotonic() - began
                return page

    def _rows_wanted(self, suspect: Suspect) -> int:
        wanted = self.rate.rows_at_once(self.size.rows)
        return wanted if suspect.allowed is None else min(wanted, suspect.allowed)

    def _leave_out_held(self) -> None:
        """Held rows must not be changed in SQL again. Rows that are read are left out one by one.

        Too many for one statement to name, they are: its rows are read then, and named.
        """
        if self.target.assigned is not None and self._held_before:
            held = self._ask(lambda connection: issues.held_keys(connection, self.run))
            self.reader.by_name = len(held) > self.target.at_once
            left_out = () if self.reader.by_name else held
            self.reader.target = self.settler.target = self.target.without(left_out)

    def _without_held(self, rows: Sequence[RawRow]) -> Sequence[RawRow]:
        if not self._held_before or not rows:
            return rows  # within one pass a row is met once, so what this pass holds cannot come again
        portions = self.target.portions([self.target.key_of(row) for row in rows])
        held: set[Key] = set()
        for keys in portions:
            held |= self._ask(lambda connection, keys=keys: issues.held_among(connection, self.run, keys))  # type: ignore[misc]
        return [row for row in rows if self.target.key_of(row) not in held]

    def _hand_over(self, batch: Batch, suspect: Suspect = INNOCENT) -> None:
        """Have a batch settled by whoever is free, or wait until somebody is."""
        if suspect.must_be_alone:
            self._drain()
        while self._crew.is_full:
            self._collect(patiently=True)
        self.heed()
        self._under_way.add(batch.numbers.first)
        self._last_first.append(batch.numbers.first)
        rows = len(batch.rows) or self.rate.rows_at_once(self.size.rows)  # changed in SQL, they are not read
        self._wait(self.rate.wait_after(rows, self.clock.monotonic()))
        if suspect.must_hold and len(batch.rows) <= 1:
            self._crew.hand_over(partial(self.settler.hold, batch, KILLED_THE_RUNNER, KILLED_MESSAGE))
        else:
            self._crew.hand_over(partial(self.settler.settle, batch, self._advance))
        self._collect()
        if suspect.must_be_alone:
            self._drain()

    def _drain(self) -> None:
        """Wait until nothing is under way."""
        while not self._crew.is_idle:
            self._collect(patiently=True)
        self._collect()

    def _collect(self, *, patiently: bool = False) -> None:
        """Take note of what is finished."""
        if patiently:
            self.heed()
        for settled in self._crew.finished(patiently=patiently):
            self._count(settled)
            self._learn(settled)
            self._tell_size()
            self._compact(settled)
            self._check_issue_limit()

    def _count(self, settled: Settled) -> None:
        self._note(settled)
        for entry in settled.entries:
            self.after_batch(entry)

    def _note(self, settled: Settled) -> None:
        self._under_way.discard(settled.first_number)
        with self._turn:
            self._in_hand -= settled.advanced
        for entry in settled.entries:
            self.finished.add(entry)
            self.committed(entry)
            if entry.numbers.first >= NAMED_ROWS:
                self._put_off += entry.deferred
        self.progress.rows(self.finished.rows + self._in_hand, self.total, self.finished.held)

    def _advance(self, rows: int) -> None:
        """Rows that some thread has transformed and not yet committed, for who watches."""
        with self._turn:
            self._in_hand += rows
        self.progress.rows(self.finished.rows + self._in_hand, self.total, self.finished.held)

    def _learn(self, settled: Settled) -> None:
        """Fit the size of the batches and the number of threads to what was measured."""
        seconds = settled.transform_seconds + settled.write_seconds
        if settled.hindered:
            self.size = self.size.halved()
        else:
            self.size = self.size.after(settled.rows, seconds, settled.write_seconds)
        said = self._pace.note(
            settled.rows,
            self._read_seconds,
            settled.transform_seconds,
            settled.write_seconds,
            settled.waited_seconds,
        )
        self._read_seconds = 0.0
        if said is not None:
            self.notice(said)
        if self.workers is None and len(self._measured) < MEASURED_BATCHES:
            self._measured.append(settled)
            self._choose_workers()

    def _tell_size(self) -> None:
        self.sized(self.rate.rows_at_once(self.size.rows), self._crew.size)

    def _choose_workers(self) -> None:
        if len(self._measured) != MEASURED_BATCHES:
            return
        transforming = sum(settled.transform_seconds for settled in self._measured)
        writing = sum(settled.write_seconds for settled in self._measured)
        self._crew.size = sensible_size(transforming, writing, many_write=self.database.dialect.is_server)

    def _compact(self, settled: Settled) -> None:
        """Put the ledger rows of batches long past into one, so that asking what is done stays cheap."""
        self._since_compaction += len(settled.entries)
        if self._since_compaction < COMPACT_EVERY or not settled.entries:
            return
        self._since_compaction = 0
        below = min([self._last_first[0], *self._under_way])
        number = settled.entries[0].pass_number

        def compact(connection: Connection) -> None:
            keep = self.target.pending is None
            ledger.compact(connection, self.run, number, below, keep_deferred=keep)
            runs.check_fence(connection, self.database.dialect, self.run)

        with suppress(DBAPIError):  # it only saves room, and the next time it may be done
            self.database.transact(compact, patience=BRIEF)

    def _check_issue_limit(self) -> None:
        if self.stop_after_issues is not None and self.finished.held >= self.stop_after_issues:
            raise MigrationFailed(
                self.run.name,
                f"{self.finished.held} rows are held, and the run was to stop at {self.stop_after_issues}. "
                f"See `migration issues {self.run.name}`.",
            )

    def _wait(self, seconds: float) -> None:
        until = self.clock.monotonic() + seconds
        while (left := until - self.clock.monotonic()) > 0:
            self.heed()
            self._collect()
            self.clock.sleep(min(left, _LOOK_SECONDS))

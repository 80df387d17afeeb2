"""What a run says of itself: passed on to who watches, announced, and remembered for the heartbeat to write down.

The running side only replaces values in memory: a watcher in another process never slows a batch.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

from system_migration.facts import (
    Announce,
    BatchCommitted,
    Began,
    Ended,
    Waits,
    WhichRun,
    tell_nobody,
)
from system_migration.migration import Progress
from system_migration.store.ledger import Entry
from system_migration.store.pulses import LONGEST_PHASE, LONGEST_REASON, Said, number, shortened


@runtime_checkable
class SeesStaff(Protocol):
    """A `Progress` that also shows which workers of a cluster work."""

    def staff(self, text: str) -> None: ...


class Voice:
    """The `Progress` of one run. It passes on all that it is told, and knows what was said last.

    Told from several threads, so each fact is one value that is replaced, never changed. Rows that move, and a phase
    that begins, end a wait. What happens to the run is announced once it is told which run that is.
    """

    def __init__(self, watcher: Progress, announce: Announce = tell_nobody) -> None:
        self._watcher, self._announce = watcher, announce
        self._run: WhichRun | None = None
        self._phase: str | None = None
        self._rows: tuple[int | None, int | None] = None, None
        self._waiting: str | None = None
        self._size: tuple[int | None, int | None] = None, None
        self._staff: str | None = None

    def said(self) -> Said:
        """What was said last of each."""
        return Said(self._phase, *self._rows, self._waiting, *self._size, self._staff)

    def started(self, migration: str, run_id: str) -> None:
        self._watcher.started(migration, run_id)

    def phase(self, migration: str, phase: str) -> None:
        self._phase, self._size = shortened(str(phase), LONGEST_PHASE), (None, None)
        self._waiting = None
        self._watcher.phase(migration, phase)

    def rows(self, done: int, total: int | None, held: int) -> None:
        rows = number(done), number(total)
        if rows != self._rows:
            self._rows, self._waiting = rows, None
        self._watcher.rows(done, total, held)

    def waiting(self, reason: str) -> None:
        before, self._waiting = self._waiting, shortened(str(reason), LONGEST_REASON)
        self._watcher.waiting(reason)
        if self._run is not None and self._waiting != before:
            self._announce(Waits(self._run, datetime.now(UTC), self._waiting))

    # --- beyond what a `Progress` is told ------------------------------------------------------------------------

    def remark(self, text: str) -> None:
        """Something for who watches that is no reason to wait, though a `Progress` has no other word for it."""
        self._watcher.waiting(text)

    def staff(self, text: str) -> None:
        """Which workers of a cluster work from now on."""
        self._staff = shortened(text, LONGEST_REASON)
        if isinstance(self._watcher, SeesStaff):
            self._watcher.staff(text)

    def goes_on(self) -> None:
        """A wait is over, though no rows move yet."""
        self._waiting = None

    def sized(self, batch_size: int, workers: int) -> None:
        """How many rows a batch takes from now on, and how many write at once."""
        self._size = batch_size, workers

    # --- what happens to the run ---------------------------------------------------------------------------------

    def began(self, run: WhichRun, *, taken_over: bool = False) -> None:
        """From here on the run is this one, and it is on the record."""
        self._run = run
        self._announce(Began(run, datetime.now(UTC), taken_over))

    def committed(self, entry: Entry, seconds: float | None = None) -> None:
        """A batch is in the ledger. `seconds` where the entry does not know how long it took."""
        if self._run is not None:
            took = entry.seconds if seconds is None else seconds
            done = entry.rows_read, entry.changed, entry.held, entry.vanished
            self._announce(BatchCommitted(self._run, datetime.now(UTC), *done, took))

    def ended(
        self,
        outcome: str,
        rows: int = 0,
        held: int = 0,
        *,
        error: str | None = None,
        error_type: str | None = None,
        of: WhichRun | None = None,
    ) -> None:
        """The run is over for this process, and so it is on the record. `of` a run that never began here."""
        run = of or self._run
        if run is not None:
            self._run = None
            self._announce(Ended(run, datetime.now(UTC), outcome, rows, held, error, error_type))

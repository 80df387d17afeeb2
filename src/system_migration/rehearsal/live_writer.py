"""The promise that an application may write meanwhile: nothing of it is lost, and no new value is made of an old one.

The writes come between the reading and the writing of a batch, in the very thread of the run, so that nothing is left
to luck. What must come of it is what comes of the same writes done before the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, event

from system_migration.errors import MigrationSystemError
from system_migration.migration import SilentProgress
from system_migration.rehearsal.acts import ADDED, DELETED, Act, copy_of, do, edit_like
from system_migration.rehearsal.edges import is_heartbeat, writes
from system_migration.rehearsal.fingerprints import Change, Key, Snapshot
from system_migration.rehearsal.naming import keys_of, where
from system_migration.rehearsal.report import Broken, Kept, NotCovered, Outcome
from system_migration.rehearsal.stage import BATCHES, Scratch, Stage
from system_migration.store.dialects.base import WRITES

MIGRATING = "migrating"


def nothing_is_lost(stage: Stage) -> Outcome:
    """Run beside a writer, then compare with the writer first and the run after it."""
    rows = [change for change in stage.changed if change.kind == "changed" and stage.keys.get(change.table)]
    if len(rows) < 2:
        return NotCovered("fewer than two rows are changed, so there is none that a writer could meet.")
    with stage.fresh() as scratch:
        writer = Writer(stage, scratch, [change for change in rows if change.table == rows[0].table])
        meeting = _between_batches if stage.batches is not None else _before_writes
        try:
            with meeting(scratch, writer):
                scratch.run()
        except MigrationSystemError as error:
            return Broken(f"While an application wrote to its rows, the run did not complete: {error}")
        if not writer.done:
            return Kept(f"nobody else could write meanwhile{writer.why}.")
        return _judge(stage, writer, scratch.snapshot())


def _judge(stage: Stage, writer: Writer, found: Snapshot) -> Outcome:
    if stage.batches is None and not stage.differences(_written_after(stage, writer.done), found):
        return Kept(_said(writer.done))  # as if the run had come first: for `up` either order will do
    differing = stage.differences(_written_before(stage, writer.done), found)
    if not differing:
        return Kept(_said(writer.done))
    return Broken(
        f"An application wrote to its rows between reading and writing, and {where(differing)} became something else "
        "than if that had come first: a write is lost, or a value was made of what is no longer there.",
        keys_of(differing),
    )


def _said(done: list[Act]) -> str:
    """How many rows were written to, and how."""
    kinds = Counter(act.kind for act in done)
    return f"{', '.join(f'{number} {kind}' for kind, number in kinds.items())} meanwhile."


def _written_before(stage: Stage, done: list[Act]) -> Snapshot:
    """What the same writes and then a run come to. Rows that only the ledger knows are added after the run."""
    migration = stage.batches
    late = migration is not None and not migration().has_pending
    with stage.fresh() as scratch:
        for act in done:
            if not (late and act.kind == ADDED):
                do(scratch.engine, act)
        scratch.run()
        for act in done:
            if late and act.kind == ADDED:
                do(scratch.engine, act)
        return scratch.snapshot()


def _written_after(stage: Stage, done: list[Act]) -> Snapshot:
    tables = {name: dict(rows) for name, rows in stage.after.tables.items()}
    for act in done:
        tables[act.table][act.key] = {**tables[act.table].get(act.key, {}), **act.values}
    return Snapshot(tables)


@dataclass
class Writer:
    """An application that edits, deletes and adds rows. `done` are the writes that the database took."""

    stage: Stage
    scratch: Scratch
    rows: list[Change]
    done: list[Act] = field(default_factory=list)
    why: str = ""
    _visits: int = 0

    def meet_batch(self) -> None:
        """Write to the rows of the batch that has just been read."""
        size = self.stage.options.batch_size or 1
        batch = self.rows[self._visits * size : (self._visits + 1) * size]
        self._visits += 1
        if not batch or self._visits > BATCHES:
            return  # a later pass
        self._write(self._edit(batch[0].key))
        if len(batch) > 2:
            self._write(Act(DELETED, batch[0].table, self._key_columns, batch[1].key, {}))
            self._write(copy_of(self.stage.before, batch[0].table, self._key_columns, batch[-1].key, self._visits))

    def meet_up(self) -> None:
        """Write, once, to the last of the rows that `up` is about to change."""
        self._visits += 1
        if self._visits == 1:
            self._write(self._edit(self.rows[-1].key))

    @property
    def _key_columns(self) -> tuple[str, ...]:
        return self.stage.keys[self.rows[0].table]

    def _edit(self, key: Key) -> Act:
        """Make it like another row that becomes something else."""
        own = next(change for change in self.rows if change.key == key)
        others = [change for change in self.rows if change.key != key]
        donor = next((change for change in others if change.new != own.new and change.old != own.old), others[0])
        return edit_like(self.stage.before, own.table, self._key_columns, key, donor.key)

    def _write(self, act: Act | None) -> None:
        if act is not None and do(self.scratch.engine, act):
            self.done.append(act)


class _Phases(SilentProgress):
    """Which phase a run is in."""

    now = ""

    def phase(self, migration: str, phase: str) -> None:
        self.now = phase


@contextmanager
def _between_batches(scratch: Scratch, writer: Writer) -> Iterator[None]:
    """Before the transaction of a batch begins whose rows, or whose end, have been read."""
    table = writer.rows[0].table
    read = False

    def after(connection: Connection, _cursor: Any, sql: str, _p: Any, _x: Any, _many: bool) -> None:
        nonlocal read
        mine = table in sql and "ORDER BY" in sql and not connection.get_execution_options().get(WRITES)
        read = read or (phases.now == MIGRATING and mine)

    def to_begin(_: Connection, options: dict[str, Any]) -> None:
        nonlocal read
        if read and options.get(WRITES) and not is_heartbeat():
            read = False
            writer.meet_batch()

    # The option is set before the transaction begins; the event of its beginning would come after SQLite's BEGIN.
    phases = _Phases()
    listeners = (("after_cursor_execute", after), ("set_connection_execution_options", to_begin))
    with _listening(scratch, phases, *listeners):
        yield


@contextmanager
def _before_writes(scratch: Scratch, writer: Writer) -> Iterator[None]:
    """Before `up` writes for the first time what it has made of what it has read."""
    dialect = scratch.database.dialect

    def before(connection: Connection, _cursor: Any, sql: str, _p: Any, _x: Any, _many: bool) -> None:
        if phases.now != MIGRATING or not writes(sql):
            return
        if dialect.is_server or not dialect.in_transaction(connection):
            writer.meet_up()
        else:
            writer.why = ": SQLite has one writer"

    phases = _Phases()
    with _listening(scratch, phases, ("before_cursor_execute", before)):
        yield


@contextmanager
def _listening(scratch: Scratch, phases: _Phases, *listeners: tuple[str, Callable[..., Any]]) -> Iterator[None]:
    engine, usual = scratch.database.engine, scratch.migrator
    scratch.migrator = usual.acting_as("rehearsal", phases)
    for name, listener in listeners:
        event.listen(engine, name, listener)
    try:
        yield
    finally:
        scratch.migrator = usual
        for name, listener in listeners:
            event.remove(engine, name, listener)

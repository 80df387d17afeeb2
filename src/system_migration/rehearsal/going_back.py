"""The promise that what can be rolled back is as it was, but for what was written since, and can be run again."""

from __future__ import annotations

from dataclasses import replace

from system_migration.errors import MigrationSystemError
from system_migration.rehearsal import fingerprints
from system_migration.rehearsal.acts import EDITED, Act, do
from system_migration.rehearsal.fingerprints import Change, Snapshot
from system_migration.rehearsal.naming import keys_of, where
from system_migration.rehearsal.report import Broken, Kept, NotCovered, Outcome
from system_migration.rehearsal.stage import Scratch, Stage


def rolls_back(stage: Stage) -> Outcome:
    """Edit one migrated row, roll back, compare, run again, compare."""
    if not stage.migration.rollbackable:
        return NotCovered("it cannot be rolled back, and says so.")
    try:
        scratch = stage.completed_elsewhere()
        ended, edit = scratch.snapshot(), _edit(stage, scratch)
        scratch.migrator.rollback(stage.name)
    except MigrationSystemError as error:
        return Broken(f"It could not be rolled back: {error}")
    found = scratch.snapshot()
    if edit is not None and any(found.row(edit.table, edit.key).get(n) != v for n, v in edit.values.items()):
        return Broken(
            f"Rolling back overwrote what was written to {edit.table} after the run: restore only rows that still hold "
            "what the migration wrote.",
            [fingerprints.Change(edit.table, edit.key, "changed", (), {}, {}).shown],
        )
    if lost := [change for change in _not_restored(stage, found) if not _is_of(change, edit)]:
        return Broken(f"Rolling back did not restore {where(lost)}.", keys_of(lost))
    return _again(stage, scratch, ended, edit)


def _again(stage: Stage, scratch: Scratch, ended: Snapshot, edit: Act | None) -> Outcome:
    """Give the edited row its old values by hand, as an operator would, and run."""
    if edit is not None:
        old = next(change.old for change in stage.changed if _is_of(change, edit))
        columns = next(change.columns for change in stage.changed if _is_of(change, edit))
        do(scratch.engine, replace(edit, values={name: old.get(name) for name in columns}))
    try:
        scratch.run()
    except MigrationSystemError as error:
        return Broken(f"Rolled back, it could not be run again: {error}")
    differing = stage.differences(ended, scratch.snapshot())
    if differing:
        return Broken(f"Rolled back and run again, it made something else of {where(differing)}.", keys_of(differing))
    return Kept()


def _edit(stage: Stage, scratch: Scratch) -> Act | None:
    """Write another row's new value to a migrated row, as an application might afterwards."""
    rows = [change for change in stage.changed if change.kind == "changed" and stage.keys.get(change.table)]
    ended = scratch.snapshot()
    for change in rows:
        for other in rows:
            name = change.columns[0]
            value = ended.row(other.table, other.key).get(name)
            if other.table != change.table or value in (None, change.new.get(name), change.old.get(name)):
                continue
            act = Act(EDITED, change.table, stage.keys[change.table], change.key, {name: value})
            if do(scratch.engine, act):
                return act
    return None


def _not_restored(stage: Stage, found: Snapshot) -> list[Change]:
    """What is not as it was, of the columns and tables that there were: what `prepare` added may stay."""
    before = stage.before
    names = {table: {name for cells in rows.values() for name in cells} for table, rows in before.tables.items()}
    known = {
        table: {
            key: {name: value for name, value in cells.items() if name in names[table] or not names[table]}
            for key, cells in rows.items()
        }
        for table, rows in found.tables.items()
        if table in names
    }
    return list(fingerprints.changes(stage.settled(before), stage.settled(Snapshot(known))))


def _is_of(change: Change, edit: Act | None) -> bool:
    return edit is not None and (change.table, change.key) == (edit.table, edit.key)

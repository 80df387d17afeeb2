"""The promise that verification notices damage: a migrated row that is not what the migration made of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from system_migration.batch_migration import BatchMigration
from system_migration.errors import MigrationSystemError
from system_migration.rehearsal import fingerprints
from system_migration.rehearsal.acts import ADDED, DELETED, EDITED, Act, do
from system_migration.rehearsal.fingerprints import Change
from system_migration.rehearsal.naming import keys_of, where
from system_migration.rehearsal.report import Broken, Kept, NotCovered, Outcome
from system_migration.rehearsal.stage import Scratch, Stage

OLD, NULL, ANOTHER, GONE = "its old value", "NULL", "another row's value", "deleted"
TRIED_EACH = 2
"""So many rows are damaged in each way."""


@dataclass(frozen=True)
class Damage:
    """One row made wrong, and how it is mended."""

    way: str
    change: Change
    harm: Act
    cure: Act


def verify_notices(stage: Stage) -> Outcome:
    """Damage single rows, one at a time, and verify; where that is not noticed, all rows at once."""
    migration = stage.migration
    if not migration.defines("verify", "check"):
        brings = "neither check nor verify" if issubclass(migration, BatchMigration) else "no verify"
        return Broken(f"It brings {brings}: nothing proves what a run has done, and damage goes unnoticed.")
    damages = list(_damages(stage))
    tried = {way: [damage for damage in damages if damage.way == way] for way in (OLD, NULL, ANOTHER, GONE)}
    noticed, missed = 0, []
    for each in tried.values():
        done = [
            damage for damage in each[:TRIED_EACH] if (found := _noticed(stage, [damage])) is not None and not found
        ]
        noticed += bool(each) and not done
        missed += [(done, each)] if done else []
    if changed := list(fingerprints.changes(stage.after, stage.main.snapshot())):
        return Broken(f"Its verification changed {where(changed)}: it may only read.", keys_of(changed))
    if not damages:
        return NotCovered("the run changed no row that could be damaged.")
    return _judge(stage, noticed, missed)


def _judge(stage: Stage, noticed: int, missed: list[tuple[list[Damage], list[Damage]]]) -> Outcome:
    sampled = False
    for rows, alike in missed:
        if len(alike) > TRIED_EACH and _noticed(stage, alike):
            sampled = True
            continue
        keys = keys_of(damage.change for damage in rows)
        if not noticed:
            return Broken("Its verification passes whatever the rows hold: no damage to any row was noticed.", keys)
        way = GONE if rows[0].way == GONE else f"set to {rows[0].way}"
        return Broken(f"Its verification does not notice a migrated row that is {way}.", keys)
    return Kept("verification looks at a sample: damage of a single row may pass." if sampled else "")


def _damages(stage: Stage) -> Iterator[Damage]:
    rows = [change for change in stage.changed if stage.keys.get(change.table)]
    for place, change in enumerate(rows):
        names = stage.keys[change.table]
        if change.kind == "added":
            harm, cure = (Act(kind, change.table, names, change.key, change.new) for kind in (DELETED, ADDED))
            yield Damage(GONE, change, harm, cure)
        elif change.kind == "changed":
            now = {name: change.new.get(name) for name in change.columns}
            cure = Act(EDITED, change.table, names, change.key, now)
            for way, values in _values(change, rows[place + 1 :] + rows[:place]):
                if values != now:
                    yield Damage(way, change, Act(EDITED, change.table, names, change.key, values), cure)


def _values(change: Change, others: Sequence[Change]) -> Iterator[tuple[str, dict[str, object]]]:
    yield OLD, {name: change.old.get(name) for name in change.columns}
    yield NULL, dict.fromkeys(change.columns)
    for other in others:
        values = {name: other.new.get(name) for name in change.columns}
        if (
            other.table == change.table
            and other.kind == "changed"
            and all(values[name] != change.new.get(name) for name in change.columns)
        ):
            yield ANOTHER, values
            return


def _noticed(stage: Stage, damages: Sequence[Damage]) -> bool | None:
    """Whether verification fails; None where the database does not take the damage. All is mended afterwards."""
    scratch = stage.main
    done = [damage for damage in damages if do(scratch.engine, damage.harm)]
    try:
        return not _verified(scratch) if done else None
    finally:
        for damage in done:
            do(scratch.engine, damage.cure)


def _verified(scratch: Scratch) -> bool:
    try:
        [report] = scratch.migrator.verify(scratch.stage.name)
    except MigrationSystemError:
        return False
    return report.verified

"""The promise that verification notices damage: a migrated row that is not what the migration made of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event

from system_migration.batch_migration import BatchMigration
from system_migration.errors import MigrationSystemError
from system_migration.rehearsal import user_code
from system_migration.rehearsal.acts import ADDED, DELETED, EDITED, Act, do
from system_migration.rehearsal.edges import writes
from system_migration.rehearsal.fingerprints import Change
from system_migration.rehearsal.naming import keys_of
from system_migration.rehearsal.overwriting import odd, overwritten, was_null
from system_migration.rehearsal.report import Broken, Kept, NotCovered, Outcome
from system_migration.rehearsal.stage import Scratch, Stage
from system_migration.wording import shown

OLD, NULL, ANOTHER, GONE, ODD = "its old value", "NULL", "another row's value", "deleted", "an odd value"
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
    if place := _writing(stage):
        return Broken(f"Its verification writes to the database (at {place}): it may only read.")
    lost = overwritten(stage) & {name for change in stage.changed for name in change.columns}
    found = [_tried(stage, way, damages) for way, damages in _by_way(stage).items() if lost or way != ODD]
    if not any(tried.damages for tried in found):
        return NotCovered("the run changed no row that could be damaged.")
    return _judge_overwriting(stage, found, lost) if lost else _judge(stage, found, found)


@dataclass(frozen=True)
class Tried:
    """One way of damage: all rows that can be damaged so, and those of the tried ones that passed verification."""

    way: str
    damages: Sequence[Damage]
    passed: Sequence[Damage]
    noticed: int


def _by_way(stage: Stage) -> dict[str, list[Damage]]:
    found: dict[str, list[Damage]] = {way: [] for way in (OLD, NULL, ANOTHER, GONE, ODD)}
    for damage in _damages(stage):
        found[damage.way].append(damage)
    return found


def _tried(stage: Stage, way: str, damages: Sequence[Damage]) -> Tried:
    found = [(damage, _noticed(stage, [damage])) for damage in damages[:TRIED_EACH]]
    passed = [damage for damage, noticed in found if noticed is False]
    return Tried(way, damages, passed, sum(noticed is True for _, noticed in found))


def _judge(stage: Stage, found: Sequence[Tried], wanted: Sequence[Tried]) -> Outcome:
    """Broken unless every way in `wanted` was noticed."""
    missed = [tried for tried in wanted if tried.passed]
    unnoticed = [tried for tried in missed if len(tried.damages) <= TRIED_EACH or not _noticed(stage, tried.damages)]
    if not unnoticed:
        return Kept("verification looks at a sample: damage of a single row may pass." if missed else "")
    keys = keys_of(damage.change for damage in unnoticed[0].passed)
    if not any(tried.noticed for tried in found):
        return Broken("Its verification passes whatever the rows hold: no damage to any row was noticed.", keys)
    way = GONE if unnoticed[0].way == GONE else f"set to {unnoticed[0].way}"
    return Broken(f"Its verification does not notice a migrated row that is {way}.", keys)


def _judge_overwriting(stage: Stage, found: Sequence[Tried], lost: Set[str]) -> Outcome:
    """Judge without what nothing in a row can tell, once what it was made of is overwritten."""
    telling = [tried for tried in found if tried.way not in (OLD, ANOTHER) and not _by_right(stage, tried)]
    noticed = any(tried.noticed for tried in found)
    # An odd value may be a good one by chance: it counts only where nothing else was noticed either.
    judged = _judge(stage, found, [tried for tried in telling if not noticed or tried.way != ODD])
    if isinstance(judged, Broken) or not any(tried.passed for tried in found):
        return judged
    why = (
        f"what a row was made of is overwritten ({', '.join(map(shown, sorted(lost)))}), so that one which holds its "
        "old value, or another row's, is not covered: nothing in the row tells."
    )
    return Kept(" ".join(filter(None, (judged.note, why)))) if noticed and isinstance(judged, Kept) else NotCovered(why)


def _by_right(stage: Stage, tried: Tried) -> bool:
    """Whether this is NULL where rows that nobody changes hold it too."""
    return tried.way == NULL and any(was_null(stage, each.change.table, each.change.columns) for each in tried.passed)


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
    yield ODD, odd({name: change.new.get(name) for name in change.columns})
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


def _writing(stage: Stage) -> str | None:
    """Where the migration's own code writes while it verifies, if it does."""
    files, places = user_code.files_of(stage.migration), list[str]()

    def before(_c: Any, _cursor: Any, sql: str, _p: Any, _x: Any, _many: bool) -> None:
        frame = user_code.caller_among(files, sys._getframe(1)) if writes(sql) else None
        if frame is not None:
            places.append(user_code.place(frame))

    engine = stage.main.database.engine
    event.listen(engine, "before_cursor_execute", before)
    try:
        _verified(stage.main)
    finally:
        event.remove(engine, "before_cursor_execute", before)
    return places[0] if places else None


def _verified(scratch: Scratch) -> bool:
    try:
        [report] = scratch.migrator.verify(scratch.stage.name)
    except MigrationSystemError:
        return False
    return report.verified

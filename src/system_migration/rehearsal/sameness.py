"""The promise that the same rows become the same values: in any order, in any batch, at any time, by no chance.

A run that is resumed transforms rows anew, in another process and in other batches.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from system_migration.batch_migration import BatchMigration
from system_migration.batching import keys
from system_migration.batching.transform import Held, Outcome, prepared, transform_rows
from system_migration.errors import MigrationSystemError
from system_migration.records import RunOptions
from system_migration.rehearsal import user_code
from system_migration.rehearsal.generated import MOVING
from system_migration.rehearsal.naming import keys_of, where
from system_migration.rehearsal.report import Broken, Kept
from system_migration.rehearsal.report import Outcome as Found
from system_migration.rehearsal.spying import Spied, spying
from system_migration.rehearsal.stage import BATCHES, Scratch, Stage
from system_migration.running import table_guards

DECLARE = "If it must be so, as with salted hashes, declare deterministic = False and let check(row) or verify judge."
SEED = 20_000
MOST_ROWS_BY_ONE = 12
"""So many rows are also tried one by one."""


def same_row_same_value(stage: Stage) -> Found:
    """Transform the same rows in several ways, before anything is written."""
    migration = stage.batches
    if migration is None:
        return Kept("it works through up(), which is judged by its runs.")
    if not migration.deterministic:
        return Kept(_DECLARED)
    if migration.defines("assign"):
        return _expressions(stage.main, migration) or Kept()
    return _transformed(stage.main, migration) or Kept()


def same_in_other_batches(stage: Stage) -> Found:
    """Run in other batches on another scratch database, and compare."""
    return _in_other_batches(stage, stage.open_another()) if stage.migration.deterministic else Kept(_DECLARED)


_DECLARED = "declared as not deterministic, so verification alone judges the values."


# The rows alone


def _transformed(scratch: Scratch, migration: type[BatchMigration]) -> Broken | None:
    found, columns, rows = _rows(scratch, migration)
    ways: list[Sequence[int]] = [range(len(rows)), range(len(rows)), range(len(rows))[::-1], _shuffled(len(rows))]

    def transform(instance: BatchMigration, order: Sequence[int]) -> list[Outcome]:
        outcomes = transform_rows(instance, columns, [rows[place] for place in order])
        return [outcome for _, outcome in sorted(zip(order, outcomes, strict=True), key=lambda pair: pair[0])]

    first_instance = prepared(migration)
    with spying(user_code.files_of(migration)) as spied:
        first = transform(first_instance, ways[0])
    fresh, *others = (transform(prepared(migration), order) for order in ways[1:])
    again = transform(first_instance, ways[0])
    if spied.clock:
        return Broken(f"Its transform reads the clock ({spied.clock}): another day, another value. {DECLARE}")
    if differing := _differing(found, first, fresh):
        return Broken(_by_itself(spied), differing)
    for other in [*others, again]:
        if differing := _differing(found, first, other):
            return Broken(
                "Its transform depends on the rows that came before: in another order the same row becomes another "
                "value. Make it depend on its row alone.",
                differing,
            )
    return None


def _by_itself(spied: Spied) -> str:
    if spied.chance:
        return f"Its transform depends on chance ({spied.chance}): the same row becomes another value. {DECLARE}"
    return (
        "Its transform depends on what the process did before, kept outside of the row: a process that resumes the run "
        "makes other values. Make it depend on its row alone."
    )


def _rows(
    scratch: Scratch, migration: type[BatchMigration]
) -> tuple[list[Any], tuple[str, ...], list[tuple[Any, ...]]]:
    """Keys, the columns that transform sees, and their values, of the rows that need the change."""
    database = scratch.database
    with database.read() as connection:
        instance = migration()
        target = table_guards.survey(connection, database.dialect, instance, RunOptions()).target
        assert target is not None
        rows = target.fetch(connection, target.batch(None, None, None))
    found = [keys.shown(target.key_of(row)) for row in rows]
    return found, target.reads, [tuple(row[target.key_width : target.reads_end]) for row in rows]


def _shuffled(count: int) -> list[int]:
    order = list(range(count))
    random.Random(SEED).shuffle(order)
    return order


def _differing(found: Sequence[Any], one: Sequence[Outcome], other: Sequence[Outcome]) -> list[Any]:
    return [key for key, a, b in zip(found, one, other, strict=True) if _plain(a) != _plain(b)]


def _plain(outcome: Outcome) -> Any:
    return outcome.code if isinstance(outcome, Held) else outcome


# Expressions


def _expressions(scratch: Scratch, migration: type[BatchMigration]) -> Broken | None:
    instance = migration()
    with scratch.database.read() as connection:
        survey = table_guards.survey(connection, scratch.database.dialect, instance, RunOptions())
        assert survey.target is not None
        for name, value in (survey.target.assigned or {}).items():
            text = str(select(value).compile(dialect=connection.dialect))
            if found := MOVING.search(text):
                return Broken(
                    f"Its assign of {name} is another value each time ({found[0].strip('( ')} in SQL), so a batch that "
                    f"is tried again differs. {DECLARE}"
                )
    return None


# The whole run


def _in_other_batches(stage: Stage, scratch: Scratch) -> Found:
    options = _others(stage)
    try:
        with spying(user_code.files_of(stage.migration)) as spied:
            scratch.run(options)
    except MigrationSystemError as error:
        return Broken(f"In batches of {options.batch_size} the run did not complete: {error}")
    changed = stage.differences(stage.after, scratch.snapshot())
    if stage.batches is None and spied.clock:
        return Broken(f"It reads the clock ({spied.clock}): another day, another value. {DECLARE}", keys_of(changed))
    if not changed:
        return Kept()
    if stage.batches is None and spied.chance:
        sentence = f"It depends on chance ({spied.chance}): a second run made other values. {DECLARE}"
        return Broken(sentence, keys_of(changed))
    return Broken(
        f"In batches of {options.batch_size} instead of {stage.options.batch_size} it made something else of "
        f"{where(changed)}: the result depends on the batch size, or on the rows done before.",
        keys_of(changed),
    )


def _others(stage: Stage) -> RunOptions:
    """Other batches than the first run had: single rows if they are few; and two workers, where there can be."""
    usual = stage.options.batch_size or 1
    few = usual <= MOST_ROWS_BY_ONE // BATCHES
    return RunOptions(batch_size=1 if few and usual != 1 else 2 * usual, workers=2 if stage.batches is not None else 1)

"""What a journal asks of a run: leave to keep it, the schema it belongs to, and how much room it will take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, inspect
from sqlalchemy.exc import CompileError, NoSuchTableError

from system_migration import undoing
from system_migration.batch_migration import BatchMigration
from system_migration.batching.target import Target
from system_migration.errors import Refused
from system_migration.running.run_log import RunLog
from system_migration.running.workspace import Workspace
from system_migration.store import journal, migrations, runs
from system_migration.store.journal import Image
from system_migration.store.runs import Attempt

PIN = migrations.JOURNAL_PIN
SAMPLE_ROWS = 200
_NULL_BYTES = 40
"""What a value is taken to need that is NULL before: nobody knows yet what it becomes."""


def check(connection: Connection, migration: BatchMigration, target: Target) -> None:
    """Raise `Refused` when the changes must not, or cannot, be journalled. For the preflight; nothing is written."""
    if not migration.keeps_journal():
        return
    if secret := undoing.sensitive_column(type(migration)):
        raise Refused(
            f"Migration {migration.name} would copy the sensitive column {secret!r} into its journal, to be able "
            "to undo itself. Set journal_sensitive = True if old values may be kept until `migration prune`, or set "
            "rollbackable = False, or write down()."
        )
    estimate(connection, target, 0)


def estimate(connection: Connection, target: Target, rows: int) -> int:
    """How many bytes of journal `rows` changes will take, from a sample of rows as they are now.

    Raises `Refused` for a column whose values have no lossless form.
    """
    sample = target.fetch(connection, target.batch(None, None, SAMPLE_ROWS))
    if not sample:
        return 0
    images = [(target.key_of(row), target.image(row)) for row in sample]
    try:
        total = sum(journal.image_bytes(Image(key, values, values)) for key, values in images)
    except TypeError as error:
        raise Refused(
            f"Changes of table {target.physical.name!r} cannot be journalled: {error}. Declare the column with a "
            "plain type, or write down() and let it undo the change, or set rollbackable = False."
        ) from None
    total += _NULL_BYTES * sum(value is None for _, values in images for value in values)
    return total * rows // len(sample)


def bytes_of_change(row: Sequence[Any], target: Target, after: Mapping[str, Any]) -> int:
    """How much journal one change takes, as far as its new values have a form; the database may store others."""
    before = target.image(row)
    try:
        return journal.image_bytes(Image(target.key_of(row), before, (*after.values(), *before[len(target.writes) :])))
    except TypeError:
        return 0


def begin(
    workspace: Workspace, migration: BatchMigration, target: Target, attempt: Attempt, log: RunLog, rows: int
) -> None:
    """Bind the journal to the schema as it is, and say how large it will become. Before the first batch of a run.

    A schema that moved on between two attempts does not stop the run, but its journal is of no use any more.
    """
    if not target.journalled:
        return
    with workspace.database.read() as connection:
        size = estimate(connection, target, rows)
        now = signature(connection, migration)
        row = migrations.read(connection, attempt.environment, attempt.name)
    log.info("the journal of %d rows will take about %.1f MiB", rows, size / 2**20)
    pinned = row.pins.get(PIN) if row else None
    if pinned is None:
        workspace.database.transact(lambda c: _pin(workspace, c, attempt, now), workspace.progress.waiting)
    elif pinned != now:
        log.warning("%s; this migration can no longer be rolled back", difference(pinned, now))


def _pin(workspace: Workspace, connection: Connection, attempt: Attempt, signature: str) -> None:
    row = migrations.read(connection, attempt.environment, attempt.name)
    assert row is not None
    migrations.pin(connection, attempt.environment, attempt.name, row.pins | {PIN: signature})
    runs.check_fence(connection, workspace.database.dialect, attempt)


def signature(connection: Connection, migration: BatchMigration) -> str:
    """The table, its key and its written columns with their types, as the database has them now."""
    schema = None if isinstance(migration.table, str) else migration.table.schema
    inspector = inspect(connection)
    try:
        key = inspector.get_pk_constraint(migration.table_name, schema)["constrained_columns"]
        found = {column["name"]: column for column in inspector.get_columns(migration.table_name, schema)}
    except NoSuchTableError:
        key, found = [], {}
    types = {name: _type(connection, found[name]) for name in (*key, *migration.writes) if name in found}
    return json.dumps({"table": migration.table_name, "key": key, "types": types}, sort_keys=True)


def _type(connection: Connection, column: Mapping[str, Any]) -> str:
    try:
        return str(column["type"].compile(dialect=connection.dialect))
    except CompileError:  # a type that this SQLAlchemy does not know
        return repr(column["type"])


def difference(then: str, now: str) -> str:
    """What moved on between two signatures, as the beginning of a sentence."""
    old, new = json.loads(then), json.loads(now)
    if (old["table"], old["key"]) != (new["table"], new["key"]):
        return f"the migration's table or its key is not {old['table']!r} ({', '.join(old['key'])}) any more"
    for name, kind in old["types"].items():
        if name not in new["types"]:
            return f"column {name!r} of {old['table']!r}, which was journalled, is gone or no longer declared"
        if new["types"][name] != kind:
            return f"column {name!r} of {old['table']!r} was {kind} when it was journalled and is {new['types'][name]}"
    return f"the migration declares other columns of {old['table']!r} than it journalled"


def check_texts(connection: Connection, run: Attempt, columns: Sequence[str]) -> None:
    """Read the whole journal, and raise `Refused` unless every part is what was written."""
    part = journal.newest_part(connection, run)
    while part is not None:
        if part.images is None or part.columns != tuple(columns):
            raise Refused(
                f"Migration {run.name} cannot be rolled back: part {part.id} of its journal is damaged. Restore the "
                "table from a backup, or undo the change by a migration of its own."
            )
        part = journal.newest_part(connection, run, part.id)


def demand_possible(connection: Connection, run: Attempt, pins: Mapping[str, str], migration: BatchMigration) -> None:
    """Raise `Refused`, with the reason, unless everything the generation changed can be undone from its journal."""
    reason = undoing.obstacle(connection, run, pins)
    if reason is not None:
        raise Refused(
            f"Migration {run.name} cannot be rolled back: {reason} Restore from a backup, or undo the change by a "
            "migration of its own."
        )
    now, then = signature(connection, migration), pins.get(PIN)
    if then is not None and then != now:
        raise Refused(
            f"Migration {run.name} cannot be rolled back: the schema has moved on, {difference(then, now)}. Undo that "
            "change first, or undo the migration by one of its own."
        )
    check_texts(connection, run, migration.writes)

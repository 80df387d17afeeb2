"""What must be true of a table before its rows are changed in batches. Everything here only reads.

A problem refuses the start; a warning goes to the log, for the run can do its work, only perhaps not as it is wished.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sqlalchemy import ColumnClause, Connection, Table, func, literal, select
from sqlalchemy.sql import visitors

from system_migration.batch_migration import BatchMigration
from system_migration.batching.resolution import resolve
from system_migration.batching.target import Target
from system_migration.errors import Refused
from system_migration.records import RunOptions
from system_migration.schema_changes import SchemaChanges
from system_migration.store.dialects import Dialect

LARGE = 10_000
"""Rows from which a walk that reads the whole table for each batch is refused."""
_BATCH = 100


@dataclass
class Findings:
    """What is wrong with a table, and what is merely worth knowing; each a sentence with its remedy."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Survey:
    """A batch migration's table as a run would meet it."""

    schema: SchemaChanges
    target: Target
    findings: Findings


def survey(connection: Connection, dialect: Dialect, migration: BatchMigration, options: RunOptions) -> Survey:
    """Plan `prepare`, find the table and examine it. Raises `Refused` when the table or a column is not there."""
    check_is_table(connection, dialect, migration)
    schema = SchemaChanges(connection, perform=False)
    migration.prepare(schema)
    target = resolve(connection, migration, schema.columns_of(migration.table_name))
    return Survey(schema, target, examine(connection, dialect, target, allow_scan=options.allow_scan))


def check_is_table(connection: Connection, dialect: Dialect, migration: BatchMigration) -> None:
    """Raise `Refused` when batches cannot be written to the migration's table, whatever its columns are."""
    schema = migration.table.schema if isinstance(migration.table, Table) else None
    reason = dialect.inspection.not_a_table(connection, migration.table_name, schema)
    if reason is not None:
        raise Refused(f"{migration.table_name!r} {reason}. Migrate a table with transactions and a primary key.")


def examine(connection: Connection, dialect: Dialect, target: Target, *, allow_scan: bool = False) -> Findings:
    """Rights and hidden rows, triggers, and how the database would walk the table."""
    findings = Findings()
    _examine_rights(connection, dialect, target, findings)
    if not findings.problems:  # without the rights nothing more can be asked
        _examine_triggers(connection, dialect, target, findings)
        _examine_walk(connection, dialect, target, findings, allow_scan=allow_scan)
    return findings


def _examine_rights(connection: Connection, dialect: Dialect, target: Target, findings: Findings) -> None:
    table = target.physical
    there = [name for name in _read_columns(target) if name in table.c]
    written = [name for name in target.writes if name in table.c]
    missing = dialect.inspection.missing_rights(connection, table, there, written)
    if missing:
        findings.problems.append(
            f"The role lacks {', '.join(missing)} of table {table.name!r}. Grant it, or run as a role that has it."
        )
    if dialect.inspection.hides_rows(connection, table):
        findings.problems.append(
            f"Row-level security hides rows of table {table.name!r} from this role, so they would be left out "
            "unnoticed. Run as a role with BYPASSRLS, or as the owner where the security is not forced."
        )


def _read_columns(target: Target) -> list[str]:
    """The columns that the statements of a run read: key, declared ones, and those `pending` asks about."""
    names = dict.fromkeys([*(column.name for column in target.physical.primary_key.columns), *target.columns])
    if target.pending is not None:
        elements = visitors.iterate(target.pending)
        names |= dict.fromkeys(
            part.name for part in elements if isinstance(part, ColumnClause) and part.table is target.table
        )
    return list(names)


def _examine_triggers(connection: Connection, dialect: Dialect, target: Target, findings: Findings) -> None:
    name = target.physical.name
    for trigger in dialect.inspection.update_triggers(connection, target.physical, target.writes):
        if trigger.instead:
            findings.problems.append(
                f"The rule {trigger.name!r} of {name!r} does something else instead of an UPDATE, so the rows would "
                "stay as they are. Drop or disable the rule first."
            )
        else:
            findings.warnings.append(
                f"Trigger {trigger.name!r} of {name!r} acts on every row that is written "
                f"({', '.join(target.writes)}): it costs time and may do more than the migration says."
            )


def _examine_walk(
    connection: Connection, dialect: Dialect, target: Target, findings: Findings, *, allow_scan: bool
) -> None:
    if allow_scan or not _is_large(connection, target):
        return
    first = connection.execute(target.lowest_keys(1)).one_or_none()
    lower = tuple(first) if first is not None else None
    name = target.physical.name
    # By the key alone first: with `pending` the database may rightly prefer an index of the few rows that are left.
    if dialect.inspection.sorts(connection, replace(target, pending=None).batch(lower, None, _BATCH)):
        key = ", ".join(column.name for column in target.physical.primary_key.columns)
        findings.problems.append(
            f"A walk by ({key}) needs an index on {name} ({key}) that has the rows in this order: without one the "
            "database reads and sorts the table again for every batch. Create it, or accept that with --allow-scan."
        )
    elif target.pending is not None and dialect.inspection.sorts(connection, target.batch(lower, None, _BATCH)):
        findings.warnings.append(
            f"The database expects few rows of {name!r} to need the change, and would look for all of them again for "
            "every batch. If there are many, let it count them first (ANALYZE)."
        )


def _is_large(connection: Connection, target: Target) -> bool:
    """Counted and not estimated: statistics may be missing or old."""
    some = select(literal(1).label("one")).select_from(target.physical).limit(LARGE).subquery()
    return bool(connection.execute(select(func.count()).select_from(some)).scalar_one() >= LARGE)

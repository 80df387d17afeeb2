"""What a rollback from the journal would do: the same comparison, in the same order, with nothing locked or written."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection

from system_migration.batch_migration import BatchMigration
from system_migration.batching import images
from system_migration.batching.images import Values
from system_migration.batching.keys import Key, shown
from system_migration.batching.target import Target
from system_migration.errors import Refused
from system_migration.migration import Migration
from system_migration.records import DryRunReport, HeldSample, empty_report
from system_migration.running import undo_batches
from system_migration.running.contexts import heed_stop
from system_migration.running.undo_comparison import intact, listed_among, sort
from system_migration.running.workspace import Workspace
from system_migration.states import RunKind, Status
from system_migration.store import journal
from system_migration.store.issues import CHANGED, VANISHED
from system_migration.store.journal import Part
from system_migration.store.migrations import MigrationRow
from system_migration.store.runs import Attempt

_SHOWN_KEYS = 10
_NOT_COVERED = (
    "the writes themselves: constraints, triggers and the time that writing takes",
    "rows that the application changes until the rollback has dealt with them",
    "schema changes that prepare() made: a rollback leaves them",
)


@dataclass
class _Findings:
    """What the parts compared so far came to. Restored rows are remembered while an older part may have them too."""

    restorable: int = 0
    listed: dict[Key, str] = field(default_factory=dict)
    restored: dict[Key, Values] = field(default_factory=dict)


def dry_run(workspace: Workspace, migration: type[Migration], row: MigrationRow | None) -> DryRunReport:
    """Compare all journalled rows. Raises `Refused` as the rollback would."""
    if row is None or row.status not in (Status.COMPLETED, Status.FAILED, Status.PAUSED):
        state = row.status if row else Status.PENDING
        raise Refused(f"Migration {migration.name} is {state}; there is no finished work to roll back.")
    if not migration.rollbackable:
        raise Refused(f"Migration {migration.name} cannot be rolled back: it declares rollbackable = False.")
    if not (issubclass(migration, BatchMigration) and migration.keeps_journal()):
        return empty_report(migration.name, not_covered=["down(): it is not rehearsed"])
    place = Attempt("", row.environment, row.name, row.generation, RunKind.ROLLBACK, 0)
    target = undo_batches.plan(workspace, migration(), place, row)
    findings = _Findings()
    with workspace.database.read() as connection:
        total, first = journal.size(connection, place).rows, journal.first_pass(connection, place)
        part = journal.newest_part(connection, place, journal.undone_from(connection, place))
        while part is not None:
            heed_stop(workspace)
            _compare(connection, place, target, part, findings, has_older=part.pass_number != first)
            part = journal.newest_part(connection, place, part.id)
    return _report(migration.name, total, findings)


def _compare(
    connection: Connection, run: Attempt, target: Target, part: Part, findings: _Findings, *, has_older: bool
) -> None:
    changes = intact(part)
    current = images.read(connection, target, [image.key for image in changes])
    current |= {image.key: findings.restored[image.key] for image in changes if image.key in findings.restored}
    listed = listed_among(connection, run, target, changes) | findings.listed.keys()
    rows = sort(changes, current, listed)
    findings.restorable += len(rows.restorable)
    findings.listed |= {key: code for key, code, _ in rows.listed}
    if has_older:
        findings.restored |= {image.key: image.before for image in rows.restorable}


def _report(name: str, total: int, findings: _Findings) -> DryRunReport:
    return empty_report(
        name,
        rows=total,
        examined=total,
        complete=True,
        would_change=findings.restorable,
        would_hold=len(findings.listed),
        held=[_held(findings, code) for code in (CHANGED, VANISHED) if code in findings.listed.values()],
        not_covered=list(_NOT_COVERED),
    )


def _held(findings: _Findings, code: str) -> HeldSample:
    keys = [key for key, found in findings.listed.items() if found == code]
    return HeldSample(code, len(keys), [shown(key) for key in keys[:_SHOWN_KEYS]])

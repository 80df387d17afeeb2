"""Deleting a journal on purpose, in small transactions, and never that of an unfinished run."""

from __future__ import annotations

from sqlalchemy import Connection

from system_migration.errors import HeldElsewhere, Refused
from system_migration.migration import Migration
from system_migration.records import Pruned
from system_migration.running.workspace import Workspace
from system_migration.states import Status
from system_migration.store import audit, journal, migrations
from system_migration.store.migrations import MigrationRow

PARTS_AT_ONCE = 20
FINISHED = (Status.COMPLETED, Status.ROLLED_BACK, Status.SKIPPED)


def prune(workspace: Workspace, migration: type[Migration]) -> Pruned:
    """Delete the journals of all finished generations. Raises `Refused` when there is none to delete.

    Dying half-way leaves a journal that says of itself that it is pruned; pruning again deletes the rest.
    """
    environment, name = workspace.environment, migration.name
    last = workspace.database.transact(lambda c: _give_up(workspace, c, name), workspace.progress.waiting)
    rows = parts = 0
    while True:
        deleted = workspace.database.transact(
            lambda c: journal.delete_some(c, environment, name, last, PARTS_AT_ONCE), workspace.progress.waiting
        )
        if not deleted.parts:
            break
        rows, parts = rows + deleted.rows, parts + deleted.parts
    with workspace.database.write() as connection:
        audit.add_event(connection, environment, name, "pruned", workspace.actor, {"rows": rows, "parts": parts})
    return Pruned(name, rows, parts)


def _give_up(workspace: Workspace, connection: Connection, name: str) -> int:
    """Say, before anything is deleted, that the generation cannot be undone; the last generation to prune."""
    row = migrations.read(connection, workspace.environment, name)
    workspace.demand_unchanged(connection, name, row)
    if row is None:
        raise Refused(f"Migration {name} has no journal: it never ran here.")
    if row.held_by is not None:
        raise HeldElsewhere(name, row.held_by)
    last = row.generation if row.status in FINISHED else row.generation - 1
    if not journal.has_any(connection, row.environment, name, last):
        raise Refused(_nothing(row))
    if last == row.generation:
        migrations.pin_finished(connection, row, migrations.PRUNED_PIN, "yes")
    audit.add_event(connection, row.environment, name, "prune_started", workspace.actor, {"generations": last})
    return last


def _nothing(row: MigrationRow) -> str:
    if row.status in FINISHED:
        return f"Migration {row.name} has no journal to prune."
    return f"Migration {row.name} is {row.status}: the journal of its unfinished work is kept, and there is no other."

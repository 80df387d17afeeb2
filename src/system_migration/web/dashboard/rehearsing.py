"""What a dry run was one of: its report alone does not tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from system_migration.migrator import Migrator
from system_migration.records import Event, Run
from system_migration.states import RunKind


def rehearsed_rollback(migrator: Migrator, runs: Sequence[Run]) -> bool:
    """Whether the first dry run of these runs, which is the newest, rehearsed a rollback. Asks the database."""
    newest = next((run for run in runs if run.kind is RunKind.DRY_RUN), None)
    return newest is not None and is_of_a_rollback(migrator.events_after(newest))


def is_of_a_rollback(events: Iterable[Event]) -> bool:
    """Whether a dry run with these events rehearsed a rollback."""
    return any(event.detail.get("look") == "rollback" for event in events)

"""The run that a path names."""

from __future__ import annotations

from uuid import UUID

from system_migration.errors import Refused, UnknownRun
from system_migration.migrator import Migrator
from system_migration.records import Followed


def find(migrator: Migrator, run_id: str) -> Followed:
    """The run as it stands now. Raises `UnknownRun`, also for what cannot be an id."""
    try:
        known = str(UUID(run_id)) == run_id
    except ValueError:
        known = False
    if not known:
        raise UnknownRun(run_id)
    return migrator.run_by_id(run_id)


def find_latest(migrator: Migrator, run_id: str) -> Followed:
    """The run, if it is the one by which its migration stands where it stands. Raises `UnknownRun` or `Refused`."""
    followed = find(migrator, run_id)
    current = migrator.current_run(followed.run.migration)
    if current is None or current.id != run_id:
        raise Refused(
            f"This is not the latest run of migration {followed.run.migration}; GET /migration/runs lists them."
        )
    return followed

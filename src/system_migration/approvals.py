"""Whether a run needs an approval here, which one it has, and which report could be approved. Only asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy import Connection

from system_migration import evidence
from system_migration.migration import Migration
from system_migration.records import Approval, ApprovalState, RunOptions
from system_migration.settings import PRODUCTION
from system_migration.store import approvals as store
from system_migration.store.approvals import Kept
from system_migration.store.migrations import MigrationRow

SHOWN_DIGITS = 12
"""So many digits of a hash are shown, and are enough to name a report."""
_LOOKED_AT = 20
"""Among so many dry runs of the same migration one is looked for that could be approved."""


def is_required(connection: Connection, environment: str) -> bool:
    """Whether REQUIRE_APPROVAL holds: in production, and on production's database under whatever name."""
    return PRODUCTION in (environment, store.bound_environment(connection))


def standing(connection: Connection, environment: str, migration: type[Migration], generation: int) -> Approval | None:
    """The newest approval of a migration. `void` says why nothing can be started on it, whatever the options."""
    found = store.newest(connection, environment, migration.name)
    if found is None or found.void is not None:
        return found
    basis = {"generation": found.generation, "code": found.code}
    return replace(found, void=evidence.outdated(basis, migration, generation))


def approvable(connection: Connection, environment: str, migration: type[Migration], generation: int) -> Iterator[Kept]:
    """The reports that could be approved now, the newest first; looked for among the newest few."""
    for kept in store.reports(connection, environment, migration.name, limit=_LOOKED_AT):
        if evidence.outdated(kept.report["basis"], migration, generation) is None:
            yield kept


def fitting(
    connection: Connection, environment: str, migration: type[Migration], generation: int, options: RunOptions
) -> str | None:
    """The hash of the newest report that could be approved for a start with these options."""
    wanted = evidence.parameters(options)
    found = approvable(connection, environment, migration, generation)
    return next((str(kept.report["hash"]) for kept in found if kept.report["basis"]["parameters"] == wanted), None)


def state(
    connection: Connection, environment: str, migration: type[Migration], row: MigrationRow | None, *, setting: bool
) -> ApprovalState:
    """All that a person should know of it. `setting` is REQUIRE_APPROVAL, as this process has it."""
    place = connection, environment, migration, row.generation if row is not None else 1
    newest = next(approvable(*place), None)
    return ApprovalState(
        required=setting and is_required(connection, environment),
        approval=standing(*place),
        approvable=None if newest is None else str(newest.report["hash"]),
        approvable_run=None if newest is None else newest.run_id,
    )

"""What an operator asks of a run that is going: one word on the migration's row, which its runner looks at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, and_, select, update

from system_migration.states import Status
from system_migration.store import tables
from system_migration.store.migrations import MigrationRow

migration = tables.migration.c


class Request(StrEnum):
    """What can be asked."""

    PAUSE = "pause"
    CANCEL = "cancel"


@dataclass(frozen=True)
class Asked:
    """A request, and who made it."""

    request: Request
    by: str


def ask(connection: Connection, row: MigrationRow, request: Request, by: str) -> bool:
    """Leave a request for the runner, if the migration still is RUNNING as `row` says, its request included.

    The row's version stays: the runner's own change of status must not fail because of it, and ends the request.
    """
    asked = connection.execute(
        update(tables.migration)
        .where(
            _is(row.environment, row.name),
            migration.status == Status.RUNNING.value,
            migration.row_version == row.row_version,
            migration.request.is_not_distinct_from(row.request),
        )
        .values(request=request.value, requested_by=by)
    )
    return asked.rowcount == 1


def withdraw(connection: Connection, row: MigrationRow) -> bool:
    """Take back the request that `row` tells of; False where the runner has obeyed it, or another took its place."""
    withdrawn = connection.execute(
        update(tables.migration)
        .where(
            _is(row.environment, row.name),
            migration.row_version == row.row_version,
            migration.request == row.request,
        )
        .values(request=None, requested_by=None)
    )
    return withdrawn.rowcount == 1


def asked(connection: Connection, environment: str, name: str) -> Asked | None:
    """What is asked of the run now. One look by primary key, without a lock.

    What only a newer program could ask is nothing to this one, which goes on.
    """
    query = select(migration.request, migration.requested_by).where(_is(environment, name))
    row = connection.execute(query).one_or_none()
    if row is None or row.request not in tuple(Request):
        return None
    return Asked(Request(row.request), row.requested_by or "an operator")


def _is(environment: str, name: str) -> ColumnElement[bool]:
    return and_(migration.environment == environment, migration.name == name)

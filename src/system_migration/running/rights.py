"""Missing rights are told before the start, and as a refusal: nothing failed, somebody has to grant something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from system_migration.errors import Refused
from system_migration.store import tables
from system_migration.store.dialects import Dialect

ON_TRACKING = (
    "Let a privileged role grant SELECT, INSERT, UPDATE and DELETE on the system_migration_ tables, and USAGE on their "
    "sequences."
)

_ADDED_TO = (
    *(tables.migration, tables.lease, tables.run, tables.ledger, tables.issue, tables.death, tables.journal),
    *(tables.log, tables.event, tables.event_link),
)
_CHANGED = (tables.migration, tables.run, tables.lease, tables.death, tables.event_head)


@contextmanager
def needed(
    dialect: Dialect, remedy: str = "Grant this role the right, or run as a role that has it."
) -> Iterator[None]:
    """Within the block, what a missing right makes fail is `Refused` instead."""
    try:
        yield
    except DBAPIError as error:
        if dialect.denied(error):
            raise Refused(f"A right is missing. {dialect.describe(error)}. {remedy}") from error
        raise


def check_tracking(connection: Connection, dialect: Dialect) -> None:
    """Raise `Refused` when this role may not write our tables, before the first batch finds out."""
    missing = dialect.inspection.missing_table_rights(connection, _ADDED_TO, _CHANGED)
    if missing:
        raise Refused(f"The role lacks {', '.join(missing)}, needed for the record of what is done. {ON_TRACKING}")

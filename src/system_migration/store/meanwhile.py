"""What became of a migration since somebody looked at it, told in one sentence to whoever wanted to act."""

from __future__ import annotations

from sqlalchemy import Connection, select

from system_migration.errors import ChangedMeanwhile
from system_migration.states import Status
from system_migration.store import tables

migration, event = tables.migration.c, tables.event.c

_DEEDS = {
    "run_started": "{} started it",
    "rollback_started": "{} began to roll it back",
    "takeover": "{} took it over",
    "completed": "the run of {} completed it",
    "rolled_back": "{} rolled it back",
    "failed": "the run of {} failed",
    "paused": "the run of {} paused",
    "cancelled": "the run of {} was cancelled",
    "interrupted": "the run of {} was interrupted",
    "skipped": "{} skipped it",
    "reset": "{} reset it",
    "pause_asked": "{} asked it to pause",
    "cancel_asked": "{} asked it to end",
    "pause_at_once": "{} paused it",
    "cancel_at_once": "{} cancelled it",
    "pause_withdrawn": "{} took its pause back",
    "prune_started": "{} pruned its journal",
    "pruned": "{} pruned its journal",
    "approve": "{} approved it",
    "withdraw-approval": "{} withdrew its approval",
}
"""What moves a migration on, by the action of its audit entry."""


def changed(connection: Connection, environment: str, name: str) -> ChangedMeanwhile:
    """The refusal of an act that was decided by an older state: where it stands, since when and by whom."""
    place = environment, name
    return ChangedMeanwhile(name, f"Migration {name} is {_status(connection, *place)} now{_deed(connection, *place)}.")


def begun(connection: Connection, environment: str, name: str, held_by: str) -> ChangedMeanwhile:
    """The refusal of an act on what another runner has in its hands, though it may not have started yet."""
    status = _status(connection, environment, name)
    return ChangedMeanwhile(name, f"Migration {name} is {status}, and {held_by} is at work on it now.")


def _status(connection: Connection, environment: str, name: str) -> str:
    query = select(migration.status).where(migration.environment == environment, migration.name == name)
    return connection.execute(query).scalar_one_or_none() or Status.PENDING.value


def _deed(connection: Connection, environment: str, name: str) -> str:
    query = (
        select(event.action, event.actor, event.at)
        .where(event.environment == environment, event.name == name, event.action.in_(_DEEDS))
        .order_by(event.id.desc())
        .limit(1)
    )
    newest = connection.execute(query).one_or_none()
    if newest is None:
        return ""
    return f": {_DEEDS[newest.action].format(newest.actor)} at {newest.at:%Y-%m-%d %H:%M:%S} UTC"

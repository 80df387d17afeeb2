"""Approvals, as the audit keeps them, and the dry-run reports that they are of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, update

from system_migration.records import Approval
from system_migration.signing import AuditKey
from system_migration.states import Outcome, RunKind
from system_migration.store import chain_pages, meanwhile, tables
from system_migration.store.dialects import Dialect
from system_migration.store.migrations import MigrationRow

APPROVE, WITHDRAW = "approve", "withdraw-approval"
_USED = "completed"
event, run, migration = tables.event.c, tables.run.c, tables.migration.c


class Kept(NamedTuple):
    """A report of a dry run that ended well, in its JSON form, with the id of that run."""

    run_id: str
    report: Mapping[str, Any]


def newest(connection: Connection, environment: str, name: str) -> Approval | None:
    """The newest approval; `void` says so where it was withdrawn, or used up by a run that completed."""
    last = _last(connection, environment, name, APPROVE, WITHDRAW, _USED)
    if last is None or last.action == APPROVE:
        return None if last is None else _approval(last)
    given = _last(connection, environment, name, APPROVE)
    ended = f"{last.actor} withdrew it" if last.action == WITHDRAW else "a run has completed on it since"
    return None if given is None else replace(_approval(given), void=ended)


def is_signed(connection: Connection, environment: str, name: str, key: AuditKey) -> bool:
    """Whether the newest approval was signed with this key, and not written by whoever can write to our tables."""
    given = _last(connection, environment, name, APPROVE)
    return given is not None and chain_pages.is_signed(connection, given.id, key)


def _last(connection: Connection, environment: str, name: str, *actions: str) -> Any:
    query = (
        select(tables.event)
        .where(event.environment == environment, event.name == name, event.action.in_(actions))
        .order_by(event.id.desc())
        .limit(1)
    )
    return connection.execute(query).one_or_none()


def _approval(row: Any) -> Approval:
    said = json.loads(row.detail)
    return Approval(
        migration=row.name,
        report=said["report"],
        run_id=row.run_id,
        approved_by=row.actor,
        identity=said["identity"],
        approved_at=row.at,
        generation=said["generation"],
        code=said["code"],
        parameters=said["parameters"],
    )


def reports(connection: Connection, environment: str, name: str, prefix: str = "", limit: int = 1_000) -> list[Kept]:
    """The reports of dry runs whose hash begins like this, those of the newest runs first."""
    query = (
        select(run.id, run.report)
        .where(run.environment == environment, run.name == name, run.kind == RunKind.DRY_RUN.value)
        .where(run.outcome == Outcome.SUCCEEDED.value, run.report.contains(f'"hash": "{prefix}', autoescape=True))
        .order_by(run.started_at.desc(), run.id)
        .limit(limit)
    )
    found = [Kept(row.id, json.loads(row.report)) for row in connection.execute(query)]
    return [each for each in found if str(each.report.get("hash") or "-").startswith(prefix)]


def bound_environment(connection: Connection) -> str | None:
    """The environment that the database belongs to, whatever this process was told."""
    return connection.execute(select(tables.meta.c.environment)).scalar_one_or_none()


def hold(connection: Connection, dialect: Dialect, row: MigrationRow) -> None:
    """Keep everybody from approving or withdrawing until the end of the transaction.

    Raises `ChangedMeanwhile` where somebody did so since `row` was read: both move the row on.
    """
    query = select(migration.row_version).where(_is(row))
    if connection.execute(dialect.lock_rows(query)).scalar_one_or_none() != row.row_version:
        raise meanwhile.changed(connection, row.environment, row.name)


def move_on(connection: Connection, row: MigrationRow) -> None:
    """Let every start that was decided by `row` fail. Raises `ChangedMeanwhile` where that is not how it is now."""
    moved = connection.execute(
        update(tables.migration)
        .where(_is(row), migration.row_version == row.row_version)
        .values(row_version=row.row_version + 1)
    )
    if moved.rowcount != 1:
        raise meanwhile.changed(connection, row.environment, row.name)


def _is(row: MigrationRow) -> Any:
    return (migration.environment == row.environment) & (migration.name == row.name)

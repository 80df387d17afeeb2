"""Attempts: start, finish, list, and the fence check that ends every batch."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, insert, null, select, update

from system_migration.errors import LeaseLost
from system_migration.records import Run
from system_migration.states import Outcome, RunKind
from system_migration.store import tables
from system_migration.store.dialects import Dialect
from system_migration.store.times import now

run = tables.run.c
_SHOWN = (
    *("id", "name", "kind", "outcome", "generation", "executed_by", "host", "started_at", "finished_at"),
    *("records_processed", "issues", "error", "held_only"),
)


@dataclass(frozen=True)
class Attempt:
    """A run as its runner knows it: who acts, for what, under which fence, on which part of the rows (keys encoded)."""

    id: str
    environment: str
    name: str
    generation: int
    kind: RunKind
    fence: int
    from_key: str | None = None
    to_key: str | None = None
    held_only: bool = False

    @property
    def is_windowed(self) -> bool:
        """Whether an operator keeps it to a part of the keys."""
        return self.from_key is not None or self.to_key is not None


def insert_attempt(
    connection: Connection, attempt: Attempt, code: tuple[str, str], executed_by: str, host: str
) -> None:
    """Record an attempt whose id was made before, so that `find` can tell whether the record arrived."""
    connection.execute(
        insert(tables.run).values(
            id=attempt.id,
            environment=attempt.environment,
            name=attempt.name,
            kind=attempt.kind.value,
            generation=attempt.generation,
            fence=attempt.fence,
            code_algorithm=code[0],
            code_checksum=code[1],
            executed_by=executed_by,
            host=host,
            from_key=attempt.from_key,
            to_key=attempt.to_key,
            held_only=attempt.held_only,
            started_at=now(),
            records_processed=0,
            issues=0,
        )
    )


def find(connection: Connection, attempt: Attempt) -> Attempt | None:
    """The attempt, if it is recorded."""
    return attempt if connection.execute(select(run.id).where(run.id == attempt.id)).first() else None


def take_over(connection: Connection, run_id: str, fence: int, code: tuple[str, str]) -> None:
    """Put an unfinished run under a new fence. Waits for the old runner's open batch, then shuts it out."""
    connection.execute(
        update(tables.run).where(run.id == run_id).values(fence=fence, code_algorithm=code[0], code_checksum=code[1])
    )


def raise_fence(connection: Connection, attempt: Attempt) -> None:
    """Put an unfinished run under the attempt's fence. Waits for the old runner's open batch, then shuts it out."""
    connection.execute(update(tables.run).where(run.id == attempt.id).values(fence=attempt.fence))


def check_fence(connection: Connection, dialect: Dialect, attempt: Attempt) -> None:
    """Raise `LeaseLost` unless the attempt still is the one that may write.

    The last statement before a commit. A shared lock, not an update: a hot row would serialise parallel writers,
    and a takeover still waits for every transaction that has passed this check.
    """
    if connection.execute(_fence_query(dialect), {"run": attempt.id, "held": attempt.fence}).one_or_none() is None:
        raise LeaseLost(attempt.name, "its fence was raised by a takeover")


@cache
def _fence_query(dialect: Dialect) -> Select[Any]:
    """Built once: a run asks it with every batch."""
    query = select(run.id).where(run.id == bindparam("run"), run.fence == bindparam("held"), run.outcome.is_(None))
    return dialect.share_row(query)


def record_intent(connection: Connection, attempt: Attempt) -> None:
    """Note, before a step that no transaction protects, that it is about to be taken."""
    connection.execute(update(tables.run).where(run.id == attempt.id).values(intent_at=now()))


def intended(connection: Connection, attempt: Attempt) -> bool:
    """Whether any attempt of this generation has noted such an intent."""
    query = select(run.id).where(
        run.environment == attempt.environment,
        run.name == attempt.name,
        run.generation == attempt.generation,
        run.intent_at.is_not(None),
    )
    return connection.execute(query.limit(1)).first() is not None


def finish(
    connection: Connection,
    attempt: Attempt,
    outcome: Outcome,
    *,
    records_processed: int = 0,
    issues: int = 0,
    error: str | None = None,
    report: Mapping[str, Any] | None = None,
) -> None:
    """Give the attempt its outcome. From here on its fence check fails."""
    connection.execute(
        update(tables.run)
        .where(run.id == attempt.id)
        .values(
            outcome=outcome.value,
            finished_at=now(),
            records_processed=records_processed,
            issues=issues,
            error=error,
            report=None if report is None else json.dumps(report, ensure_ascii=False),
        )
    )


def outcome(connection: Connection, attempt: Attempt) -> Outcome | None:
    """How the attempt is recorded to have ended."""
    found = connection.execute(select(run.outcome).where(run.id == attempt.id)).scalar_one()
    return None if found is None else Outcome(found)


def history(
    connection: Connection,
    environment: str,
    name: str | None,
    limit: int,
    before: str | None = None,
    *,
    lacking: Collection[str] = (),
) -> list[Run]:
    """Attempts, newest first; of those that are older than the run `before`, if one is named."""
    query = _listing(environment, lacking).limit(limit)
    if name is not None:
        query = query.where(run.name == name)
    if before is not None:
        edge = tables.run.alias("edge")
        at = select(edge.c.started_at).where(edge.c.id == before).scalar_subquery()
        query = query.where((run.started_at < at) | ((run.started_at == at) & (run.id > before)))
    return [as_run(row) for row in connection.execute(query).mappings()]


def find_run(connection: Connection, environment: str, run_id: str, *, lacking: Collection[str] = ()) -> Run | None:
    """One attempt of an environment."""
    row = connection.execute(_listing(environment, lacking).where(run.id == run_id)).mappings().one_or_none()
    return None if row is None else as_run(row)


def _listing(environment: str, lacking: Collection[str]) -> Select[Any]:
    return select(*shown(lacking)).where(run.environment == environment).order_by(run.started_at.desc(), run.id)


def shown(lacking: Collection[str] = ()) -> list[ColumnElement[Any]]:
    """What `as_run` makes a record of. Columns named in `lacking`, which older tables do not have, read as NULL."""
    return [null().label(name) if name in lacking else run[name] for name in _SHOWN]


def as_run(row: Mapping[Any, Any]) -> Run:
    """The record of a row that has the columns `shown`."""
    return Run(
        id=row["id"],
        migration=row["name"],
        kind=RunKind(row["kind"]),
        outcome=row["outcome"] and Outcome(row["outcome"]),
        generation=row["generation"],
        executed_by=row["executed_by"],
        host=row["host"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        records_processed=row["records_processed"],
        issues=row["issues"],
        error=row["error"],
        held_only=bool(row["held_only"]),
    )


def report_of(connection: Connection, run_id: str) -> Any:
    """The stored report of a dry run, as plain JSON values, or None."""
    text = connection.execute(select(run.report).where(run.id == run_id)).scalar_one_or_none()
    return None if text is None else json.loads(text)


def latest_report(connection: Connection, environment: str, name: str) -> Any:
    """The newest stored dry-run report, as plain JSON values, or None."""
    query = (
        select(run.report)
        .where(run.environment == environment, run.name == name, run.report.is_not(None))
        .order_by(run.started_at.desc())
        .limit(1)
    )
    text = connection.execute(query).scalar_one_or_none()
    return None if text is None else json.loads(text)

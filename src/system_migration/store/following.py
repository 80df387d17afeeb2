"""How far runs are, for those who only watch: one SELECT for all of them, which takes no lock."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    RowMapping,
    ScalarSelect,
    Subquery,
    Table,
    and_,
    case,
    cast,
    func,
    null,
    or_,
    select,
)

from system_migration.records import Followed, Tally
from system_migration.states import Outcome, RunKind
from system_migration.store import pulses, tables
from system_migration.store.journal import UNDOING
from system_migration.store.leases import alive
from system_migration.store.runs import SHOWN, as_run

run, migration, ledger, lease = tables.run.c, tables.migration.c, tables.ledger.c, tables.lease.c
_COUNTERS = ("rows_read", "changed", "unchanged", "vanished", "deferred")
_LEASED = (RunKind.RUN, RunKind.ROLLBACK)


def follow(
    connection: Connection, environment: str, run_ids: Collection[str], *, lacking: Collection[str] = ()
) -> list[Followed]:
    """What is known of these runs now; those that are not recorded are left out.

    The counters are those of the committed batches, so they are right whichever process does the work. Columns named
    in `lacking`, which older tracking tables do not have yet, read as NULL.
    """

    def known(column: ColumnElement[Any]) -> ColumnElement[Any]:
        return null() if column.name in lacking else column

    done = _done(environment, run_ids)
    source = (
        tables.run.outerjoin(done, done.c.id == run.id)
        .outerjoin(tables.migration, and_(migration.environment == run.environment, migration.name == run.name))
        .outerjoin(tables.lease, and_(lease.environment == run.environment, lease.name == _whose_lease()))
    )
    current = migration.run_id == run.id
    query = (
        select(
            *SHOWN,
            *(done.c[name] for name in _COUNTERS),
            _held().label("held"),
            case((current, known(migration.request))).label("request"),
            case((current, known(migration.requested_by))).label("requested_by"),
            case((and_(or_(current, _only_looks()), alive()), lease.held_by)).label("held_by"),
            case((run.outcome.is_(None), known(lease.pulse))).label("pulse"),
            known(lease.pulse_at).label("pulse_at"),
            _newest(tables.log).label("last_line"),
            _newest(tables.event).label("last_event"),
        )
        .select_from(source)
        .where(run.environment == environment, run.id.in_(run_ids))
    )
    return [_followed(row) for row in connection.execute(query).mappings()]


def _only_looks() -> ColumnElement[bool]:
    return run.kind.not_in([kind.value for kind in _LEASED])


def _whose_lease() -> ColumnElement[str]:
    """What only looks takes no migration's lease, but has one of its own as a sign that its process lives."""
    return case((_only_looks(), run.id), else_=run.name)


def _done(environment: str, run_ids: Collection[str]) -> Subquery:
    """What the committed batches of a run's generation come to: those of a rollback have a pass of their own."""
    counted = or_(
        and_(run.kind == RunKind.RUN.value, ledger["pass"] > 0),
        and_(run.kind == RunKind.ROLLBACK.value, ledger["pass"] == UNDOING),
    )
    generation = and_(
        ledger.environment == run.environment, ledger.name == run.name, ledger.generation == run.generation
    )
    sums = (cast(func.sum(ledger[name]), BigInteger).label(name) for name in _COUNTERS)
    return (
        select(run.id, *sums)
        .join_from(tables.run, tables.ledger, and_(generation, counted))
        .where(run.environment == environment, run.id.in_(run_ids))
        .group_by(run.id)
        .subquery()
    )


def _held() -> ScalarSelect[int]:
    issue = tables.issue.c
    return (
        select(func.count())
        .where(issue.environment == run.environment, issue.name == run.name, issue.generation == run.generation)
        .correlate(tables.run)
        .scalar_subquery()
    )


def _newest(table: Table) -> ScalarSelect[int]:
    query = select(func.coalesce(func.max(table.c.id), 0)).where(table.c.run_id == run.id)
    if "environment" in table.c:  # what its index begins with
        query = query.where(table.c.environment == run.environment, table.c.name == run.name)
    return query.correlate(tables.run).scalar_subquery()


def _followed(row: RowMapping) -> Followed:
    counted = {name: int(row[name] or 0) for name in _COUNTERS}
    found = as_run(row)
    if found.outcome is None and found.kind in _LEASED:
        found = replace(found, records_processed=counted["changed"], issues=row["held"])
    return Followed(
        run=found,
        state=_state(row),
        request=row["request"],
        requested_by=row["requested_by"] if row["request"] else None,
        progress=Tally(held=row["held"], **counted),
        pulse=pulses.decode(row["pulse"], row["pulse_at"]),
        last_line=row["last_line"],
        last_event=row["last_event"],
    )


def _state(row: RowMapping) -> str:
    if row["outcome"] is not None:
        return Outcome(row["outcome"]).value
    return "stale" if row["held_by"] is None else "running"

"""Where migrations stand: one SELECT that shows everything, and status changes that are compare-and-set."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    RowMapping,
    Select,
    Subquery,
    and_,
    bindparam,
    case,
    cast,
    func,
    insert,
    inspect,
    null,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from system_migration import states
from system_migration.records import Pulse
from system_migration.states import RunKind, Status
from system_migration.store import meanwhile, pulses, tables
from system_migration.store.dialects import Fingerprint
from system_migration.store.leases import alive
from system_migration.store.times import now
from system_migration.store.tracking import Binding

migration = tables.migration.c

JOURNAL_PIN = "system_migration_journal"
"""Where a generation keeps the schema that its journal belongs to."""
_REQUESTS = (None, "pause", "cancel")
"""What may be asked of a run. A newer program may know more, which are all counted as one."""
PRUNED_PIN = "system_migration_pruned"
"""Where a generation says that its journal was deleted on purpose."""


@dataclass(frozen=True)
class MigrationRow:
    """The stored state of a migration in an environment, with its current run and its lease."""

    environment: str
    name: str
    version: str
    status: Status
    row_version: int
    generation: int
    verified: bool
    applied: bool
    run_id: str | None
    upper_bound: str | None
    pins: dict[str, str]
    max_issues: int | None
    executed_at: datetime | None
    executed_by: str | None
    finished_at: datetime | None
    records_processed: int
    issues: int
    error: str | None
    request: str | None
    requested_by: str | None
    cancelled: bool
    run_kind: RunKind | None
    run_open: bool
    intent: bool
    code_algorithm: str | None
    code_checksum: str | None
    from_key: str | None
    to_key: str | None
    held_only: bool
    held_by: str | None
    interrupted: bool
    pulse: Pulse | None = None

    @property
    def revision(self) -> int:
        """A number that every change of status, and of what is asked of the run, replaces by another one.

        0 as long as nothing was changed, whether the migration has its first row or not. A request leaves the row's
        version alone, because the runner's own change of status must not fail of it; so both are in the number: a
        pause that is taken back leaves the number from before it. A takeover changes it too.
        """
        asked = _REQUESTS.index(self.request) if self.request in _REQUESTS else len(_REQUESTS)
        return (self.row_version - 1) * (len(_REQUESTS) + 1) + asked

    @property
    def stale(self) -> bool:
        """RUNNING, but nobody holds the lease: the runner died or stopped cleanly."""
        return self.status is Status.RUNNING and self.held_by is None


@dataclass(frozen=True)
class Snapshot:
    """Everything the tracking tables say about one environment, as one SELECT saw it."""

    binding: Binding | None
    environment: str | None
    rows: dict[str, MigrationRow]


def snapshot(
    connection: Connection, environment: str | None, *, only: str | None = None, lacking: Collection[str] = ()
) -> Snapshot:
    """The state of every migration in `environment`, or in the one the database is bound to. One SELECT, no lock.

    With `only`, that of the migration of this name alone. Columns named in `lacking`, which older tracking tables do
    not have yet, read as NULL.
    """
    values = {"chosen": environment} if only is None else {"chosen": environment, "only": only}
    found = connection.execute(_everything(only is not None, frozenset(lacking)), values).mappings().all()
    if not found:
        return Snapshot(None, environment, {})
    first = found[0]
    binding = Binding(first["schema_version"], first["bound_environment"], Fingerprint(first["place"], first["body"]))
    rows = {row["name"]: _row(row) for row in found if row["name"] is not None}
    return Snapshot(binding, environment or binding.environment, rows)


@lru_cache(maxsize=4)
def _everything(only: bool, lacking: frozenset[str]) -> Select[Any]:
    """The SELECT of `snapshot`, built once: every verb asks it several times. With `only`, it takes a name."""
    meta, run, lease = tables.meta, tables.run.c, tables.lease.c
    chosen = func.coalesce(bindparam("chosen", type_=meta.c.environment.type), meta.c.environment)
    wanted = migration.environment == chosen
    if only:
        wanted &= migration.name == bindparam("only")
    running = _running(chosen, only)
    source = (
        meta.outerjoin(tables.migration, wanted)
        .outerjoin(tables.run, run.id == migration.run_id)
        .outerjoin(tables.lease, and_(lease.environment == chosen, lease.name == migration.name))
        .outerjoin(running, running.c.name == migration.name)
    )
    return select(
        meta.c.schema_version,
        meta.c.environment.label("bound_environment"),
        meta.c.place,
        meta.c.body,
        *(null().label(column.name) if column.name in lacking else column for column in tables.migration.c),
        running.c.changed_so_far,
        running.c.held_so_far,
        run.kind.label("run_kind"),
        run.outcome.label("run_outcome"),
        run.intent_at,
        run.code_algorithm,
        run.code_checksum,
        *(null().label(name) if name in lacking else run[name] for name in ("from_key", "to_key", "held_only")),
        case((alive(), lease.held_by)).label("held_by"),
        lease.released,
        *(null().label(name) if name in lacking else lease[name] for name in ("pulse", "pulse_at")),
    ).select_from(source)


def _running(environment: ColumnElement[str], only: bool) -> Subquery:
    """What the runs that are under way have done so far: the ledger knows, and nobody copies it before the end.

    Joined, and not asked for beside each row: PostgreSQL would expect to ask for every row, and compile the whole query
    for a second first.
    """
    going, ledger, issue = tables.migration.alias("going"), tables.ledger.c, tables.issue.c
    changed = select(func.coalesce(cast(func.sum(ledger.changed), BigInteger), 0)).where(
        *_same_generation(ledger, going),
        ledger["pass"] > 0,  # not what a rollback did
    )
    held = select(func.count()).where(*_same_generation(issue, going))
    query = select(
        going.c.name,
        changed.correlate(going).scalar_subquery().label("changed_so_far"),
        held.correlate(going).scalar_subquery().label("held_so_far"),
    ).where(going.c.environment == environment, going.c.status == Status.RUNNING.value)
    return (query.where(going.c.name == bindparam("only")) if only else query).subquery()


def _same_generation(columns: Any, going: FromClause) -> list[ColumnElement[bool]]:
    return [columns[name] == going.c[name] for name in ("environment", "name", "generation")]


def read(connection: Connection, environment: str, name: str) -> MigrationRow | None:
    """The stored state of one migration, read again."""
    return snapshot(connection, environment, only=name).rows.get(name)


def completed_at(connection: Connection, environment: str, name: str) -> datetime | None:
    """When the last run of a migration ended, if it is COMPLETED. None also where our tables do not exist."""
    if not inspect(connection).has_table(tables.migration.name):
        return None  # asked first, because a failed statement would end a transaction on PostgreSQL
    query = select(migration.finished_at).where(
        migration.environment == environment,
        migration.name == name,
        migration.status == Status.COMPLETED.value,
    )
    return connection.scalar(query)


def _row(found: RowMapping) -> MigrationRow:
    return MigrationRow(
        environment=found["environment"],
        name=found["name"],
        version=found["version"],
        status=Status(found["status"]),
        row_version=found["row_version"],
        generation=found["generation"],
        verified=bool(found["verified"]),
        applied=bool(found["applied"]),
        run_id=found["run_id"],
        upper_bound=found["upper_bound"],
        pins=json.loads(found["pins"]),
        max_issues=found["max_issues"],
        executed_at=found["executed_at"],
        executed_by=found["executed_by"],
        finished_at=found["finished_at"],
        records_processed=found["changed_so_far"] or found["records_processed"],
        issues=found["issues"] if found["held_so_far"] is None else found["held_so_far"],
        error=found["error"],
        request=found["request"],
        requested_by=found["requested_by"],
        cancelled=bool(found["cancelled"]),
        run_kind=found["run_kind"] and RunKind(found["run_kind"]),
        run_open=found["run_kind"] is not None and found["run_outcome"] is None,
        intent=found["intent_at"] is not None,
        code_algorithm=found["code_algorithm"],
        code_checksum=found["code_checksum"],
        from_key=found["from_key"],
        to_key=found["to_key"],
        held_only=bool(found["held_only"]),
        held_by=found["held_by"],
        interrupted=bool(found["released"]),
        pulse=_pulse(found),
    )


def _pulse(found: RowMapping) -> Pulse | None:
    """Of a run that is going, or that its runner left: what the last holder said of another one is history."""
    if found["status"] != Status.RUNNING and found["held_by"] is None:
        return None
    return pulses.decode(found["pulse"], found["pulse_at"])


def add(connection: Connection, environment: str, name: str, version: str) -> None:
    """The first row of a migration: PENDING, generation 1. Raises IntegrityError when there is one."""
    connection.execute(
        insert(tables.migration).values(
            environment=environment,
            name=name,
            version=version,
            status=Status.PENDING.value,
            row_version=1,
            generation=1,
            verified=False,
            applied=False,
            pins="{}",
            records_processed=0,
            issues=0,
        )
    )


def read_or_add(connection: Connection, environment: str, name: str, version: str) -> MigrationRow:
    """The stored state of one migration; its first row is made if there is none."""
    row = read(connection, environment, name)
    if row is None:
        with suppress(IntegrityError), connection.begin_nested():  # another one may make it in the same moment
            add(connection, environment, name, version)
        row = read(connection, environment, name)
    assert row is not None
    return row


def transition(
    connection: Connection, row: MigrationRow, new: Status, *, cancelled_by: str | None = None, **values: Any
) -> None:
    """Move a migration along one arrow, if it is still as `row` says. Raises `ChangedMeanwhile` otherwise.

    Every arrow ends what an operator had asked of the run before it.
    """
    states.check(row.name, row.status, new)
    moved = connection.execute(
        update(tables.migration)
        .where(
            migration.environment == row.environment,
            migration.name == row.name,
            migration.status == row.status.value,
            migration.row_version == row.row_version,
        )
        .values(
            status=new.value,
            row_version=row.row_version + 1,
            request=None,
            requested_by=cancelled_by,
            cancelled=cancelled_by is not None,
            **values,
        )
    )
    if moved.rowcount != 1:
        raise meanwhile.changed(connection, row.environment, row.name)


def take_over(connection: Connection, row: MigrationRow) -> None:
    """Note that a run has a new runner: who decided by seeing it without one decides anew. Needs the lease."""
    update_values(connection, row.environment, row.name, row_version=row.row_version + 1)


def update_values(connection: Connection, environment: str, name: str, **values: Any) -> None:
    """Set values that are not part of the status: the runner that holds the fence may, after its fence check."""
    connection.execute(
        update(tables.migration).where(migration.environment == environment, migration.name == name).values(**values)
    )


def mark_verified(connection: Connection, row: MigrationRow, verified: bool) -> None:
    """Keep what a verification said, if the migration is still as it was verified."""
    connection.execute(
        update(tables.migration)
        .where(
            migration.environment == row.environment,
            migration.name == row.name,
            migration.row_version == row.row_version,
        )
        .values(verified=verified)
    )


def pin(connection: Connection, environment: str, name: str, pins: Mapping[str, str]) -> None:
    """Keep what this generation is bound to."""
    update_values(connection, environment, name, pins=json.dumps(dict(pins), ensure_ascii=False))


def pin_finished(connection: Connection, row: MigrationRow, name: str, value: str) -> None:
    """Add a pin to a migration that nobody works on, if it is still as `row` says. Else raises `ChangedMeanwhile`."""
    pins = json.dumps(row.pins | {name: value}, ensure_ascii=False)
    pinned = connection.execute(
        update(tables.migration)
        .where(
            migration.environment == row.environment,
            migration.name == row.name,
            migration.row_version == row.row_version,
        )
        .values(pins=pins, row_version=row.row_version + 1)  # so that a start which saw it without the pin fails
    )
    if pinned.rowcount != 1:
        raise meanwhile.changed(connection, row.environment, row.name)


def begin_generation(
    connection: Connection,
    row: MigrationRow,
    new: Status,
    *,
    finished: bool = False,
    records_processed: int = 0,
    issues: int = 0,
) -> None:
    """Move to `new` and start the next generation: what the last one did, pinned or held no longer counts.

    `issues` are the rows of the last generation that a rollback had to leave as they are.
    """
    transition(
        connection,
        row,
        new,
        generation=row.generation + 1,
        verified=False,
        applied=False,
        upper_bound=None,
        pins="{}",
        max_issues=None,
        issues=issues,
        error=None,
        records_processed=records_processed,
        finished_at=now() if finished else None,
    )

"""Where everything stands, from what the files declare and what one SELECT saw. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from system_migration import code
from system_migration.migration import Migration
from system_migration.records import MigrationStatus, StatusReport
from system_migration.registry import Registry, is_numbered, rank
from system_migration.states import RunKind, Status
from system_migration.store.migrations import PRUNED_PIN, MigrationRow, Snapshot

_SETTLED = (Status.COMPLETED, Status.SKIPPED)
_UNFINISHED = (Status.RUNNING, Status.PAUSED, Status.FAILED)
_MAY_START = (Status.PENDING, *_UNFINISHED)
_NO_SCHEMA: Mapping[str, str] = MappingProxyType({})


def report(
    registry: Registry, snapshot: Snapshot, environment: str, schema: Mapping[str, str] = _NO_SCHEMA
) -> StatusReport:
    """Every migration in order, then those whose code is gone; and what a plain run would take.

    `schema` says of those that wait for a schema revision what they wait for.
    Whether one whose code is gone is newer than all here, or an old one whose file was deleted, only numbers tell.
    """
    gone = sorted(name for name in snapshot.rows if name not in registry)
    last_known = max(filter(is_numbered, registry.names), key=rank, default=None)
    coming = to_do(registry, snapshot)
    settled = _settled_or(coming, snapshot)
    return StatusReport(
        environment,
        [_status(registry, snapshot, name, settled, schema) for name in (*registry.names, *gone)],
        pending=coming,
        warnings=_warnings(snapshot, environment),
        in_line=to_do(registry, snapshot, in_hand=True),
        newer=[name for name in gone if is_numbered(name) and last_known is not None and rank(name) > rank(last_known)],
    )


def waiting_for_schema(registry: Registry, snapshot: Snapshot) -> list[type[Migration]]:
    """Those that a schema revision may keep from starting: they declare one, and have not ended."""
    standing = ((migration, snapshot.rows.get(migration.name)) for migration in registry)
    return [
        migration
        for migration, row in standing
        if migration.requires_schema is not None and (row is None or row.status in _MAY_START) and not _is_going(row)
    ]


def _is_going(row: MigrationRow | None) -> bool:
    return row is not None and row.status is Status.RUNNING and not row.stale


def status_of(
    registry: Registry, snapshot: Snapshot, name: str, schema: Mapping[str, str] = _NO_SCHEMA
) -> MigrationStatus:
    """One migration's status. Raises `UnknownMigration` for a name with neither code nor record."""
    return _status(registry, snapshot, name, _settled_or(to_do(registry, snapshot), snapshot), schema)


def _settled_or(coming: Collection[str], snapshot: Snapshot) -> set[str]:
    """What nobody waits for in vain: migrations that are done, and those that a plain run would do."""
    return {*coming, *(name for name, row in snapshot.rows.items() if row.status in _SETTLED)}


def _status(
    registry: Registry, snapshot: Snapshot, name: str, settled: Collection[str], schema: Mapping[str, str]
) -> MigrationStatus:
    row = snapshot.rows.get(name)
    migration = registry[name] if row is None or name in registry else None
    pruned = row is not None and PRUNED_PIN in row.pins
    return MigrationStatus(
        name=name,
        version=migration.version if migration else row.version if row else "",
        description=migration.description if migration else "",
        status=row.status if row else Status.PENDING,
        stale=row.stale if row else False,
        verified=row.verified if row else False,
        rollbackable=migration.rollbackable and not pruned if migration else False,
        executed_at=row.executed_at if row else None,
        executed_by=row.executed_by if row else None,
        finished_at=row.finished_at if row else None,
        records_processed=row.records_processed if row else 0,
        issues=row.issues if row else 0,
        error=row.error if row else None,
        code_changed=_code_changed(migration, row),
        held_by=row.held_by if row else None,
        waits_for_schema=schema.get(name),
        interrupted=bool(row and row.stale and row.interrupted),
        manual=migration.manual if migration else False,
        blocks_startup=migration.blocks_startup if migration else False,
        code_missing=migration is None,
        request=row.request if row else None,
        requested_by=row.requested_by if row else None,
        cancelled=row.cancelled if row else False,
        undoing=bool(row and row.run_kind is RunKind.ROLLBACK and row.status in _UNFINISHED),
        unjournalled=pruned,
        waits_for=tuple(each for each in migration.requires if each not in settled) if migration else (),
        revision=row.revision if row else 0,
        run_id=row.run_id if row else None,
        pulse=row.pulse if row else None,
    )


def _code_changed(migration: type[Migration] | None, row: MigrationRow | None) -> bool:
    return bool(migration and row and code.changed(migration, row.code_algorithm, row.code_checksum))


def to_do(registry: Registry, snapshot: Snapshot, *, in_hand: bool = False) -> list[str]:
    """What a plain run takes, in order. With `in_hand`, also what another runner works on or what is paused."""
    return [name for name in registry.names if _is_to_do(registry[name], snapshot.rows.get(name), in_hand)]


def _is_to_do(migration: type[Migration], row: MigrationRow | None, in_hand: bool) -> bool:
    if migration.manual:
        return False
    if row is None or row.status is Status.PENDING:
        return True
    if row.status is Status.FAILED:  # what half-undone or cancelled work needs, a person decides
        return row.run_kind is not RunKind.ROLLBACK and not row.cancelled
    if row.status in (Status.RUNNING, Status.PAUSED):
        return in_hand or row.stale
    return False


def _warnings(snapshot: Snapshot, environment: str) -> list[str]:
    binding = snapshot.binding
    if binding is None or binding.environment == environment:
        return []
    return [f"This database belongs to environment {binding.environment!r}, not {environment!r}."]

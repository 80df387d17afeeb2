"""How fast runs are: rows a second of the batches they committed lately, from the newest rows of the ledger alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, case, func, literal, or_, select, union_all

from system_migration.store import tables
from system_migration.store.journal import UNDOING
from system_migration.store.times import after, now

ledger, migration = tables.ledger.c, tables.migration.c
WINDOW_SECONDS = 60.0
NEWEST = 1_000
"""So many rows of a ledger are looked at: about what compaction leaves. Of faster batches the newest speak."""
_LEAST_SECONDS = 1.0
"""What was done in less says little of a second."""
AT_ONCE = 100
"""Names in one statement: SQLite takes no more than 500 SELECTs in one."""


def rates(
    connection: Connection, environment: str, names: Collection[str], *, lacking: Collection[str] = ()
) -> dict[str, float]:
    """Rows a second of each migration's current run in about the last minute; without a batch in it: absent.

    One SELECT for every hundred names. It reads no more of a ledger than its newest rows, however many there are.
    """
    wanted, found = list(names), {}
    for start in range(0, len(wanted), AT_ONCE):
        some = query(environment, wanted[start : start + AT_ONCE], lacking)
        for name, rows, first, each, current in connection.execute(some):
            found[name] = float(rows) / _seconds(first, float(each), current)
    return found


def _seconds(first: datetime, each: float, current: datetime) -> float:
    """From when the first of the batches began, as it took about as long as the others, until now."""
    return max(_LEAST_SECONDS, min(WINDOW_SECONDS, (current - first).total_seconds() + each))


def query(environment: str, names: Sequence[str], lacking: Collection[str] = ()) -> Select[Any]:
    """What the batches of the window come to, by name: rows, the first one's time, the usual length, and now.

    A compacted row was many batches, and only the last one's time is known: what it stands for is left out, and with
    it all that was committed before.
    """
    newest = union_all(*(arm for name in names for arm in _newest(environment, name, lacking))).subquery().c
    compacted = func.max(case((newest.batches > 1, newest.committed_at))).over(partition_by=newest.name)
    marked = select(*newest, compacted.label("compacted")).subquery().c
    current = and_(
        migration.environment == environment, migration.name == marked.name, migration.run_id == marked.run_id
    )
    return (
        select(marked.name, func.sum(marked.rows), func.min(marked.committed_at), func.avg(marked.seconds), now())
        .join(tables.migration, current)
        .where(marked.committed_at > after(-WINDOW_SECONDS))
        .where(or_(marked.compacted.is_(None), marked.committed_at > marked.compacted))
        .group_by(marked.name)
    )


def _newest(environment: str, name: str, lacking: Collection[str]) -> Iterator[Select[Any]]:
    """The newest rows of a generation in the order of the primary key: a rollback works from the last to the first."""
    generation = select(migration.generation).where(migration.environment == environment, migration.name == name)
    rows = select(
        ledger.name,
        ledger.run_id,
        (literal(1) if "batches" in lacking else ledger.batches).label("batches"),
        (ledger.rows_read - ledger.deferred).label("rows"),
        ledger.seconds,
        ledger.committed_at,
    ).where(ledger.environment == environment, ledger.name == name, ledger.generation == generation.scalar_subquery())
    forward = rows.where(ledger["pass"] > 0).order_by(ledger["pass"].desc(), ledger["range"].desc())
    backward = rows.where(ledger["pass"] == UNDOING).order_by(ledger["range"])
    for walk in (forward, backward):
        yield select(*walk.limit(NEWEST).subquery().c)

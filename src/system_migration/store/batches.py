"""The batches of a migration, as the ledger tells them to people."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, select

from system_migration.records import Batch
from system_migration.store import tables

ledger = tables.ledger.c


def listing(connection: Connection, environment: str, name: str, run_id: str | None, limit: int) -> list[Batch]:
    """The newest `limit` ledger rows of a migration, or of one of its runs, newest first."""
    query = select(tables.ledger).where(ledger.environment == environment, ledger.name == name)
    if run_id is None:
        newest: tuple[ColumnElement[Any], ...] = (
            ledger.generation.desc(),
            ledger.committed_at.desc(),
            ledger["pass"].desc(),
            ledger["range"].desc(),
        )
    else:
        # The primary key read backwards is near enough to the order of commits, and needs no look at older rows.
        generation = select(tables.run.c.generation).where(tables.run.c.id == run_id).scalar_subquery()
        query = query.where(ledger.generation == generation, ledger.run_id == run_id)
        newest = ledger["pass"].desc(), ledger["range"].desc()
    found = [_batch(row) for row in connection.execute(query.order_by(*newest).limit(limit)).mappings()]
    return found if run_id is None else sorted(found, key=lambda batch: batch.committed_at, reverse=True)


def _batch(row: RowMapping) -> Batch:
    return Batch(
        pass_number=row["pass"],
        range=row["range"],
        rows=row["rows_read"],
        changed=row["changed"],
        unchanged=row["unchanged"],
        held=row["held"],
        deferred=row["deferred"],
        vanished=row["vanished"],
        seconds=row["seconds"],
        committed_at=row["committed_at"],
        batches=row["batches"],
        generation=row["generation"],
        run_id=row["run_id"],
    )

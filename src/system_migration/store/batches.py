"""The batches of a migration, as the ledger tells them to people."""

from __future__ import annotations

from sqlalchemy import Connection, select

from system_migration.records import Batch
from system_migration.store import tables

ledger = tables.ledger.c


def listing(connection: Connection, environment: str, name: str, run_id: str | None, limit: int) -> list[Batch]:
    """The newest `limit` ledger rows of a migration, or of one of its runs, newest first."""
    query = (
        select(tables.ledger)
        .where(ledger.environment == environment, ledger.name == name)
        .order_by(ledger.generation.desc(), ledger.committed_at.desc(), ledger["pass"].desc(), ledger["range"].desc())
        .limit(limit)
    )
    if run_id is not None:
        query = query.where(ledger.run_id == run_id)
    return [
        Batch(
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
        for row in connection.execute(query).mappings()
    ]

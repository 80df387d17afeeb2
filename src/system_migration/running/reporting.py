"""What an attempt came to, as its caller gets to know it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from system_migration.records import RunReport
from system_migration.store.ledger import Totals
from system_migration.store.migrations import MigrationRow
from system_migration.store.runs import Attempt

_NOTHING = Totals(0, 0, 0, 0, 0)


def run_report(
    row: MigrationRow,
    attempt: Attempt,
    seconds: float,
    *,
    verified: bool,
    metadata: Mapping[str, Any],
    done: Totals = _NOTHING,
    error: str | None = None,
) -> RunReport:
    """The report of an attempt that ended; `row` is its migration's as it is now, `done` what its batches did."""
    return RunReport(
        name=row.name,
        kind=attempt.kind,
        status=row.status,
        verified=verified,
        records_processed=row.records_processed,
        issues=row.issues,
        unchanged=done.unchanged,
        vanished=done.vanished,
        changed_meanwhile=done.deferred,
        seconds=seconds,
        run_id=attempt.id,
        error=error,
        metadata=metadata,
    )

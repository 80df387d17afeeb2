"""The promise that a dry run changes nothing, and that what it says is that a run would succeed."""

from __future__ import annotations

from system_migration.rehearsal import fingerprints
from system_migration.rehearsal.naming import keys_of, where
from system_migration.rehearsal.report import Broken, Kept, Outcome
from system_migration.rehearsal.stage import Stage


def dry_run_changes_nothing(stage: Stage) -> Outcome:
    """Compare the database with what it was before the dry run."""
    changed = list(fingerprints.changes(stage.before, stage.main.snapshot()))
    if changed:
        return Broken(f"A dry run changed {where(changed)}: only up and the batches may write.", keys_of(changed))
    report = stage.dry_run
    assert report is not None
    if report.error or report.refusal:
        return Broken(f"The dry run did not succeed: {report.error or report.refusal}")
    return Kept()

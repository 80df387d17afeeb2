"""Where a migration stands, and the only ways from one status to another."""

from __future__ import annotations

from enum import StrEnum

from system_migration.errors import Refused


class Status(StrEnum):
    """The stored statuses of a migration in an environment. *Stale* is derived, never stored."""

    PENDING = "PENDING"
    """Not begun here, or made pending again by a reset."""
    RUNNING = "RUNNING"
    """A runner works on it, forwards or back. It is stale when that runner stopped or died: the next start goes on."""
    PAUSED = "PAUSED"
    """It stands at a clean checkpoint and waits for a person to resume, cancel or roll it back."""
    COMPLETED = "COMPLETED"
    """Done, and not denied by its verification; a status says beside it whether it was verified at all."""
    FAILED = "FAILED"
    """It, its rollback or its verification failed, or somebody cancelled it. What is committed stays."""
    SKIPPED = "SKIPPED"
    """An operator said that it is not to be run here; it runs only when it is named."""
    ROLLED_BACK = "ROLLED_BACK"
    """Undone; it runs again only when it is named."""


class RunKind(StrEnum):
    """What an attempt does."""

    RUN = "run"
    """Does the work, or goes on with it."""
    DRY_RUN = "dry-run"
    """Executes the real code, changes no data, and reports."""
    VERIFY = "verify"
    """Checks a completed migration again."""
    ROLLBACK = "rollback"
    """Undoes it."""


class Outcome(StrEnum):
    """How an attempt ended. An attempt without an outcome is going, or died."""

    SUCCEEDED = "succeeded"
    """It did all that it was to do."""
    FAILED = "failed"
    """It did not; its error says why."""
    REFUSED = "refused"
    """It was refused before any write to the data."""
    PAUSED = "paused"
    """It stopped at a clean checkpoint and waits for a person."""


ARROWS: dict[tuple[Status, Status], str] = {
    (Status.PENDING, Status.RUNNING): "a run starts",
    (Status.PENDING, Status.SKIPPED): "an operator skips it, with a reason",
    (Status.RUNNING, Status.COMPLETED): "verification accepted the run",
    (Status.RUNNING, Status.FAILED): "the run, its rollback or its verification failed, or it was cancelled",
    (Status.RUNNING, Status.PAUSED): "an operator, or the run itself, asks for a pause",
    (Status.RUNNING, Status.ROLLED_BACK): "a rollback finished",
    (Status.PAUSED, Status.RUNNING): "the run is resumed, or rolled back",
    (Status.PAUSED, Status.FAILED): "the paused run is cancelled",
    (Status.COMPLETED, Status.RUNNING): "it is rolled back, or run again by name",
    (Status.COMPLETED, Status.PENDING): "an operator resets it, with a reason; a generation starts",
    (Status.FAILED, Status.RUNNING): "it is run again and resumes, or it is rolled back",
    (Status.FAILED, Status.SKIPPED): "an operator skips it, with a reason",
    (Status.FAILED, Status.PENDING): "an operator resets it, with a reason; a generation starts",
    (Status.SKIPPED, Status.RUNNING): "it is run by name",
    (Status.SKIPPED, Status.PENDING): "an operator resets it, with a reason; a generation starts",
    (Status.ROLLED_BACK, Status.RUNNING): "it is run by name",
    (Status.ROLLED_BACK, Status.PENDING): "an operator resets it, with a reason; a generation starts",
}
"""Every arrow of the status diagram, with the event that makes it."""


def check(name: str, old: Status, new: Status) -> None:
    """Raise `Refused` unless an arrow leads from `old` to `new`."""
    if (old, new) not in ARROWS:
        ways = ", ".join(sorted(target for source, target in ARROWS if source is old))
        raise Refused(f"Migration {name} is {old}; it cannot become {new}. From {old} it can become: {ways}.")

"""What only the API and the page refuse, as errors: `problems` has their statuses."""

from __future__ import annotations

from system_migration.errors import MigrationSystemError
from system_migration.records import Run


class RunGoing(MigrationSystemError):
    """What is asked would start something while `run` goes on."""

    def __init__(self, message: str, run: Run | None) -> None:
        super().__init__(message)
        self.run = run


class NotConfirmed(MigrationSystemError):
    """A start in production that does not name the environment."""


class KeyReused(MigrationSystemError):
    """An Idempotency-Key that belongs to another request."""


class InvalidRequest(MigrationSystemError):
    """A parameter that only the handler could judge."""


class ForgedForm(MigrationSystemError):
    """A form without a token of ours that is good for whoever sends it."""


class ExpiredForm(ForgedForm):
    """A form of ours, of whoever sends it, that was open for too long."""

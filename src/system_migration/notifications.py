"""What people are told of a run: that it began, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from system_migration import facts
from system_migration.facts import Began, Ended, Fact
from system_migration.states import RunKind

_EVENTS = {
    facts.SUCCEEDED: "completed",
    facts.FAILED: "failed",
    facts.CANCELLED: "failed",
    facts.PAUSED: "paused",
}
"""An outcome that is missing is no news: the run goes on elsewhere, or whoever started it was told why it did not."""
_LONGEST_ERROR = 2_000


@dataclass(frozen=True)
class Notification:
    """One piece of news. `event` is "started", "completed", "failed" or "paused"; `kind` is "run" or "rollback".

    `rows` were changed (of a completed rollback: restored) and `held` are held when it is told; both are 0 of
    "started". `error` is the sentence that the record has. Nothing in it is a row, a value of one or a secret.
    """

    event: str
    migration: str
    environment: str
    run_id: str
    kind: RunKind
    actor: str
    rows: int
    held: int
    error: str | None
    at: datetime

    def __str__(self) -> str:
        """What happened, as the end of a sentence that begins with "that"."""
        what = self.migration if self.kind is RunKind.RUN else f"the {self.kind} of {self.migration}"
        return f"{what} {self.event} (run {self.run_id})"


def notification_of(fact: Fact) -> Notification | None:
    """The news in what happened; None where it is none. Dry runs and verifications change nothing and are no news."""
    if fact.run.kind not in (RunKind.RUN, RunKind.ROLLBACK):
        return None
    if isinstance(fact, Began):
        return None if fact.taken_over else _news("started", fact)
    if isinstance(fact, Ended) and (event := _EVENTS.get(fact.outcome)) is not None:
        return _news(event, fact, fact.rows, fact.held, fact.error)
    return None


def _news(event: str, fact: Fact, rows: int = 0, held: int = 0, error: str | None = None) -> Notification:
    run, said = fact.run, None if error is None else error[:_LONGEST_ERROR]
    where = run.migration, run.environment, run.run_id, run.kind, run.actor
    return Notification(event, *where, rows, held, said, fact.at)

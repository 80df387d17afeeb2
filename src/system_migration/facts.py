"""What happens to a run, for those who are told of it: telemetry and notifications.

A fact is told after what it tells of is committed. It carries no row, no value of one, and no secret.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from system_migration.states import RunKind

SUCCEEDED, FAILED, REFUSED, PAUSED = "succeeded", "failed", "refused", "paused"
CANCELLED, INTERRUPTED, SUPERSEDED = "cancelled", "interrupted", "superseded"


@dataclass(frozen=True)
class WhichRun:
    """Which run it is, and who makes it."""

    migration: str
    environment: str
    run_id: str
    kind: RunKind
    generation: int
    actor: str
    host: str


@dataclass(frozen=True)
class Fact:
    """Something that happened to `run`, `at` a time of this process in UTC."""

    run: WhichRun
    at: datetime


@dataclass(frozen=True)
class Began(Fact):
    """An attempt is on the record. `taken_over`: another runner had begun it, and left it without an end."""

    taken_over: bool


@dataclass(frozen=True)
class BatchCommitted(Fact):
    """One committed batch. `rows` of it were read; `seconds` are those of its transform and its write."""

    rows: int
    changed: int
    held: int
    vanished: int
    seconds: float


@dataclass(frozen=True)
class Waits(Fact):
    """The run waits for something, or for something else than before."""

    reason: str


@dataclass(frozen=True)
class Ended(Fact):
    """The attempt is over for this process. `outcome` is one of the words above.

    `rows` are those that the record tells, `held` those that are held. `error` is the sentence that the record has, and
    `error_type` the class of ours that was raised; None where it is no failure.
    """

    outcome: str
    rows: int
    held: int
    error: str | None
    error_type: str | None


Announce = Callable[[Fact], None]


def tell_nobody(fact: Fact) -> None:
    """An `Announce` of what nobody wants to know."""

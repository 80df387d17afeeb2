"""Comparing rows with what a migration made of them: which a rollback may restore, and which it must leave alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from system_migration.batching.images import Values
from system_migration.batching.keys import Key
from system_migration.batching.target import Target
from system_migration.batching.writes import same
from system_migration.errors import MigrationSystemError
from system_migration.store import issues
from system_migration.store.issues import CHANGED, NOT_RESTORED, VANISHED
from system_migration.store.journal import Image, Part
from system_migration.store.runs import Attempt

MESSAGES = {
    CHANGED: "the row is not what the migration made of it any more; it was left as it is",
    VANISHED: "the row was deleted after the migration changed it",
}


@dataclass
class Sorted:
    """What the rows of a part came to: each is in at most one place, and in none if it was listed before."""

    restorable: list[Image] = field(default_factory=list)
    changed: list[Key] = field(default_factory=list)
    vanished: list[Key] = field(default_factory=list)

    @property
    def listed(self) -> list[tuple[Key, str, str]]:
        """The rows that stay as they are, as issues."""
        found = [(key, CHANGED) for key in self.changed] + [(key, VANISHED) for key in self.vanished]
        return [(key, code, MESSAGES[code]) for key, code in found]


def sort(part: Sequence[Image], current: dict[Key, Values], listed: set[Key]) -> Sorted:
    """Compare rows with what the migration made of them, exactly."""
    rows = Sorted()
    for image in part:
        if image.key in listed:
            continue  # an older value of it may well be there again: the application's, not ours
        if image.key not in current:
            rows.vanished.append(image.key)
        elif same(current[image.key], image.after):
            rows.restorable.append(image)
        else:
            rows.changed.append(image.key)
    return rows


def listed_among(connection: Connection, run: Attempt, target: Target, part: Sequence[Image]) -> set[Key]:
    """Which of these rows the rollback has already listed."""
    found: set[Key] = set()
    for some in target.portions([image.key for image in part]):
        found |= issues.held_among(connection, run, some, codes=NOT_RESTORED)
    return found


def intact(part: Part) -> tuple[Image, ...]:
    """The part's images. The journal was read before the rollback began; it must not have changed since."""
    if part.images is None:
        raise MigrationSystemError(f"Part {part.id} of the journal was damaged while the rollback was going on.")
    return part.images

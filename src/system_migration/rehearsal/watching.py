"""What one copying may take, and whom it tells how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from system_migration.errors import Refused
from system_migration.wording import duration

Tell = Callable[[str], None]

COPY_SECONDS = 600.0
"""Copying from the source ends after this, however little was copied: a snapshot that is held for long costs it."""
STATEMENT_SECONDS = 60.0
"""The longest statement on the source."""


@dataclass
class Watch:
    """The clock of one copying. `heed` is called between small steps."""

    tell: Tell
    seconds: float = COPY_SECONDS
    _began: float = field(default_factory=time.monotonic)

    def heed(self) -> None:
        """Raise `Refused` when the time is up."""
        if time.monotonic() - self._began > self.seconds:
            raise Refused(
                f"Copying took longer than {duration(self.seconds)} and was given up; nothing was left behind. "
                "Rehearse fewer rows with --rows N."
            )

    @property
    def left(self) -> float:
        """Seconds that are left, at least a little."""
        return max(1.0, self.seconds - (time.monotonic() - self._began))

"""How long a step is tried again, and how one waits for a database that is away. Knows no database."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_MOMENT_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 3.0
_SLICE_SECONDS = 0.1


@dataclass(frozen=True)
class Patience:
    """Seconds for which a step is tried again: while others are in its way, and while the database is away."""

    in_the_way: float
    away: float


NORMAL = Patience(in_the_way=60.0, away=math.inf)
"""A database that is away comes back, and nothing is lost by waiting. A lock held for a minute tells of a mistake."""
ENDLESS = Patience(in_the_way=math.inf, away=math.inf)
BRIEF = Patience(in_the_way=1.0, away=1.0)
"""For what helps others, and mends itself when it is not done."""


@dataclass
class Waiting:
    """One wait, from its first trouble on: pauses that grow, cut short by a wish to stop."""

    heed: Callable[[], None]
    _since: float | None = field(default=None, init=False)
    _pauses: int = field(default=0, init=False)

    def exceeds(self, seconds: float) -> bool:
        """Whether the trouble has lasted longer than this."""
        if self._since is None:
            self._since = time.monotonic()
        return time.monotonic() - self._since > seconds

    def pause(self) -> None:
        """Wait a little longer than the last time. Raises what `heed` raises, once the wait is more than a moment.

        A step that is only in somebody's way for a moment is still done: it may be the one that records the stop.
        """
        length = min(_LONGEST_PAUSE_SECONDS, 0.1 * 2.0**self._pauses)
        until = time.monotonic() + random.uniform(length / 2, length)  # jitter, so that equals do not meet again
        self._pauses = min(self._pauses + 1, 8)
        while (left := until - time.monotonic()) > 0:
            if self.exceeds(_MOMENT_SECONDS):
                self.heed()
            time.sleep(min(left, _SLICE_SECONDS))
        if self.exceeds(_MOMENT_SECONDS):
            self.heed()

"""The one source of local time. Lease times come from the database; the two are never compared."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Local time: monotonic seconds, and waiting."""

    def monotonic(self) -> float:
        """Seconds that only grow."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The real one."""

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

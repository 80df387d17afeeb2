"""The end of a command that has news to tell: it waits for whoever is slow to hear it, and says so."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from system_migration.cli import output
from system_migration.telling import FLUSH_SECONDS

if TYPE_CHECKING:
    from system_migration.migrator import Migrator

SILENT_SECONDS = 2.0
_SLICE_SECONDS = 0.2


def wait_for_news(migrator: Migrator) -> None:
    """Wait until all is told, for ten seconds at most. A signal ends the wait, not the command: its work is done."""
    if migrator.flush(0):
        return
    with _signals() as asked:
        if _is_over(migrator, SILENT_SECONDS, asked):
            return
        output.notice(f"waiting for {', '.join(migrator.untold())}; Ctrl-C to wait no longer")
        _is_over(migrator, FLUSH_SECONDS - SILENT_SECONDS, asked)


def _is_over(migrator: Migrator, seconds: float, asked: list[int]) -> bool:
    """Whether the wait is: because all is told, or because somebody has asked for it."""
    return any(asked or migrator.flush(_SLICE_SECONDS) for _ in range(round(seconds / _SLICE_SECONDS)))


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    asked: list[int] = []

    def note(number: int, frame: Any) -> None:
        asked.append(number)

    earlier = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)

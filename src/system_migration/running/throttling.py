"""Holding a run while the migration's `healthy` names a reason to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from system_migration.batch_migration import BatchMigration
from system_migration.clock import Clock
from system_migration.migration import Progress
from system_migration.records import RunOptions
from system_migration.running.contexts import call, describe, plain_context
from system_migration.running.run_log import RunLog
from system_migration.running.workspace import Workspace

ASK_SECONDS = 5.0
"""How long a good answer stands."""
AGAIN_SECONDS = 1.0
"""How soon a bad one is asked again."""
_SLICE = 0.2


@dataclass
class Throttle:
    """Asks for a reason to wait, and waits. For one thread.

    `ask` that raises holds nothing: a defect in a check must not stop a migration for ever. The warning says so once
    for each kind of error; a `healthy` that shall hold the run then catches the error itself and returns a reason.
    `heed` raises what ends the run (pause, cancel, a signal, a lost lease); it is called all the while.
    """

    ask: Callable[[], str | None]
    explain: Callable[[Exception], str]
    clock: Clock
    progress: Progress
    log: RunLog
    heed: Callable[[], None]
    _good_until: float = field(default=float("-inf"), init=False)
    _told: set[str] = field(default_factory=set, init=False)

    def check(self) -> None:
        """Return at once while the last answer was good and is fresh; else ask, and wait until it is good."""
        if self.clock.monotonic() < self._good_until:
            return
        began, reason = self.clock.monotonic(), self._reason()
        if reason is not None:
            self.log.info("held: %s", reason)
            self._hold(reason)
            self.log.info("goes on after %.0f s", self.clock.monotonic() - began)
        self._good_until = self.clock.monotonic() + ASK_SECONDS

    def _hold(self, reason: str | None) -> None:
        while reason is not None:
            self.progress.waiting(reason)
            until = self.clock.monotonic() + AGAIN_SECONDS
            while (left := until - self.clock.monotonic()) > 0:
                self.heed()
                self.clock.sleep(min(left, _SLICE))
            self.heed()
            reason = self._reason()

    def _reason(self) -> str | None:
        try:
            return self.ask()
        except Exception as error:
            told = self.explain(error)
            if told not in self._told:
                self._told.add(told)
                self.log.warning("healthy() ended with an error, so it holds nothing: %s", told)
            return None


def health_check(
    workspace: Workspace, migration: BatchMigration, options: RunOptions, log: RunLog, heed: Callable[[], None]
) -> Callable[[], None]:
    """What to call before each batch: holds the run while `migration.healthy` says so, each time on a fresh look."""
    if not migration.defines("healthy"):
        return lambda: None

    def ask() -> str | None:
        with workspace.database.read() as connection:
            return call(migration.healthy, plain_context(workspace, connection, log, options))

    def explain(error: Exception) -> str:
        return describe(error, workspace.database.dialect, type(migration))

    return Throttle(ask, explain, workspace.clock, workspace.progress, log, heed).check

"""The documents that the API answers with, beyond the library's own records; `as_json` renders both alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from system_migration.records import DryRunReport, Issue, LogLine, Pulse, Run, RunReport, Tally


@dataclass(frozen=True)
class Problem:
    """A problem document (RFC 9457). Some types have more members: `errors`, `run`."""

    type: str
    title: str
    status: int
    detail: str


@dataclass(frozen=True)
class Started:
    """A start: its run, and once it has ended the reports of what was done and the problem it ended in, if any."""

    environment: str
    run: Run | None
    reports: list[RunReport | DryRunReport]
    error: Problem | None


@dataclass(frozen=True)
class RunState:
    """A run as it stands now. `state` is running, stale, or its outcome; `report` is that of a dry run.

    `request` is what `requestedBy` asked of it and it has not obeyed yet: pause or cancel. `pulse` is what its runner
    last said; null of a run that has ended, and of one that has said nothing yet.
    """

    run: Run
    state: str
    request: str | None
    requested_by: str | None
    progress: Tally
    pulse: Pulse | None
    report: Mapping[str, Any] | None


@dataclass(frozen=True)
class RunPage:
    """Runs, newest first. `next` is the `before` of the next page."""

    runs: list[Run]
    next: str | None


@dataclass(frozen=True)
class LinePage:
    """Lines of a run's log, oldest first. `next` is the `after` that continues."""

    lines: list[LogLine]
    next: int


@dataclass(frozen=True)
class IssuePage:
    """Held rows, in the order they were met. `next` is the `after` of the next page."""

    issues: list[Issue]
    next: str | None


@dataclass(frozen=True)
class Pending:
    """The migrations that a plain run would take, in order."""

    environment: str
    pending: list[str]

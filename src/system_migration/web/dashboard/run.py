"""A run on one screen: how it goes, what it did, what it said, and what to do about it. At most five questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from system_migration import wording
from system_migration.migrator import Migrator
from system_migration.records import Batch, Event, Followed, LogLine, MigrationStatus, Shown, StatusReport
from system_migration.states import RunKind
from system_migration.undoing import POSSIBLE
from system_migration.web.dashboard import charts
from system_migration.web.dashboard.charts import Chart, Speed
from system_migration.web.dashboard.desk import Desk
from system_migration.web.dashboard.progress import Progress, progress_of
from system_migration.web.dashboard.verbs import Offer, Standing, Verb, offer, standing
from system_migration.web.finding import find

LINES = 100
EVENTS = 200
BATCHES = 200
Level = Literal["debug", "info", "warning", "error"]
LEVELS: dict[Level, str] = {
    "debug": "All",
    "info": "Info and above",
    "warning": "Warnings and errors",
    "error": "Errors",
}
TITLES = {"run": "Run", "retry": "Retry", "dry-run": "Dry run", "verify": "Verification", "rollback": "Rollback"}
_LOOKS = (RunKind.DRY_RUN, RunKind.VERIFY)


@dataclass(frozen=True)
class Log:
    """A page of the log, oldest line first. `older` is the id before which the page before it ends, if there is one."""

    lines: list[LogLine]
    level: Level
    newest: bool
    older: int | None


@dataclass(frozen=True)
class Drawn:
    """The charts of a run, and the figures they are made of."""

    charts: list[Chart]
    speeds: list[Speed]
    batches: list[Batch]


@dataclass(frozen=True)
class RunView:
    """All that the screen shows. `offer` is what the migration offers, None where it is not known any more."""

    followed: Followed
    status: MigrationStatus | None
    progress: Progress
    drawn: Drawn
    report: Mapping[str, Any] | None
    log: Log
    events: list[Event]
    offer: Offer | None

    @property
    def title(self) -> str:
        return TITLES[wording.kind(self.followed.run)]

    @property
    def only_looks(self) -> bool:
        """Whether it changes no data, whatever becomes of it."""
        return self.followed.run.kind in _LOOKS

    @property
    def has_batches(self) -> bool:
        """Whether rows of the work it belongs to were committed, or held, batch by batch."""
        return _has_batches(self.followed)

    @property
    def is_of_a_rollback(self) -> bool:
        """Whether a dry run rehearsed a rollback."""
        return self.report is not None and bool(self.report.get("undoing"))

    @property
    def decides(self) -> bool:
        """Whether the migration stands where it stands by this run."""
        return self.status is not None and self.status.run_id == self.followed.run.id

    @property
    def later_run(self) -> str | None:
        """The run by which the migration stands, where it is another one."""
        return None if self.only_looks or self.decides or self.status is None else self.status.run_id

    @property
    def verbs(self) -> list[Verb]:
        """What can be done here: all that the migration offers, or after a dry run what it was a rehearsal of."""
        if self.offer is None:
            return []
        if self.decides:
            return self.offer.verbs
        rehearsed = "rollback" if self.is_of_a_rollback else "run"
        is_next = self.followed.run.kind is RunKind.DRY_RUN and self.followed.state == "succeeded"
        return [replace(verb, real=True) for verb in self.offer.verbs if is_next and verb.key == rehearsed]

    @property
    def without_batches(self) -> str:
        """Why there is nothing to draw."""
        if self.followed.ended:
            return "No batch was committed by this run, or none that the ledger still tells apart: no charts."
        return (
            "No batch is committed yet. One that works in a single transaction has none: its result comes at its end."
        )

    @property
    def version(self) -> str:
        """What the buttons depend on: another one when they, or what stands beside them, changed."""
        revision = self.status.revision if self.status else 0
        heard = self.followed.pulse.at if self.followed.state == "stale" and self.followed.pulse else ""
        verbs = ",".join(f"{verb.key}:{verb.label}" for verb in self.verbs)
        return f"{self.followed.state}.{self.followed.request or ''}.{revision}.{verbs}.{heard}"


def add_run(router: APIRouter, desk: Desk) -> None:
    """Add the screen to the router."""

    @router.get("/runs/{id}", name="dashboard_run")
    def run(
        request: Request, id: str, level: Level = "debug", before: Annotated[int | None, Query(ge=1, lt=2**63)] = None
    ) -> Response:
        view = look(desk.migrator, id, level, before)
        own = view.only_looks and desk.starts.can_withdraw(id)
        return desk.answer(request, "run.html", view=view, levels=LEVELS, withdrawable=own)


def look(migrator: Migrator, run_id: str, level: Level = "debug", before: int | None = None) -> RunView:
    """The run as it stands now. Raises `UnknownRun`."""
    followed = find(migrator, run_id)
    run = followed.run
    report = migrator.status()
    status = next((each for each in report.migrations if each.name == run.migration), None)
    batches = _batches(migrator, followed)
    return RunView(
        followed,
        status,
        progress_of(followed, batches),
        _draw(batches),
        migrator.report_of(run.id) if run.kind is RunKind.DRY_RUN and followed.ended else None,
        _log(migrator, run.id, level, before),
        migrator.events_after(run, limit=EVENTS),
        offer(_standing(migrator, status, report)) if status is not None else None,
    )


def _standing(migrator: Migrator, status: MigrationStatus, report: StatusReport) -> Standing:
    """What the verbs depend on. What speaks against a rollback, beyond the status, its own form finds: it asks more."""
    possible = POSSIBLE if status.rollbackable and not status.unjournalled else ""
    return standing(Shown(status, None, 0, [], [], None, possible), report, migrator.registry)


def _batches(migrator: Migrator, followed: Followed) -> list[Batch]:
    """The newest batches, oldest first; what has not read a row has none, so it is not asked for."""
    if not _has_batches(followed):
        return []
    return charts.measured(migrator.batches(followed.run.migration, run_id=followed.run.id, limit=BATCHES))


def _has_batches(followed: Followed) -> bool:
    return followed.run.kind not in _LOOKS and any(vars(followed.progress).values())


def _draw(batches: Sequence[Batch]) -> Drawn:
    speeds = charts.speeds(batches)
    drawn = [charts.rate_chart(speeds, batches[-1].committed_at) if batches else None, charts.duration_chart(batches)]
    return Drawn([chart for chart in drawn if chart is not None], speeds, list(batches))


def _log(migrator: Migrator, run_id: str, level: Level, before: int | None) -> Log:
    found = migrator.lines_before(run_id, before, level=level, limit=LINES + 1)
    lines = found[-LINES:]
    return Log(lines, level, before is None, lines[0].id if len(found) > LINES else None)

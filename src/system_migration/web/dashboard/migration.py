"""A migration on one screen: what it is, where it stands, what was done with it, and what can be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from system_migration.migrator import Migrator
from system_migration.records import IssueCount, MigrationStatus, Run, Shown
from system_migration.states import RunKind, Status
from system_migration.web.dashboard.desk import Desk, developer_of
from system_migration.web.dashboard.verbs import Offer, offer, standing
from system_migration.web.problems import problem_of

_REHEARSALS_LINKED = 5


@dataclass(frozen=True)
class Required:
    """A migration that this one requires, and whether it is done."""

    m: MigrationStatus
    settled: bool


@dataclass(frozen=True)
class Unsaid:
    """Why a start came to nothing, of which the developer who asked for it knows no more than that it was begun."""

    sentence: str
    at: datetime | None


@dataclass(frozen=True)
class MigrationView:
    """All that the screen shows. `required_by` are the migrations that require this one.

    `reported` is the dry run that the report is of, None where it is older than those that are linked.
    """

    shown: Shown
    offer: Offer
    requires: list[Required]
    required_by: list[MigrationStatus]
    counts: list[IssueCount]
    source: str | None
    unsaid: Unsaid | None
    reported: Run | None

    @property
    def m(self) -> MigrationStatus:
        return self.shown.status

    @property
    def attempts(self) -> list[Run]:
        """What changed data, or verified it."""
        return [run for run in self.shown.runs if run.kind is not RunKind.DRY_RUN]

    @property
    def rehearsals(self) -> list[Run]:
        """The newest dry runs."""
        return _rehearsals(self.shown)

    @property
    def report(self) -> Mapping[str, Any] | None:
        """What the latest dry run found."""
        return self.shown.report

    @property
    def held(self) -> int:
        """How many rows are held, or were not restored."""
        return sum(count.rows for count in self.counts)

    @property
    def not_restored(self) -> bool:
        """Whether the listed rows are those that a rollback had to leave as they are."""
        return self.m.status is Status.ROLLED_BACK

    @property
    def going(self) -> bool:
        """Whether a runner works on it."""
        return self.m.status is Status.RUNNING and not self.m.stale

    @property
    def version(self) -> str:
        """What the buttons depend on: another one when they, or what stands beside them, changed."""
        said = self.unsaid.at if self.unsaid else None
        m, verbs = self.m, ",".join(f"{verb.key}:{verb.label}" for verb in self.offer.verbs)
        return f"{m.revision}.{m.stale}.{m.held_by}.{m.verified}.{m.issues}.{said}.{verbs}.{len(self.offer.why)}"


def add_migration(router: APIRouter, desk: Desk) -> None:
    """Add the screen to the router."""

    @router.get("/m/{name}", name="dashboard_migration")
    def migration(request: Request, name: str) -> Response:
        return desk.answer(request, "migration.html", view=look(desk.migrator, name, _unsaid(desk, request, name)))


def _unsaid(desk: Desk, request: Request, name: str) -> Unsaid | None:
    job = desk.starts.owed(name, developer_of(request))
    error = job.done.exception() if job is not None else None
    return None if job is None or error is None else Unsaid(problem_of(error).detail, job.ended_at)


def look(migrator: Migrator, name: str, unsaid: Unsaid | None = None) -> MigrationView:
    """The migration as it stands now, also where its file is gone. Raises `UnknownMigration`."""
    shown, report, registry = migrator.show(name), migrator.status(), migrator.registry
    known = {each.name: each for each in report.migrations}
    requires = shown.listed.requires if shown.listed else ()
    settled = (Status.COMPLETED, Status.SKIPPED)
    return MigrationView(
        shown,
        offer(standing(shown, report, registry)),
        requires=[Required(known[each], known[each].status in settled) for each in requires if each in known],
        required_by=[known[each.name] for each in registry if name in each.requires],
        counts=migrator.issue_counts(name),
        source=migrator.source(name),
        unsaid=unsaid,
        reported=_reported(migrator, shown),
    )


def _rehearsals(shown: Shown) -> list[Run]:
    return [run for run in shown.runs if run.kind is RunKind.DRY_RUN][:_REHEARSALS_LINKED]


def _reported(migrator: Migrator, shown: Shown) -> Run | None:
    """The newest dry run that has a report: one that goes on, or was withdrawn, has none."""
    if shown.report is None:
        return None
    return next((run for run in _rehearsals(shown) if migrator.report_of(run.id) is not None), None)

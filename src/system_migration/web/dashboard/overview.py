"""The first screen: where every migration stands, what needs somebody first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from system_migration.records import MigrationStatus, StatusReport
from system_migration.states import Status
from system_migration.web.dashboard.desk import Desk

AT_ONCE = 50
"""So many of a group are shown at first; a page of all is one click away."""


@dataclass(frozen=True)
class Group:
    """Migrations that stand alike. `hidden` are not shown; `empty` says what it means that there are none."""

    key: str
    title: str
    migrations: list[MigrationStatus]
    hidden: int
    empty: str


def add_overview(router: APIRouter, desk: Desk) -> None:
    """Add the screen to the router."""

    @router.get("", name="dashboard_overview")
    def overview(request: Request, all: bool = False) -> Response:
        report = desk.migrator.status()
        groups = grouped(report, everything=all)
        return desk.answer(request, "overview.html", report=report, groups=groups)


def grouped(report: StatusReport, *, everything: bool) -> list[Group]:
    """The migrations in groups, in the order in which a person wants to see them."""
    attention, running, pending, done = [], [], [], []
    for m in report.migrations:
        if needs_attention(m):
            attention.append(m)
        elif m.status is Status.RUNNING:
            running.append(m)
        elif m.status is Status.PENDING:
            pending.append(m)
        else:
            done.append(m)
    newest_first = sorted(
        done, key=lambda m: (m.finished_at is not None, m.finished_at and str(m.finished_at)), reverse=True
    )
    most = None if everything else AT_ONCE
    return [
        _group("attention", "Needs attention", attention, None, "Nothing waits for a person."),
        _group("running", "Running", running, None, "Nothing is running."),
        _group("pending", "Pending", pending, most, "Nothing is pending. `migration new TITLE` writes the next one."),
        _group(
            "done",
            "Done",
            newest_first,
            most,
            "Nothing was migrated here yet. Start with a dry run of what is pending.",
        ),
    ]


def _group(key: str, title: str, members: Iterable[MigrationStatus], most: int | None, empty: str) -> Group:
    found = list(members)
    return Group(key, title, found[:most], len(found) - len(found[:most]), empty)


def needs_attention(m: MigrationStatus) -> bool:
    """Whether it stays as it is until a person decides: failed, paused, or its runner is gone."""
    return m.status in (Status.FAILED, Status.PAUSED) or m.stale

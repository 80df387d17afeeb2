"""What was done here, newest first: the runs of all migrations, and the audit of who did what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from system_migration import wording
from system_migration.errors import AuditKeyError
from system_migration.records import Run
from system_migration.web.dashboard.desk import Desk
from system_migration.web.dashboard.progress import seconds_between

PAGE = 100
Migration = Annotated[str, Query(max_length=255, pattern=r"^[^\x00]*$")]


def add_history(router: APIRouter, desk: Desk) -> None:
    """Add both lists to the router."""

    @router.get("/history", name="dashboard_history")
    def history(request: Request, migration: Migration = "", before: UUID | None = None) -> Response:
        page = desk.migrator.history(migration or None, PAGE + 1, before=str(before) if before else None)
        states = {each.run.id: each for each in desk.migrator.follow(_open(page))} if _open(page) else {}
        runs = [states[run.id].run if run.id in states else run for run in page[:PAGE]]
        following = page[PAGE - 1].id if len(page) > PAGE else None
        return _answer(desk, request, "history.html", migration, following, runs=runs, states=states)

    @router.get("/history/audit", name="dashboard_audit")
    def audit(
        request: Request,
        migration: Migration = "",
        before: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
        check: bool = False,
    ) -> Response:
        page = desk.migrator.audit(migration or None, before=before, limit=PAGE + 1)
        following = str(page[PAGE - 1].id) if len(page) > PAGE else None
        checked = _checked(desk) if check else None  # only when asked for: it reads all events
        return _answer(desk, request, "audit.html", migration, following, events=page[:PAGE], checked=checked)


def _answer(
    desk: Desk, request: Request, template: str, migration: str, following: str | None, **context: Any
) -> Response:
    names = [listed.name for listed in desk.migrator.list()]
    return desk.answer(
        request, template, migration=migration, next=following, names=names, took=seconds_between, **context
    )


def _open(runs: Sequence[Run]) -> list[str]:
    return [run.id for run in runs if run.outcome is None]


def _checked(desk: Desk) -> tuple[bool, list[str]]:
    """Whether the audit chain holds, and what to say of it."""
    try:
        verdict = desk.migrator.audit_verify()
    except AuditKeyError as error:
        return False, [str(error)]
    return verdict.intact, wording.audit_sentences(verdict)

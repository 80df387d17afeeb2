"""The routes that only look."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from system_migration.migrator import Migrator
from system_migration.records import Listed, StatusReport, as_json
from system_migration.web.answers import IssuePage, LinePage, Pending, RunPage, RunState
from system_migration.web.finding import find
from system_migration.web.following import Poller, parse_cursor
from system_migration.web.openapi import RUN, RUN_STATE, Responses, answers, problems
from system_migration.web.queries import Limit, Name, RunId
from system_migration.web.refusals import InvalidRequest

LastEventId = Annotated[
    str | None, Header(max_length=64, description="The id of the last message seen: the stream goes on behind it.")
]
_MESSAGE = {
    "type": "object",
    "description": "One message of the stream; `data` is a JSON document.",
    "properties": {
        "id": {"type": "string"},
        "event": {"enum": ["log", "event", "state", "end"]},
        "data": {"type": "string"},
    },
}
_STREAM: Responses = {
    200: {"description": "An event stream", "content": {"text/event-stream": {"schema": _MESSAGE}}},
    204: {"description": "The run has ended, and the client has seen its end: do not come back"},
    **problems(404),
}
_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def add_looks(router: APIRouter, migrator: Migrator, poller: Poller) -> None:
    """Add the routes to the router."""
    _add_migrations(router, migrator)
    _add_runs(router, migrator)
    _add_events(router, migrator, poller)


def _add_migrations(router: APIRouter, migrator: Migrator) -> None:
    @router.get("/status", summary="Where every migration stands", responses=answers(StatusReport))
    def status() -> Response:
        return JSONResponse(as_json(migrator.status()))

    @router.get("/list", summary="What the migration files declare", responses=answers([Listed]))
    def listed() -> Response:
        return JSONResponse(as_json(migrator.list()))

    @router.get("/pending", summary="What a plain run would take, in order", responses=answers(Pending))
    def pending() -> Response:
        return JSONResponse(as_json(Pending(migrator.environment, migrator.pending())))

    @router.get("/issues/{name}", summary="The rows a migration holds", responses=answers(IssuePage, 404))
    def issues(
        name: Name,
        limit: Limit = 200,
        after: Annotated[
            str | None, Query(pattern="^[0-9]{1,16}-[0-9a-f]{64}$", description="`next` of the page before.")
        ] = None,
        key: Annotated[
            str | None, Query(max_length=2000, description="Only the row with this key; several columns: a JSON list.")
        ] = None,
    ) -> Response:
        if key is not None:
            try:
                found = migrator.issue_of(name, key)
            except ValueError:
                raise InvalidRequest("`key` cannot be read as a key of this table.") from None
            return JSONResponse(as_json(IssuePage([found] if found else [], None)))
        page = migrator.issues_after(name, after, limit=limit)
        return JSONResponse(as_json(IssuePage(page, page[-1].id if len(page) == limit else None)))


def _add_runs(router: APIRouter, migrator: Migrator) -> None:
    page_of_runs = answers(RunPage, 404, example={"runs": [RUN], "next": None})

    @router.get(
        "/runs",
        name="migration_runs",
        summary="Past and present runs, newest first",
        responses=page_of_runs,
    )
    def runs(
        limit: Limit = 50,
        before: Annotated[UUID | None, Query(description="`next` of the page before.")] = None,
        migration: Annotated[str | None, Query(max_length=128, description="Only runs of this migration.")] = None,
    ) -> Response:
        page = migrator.history(migration, limit, before=str(before) if before else None)
        return JSONResponse(as_json(RunPage(page, page[-1].id if len(page) == limit else None)))

    @router.get("/runs/{id}", summary="One run as it stands now", responses=answers(RunState, 404, example=RUN_STATE))
    def run(id: RunId) -> Response:
        found = find(migrator, id)
        report = migrator.report_of(id) if found.ended else None
        told = RunState(found.run, found.state, found.request, found.requested_by, found.progress, found.pulse, report)
        return JSONResponse(as_json(told))

    @router.get("/runs/{id}/logs", summary="The stored log of a run", responses=answers(LinePage, 404))
    def logs(
        id: RunId,
        limit: Limit = 200,
        after: Annotated[int, Query(ge=0, lt=2**63, description="`next` of the page before.")] = 0,
        level: Annotated[
            Literal["debug", "info", "warning", "error"], Query(description="Only lines of this level or above.")
        ] = "debug",
    ) -> Response:
        find(migrator, id)
        lines = migrator.lines_after(id, after, level=level, limit=limit)
        return JSONResponse(as_json(LinePage(lines, lines[-1].id if lines else after)))


def _add_events(router: APIRouter, migrator: Migrator, poller: Poller) -> None:
    @router.get("/runs/{id}/events", summary="Follow a run: server-sent events", responses=_STREAM)
    async def events(request: Request, id: RunId, last_event_id: LastEventId = None) -> Response:
        """Messages `log`, `event`, `state` and, last, `end`. Also follows a run that another process makes.

        Their ids continue the stream after a break. It ends by itself after a quarter of an hour: come back then.
        """
        seen = parse_cursor(last_event_id)
        view = await poller.look(id, find)
        if view.ended and seen.end:
            return Response(status_code=204)
        return StreamingResponse(poller.stream(view, seen), media_type="text/event-stream", headers=_STREAM_HEADERS)

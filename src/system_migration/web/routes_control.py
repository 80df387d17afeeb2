"""The routes that steer a run, wherever it goes on, and those that decide about a migration."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from system_migration.migrator import Migrator
from system_migration.records import MigrationStatus, as_json
from system_migration.web.finding import find, find_latest
from system_migration.web.openapi import answers
from system_migration.web.queries import AllowEnvironment, Name, Reason, RunId
from system_migration.web.starts import Starts

_ASKED = answers(MigrationStatus, 404, 409, status=202, description="Asked; the runner obeys within a batch") | answers(
    MigrationStatus, 404, 409, description="Done at once: no runner lives"
)
_DECIDED = answers(MigrationStatus, 404, 409)


def _developer(request: Request) -> str:
    name: Name = request.state.developer
    return name


Actor = Annotated[str, Depends(_developer)]


def add_controls(router: APIRouter, migrator: Migrator, starts: Starts) -> None:
    """Add the routes to the router."""

    @router.post("/runs/{id}/pause", summary="Ask a run to stop and wait", status_code=202, responses=_ASKED)
    def pause(id: RunId, actor: Actor, allow_environment: AllowEnvironment = False) -> Response:
        name = find_latest(migrator, id).run.migration
        return _asked(migrator.acting_as(actor).pause(name, allow_environment=allow_environment))

    @router.post("/runs/{id}/cancel", summary="End a run for good", status_code=202, responses=_ASKED)
    def cancel(id: RunId, actor: Actor, allow_environment: AllowEnvironment = False) -> Response:
        """What is committed stays; only a start by name goes on. Of this server's own, also a dry run and the like."""
        if starts.withdraw(id, actor):
            name = find(migrator, id).run.migration
            return JSONResponse(as_json(migrator.show(name).status), 202)
        name = find_latest(migrator, id).run.migration
        return _asked(migrator.acting_as(actor).cancel(name, allow_environment=allow_environment))

    @router.post("/skip/{name}", summary="Mark a migration as not to be run here", responses=_DECIDED)
    def skip(name: Name, actor: Actor, reason: Reason, allow_environment: AllowEnvironment = False) -> Response:
        status = migrator.acting_as(actor).skip(name, reason, allow_environment=allow_environment)
        return JSONResponse(as_json(status))

    @router.post("/reset/{name}", summary="Make a migration pending again", responses=_DECIDED)
    def reset(name: Name, actor: Actor, reason: Reason, allow_environment: AllowEnvironment = False) -> Response:
        """A new generation starts: all of its work may be done once more."""
        status = migrator.acting_as(actor).reset(name, reason, allow_environment=allow_environment)
        return JSONResponse(as_json(status))


def _asked(status: MigrationStatus) -> Response:
    return JSONResponse(as_json(status), 202 if status.request is not None else 200)

"""The routes by which developers approve what a dry run has shown, for another one to start in production."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response

from system_migration.migrator import Migrator
from system_migration.records import Approval, ApprovalState, MigrationStatus, as_json
from system_migration.web.openapi import answers
from system_migration.web.queries import AllowEnvironment, Name
from system_migration.web.routes_control import Actor

Report = Annotated[
    str,
    Query(
        min_length=12,
        max_length=64,
        pattern=r"^[0-9A-Fa-f]*$",
        description="The hash of the dry run's report, or at least its first 12 digits.",
    ),
]


def add_approvals(router: APIRouter, migrator: Migrator, identity: str) -> None:
    """Add the routes to the router. `identity` is what proves who a developer is."""

    @router.get("/approve/{name}", summary="Whether a run is approved", responses=answers(ApprovalState, 404))
    def look(name: Name) -> Response:
        return JSONResponse(as_json(migrator.approval(name)))

    @router.post("/approve/{name}", summary="Approve what a dry run has shown", responses=answers(Approval, 404, 409))
    def approve(name: Name, actor: Actor, report: Report, allow_environment: AllowEnvironment = False) -> Response:
        """Whatever changes before the start voids it: the file, an option, a reset; so does a run that completes."""
        acting = migrator.acting_as(actor, identity=identity)
        return JSONResponse(as_json(acting.approve(name, report, allow_environment=allow_environment)))

    @router.post(
        "/withdraw-approval/{name}", summary="Take an approval back", responses=answers(MigrationStatus, 404, 409)
    )
    def withdraw(name: Name, actor: Actor, allow_environment: AllowEnvironment = False) -> Response:
        acting = migrator.acting_as(actor, identity=identity)
        return JSONResponse(as_json(acting.withdraw_approval(name, allow_environment=allow_environment)))

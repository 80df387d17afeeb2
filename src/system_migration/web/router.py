"""The router: every verb of `Migrator` over HTTP, for developers only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, Request

from system_migration.background import Background
from system_migration.migrator import Migrator
from system_migration.web.metrics import add_metrics
from system_migration.web.problems import ProblemRoute
from system_migration.web.queries import refuse_unknown
from system_migration.web.routes_approve import add_approvals
from system_migration.web.routes_audit import add_audit
from system_migration.web.routes_control import add_controls
from system_migration.web.routes_look import add_looks
from system_migration.web.routes_start import add_starts
from system_migration.web.serving import Serving


def create_router(
    migrator: Migrator,
    *,
    require_developer: Callable[..., Any],
    background: Background | None = None,
    identity: str = "account",
) -> APIRouter:
    """The API as a router, to be included under a prefix such as `/migration`.

    `require_developer` is a FastAPI dependency: it returns the name under which a developer acts, or raises
    `HTTPException` 401 or 403. Every route is behind it. `background` is the worker of this process, if the host has
    one already: what else it does and what is started here never go on at once. `identity` says what proves who a
    developer is, "account" or "token"; an approval holds for who starts by the same.

    The router's lifespan, which `include_router` joins with the application's, goes on with unfinished runs that were
    started over HTTP by an earlier process, and at the end stops the one that is going at a clean checkpoint. The host
    closes the migrator afterwards.
    """
    serving = Serving.of(migrator, background, identity)

    def developer(request: Request, name: object = Depends(require_developer)) -> None:
        request.state.developer = str(name)

    router = APIRouter(
        route_class=ProblemRoute,
        dependencies=[Depends(developer), Depends(refuse_unknown)],
        lifespan=serving.lifespan,
        tags=["migration"],
    )
    add_looks(router, migrator, serving.poller)
    add_audit(router, migrator)
    add_metrics(router, migrator)
    add_starts(router, migrator, serving.starts)
    add_controls(router, migrator, serving.starts)
    add_approvals(router, migrator, identity)
    return router

"""The page as a router: every screen and every button, for developers only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response

from system_migration.background import Background
from system_migration.migrator import Migrator
from system_migration.web.dashboard.actions import add_actions
from system_migration.web.dashboard.csrf import FormTokens
from system_migration.web.dashboard.desk import Desk
from system_migration.web.dashboard.failures import NOWHERE, page_route
from system_migration.web.dashboard.held import add_held
from system_migration.web.dashboard.history import add_history
from system_migration.web.dashboard.live import add_live
from system_migration.web.dashboard.migration import add_migration
from system_migration.web.dashboard.overview import add_overview
from system_migration.web.dashboard.pages import Pages, static_file
from system_migration.web.dashboard.run import add_run
from system_migration.web.dashboard.starting import add_starting
from system_migration.web.serving import Serving


def create_dashboard(
    migrator: Migrator,
    *,
    require_developer: Callable[..., Any],
    background: Background | None = None,
    secret: bytes | None = None,
    sign_in: str | None = None,
    sign_out: str | None = None,
    identity: str = "account",
) -> APIRouter:
    """The page as a router, to be included under a prefix such as `/migrations`.

    `require_developer` is a FastAPI dependency, as for `create_router`, but of a browser's session: it returns the name
    under which a developer acts, or raises `HTTPException` 401 or 403. Every screen and every button is behind it. Who
    is not signed in is sent to the path `sign_in` with where to go on as `next`; `sign_out` is a path that ends the
    session when a form is posted there. Both are paths of the application, without the `root_path` under which a proxy
    shows it. `background` is the worker of this process, the one that `create_router` got, and `identity` the same
    as there.

    Each form bears a token that is sealed with `secret` (at least 32 random bytes): servers that share the work of one
    address share it. Without one, a restart makes the forms that are open useless; nothing else. `ValueError` for a
    shorter one.
    """
    serving = Serving.of(migrator, background, identity)
    desk = Desk(migrator, serving.starts, serving.poller, Pages(sign_out), FormTokens(secret), sign_in)

    def developer(request: Request, name: object = Depends(require_developer)) -> None:
        request.state.developer = str(name)

    router = APIRouter(
        route_class=page_route(desk),
        dependencies=[Depends(developer)],
        lifespan=serving.lifespan,
        include_in_schema=False,
    )
    # A plain route, which no dependency guards: nothing of it is anybody's secret, and the sign-in needs it too.
    router.add_route("/static/{name}", _static, name="dashboard_static")
    add_overview(router, desk)
    add_held(router, desk)
    add_history(router, desk)
    add_run(router, desk)
    add_migration(router, desk)
    add_starting(router, desk)
    add_actions(router, desk)
    add_live(router, desk)
    router.add_api_route("/{elsewhere:path}", _nowhere)  # last: what no other route knows
    return router


def _nowhere() -> Response:
    raise HTTPException(404, NOWHERE)


async def _static(request: Request) -> Response:
    return static_file(request.path_params["name"], request.query_params.get("v"))

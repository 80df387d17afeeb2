"""Liveness and readiness for whoever probes the process: no account needed, so nothing in them is worth hiding."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from system_migration.startup import Startup
from system_migration.startup_plan import MEANING, Stage


class Live(BaseModel):
    """The process answers."""

    status: str = "alive"


class Ready(BaseModel):
    """Whether the application may serve, and how far migrations are."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    ready: bool
    state: Stage
    migration: str | None
    rows_done: int | None
    rows_total: int | None
    reason: str


# The routes are async so that they run in the event loop: a full thread pool must not look like a dead process.


def create_liveness_router() -> APIRouter:
    """`GET /health/live` alone, for a server that looks after no start."""
    router = APIRouter(prefix="/health", tags=["health"])

    @router.get("/live")
    async def live() -> Live:
        """200 for as long as the process answers, whatever becomes of migrations."""
        return Live()

    return router


def create_health_router(startup: Startup) -> APIRouter:
    """`GET /health/live` and `GET /health/ready`. Neither asks the database, so both answer while it is away."""
    router = create_liveness_router()

    @router.get("/ready", responses={503: {"model": Ready, "description": "A migration must end first."}})
    async def ready(response: Response) -> Ready:
        """200 when the application may serve; 503 while a migration that blocks it has not ended."""
        state = startup.state()
        response.status_code = 200 if state.ready else 503
        response.headers["Cache-Control"] = "no-store"
        return Ready(
            ready=state.ready,
            state=state.stage,
            migration=state.migration,
            rows_done=state.rows_done,
            rows_total=state.rows_total,
            reason=MEANING[state.stage],  # not the sentence, which names people, hosts and errors
        )

    return router

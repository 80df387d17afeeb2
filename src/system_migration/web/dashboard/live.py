"""What tells an open screen that there is something new: it then asks for itself again."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from system_migration.records import Followed
from system_migration.web.dashboard.desk import Desk
from system_migration.web.dashboard.watching import StatusWatch
from system_migration.web.finding import find
from system_migration.web.following import Cursor, parse_cursor

_DATA = re.compile(rb"^data: .*$", re.MULTILINE)
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def add_live(router: APIRouter, desk: Desk) -> None:
    """Add the event streams to the router."""
    watch = StatusWatch(desk.migrator, desk.poller)

    @router.get("/events", name="dashboard_events")
    async def statuses() -> Response:
        return StreamingResponse(watch.stream(), media_type="text/event-stream", headers=_HEADERS)

    @router.get("/runs/{id}/events", name="dashboard_run_events")
    async def run(request: Request, id: str) -> Response:
        view = await desk.poller.look(id, find)
        seen = _seen(request, view)
        if view.ended and seen.end:
            return Response(status_code=204)
        stream = _kinds(desk.poller.stream(view, seen))
        return StreamingResponse(stream, media_type="text/event-stream", headers=_HEADERS)


async def _kinds(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The messages of a run's stream without what they tell.

    A screen needs only to know that there is news, which it asks for with its session. The stream may stay open for a
    while after that session has ended, and whoever is dismissed shall read no more.
    """
    async for message in stream:
        yield _DATA.sub(b"data: {}", message)


def _seen(request: Request, view: Followed) -> Cursor:
    """What the screen has seen. One that comes anew has just been rendered, and is not told what it shows already.

    What happens between that and its coming is in the `state` with which each stream begins.
    """
    last = request.headers.get("last-event-id")
    return parse_cursor(last) if last else Cursor(view.last_line, view.last_event)

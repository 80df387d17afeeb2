"""What goes wrong, as a page: one sentence with the next step, never a trace or what was sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from urllib.parse import quote, urlencode, urlsplit

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from system_migration.errors import MigrationSystemError, UnknownMigration, UnknownRun
from system_migration.web.dashboard.desk import HIDDEN, Desk, developer_of
from system_migration.web.dashboard.forms import Form, read_form
from system_migration.web.dashboard.pages import HEADERS, outside, root_of
from system_migration.web.problems import log_of, problem_of

LONGEST_QUERY = 6_000
"""Servers refuse addresses that are much longer."""

NOWHERE = "There is no page at this address. The overview lists the migrations."
_MISTYPED = "The address asks for something that this page does not have. Take away what is behind the question mark."


def page_route(desk: Desk) -> type[APIRoute]:
    """A class of routes whose every failure is a page, or leads to the sign-in."""

    class PageRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
            handle = super().get_route_handler()

            async def answer(request: Request) -> Response:
                try:
                    response = await handle(request)
                except Exception as error:
                    return await failure(desk, request, error)
                for name, value in HEADERS.items():
                    response.headers.setdefault(name, value)
                return response

            return answer

    return PageRoute


async def failure(desk: Desk, request: Request, error: Exception) -> Response:
    """The answer to whatever a handler raised."""
    if isinstance(error, HTTPException):
        if error.status_code == HTTPStatus.UNAUTHORIZED and desk.sign_in is not None:
            back = quote(await _way_back(request), safe="")
            return RedirectResponse(f"{outside(request, desk.sign_in)}?next={back}", 303, HEADERS)
        title = HTTPStatus(error.status_code).phrase
        return await _page(desk, request, error.status_code, title, str(error.detail), error.headers)
    log_of(error)
    problem = problem_of(error)
    headers = {"Retry-After": "5"} if problem.status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return await _page(desk, request, problem.status, problem.title, _in_words(error) or problem.detail, headers)


def _in_words(error: Exception) -> str:
    """What a page says in other words than the API: it has links and fields, not routes and parameters."""
    if isinstance(error, UnknownMigration | UnknownRun):
        return "There is none of this name here. The overview lists the migrations, the history their runs."
    if isinstance(error, RequestValidationError):
        return _MISTYPED
    return ""


async def _page(
    desk: Desk, request: Request, status: int, title: str, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    def answer() -> Response:
        # Signed in, and no developer: the bar above the screens has no name for them, and no way out.
        stranger = status == HTTPStatus.FORBIDDEN and not developer_of(request)
        return desk.failure(request, "problem.html", status, title=title, detail=detail, stranger=stranger)

    response = await run_in_threadpool(answer)
    response.headers.update(headers or {})
    return response


async def _way_back(request: Request) -> str:
    """Where to go on after signing in: here, or to the form that was sent, with what was typed in it."""
    if request.method in ("GET", "HEAD"):
        return _local(str(request.url), request)
    try:
        form = await read_form(request)
    except MigrationSystemError:
        form = Form([])
    name, verb = request.path_params.get("name"), request.url.path.rpartition("/")[2]
    if name is None:
        return urlsplit(_local(request.headers.get("referer", ""), request)).path
    page = f"{root_of(request)}/m/{quote(name, safe='')}"
    query = urlencode([("verb", verb), *form.typed(HIDDEN)])
    if len(query) <= LONGEST_QUERY:
        return f"{page}/start?{query}"
    # Many chosen rows make a long address. They are chosen anew: without them the form would ask for all.
    return f"{page}/held" if form.all("key") else f"{page}/start?verb={quote(verb)}"


def _local(address: str, request: Request) -> str:
    """The path and query of an address of this page; of any other the overview's."""
    parts, root = urlsplit(address), root_of(request)
    inside = parts.path == root or parts.path.startswith(f"{root}/")
    return parts.path + (f"?{parts.query}" if parts.query else "") if inside else root

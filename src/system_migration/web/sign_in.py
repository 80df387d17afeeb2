"""Signing in to the page by a form, and out of it: what any host needs for it, but for who somebody is.

The host says what is typed, and what is kept in the cookie for somebody who typed the right thing. Here is that no
other site can send the form or choose where it leads, that nothing secret is shown again, and what the page looks like.
"""

# Without `from __future__ import annotations`: FastAPI could not see the local names in the signatures of the routes.

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from system_migration.web.dashboard.forms import read_form
from system_migration.web.dashboard.pages import HEADERS, render, root_of
from system_migration.web.local_paths import local_path
from system_migration.web.problems import log_of, problem_of
from system_migration.web.refusals import InvalidRequest
from system_migration.web.same_origin import comes_from_elsewhere, is_same_origin
from system_migration.web.session_cookie import SessionCookie

SIGN_IN: Final = "/auth/sign-in"
SIGN_OUT: Final = "/auth/sign-out"

_ROUTE: Final = "sign_in_form"
_NEXT: Final = "next"
_SIGNED_OUT: Final = "signed-out"
_FOREIGN: Final = "Nothing was done: the form was sent from another site's page. Use the form on this page."
_IN_THE_CLEAR: Final = (
    "Nobody was signed in: here that needs HTTPS, because a browser does not keep the session of a page that came "
    "without it. Open the page's https address; change the password if others could have listened."
)


@dataclass(frozen=True)
class SignInField:
    """What is typed in one field of the form. `autocomplete` tells a password manager what it is; `hint` people."""

    name: str
    label: str
    autocomplete: str
    max_length: int = 1000
    is_secret: bool = False
    """Shown as dots, and never sent back: not even in a form that was refused."""
    hint: str = ""


Enter = Callable[[Request, Mapping[str, str]], Awaitable[str]]
Leave = Callable[[str], None]


def create_sign_in_router(
    cookie: SessionCookie, fields: Sequence[SignInField], enter: Enter, leave: Leave | None = None
) -> APIRouter:
    """`/auth/sign-in` and `/auth/sign-out`, for the `sign_in` and `sign_out` of `create_dashboard`, in one application.

    `enter` is given the request and what was typed, by the fields' names, and returns what the cookie shall hold; or it
    raises `HTTPException`, whose sentence is then shown above the form. `leave` is given what the cookie held when
    somebody signs out or in anew. Whether a cookie is good is decided by the page's `require_developer`.
    """
    form = _SignInForm(cookie, tuple(fields), enter, leave or (lambda value: None))
    router = APIRouter(include_in_schema=False)
    router.add_api_route(SIGN_IN, form.show, methods=["GET"], name=_ROUTE)
    router.add_api_route(SIGN_IN, form.sign_in, methods=["POST"])
    router.add_api_route(SIGN_OUT, form.sign_out, methods=["POST"])
    return router


@dataclass(frozen=True)
class _SignInForm:
    cookie: SessionCookie
    fields: tuple[SignInField, ...]
    enter: Enter
    leave: Leave

    async def show(self, request: Request) -> Response:
        """The empty form."""
        next_path = _next_path(request, request.query_params.get(_NEXT))
        notice = "You are signed out." if _SIGNED_OUT in request.query_params else None
        headers = {}
        if comes_from_elsewhere(request):
            # Who followed a link on another site is perhaps signed in, but their browser does not show us the cookie.
            # This page asks for theirs itself, with the cookie; it leads back here only if there is none.
            headers["Refresh"] = f"0; url={next_path}"
        return self._page(request, next_path, notice=notice, headers=headers)

    async def sign_in(self, request: Request) -> Response:
        """To the page that was asked for with a new session, or the form again with a sentence."""
        if not is_same_origin(request):
            return self._page(request, root_of(request), problem=_FOREIGN, status=HTTPStatus.FORBIDDEN)
        typed: dict[str, str] = {}
        next_path = root_of(request)
        try:
            form = await read_form(request)
            next_path = _next_path(request, form.one(_NEXT))
            form.demand_only([_NEXT, *(field.name for field in self.fields)])
            typed |= {field.name: form.one(field.name) or "" for field in self.fields}
            value = await self._enter(request, typed)
        except Exception as error:
            status, sentence, headers = _refusal(error)
            return self._page(request, next_path, typed, problem=sentence, status=status, headers=headers)
        self._leave(request)
        answer = RedirectResponse(next_path, HTTPStatus.SEE_OTHER, HEADERS)
        answer.headers.append("Set-Cookie", self.cookie.header(request, value))
        return answer

    async def sign_out(self, request: Request) -> Response:
        """To the form, without a session."""
        if not is_same_origin(request):
            return self._page(request, root_of(request), problem=_FOREIGN, status=HTTPStatus.FORBIDDEN)
        self._leave(request)
        where = f"{request.url_for(_ROUTE).path}?{_SIGNED_OUT}=yes"
        answer = RedirectResponse(where, HTTPStatus.SEE_OTHER, HEADERS)
        for header in self.cookie.headers_that_clear(request):
            answer.headers.append("Set-Cookie", header)
        return answer

    async def _enter(self, request: Request, typed: Mapping[str, str]) -> str:
        for field in self.fields:
            if len(typed[field.name]) > field.max_length:
                raise InvalidRequest(f"{field.label}: at most {field.max_length} characters.")
        if not self.cookie.is_kept(request):
            raise HTTPException(HTTPStatus.FORBIDDEN, _IN_THE_CLEAR)
        return await self.enter(request, typed)

    def _leave(self, request: Request) -> None:
        value = self.cookie.read(request)
        if value is not None:
            self.leave(value)

    def _page(
        self,
        request: Request,
        next_path: str,
        typed: Mapping[str, str] | None = None,
        *,
        problem: str | None = None,
        notice: str | None = None,
        status: int = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        kept = {field.name: (typed or {}).get(field.name, "") for field in self.fields if not field.is_secret}
        return render(
            "sign_in.html",
            status,
            headers,
            root=root_of(request),
            environment=None,
            is_production=False,
            developer=None,
            action=request.url_for(_ROUTE).path,
            fields=self.fields,
            kept=kept,
            next_path=next_path,
            problem=problem,
            notice=notice,
        )


def _next_path(request: Request, asked: str | None) -> str:
    """Where signing in leads: to the page that was asked for, or to the first one."""
    root = root_of(request)
    return local_path(asked or "", root) or root


def _refusal(error: Exception) -> tuple[int, str, Mapping[str, str]]:
    """How a failure is answered on the form, logged as on any other route."""
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail), error.headers or {}
    log_of(error)
    problem = problem_of(error)
    wait = {"Retry-After": "5"} if problem.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return problem.status, problem.detail, wait

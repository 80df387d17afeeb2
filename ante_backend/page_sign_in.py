"""Signing in to the page with an account's own login, and who may see it: developers, whom the database names."""

# Without `from __future__ import annotations`: FastAPI could not see the local names in the signatures.

from collections.abc import Callable, Mapping
from typing import Final

from fastapi import APIRouter, HTTPException, Request

from ante_backend.auth_api import MAX_NAME, MAX_PASSWORD, REFUSED, refusals, source
from ante_backend.authentication import Authentication
from ante_backend.page_renewal import renew
from ante_backend.page_sessions import PageSessions
from ante_backend.tokens import InvalidToken
from system_migration.web import SessionCookie, SignInField, create_sign_in_router

_FIELDS: Final = (
    SignInField("username", "Username or e-mail", "username", MAX_NAME),
    SignInField("password", "Password", "current-password", MAX_PASSWORD, is_secret=True),
)
_NO_DEVELOPER: Final = "This account is not a developer's: the page is for developers alone. Nobody was signed in."


def create_page_sign_in(authentication: Authentication, sessions: PageSessions, cookie: SessionCookie) -> APIRouter:
    """`/auth/sign-in` and `/auth/sign-out`. As to its limits and its one refusal, signing in is a login."""

    async def enter(request: Request, given: Mapping[str, str]) -> str:
        with refusals():
            account = await authentication.log_in(given["username"], given["password"], source(request))
        if account is None:
            raise HTTPException(401, REFUSED)
        if not account.is_developer:
            raise HTTPException(403, _NO_DEVELOPER)
        return sessions.begin(account)

    return create_sign_in_router(cookie, _FIELDS, enter, sessions.end)


def developer_cookie_dependency(
    authentication: Authentication, sessions: PageSessions, cookie: SessionCookie
) -> Callable[..., str]:
    """A dependency that gives the id of the developer whose cookie came with the request, or answers 401 or 403.

    The database decides anew each time. The answer renews the cookie where that is due.
    """

    def require_developer(request: Request) -> str:
        try:
            session = sessions.read(cookie.read(request) or "")
            account = authentication.account_of(session)
        except InvalidToken:
            raise HTTPException(401, "Sign in to go on.") from None
        if not account.is_developer:
            raise HTTPException(403, "This account is not a developer's.")
        if (renewed := sessions.renewed(session, account)) is not None:
            renew(request, renewed)
        return account.id

    return require_developer

"""Sends a renewed session with whatever answers the request that renewed it, an event stream not less than a page.

Not a dependency's `response`: FastAPI leaves that out of answers which a route makes itself.
"""

from __future__ import annotations

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from system_migration.web import SessionCookie

_RENEWED = "ante_backend.renewed"


def renew(request: Request, value: str) -> None:
    """Have the answer to this request store another value in the cookie."""
    request.scope[_RENEWED].append(value)


class PageRenewal:
    """Around an application: gives answers the cookie that `renew` was called with."""

    def __init__(self, app: ASGIApp, cookie: SessionCookie) -> None:
        self._app, self._cookie = app, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        renewed: list[str] = []
        scope[_RENEWED] = renewed  # a list, as routers may hand on a copy of the scope

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start" and renewed:
                header = self._cookie.header(Request(scope), renewed[-1])
                MutableHeaders(scope=message).append("Set-Cookie", header)
            await send(message)

        return await self._app(scope, receive, send_with_cookie)

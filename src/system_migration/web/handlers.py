"""Problem documents for a whole application: also where no route of ours is reached."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from system_migration.errors import MigrationSystemError
from system_migration.web.problems import answer_to


def install_problem_handlers(app: FastAPI) -> None:
    """Answer in the same form wherever else the application fails: unknown paths, other methods, its own routes."""

    async def handle(request: Request, error: Exception) -> Response:
        return answer_to(error)

    for kind in (HTTPException, RequestValidationError, MigrationSystemError, SQLAlchemyError):
        app.add_exception_handler(kind, handle)
    app.add_middleware(LastResort)


class LastResort:
    """Answers what nobody caught. A handler for `Exception` would not do: it lets the server log the error's text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = scope["type"] != "http"

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            answer = answer_to(error)  # logged in any case
            if not begun:
                await answer(scope, receive, send)
            elif scope["type"] == "lifespan":
                raise

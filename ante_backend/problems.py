"""Every refusal as application/problem+json, and nothing of a request or an exception's words in an answer or a log."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ante_backend.authentication import reason

_log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """An answer by RFC 9457."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error of the application with a problem."""
    app.exception_handler(HTTPException)(_refused)
    app.exception_handler(RequestValidationError)(_not_valid)
    app.exception_handler(SQLAlchemyError)(_no_database)
    app.add_middleware(Discreet)


async def _refused(request: Request, error: HTTPException) -> JSONResponse:
    return problem(error.status_code, error.detail, error.headers)


async def _not_valid(request: Request, error: RequestValidationError) -> JSONResponse:
    return problem(422, "The request is not valid.", errors=list(_faults(error)))


def _faults(error: RequestValidationError) -> Iterator[dict[str, str]]:
    """Where it is wrong and how, by pydantic's code: its words, and the names of unknown fields, are the client's."""
    for fault in error.errors():
        code = str(fault["type"])
        place = [str(part) for part in fault["loc"] if isinstance(part, str)]
        if code == "extra_forbidden":
            place = place[:1]
        yield {"field": ".".join(place), "code": code}


async def _no_database(request: Request, error: SQLAlchemyError) -> JSONResponse:
    _log.error("The database did not answer %s %s (%s).", request.method, request.scope["path"], reason(error))
    return problem(503, "The database cannot answer now. Try again.", {"Retry-After": "5"})


class Discreet:
    """Around the whole application: no answer is stored by anybody, and no exception's words leave it.

    An unexpected exception becomes a 500 and a log record of its type and the lines it came through. Its message may
    quote what was submitted, and the server would log it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = False

        async def send_unstored(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if not any(name.lower() == b"cache-control" for name, _ in message["headers"]):
                    message["headers"] = [*message["headers"], (b"cache-control", b"no-store")]
            await send(message)

        try:
            await self._app(scope, receive, send_unstored)
        except Exception as error:
            lines = "".join(traceback.format_tb(error.__traceback__))
            _log.error("%s %s failed with %s:\n%s", scope["method"], scope["path"], type(error).__name__, lines)
            if not started:
                answer = problem(500, "The server failed to answer. Its log says where.")
                await answer(scope, receive, send_unstored)
        return None

"""What goes wrong, as an answer: one table from error to status, and one form, application/problem+json (RFC 9457).

An answer never carries a trace, the text of a foreign error, or what the client submitted.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic.alias_generators import to_camel
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from system_migration.errors import (
    AuditKeyError,
    ChangedMeanwhile,
    ConfigurationError,
    HeldElsewhere,
    Interrupted,
    InvalidKey,
    MigrationFailed,
    MigrationSystemError,
    NotApproved,
    NotHeld,
    Paused,
    Refused,
    UnknownMigration,
    UnknownRun,
    UnreadableKey,
    Withdrawn,
)
from system_migration.records import as_json
from system_migration.web.answers import Problem
from system_migration.web.refusals import ForgedForm, InvalidRequest, KeyReused, NotConfirmed, RunGoing

_log = logging.getLogger("system_migration.web")

MEDIA_TYPE = "application/problem+json"
PREFIX = "urn:system-migration:"
NO_STORE = {"Cache-Control": "no-store"}


class Kind(NamedTuple):
    """How one kind of error is answered."""

    status: int
    slug: str
    title: str


KINDS: dict[type[BaseException], Kind] = {
    UnknownMigration: Kind(404, "unknown-migration", "No such migration"),
    UnknownRun: Kind(404, "unknown-run", "No such run"),
    InvalidRequest: Kind(422, "invalid-request", "The request is not valid"),
    InvalidKey: Kind(422, "invalid-request", "The request is not valid"),
    AuditKeyError: Kind(409, "audit-key", "The audit chain cannot be checked here"),
    UnreadableKey: Kind(422, "invalid-request", "The request is not valid"),
    RequestValidationError: Kind(422, "invalid-request", "The request is not valid"),
    ForgedForm: Kind(403, "forged-form", "The form was not accepted"),
    KeyReused: Kind(422, "idempotency-key-reused", "The Idempotency-Key belongs to another request"),
    NotConfirmed: Kind(409, "not-confirmed", "The start was not confirmed"),
    RunGoing: Kind(409, "run-going", "A run is going"),
    HeldElsewhere: Kind(409, "run-going", "A run is going"),
    NotApproved: Kind(409, "not-approved", "The run was not approved"),
    ChangedMeanwhile: Kind(409, "changed-meanwhile", "The migration changed meanwhile"),
    Refused: Kind(409, "refused", "Refused"),
    Paused: Kind(409, "paused", "The migration is paused"),
    MigrationFailed: Kind(409, "failed", "The migration failed"),
    Withdrawn: Kind(409, "cancelled", "It was cancelled"),
    Interrupted: Kind(503, "stopping", "The server is stopping"),
    ConfigurationError: Kind(500, "configuration", "The server is not set up for this"),
    MigrationSystemError: Kind(500, "failed", "The migration system failed"),
    SQLAlchemyError: Kind(503, "database", "The database did not answer as it should"),
    Exception: Kind(500, "unexpected", "Something unexpected went wrong"),
}
"""The nearest class that an error has in this table decides."""


def kind_of(error: BaseException) -> Kind:
    """The entry of the table that is nearest to the error."""
    return next(KINDS[each] for each in type(error).__mro__ if each in KINDS)


def problem_response(
    status: int, slug: str, title: str, detail: str, headers: Mapping[str, str] | None = None, **members: Any
) -> JSONResponse:
    """A problem document. `members` are those beyond type, title, status and detail."""
    document = {"type": PREFIX + slug, "title": title, "status": status, "detail": detail, **members}
    return JSONResponse(document, status, {**NO_STORE, **(headers or {})}, MEDIA_TYPE)


def problem_of(error: BaseException) -> Problem:
    """The problem that an error is, for an answer that carries it beside other things."""
    status, slug, title = kind_of(error)
    return Problem(PREFIX + slug, title, status, _detail(error))


def log_of(error: BaseException) -> None:
    """Tell the server's log of an error that is nobody's fault but ours."""
    if kind_of(error).status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("%s", _for_the_log(error), extra={"action": "web.error"})


def answer_to(error: Exception) -> JSONResponse:
    """The answer to whatever a handler raised. What is nobody's fault but ours is also logged.

    What the host itself answers with an `HTTPException` is not: it was meant.
    """
    if isinstance(error, HTTPException):
        title = HTTPStatus(error.status_code).phrase
        document = {"type": "about:blank", "title": title, "status": error.status_code, "detail": str(error.detail)}
        return JSONResponse(document, error.status_code, {**NO_STORE, **(error.headers or {})}, MEDIA_TYPE)
    status, slug, title = kind_of(error)
    log_of(error)
    members: dict[str, Any] = {}
    if isinstance(error, RequestValidationError):
        members["errors"] = [_field_problem(each) for each in error.errors()]
    if isinstance(error, RunGoing):
        members["run"] = as_json(error.run)
    headers = {"Retry-After": "5"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return problem_response(status, slug, title, _detail(error), headers, **members)


def _detail(error: BaseException) -> str:
    """A sentence for the client. Only our own errors are quoted, and none that repeats what the client sent."""
    if isinstance(error, UnknownMigration):
        return "There is no migration of this name. GET /migration/list lists them."
    if isinstance(error, InvalidKey):
        return f"`{to_camel(error.option)}` cannot be read as a key of table {error.table!r}: {error.reason}."
    if isinstance(error, UnreadableKey):
        return "`key` cannot be read as a key of this table."
    if isinstance(error, NotHeld):
        return f"{error.count}. {error.next_step}"
    if isinstance(error, RequestValidationError):
        return "One or more parameters are missing, unknown or out of bounds; `errors` says which."
    if isinstance(error, MigrationSystemError):
        return str(error)
    if isinstance(error, SQLAlchemyError):
        return "The database could not be reached, or answered with an error; the server's log says which."
    return "The server's log says where. Nothing of it is repeated here, as it may carry data."


def _field_problem(error: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with one field, without its value; nor with the name of one that we do not know."""
    place = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        place = place[:1]
    return {"where": " ".join(place), "message": str(error["msg"])}


def _for_the_log(error: BaseException) -> str:
    """Our own sentence, with the one behind it; of any other error only its type and place: its text may carry data."""
    if not isinstance(error, MigrationSystemError):
        return f"{type(error).__name__} at {_place(error)}"
    cause = error.__cause__
    return f"{error} ({cause})" if isinstance(cause, MigrationSystemError) else str(error)


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"


class ProblemRoute(APIRoute):
    """A route whose every failure is a problem document, whatever handlers the host has installed."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                response = await handle(request)
            except Exception as error:
                return answer_to(error)
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return answer

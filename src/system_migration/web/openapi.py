"""What the OpenAPI description says about answers: the documents, an example of each, and every problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from system_migration.web.answers import Problem
from system_migration.web.problems import MEDIA_TYPE, PREFIX
from system_migration.web.schemas import model_of

Responses = dict[int | str, dict[str, Any]]

EVERYWHERE = (401, 403, 422, 500, 503)
"""What any route may answer."""
_DESCRIPTIONS = {
    401: "No token, or none that is valid",
    403: "Not a developer",
    404: "No such migration or run",
    409: "Refused, not confirmed, or another run is going; nothing was started",
    422: "A parameter is missing, unknown or out of bounds",
    500: "Something unexpected went wrong; the server's log says where",
    503: "The database is away, or the server is stopping",
}
_EXAMPLES = {
    404: ("unknown-migration", "No such migration", "There is no migration of this name."),
    409: ("run-going", "A run is going", "Migration 001-password-bcrypt is being run by 7 on app-1."),
    422: ("invalid-request", "The request is not valid", "The query has a parameter that this route does not know."),
}


def answers(record: Any, *also: int, example: Any = None, status: int = 200, description: str = "Done") -> Responses:
    """The `responses` of a route that answers `status` with a record (or a list of one) and may answer `also`."""
    found: Responses = {status: {"description": description, "model": _model(record)}}
    if example is not None:
        found[status]["content"] = {"application/json": {"example": example}}
    return found | problems(*also)


def problems(*also: int) -> Responses:
    """The problems that a route may answer with: those of every route, and `also`."""
    statuses = sorted({*EVERYWHERE, *also})
    found = problem_responses({status: _DESCRIPTIONS[status] for status in statuses})
    for status in _EXAMPLES.keys() & statuses:
        slug, title, detail = _EXAMPLES[status]
        example = {"type": PREFIX + slug, "title": title, "status": status, "detail": detail}
        found[status]["content"][MEDIA_TYPE]["example"] = example
    return found


def problem_responses(descriptions: Mapping[int, str]) -> Responses:
    """The `responses` of a route that answers these statuses with problem documents, for these reasons."""
    schema = model_of(Problem).model_json_schema() | {"additionalProperties": True}
    return {
        status: {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status, description in descriptions.items()
    }


def _model(record: Any) -> Any:
    if isinstance(record, list):
        return list[model_of(record[0])]  # type: ignore[misc]
    return model_of(record)


RUN = {
    "id": "5b3f0e0a-8a52-4d0e-9a39-0d7a3f4f8f6e",
    "migration": "001-password-bcrypt",
    "kind": "run",
    "outcome": None,
    "generation": 1,
    "executedBy": "7",
    "host": "app-1",
    "startedAt": "2025-11-22T08:10:14.123Z",
    "finishedAt": None,
    "recordsProcessed": 0,
    "issues": 0,
    "error": None,
}
STARTED: dict[str, Any] = {"environment": "staging", "run": RUN, "reports": [], "error": None}
RUN_STATE = {
    "run": RUN | {"recordsProcessed": 97_000, "issues": 3},
    "state": "running",
    "request": None,
    "requestedBy": None,
    "progress": {
        "rowsRead": 97_003,
        "changed": 97_000,
        "unchanged": 0,
        "held": 3,
        "vanished": 0,
        "deferred": 0,
    },
    "report": None,
}

"""The routes about the audit chain."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response, StreamingResponse

from system_migration.migrator import Migrator
from system_migration.records import AuditVerdict, as_json
from system_migration.web.openapi import Responses, answers, problems

_LINES: Responses = {
    200: {
        "description": "JSON lines: an event each, and last the head",
        "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
    },
    **problems(),
}


def add_audit(router: APIRouter, migrator: Migrator) -> None:
    """Add the routes to the router."""

    @router.get("/audit/verify", summary="Check the audit chain", responses=answers(AuditVerdict, 409))
    def verify() -> Response:
        """200 whether it holds or not: `intact` says so, and `broken` names the first link that does not hold."""
        return JSONResponse(as_json(migrator.audit_verify()))

    @router.get("/audit/export", summary="All events of the audit chain, and its head", responses=_LINES)
    def export() -> Response:
        """As `migration audit export` writes it."""
        lines = migrator.audit_export()
        first = next(lines)  # what is wrong with the record is answered as a problem, not in the middle of the lines
        return StreamingResponse(
            _ended(first, lines), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"}
        )


def _ended(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first + "\n"
    yield from (line + "\n" for line in lines)

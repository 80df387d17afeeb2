"""The rows that a migration holds, or that its rollback left as they are: by reason, by key, to be tried again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from system_migration.records import Issue, IssueCount, MigrationStatus, Shown
from system_migration.states import Status
from system_migration.web.dashboard import export
from system_migration.web.dashboard.desk import Desk, status_in
from system_migration.web.dashboard.verbs import Offer, offer, standing

PAGE = 100
"""Rows on a page. A form that names all of them stays below 16 KiB, which hosts allow a request that bears no file."""

Code = Annotated[str, Query(max_length=64, pattern=r"^[^\x00]*$")]
Key = Annotated[str, Query(max_length=2_000, pattern=r"^[^\x00]*$")]
After = Annotated[str, Query(pattern=r"^([0-9]{1,16}-[0-9a-f]{64})?$")]


@dataclass(frozen=True)
class Held:
    """A page of them. `code` and `key` are what was looked for, `fault` is what is wrong with the key.

    `next` is where the following page begins.
    """

    migration: MigrationStatus
    offer: Offer
    counts: list[IssueCount]
    rows: list[Issue]
    code: str
    key: str
    fault: str
    next: str | None

    @property
    def total(self) -> int:
        """All that are held, whatever was looked for."""
        return sum(each.rows for each in self.counts)

    @property
    def left(self) -> bool:
        """Whether they are rows that a rollback did not restore, rather than such that a run holds."""
        return self.migration.status is Status.ROLLED_BACK

    @property
    def composite(self) -> bool:
        """Whether a key has several columns."""
        return any(isinstance(row.key, list) for row in self.rows)

    @property
    def no_retry(self) -> str:
        """Why the rows cannot be tried again now; empty where they can."""
        m = self.migration
        if self.offer.find("retry") is not None:
            return ""
        if m.status is Status.RUNNING and not m.code_missing:
            return "A run is unfinished. Held rows can be retried when it has ended."
        if m.undoing and not m.code_missing:
            return "Its rollback is unfinished: finish that first."
        return " ".join(self.offer.why) or "They cannot be retried as it stands."


def add_held(router: APIRouter, desk: Desk) -> None:
    """Add the screen, and the same rows as a file, to the router."""

    @router.get("/m/{name}/held", name="dashboard_held")
    def held(request: Request, name: str, code: Code = "", key: Key = "", after: After = "") -> Response:
        found = look(desk, name, code, key, after)
        return desk.answer(request, "held.html", 422 if found.fault else 200, held=found)

    @router.get("/m/{name}/held.csv", name="dashboard_held_csv")
    def held_csv(name: str, code: Code = "") -> Response:
        disposition = f'attachment; filename="{export.file_name(name, code)}"'
        text = export.portions(desk.migrator, name, code or None)
        return StreamingResponse(text, media_type=export.MEDIA_TYPE, headers={"Content-Disposition": disposition})


def look(desk: Desk, name: str, code: str, key: str, after: str) -> Held:
    """What the screen shows. Raises `UnknownMigration`."""
    report = desk.migrator.status()
    migration = status_in(report, name)
    offered = offer(standing(Shown(migration, None, 0, [], [], None, ""), report, desk.migrator.registry))
    counts = desk.migrator.issue_counts(name)
    if key:
        found, fault = _find(desk, name, key)
        return Held(migration, offered, counts, found, code, key, fault, None)
    rows = desk.migrator.issues_after(name, after or None, limit=PAGE + 1, code=code or None)
    following = rows[PAGE - 1].id if len(rows) > PAGE else None
    return Held(migration, offered, counts, rows[:PAGE], code, "", "", following)


def _find(desk: Desk, name: str, key: str) -> tuple[list[Issue], str]:
    try:
        found = desk.migrator.issue_of(name, key)
    except ValueError as error:  # whose words tell of types, never of the key
        return [], f"This cannot be a key of its table: {error}."
    return ([] if found is None else [found]), ""

"""The rows that a migration holds, or that its rollback left as they are: by reason, by key, to be tried again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from system_migration.records import Issue, IssueCount, MigrationStatus
from system_migration.states import Status
from system_migration.web.dashboard import export
from system_migration.web.dashboard.desk import Desk
from system_migration.web.refusals import InvalidRequest

PAGE = 100
"""Rows on a page. A form that names all of them stays below 16 KiB, which hosts allow a request that bears no file."""
_ENDED = (Status.COMPLETED, Status.FAILED, Status.PAUSED)

Code = Annotated[str, Query(max_length=64)]
Key = Annotated[tuple[str, ...], Query(max_length=PAGE)]
After = Annotated[str, Query(pattern=r"^([0-9]{1,16}-[0-9a-f]{64})?$")]


@dataclass(frozen=True)
class Held:
    """A page of them. `total` are all, `code` and `key` are what was looked for, `fault` what is wrong with the key.

    `chosen` are the ids of rows that were ticked before; `next` is where the following page begins.
    """

    migration: MigrationStatus
    counts: list[IssueCount]
    rows: list[Issue]
    code: str
    key: str
    fault: str
    chosen: frozenset[str]
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
        if m.code_missing:
            return "The file of this migration is not here, so its rows cannot be retried."
        if m.undoing:
            return "Its rollback is unfinished: finish that first."
        if m.status not in _ENDED:
            return "A run is going. Held rows can be retried when it has ended."
        return ""


def add_held(router: APIRouter, desk: Desk) -> None:
    """Add the screen, and the same rows as a file, to the router."""

    @router.get("/m/{name}/held", name="dashboard_held")
    def held(
        request: Request, name: str, code: Code = "", key: Key = (), after: After = "", rows: str = ""
    ) -> Response:
        found = look(desk, name, code, key, after, chosen=bool(rows))
        return desk.answer(request, "held.html", 422 if found.fault else 200, held=found)

    @router.get("/m/{name}/held.csv", name="dashboard_held_csv")
    def held_csv(name: str, code: Code = "") -> Response:
        disposition = f'attachment; filename="{export.file_name(name, code)}"'
        text = export.portions(desk.migrator, name, code or None)
        return StreamingResponse(text, media_type=export.MEDIA_TYPE, headers={"Content-Disposition": disposition})


def look(desk: Desk, name: str, code: str, keys: tuple[str, ...], after: str, *, chosen: bool) -> Held:
    """What the screen shows. The `keys` are those that a form had `chosen`; else the one that is looked for.

    Raises `UnknownMigration`, and `InvalidRequest` for more than one to look for.
    """
    migration = desk.status_of(name)
    counts = desk.migrator.issue_counts(name)
    ticked = frozenset(keys if chosen else ())
    wanted = [] if chosen else [key for key in keys if key]
    if len(wanted) > 1:
        raise InvalidRequest("The address looks for two keys. Give one.")
    if wanted:
        found, fault = _find(desk, name, wanted[0])
        return Held(migration, counts, found, code, wanted[0], fault, ticked, None)
    rows = desk.migrator.issues_after(name, after or None, limit=PAGE + 1, code=code or None)
    following = rows[PAGE - 1].id if len(rows) > PAGE else None
    return Held(migration, counts, rows[:PAGE], code, "", "", ticked, following)


def _find(desk: Desk, name: str, key: str) -> tuple[list[Issue], str]:
    try:
        found = desk.migrator.issue_of(name, key)
    except ValueError as error:  # whose words tell of types, never of the key
        return [], f"This cannot be a key of its table: {error}."
    return ([] if found is None else [found]), ""

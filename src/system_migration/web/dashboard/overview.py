"""The first screen: where every migration stands, what needs somebody first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from system_migration import wording
from system_migration.records import MigrationStatus, StatusReport
from system_migration.states import Status
from system_migration.web.dashboard.desk import Desk
from system_migration.web.dashboard.pages import root_of
from system_migration.web.dashboard.standing import Standing, in_hand, is_going, needs_attention

AT_ONCE = 50
"""So many of a group are shown at first; a page of all is one click away."""
_NAMED = 3
"""So many migrations are named in the sentence that says what comes next."""
_NONE_WAS_BEGUN = "Nothing was migrated here yet. Start with a dry run."
_NONE_IS_OVER = "Nothing is done yet: what was begun stands above."


@dataclass(frozen=True)
class Group:
    """Migrations that stand alike. `hidden` are not shown; `empty` says what it means that there are none."""

    key: str
    title: str
    migrations: list[Standing]
    hidden: int
    empty: str


@dataclass(frozen=True)
class First:
    """The migration that a plain run would begin with, and what the button says."""

    name: str
    label: str


def add_overview(router: APIRouter, desk: Desk) -> None:
    """Add the screen to the router."""

    @router.get("", name="dashboard_overview")
    def overview(request: Request, all: bool = False) -> Response:
        report = desk.migrator.status()
        rates = desk.migrator.rates([m.name for m in report.migrations if is_going(m)])
        return desk.answer(
            request,
            "overview.html",
            report=report,
            groups=grouped(report, rates, everything=all),
            summary=summary(report),
            next_step=wording.next_step(report, _NAMED),
            first=first(report),
        )

    @router.get("/")
    def with_a_slash(request: Request) -> Response:
        return RedirectResponse(root_of(request) + (f"?{request.url.query}" if request.url.query else ""), 303)


def grouped(report: StatusReport, rates: Mapping[str, float], *, everything: bool) -> list[Group]:
    """The migrations in groups, in the order in which a person wants to see them."""
    most = None if everything else AT_ONCE
    busy = in_hand(report)
    attention, running, pending, done = _sorted_out(report)

    def group(key: str, title: str, found: list[MigrationStatus], empty: str) -> Group:
        visible = [Standing(m, rates.get(m.name), busy) for m in found[:most]]
        return Group(key, title, visible, len(found) - len(visible), empty)

    begun = bool(attention or running)
    return [
        group("attention", "Needs attention", attention, "Nothing waits for a person."),
        group("running", "Running", running, "Nothing is running."),
        group("pending", "Pending", pending, "Nothing is pending. `migration new TITLE` writes the next."),
        group("done", "Done", done, _NONE_IS_OVER if begun else _NONE_WAS_BEGUN),
    ]


def _sorted_out(report: StatusReport) -> tuple[list[MigrationStatus], ...]:
    attention, running, pending, done = [], [], [], []
    for m in report.migrations:
        if needs_attention(m):
            attention.append(m)
        elif m.status is Status.RUNNING:
            running.append(m)
        elif m.status is Status.PENDING:
            pending.append(m)
        else:
            done.append(m)
    done.sort(key=lambda m: str(m.finished_at or ""), reverse=True)
    return attention, running, pending, done


def first(report: StatusReport) -> First | None:
    """What a plain run would take first, of those that wait for no other."""
    standing = {m.name: m for m in report.migrations}
    name = next((name for name in report.pending if not standing[name].waits_for), None)
    if name is None or standing[name].waits_for_schema:
        return None
    step = wording.step(standing[name], name)
    return First(name, step[0].upper() + step[1:])


def summary(report: StatusReport) -> str:
    """How many stand where, for those who hear the page and do not see it."""
    counts = zip(("need attention", "running", "pending", "done"), map(len, _sorted_out(report)), strict=True)
    return ", ".join(f"{number:,} {what}" for what, number in counts)

"""The form of each verb: what will happen, what may be said about it, and in production the name that is typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from system_migration.migrator import Migrator
from system_migration.records import MigrationStatus, Shown
from system_migration.states import Status
from system_migration.web.dashboard import options
from system_migration.web.dashboard.deciding import DECISIONS
from system_migration.web.dashboard.desk import Desk
from system_migration.web.dashboard.forms import Form
from system_migration.web.dashboard.options import MODELS, Field
from system_migration.web.dashboard.verbs import Offer, Verb, offer, standing
from system_migration.web.dashboard.wanting import CONFIRMED, REHEARSED
from system_migration.web.refusals import InvalidRequest

_FOREIGN = "allowEnvironment"
_CONTINUE = ("run", "resume")
FORMS = {
    "run": "Run {}",
    "rollback": "Roll back {}",
    "resume": "Resume {}",
    "retry": "Retry the held rows of {}",
    "verify": "Verify {}",
    "pause": "Pause {}",
    "cancel": "Cancel the run of {}",
    "skip": "Skip {}",
    "reset": "Reset {}",
    "approve": "Approve {}",
    "withdraw-approval": "Withdraw the approval of {}",
}
"""The verbs, and what is written above their forms."""


@dataclass(frozen=True)
class Answered:
    """Why a form is shown again: the status of the answer, a sentence, and what is wrong with which field."""

    status: int = 200
    sentence: str | None = None
    errors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StartForm:
    """What start.html shows. `verb` is None where the state does not offer it; `rehearsal` where a dry run can be made.

    `ticked` tells whether its tick is set. `earlier` are options of the start that is gone on with, as text by field.
    """

    key: str
    name: str
    verb: Verb | None
    rehearsal: bool
    ticked: bool
    title: str
    real_label: str
    dry_label: str
    shown: Shown
    offer: Offer
    typed: Form
    answered: Answered
    changeable: list[Field]
    fixed: list[Field]
    with_reason: bool
    confirmed: bool
    keys: list[str]
    foreign: bool
    earlier: Mapping[str, str]
    approvable: Mapping[str, Any] | None

    @property
    def m(self) -> MigrationStatus:
        return self.shown.status

    @property
    def report(self) -> Mapping[str, Any] | None:
        """The latest dry run, where it rehearsed what this form starts: that of a rollback says nothing of a run.

        Of the form that approves one, that one.
        """
        if self.key == "approve":
            return self.approvable
        found = self.shown.report
        fits = found is not None and bool(found.get("undoing")) == (self.key == "rollback")
        return found if fits else None

    @property
    def possible(self) -> bool:
        return self.verb is not None or self.rehearsal

    def value(self, name: str) -> str:
        """What was typed into a field, or chosen before; of a field that is new here, what the earlier start said."""
        return next(iter(self.typed.all(name)), "" if self.typed.has(name) else self.earlier.get(name, ""))

    @property
    def unfolded(self) -> bool:
        """Whether an option that cannot change later matters, was given, or is wrong: it is then not folded away."""
        said = any(self.value(each.name) or each.name in self.answered.errors for each in self.fixed)
        return said or self.foreign or self.m.code_changed


def add_starting(router: APIRouter, desk: Desk) -> None:
    """Add the screen to the router."""

    @router.get("/m/{name}/start", name="dashboard_start")
    def start(request: Request, name: str) -> Response:
        given = Form(request.query_params.multi_items())
        verb = given.one("verb") or "run"
        if verb not in FORMS:
            raise InvalidRequest(f"There is no such form. There is one for each of {', '.join(sorted(FORMS))}.")
        return form_page(desk, request, name, verb, given, Answered())


def form_page(desk: Desk, request: Request, name: str, verb: str, typed: Form, answered: Answered) -> Response:
    """The form of a verb as it is now, with what was typed. Raises `UnknownMigration`."""
    form = _form(desk.migrator, name, verb, typed, answered)
    run = typed.one("run")
    return desk.answer(request, "start.html", answered.status, form=form, run=run)


def _form(migrator: Migrator, name: str, key: str, typed: Form, answered: Answered) -> StartForm:
    shown, report = migrator.show(name), migrator.status()
    found = offer(standing(shown, report, migrator.registry))
    verb, title = found.find(key), FORMS[key].format(name)
    rehearsal = key in REHEARSED and found.find("dry-run" if key == "run" else key) is not None
    starts, foreign = key in MODELS, bool(report.warnings) or bool(typed.all(_FOREIGN))
    return StartForm(
        key,
        name,
        verb,
        rehearsal,
        ticked=rehearsal and (verb is None or not _is_real(verb, typed)),
        title=title,
        real_label=f"{title} in {migrator.environment}",
        dry_label=f"Dry-run {name}" if key == "run" else f"Dry-run the rollback of {name}",
        shown=shown,
        offer=found,
        typed=typed,
        answered=answered,
        changeable=options.changeable(key) if starts else [],
        fixed=[each for each in options.fixed(key) if foreign or each.name != _FOREIGN] if starts else [],
        with_reason="reason" in DECISIONS[key].fields if key in DECISIONS else False,
        confirmed=key in CONFIRMED and verb is not None,
        keys=typed.all("key") if key == "retry" and typed.one("rows") != "all" else [],
        foreign=foreign,
        earlier=_earlier(migrator, shown.status, verb),
        approvable=_approvable(migrator, shown) if key == "approve" else None,
    )


def _approvable(migrator: Migrator, shown: Shown) -> Mapping[str, Any] | None:
    """The report that would be approved, as it was kept."""
    run_id = shown.approval.approvable_run if shown.approval is not None else None
    return None if run_id is None else migrator.report_of(run_id)


def _is_real(verb: Verb, typed: Form) -> bool:
    """Whether the tick for a dry run is not set: as it was said, else as the verb is meant."""
    said = typed.all("dryRun")
    return said == ["false"] if said else verb.real


def _earlier(migrator: Migrator, m: MigrationStatus, verb: Verb | None) -> Mapping[str, str]:
    """What a start says that is gone on with: of a stale or a paused run, which the verb would continue."""
    unfinished = m.stale or m.status is Status.PAUSED
    start = migrator.last_start(m.name) if unfinished and verb is not None and verb.key in _CONTINUE else None
    return {} if start is None or verb is None else options.as_started(verb.key, start.options)

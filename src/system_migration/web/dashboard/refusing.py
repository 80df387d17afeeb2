"""What is shown when a form could not be obeyed: what others did meanwhile, or the form again with what was typed."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import Response
from pydantic.alias_generators import to_camel

from system_migration.errors import (
    ChangedMeanwhile,
    HeldElsewhere,
    InvalidKey,
    MigrationFailed,
    MigrationSystemError,
    Refused,
)
from system_migration.web.dashboard.desk import Desk
from system_migration.web.dashboard.options import FieldErrors
from system_migration.web.dashboard.sent import Sent
from system_migration.web.dashboard.starting import Answered, form_page
from system_migration.web.problems import kind_of
from system_migration.web.refusals import ExpiredForm, KeyReused, NotConfirmed, RunGoing


def refused(desk: Desk, request: Request, name: str, verb: str, sent: Sent, error: MigrationSystemError) -> Response:
    """The page for an error. Raises it again where neither the form nor others have to do with it."""
    if isinstance(error, ChangedMeanwhile | RunGoing | HeldElsewhere):
        return _meanwhile(desk, request, name, error)
    problem = _problem(desk, error)
    if problem is None:
        raise error
    return form_page(desk, request, name, verb, sent.form, problem)


def _problem(desk: Desk, error: MigrationSystemError) -> Answered | None:
    match error:
        case FieldErrors():
            return Answered(422, str(error), error.errors)
        case InvalidKey():
            said = f"It cannot be read as a key of table {error.table!r}: {error.reason}."
            return Answered(422, "Look at what is marked.", {to_camel(error.option): said})
        case NotConfirmed():
            said = f"Type the name of this environment, {desk.migrator.environment}, to say that you mean it."
            return Answered(409, "It was not confirmed.", {"confirm": said})
        case KeyReused():
            return Answered(409, "This form was sent before, for something else. Look at what came of it first.")
        case ExpiredForm():
            return Answered(403, str(error))
        case Refused() | MigrationFailed():
            return Answered(409, str(error))
    return None


def _meanwhile(desk: Desk, request: Request, name: str, error: MigrationSystemError) -> Response:
    """The page that says what happened meanwhile, and leads to that run. Nothing was done. Asks the database."""
    if isinstance(error, HeldElsewhere):
        error = desk.starts.going_by(error)
    run = error.run if isinstance(error, RunGoing) else desk.migrator.current_run(name)
    happened = error.happened if isinstance(error, ChangedMeanwhile) else str(error)
    return desk.answer(request, "meanwhile.html", kind_of(error).status, name=name, happened=happened, run=run)

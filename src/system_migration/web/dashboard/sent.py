"""What every form of ours brings along, whatever it asks for: checked before anything else is looked at."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from fastapi import Request

from system_migration.web.dashboard.desk import Desk, developer_of
from system_migration.web.dashboard.forms import Form, read_form
from system_migration.web.refusals import ExpiredForm, InvalidRequest

BROUGHT = ("token", "request", "seen", "run")
_INCOMPLETE = "The form is not complete. Open the page again and press the button there."


@dataclass(frozen=True)
class Sent:
    """A form of a developer's. `request` is its own id, and `seen` the revision of the migration that it showed.

    `run` is the run on whose page it stood, if it did.
    """

    developer: str
    form: Form
    request: str
    seen: int
    run: str | None


class TooOld(ExpiredForm):
    """A form that was open for too long, with all that it says. It was not obeyed."""

    def __init__(self, sent: Sent, message: str) -> None:
        super().__init__(message)
        self.sent = sent


async def read_sent(request: Request, desk: Desk, fields: Collection[str]) -> Sent:
    """The form, with no fields but these. Raises `ForgedForm`, or `InvalidRequest` for what is none of ours.

    One that is ours but too old is `TooOld`, and nothing but that is wrong with it.
    """
    form, developer = await read_form(request), developer_of(request)
    expired: ExpiredForm | None = None
    try:
        desk.tokens.check(developer, form.one("token"))
    except ExpiredForm as error:
        expired = error
    form.demand_only({*BROUGHT, *fields})
    seen, run = form.one("seen"), form.one("run")
    if seen is None or re.fullmatch(r"[0-9]{1,15}", seen, re.ASCII) is None:
        raise InvalidRequest(_INCOMPLETE)
    sent = Sent(developer, form, _uuid(form.one("request")), int(seen), None if run is None else _uuid(run))
    if expired is not None:
        raise TooOld(sent, str(expired))
    return sent


def _uuid(text: str | None) -> str:
    try:
        known = text is not None and str(UUID(text)) == text
    except ValueError:
        known = False
    if text is None or not known:
        raise InvalidRequest(_INCOMPLETE)
    return text

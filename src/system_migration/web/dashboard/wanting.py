"""From a form to what it asks for."""

from __future__ import annotations

from dataclasses import replace

from system_migration.records import RunOptions
from system_migration.web.dashboard.forms import Form
from system_migration.web.dashboard.options import FieldErrors, names, read_options
from system_migration.web.refusals import InvalidRequest
from system_migration.web.starts import Wanted, held_only

REHEARSED = {"run": "dry-run", "rollback": "dry-rollback"}
"""The verbs whose form has a tick for a dry run, and what they are with it."""
CONFIRMED = ("run", "rollback", "resume", "retry")
"""The verbs that start what changes data: in production these need the environment's name."""
_TICK = "dryRun"
_LONGEST_KEY = 2000


def fields_of(verb: str) -> tuple[str, ...]:
    """What the form of a start may have, beyond what every form brings along."""
    more = {"run": [_TICK, "full"], "rollback": [_TICK], "retry": ["key", "rows"]}.get(verb, [])
    return (*names(verb), *more, *(["confirm"] if verb in CONFIRMED else []))


def is_rehearsal(verb: str, form: Form) -> bool:
    """Whether the dry run is ticked. Raises `InvalidRequest` where the form does not say.

    A field that says no stands before the tick. So a form that has lost its tick on the way is no form without one.
    """
    if verb not in REHEARSED:
        return False
    said = form.all(_TICK)
    if said not in (["false"], ["false", "true"]):
        raise InvalidRequest("The form does not say whether it asks for a dry run. Open the page again.")
    return said == ["false", "true"]


def wanted(verb: str, name: str, form: Form) -> Wanted:
    """What is asked for. Raises `FieldErrors` or `InvalidRequest`."""
    options = _options(verb, form)
    if is_rehearsal(verb, form):
        if options.from_key is not None or options.to_key is not None:
            raise FieldErrors({"fromKey": "A dry run looks at the whole table. Leave out the first and last key."})
        return Wanted(REHEARSED[verb], name, options, full=form.one("full") == "true")
    if form.one("full") is not None:
        raise FieldErrors({"full": "Only a dry run examines all rows on request. Tick the dry run, or untick this."})
    if verb == "retry":
        return held_only(Wanted(verb, name, replace(options, keys=_keys(form))))
    return Wanted(verb, name, options)


def _options(verb: str, form: Form) -> RunOptions:
    if verb == "verify":
        return RunOptions()
    return read_options(verb, form).options()


def _keys(form: Form) -> tuple[str, ...] | None:
    """The held rows that were chosen, by their keys as text or by the ids of their issues; None for all of them.

    `rows` says which of two buttons was pressed.
    """
    found, which = tuple(form.all("key")), form.one("rows")
    if which == "all":
        return None
    if which == "chosen" and not found:
        raise FieldErrors({"key": "No row was chosen. Choose rows in the list, or retry all that are held."})
    if any(len(key) > _LONGEST_KEY for key in found):
        raise InvalidRequest("A key in the form is too long to be one.")
    return found or None

"""Pause, cancel, skip, reset and approve: what is done at once, or asked of a runner. No worker is needed for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from system_migration.errors import ChangedMeanwhile, Refused
from system_migration.migrator import Migrator
from system_migration.records import MigrationStatus, Origin
from system_migration.web.dashboard.desk import status_in
from system_migration.web.dashboard.forms import Form
from system_migration.web.dashboard.options import FieldErrors
from system_migration.web.dashboard.sent import Sent
from system_migration.web.starts import PAGE, Starts

LONGEST_REASON = 1000


@dataclass(frozen=True)
class Decision:
    """How a verb is carried out, and what the audit calls it; `asked` and `done` are codes of what is said then."""

    act: Callable[[Migrator, str, Form], MigrationStatus]
    done: str
    asked: str
    audited: tuple[str, ...]
    fields: tuple[str, ...] = ("allowEnvironment",)


class Deciding:
    """Carries out decisions, each once."""

    def __init__(self, migrator: Migrator, starts: Starts) -> None:
        self._migrator, self._starts = migrator, starts

    def decide(self, verb: str, name: str, sent: Sent) -> str:
        """Do it, and return the code of what is said then. Raises what the verb raises; a look-alike is not acted on.

        A form that comes twice is told the same twice: it is known by its request, whatever others did in between.
        """
        if verb == "cancel" and sent.run is not None and self._starts.withdraw(sent.run, sent.developer):
            return DECISIONS[verb].asked
        self._check_run(name, sent.run)
        decision, request = DECISIONS[verb], self._starts.request_id(sent.developer, f"form {sent.request}")
        acting = self._migrator.acting_as(
            sent.developer, origin=Origin(PAGE, request), seen=sent.seen, identity=self._starts.identity
        )
        try:
            status = decision.act(acting, name, sent.form)
        except ChangedMeanwhile:
            before = self._migrator.event_of_request(name, request)
            if before is None or before.action not in decision.audited:
                raise
            return decision.asked if before.action.endswith("_asked") else decision.done
        return decision.done if status.request is None else decision.asked

    def _check_run(self, name: str, run_id: str | None) -> None:
        """What is asked on the page of one run must not reach another one."""
        current = self._migrator.current_run(name) if run_id is not None else None
        if run_id is not None and (current is None or current.id != run_id):
            raise Refused(
                f"Nothing was done: this run does not decide where {name} stands, and it does not go on in this server."
            )


def _anyway(form: Form) -> bool:
    return form.one("allowEnvironment") == "true"


def _reason(form: Form) -> str:
    reason = (form.one("reason") or "").strip()
    if not reason:
        raise FieldErrors({"reason": "Say why: it is kept with the event."})
    if len(reason) > LONGEST_REASON:
        raise FieldErrors({"reason": f"At most {LONGEST_REASON:,} characters."})
    return reason


def _pause(migrator: Migrator, name: str, form: Form) -> MigrationStatus:
    return migrator.pause(name, allow_environment=_anyway(form))


def _cancel(migrator: Migrator, name: str, form: Form) -> MigrationStatus:
    return migrator.cancel(name, allow_environment=_anyway(form))


def _skip(migrator: Migrator, name: str, form: Form) -> MigrationStatus:
    return migrator.skip(name, _reason(form), allow_environment=_anyway(form))


def _reset(migrator: Migrator, name: str, form: Form) -> MigrationStatus:
    return migrator.reset(name, _reason(form), allow_environment=_anyway(form))


def _approve(migrator: Migrator, name: str, form: Form) -> MigrationStatus:
    migrator.approve(name, form.one("report") or "", allow_environment=_anyway(form))
    return status_in(migrator.status(), name)


def _withdraw(migrator: Migrator, name: str, form: Form) -> MigrationStatus:
    return migrator.withdraw_approval(name, allow_environment=_anyway(form))


_WITH_REASON = ("allowEnvironment", "reason")
DECISIONS = {
    "pause": Decision(_pause, "paused", "pause-asked", ("pause_asked", "pause_at_once")),
    "cancel": Decision(_cancel, "cancelled", "cancel-asked", ("cancel_asked", "cancel_at_once")),
    "skip": Decision(_skip, "skipped", "skipped", ("skipped",), _WITH_REASON),
    "reset": Decision(_reset, "reset", "reset", ("reset",), _WITH_REASON),
    "approve": Decision(_approve, "approved", "approved", ("approve",), ("allowEnvironment", "report")),
    "withdraw-approval": Decision(_withdraw, "withdrawn", "withdrawn", ("withdraw-approval",)),
}

"""What a start of the application does about migrations: decided from settings and one look, in words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from system_migration.errors import ConfigurationError, HeldElsewhere, MigrationSystemError, WaitsForSchema
from system_migration.records import MigrationStatus, StatusReport
from system_migration.settings import PRODUCTION, Settings
from system_migration.states import Status


class Stage(StrEnum):
    """How far a start is with migrations."""

    OFF = "off"
    LOOKING = "looking"
    DATABASE_AWAY = "database-away"
    DONE = "done"
    RUNNING = "running"
    FOLLOWING = "following"
    PENDING = "pending"
    REFUSED = "refused"
    ATTENTION = "attention"
    MISCONFIGURED = "misconfigured"
    STOPPED = "stopped"


MEANING = {
    Stage.OFF: "This application does not look for migrations when it starts.",
    Stage.LOOKING: "It is being looked what is pending.",
    Stage.DATABASE_AWAY: "The database does not answer; it will be asked again.",
    Stage.DONE: "Nothing is pending.",
    Stage.RUNNING: "This process runs what is pending.",
    Stage.FOLLOWING: "Another run is going; this process follows it.",
    Stage.PENDING: "Migrations are pending, and this application does not start them.",
    Stage.REFUSED: "Migrations are pending, and this process must not start them; its log says why.",
    Stage.ATTENTION: "A person has to decide; the log and `migration status` say what.",
    Stage.MISCONFIGURED: "A setting is wrong; the log says which.",
    Stage.STOPPED: "This process was asked to stop.",
}
"""A sentence a stage that anybody may read: it names nobody and quotes nothing."""

_SETTLED = (Status.COMPLETED, Status.SKIPPED, Status.ROLLED_BACK)


@dataclass(frozen=True)
class Plan:
    """What to do: `RUNNING` means that this process is to run what is pending. The sentence is for the log.

    Not `ready`, the application must not serve yet: a migration that blocks it has not ended.
    """

    stage: Stage
    sentence: str
    ready: bool
    migration: str | None = None
    rows_done: int | None = None


def without_looking(settings: Settings) -> Plan | None:
    """What the settings alone decide, so that the database need not be asked."""
    if settings.run_on_startup:
        return None
    if settings.auto_migrate:
        sentence = "AUTO_MIGRATE does nothing by itself. Set RUN_MIGRATIONS_ON_STARTUP=true beside it."
        return Plan(Stage.OFF, sentence, ready=True)
    return Plan(Stage.OFF, MEANING[Stage.OFF], ready=True)


def decide(report: StatusReport, settings: Settings) -> Plan:
    """What a start does where migrations stand like this."""
    by_name = {status.name: status for status in report.migrations}
    line = [by_name[name] for name in report.in_line]
    blocking = next((status for status in report.migrations if _blocks(status, settings)), None)
    if line:
        stage, first, sentence = _of_line(report, line, settings)
    elif blocking is not None:
        stage, first, sentence = Stage.ATTENTION, blocking, _needs_a_person(blocking)
    else:
        return Plan(Stage.DONE, MEANING[Stage.DONE], ready=True)
    done = first.records_processed if first.status is Status.RUNNING else None
    return Plan(stage, sentence, blocking is None, first.name, done)


def is_settled(report: StatusReport, name: str) -> bool:
    """Whether nothing is left to do for a migration, or a person decided so."""
    return any(status.name == name and status.status in _SETTLED for status in report.migrations)


def may_block(blocks_startup: bool, manual: bool, settings: Settings) -> bool:
    """Whether the application must not serve before the end of a migration. A manual one is in nobody's way."""
    return not manual and (blocks_startup or settings.startup_wait)


def _blocks(status: MigrationStatus, settings: Settings) -> bool:
    unfinished = status.status not in _SETTLED and not status.code_missing
    return unfinished and may_block(status.blocks_startup, status.manual, settings)


def _of_line(
    report: StatusReport, line: list[MigrationStatus], settings: Settings
) -> tuple[Stage, MigrationStatus, str]:
    """What the migrations that a run would come to in this order call for; the first decides."""
    first, names = line[0], ", ".join(status.name for status in line)
    if first.status in (Status.FAILED, Status.PAUSED):
        return Stage.ATTENTION, first, _needs_a_person(first)
    if first.status is Status.RUNNING and not first.stale:
        return Stage.FOLLOWING, first, f"{first.name} is being run by {first.held_by}. This process follows it."
    if report.newer:
        sentence = (
            f"Nothing is started: a newer program migrated this database ({', '.join(report.newer)}), and this one has "
            "no code for that. Deploy the newer program, or run what is pending by hand."
        )
        return Stage.REFUSED, first, sentence
    if first.waits_for_schema:
        sentence = (
            f"{first.name} waits for {first.waits_for_schema}. Nothing after it is started; when `alembic upgrade` has "
            "applied the revision, it goes on."
        )
        return Stage.PENDING, first, sentence
    if not settings.auto_migrate:
        sentence = f"Pending: {names}. `migration run` runs it; with AUTO_MIGRATE=true a start does."
        return Stage.PENDING, first, sentence
    if report.environment == PRODUCTION and not settings.allow_production_auto_migrate:
        sentence = (
            f"AUTO_MIGRATE is refused in production. Pending: {names}. Run it as a step of the deployment with "
            "`migration run --yes`, or allow it with ALLOW_PRODUCTION_AUTO_MIGRATE=true."
        )
        return Stage.REFUSED, first, sentence
    return Stage.RUNNING, first, f"This start runs what is pending: {names}."


def _needs_a_person(status: MigrationStatus) -> str:
    name, reason = status.name, f": {status.error}" if status.error else "."
    if status.status is Status.PAUSED:
        return f"{name} is PAUSED{reason} Nothing after it is started; `migration resume {name}` continues it."
    if status.cancelled:
        return f"{name} was cancelled; only `migration run {name}` continues it, and no start does."
    if status.undoing:
        return f"The rollback of {name} failed{reason} `migration rollback {name}` ends it; no start does."
    return f"{name} is FAILED{reason} A start never tries again; `migration run {name}` does, when the cause is mended."


# What went wrong

_AWAY = (OperationalError, InterfaceError)


def passes(error: BaseException) -> bool:
    """Whether a run that ended like this may be started again by the same process."""
    return isinstance(error, (HeldElsewhere, WaitsForSchema, *_AWAY))


def after_failed_look(error: Exception) -> Plan:
    """Where a start is that could not see where migrations stand."""
    if isinstance(error, _AWAY):
        return Plan(Stage.DATABASE_AWAY, f"{words(error)} It is asked again.", ready=False)
    if isinstance(error, ConfigurationError):
        return Plan(Stage.MISCONFIGURED, words(error), ready=False)
    return Plan(Stage.ATTENTION, words(error), ready=False)


def words(error: BaseException) -> str:
    """Only our own errors are quoted: the text of any other may carry a row's values or a password."""
    if isinstance(error, MigrationSystemError):
        return str(error)
    if isinstance(error, DBAPIError):
        return f"The database does not answer as it should ({type(error.orig).__name__})."
    return f"An unexpected {type(error).__name__} ended the work on migrations."

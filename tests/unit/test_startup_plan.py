"""What a start does, by settings and by where migrations stand: the whole table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from system_migration.records import MigrationStatus, StatusReport
from system_migration.settings import Settings
from system_migration.startup_plan import MEANING, Plan, Stage, decide, without_looking
from system_migration.states import Status
from tests.unit.cli.stub import STATUS

ON = Settings(run_on_startup=True, auto_migrate=True)
CHECK = Settings(run_on_startup=True)

PENDING = {"status": Status.PENDING}
STALE = {"status": Status.RUNNING, "stale": True}
ELSEWHERE = {"status": Status.RUNNING, "held_by": "ada on web-1", "records_processed": 70}
FAILED = {"status": Status.FAILED, "error": "It did not verify."}
CANCELLED = {"status": Status.FAILED, "cancelled": True}
HALF_UNDONE = {"status": Status.FAILED, "undoing": True}
PAUSED = {"status": Status.PAUSED, "error": "an operator paused it."}


def one(name: str = "001-a", **changes: Any) -> MigrationStatus:
    values: dict[str, Any] = {"name": name, "records_processed": 0, "issues": 0} | changes
    return replace(STATUS, **values)


def plan(
    *migrations: MigrationStatus, settings: Settings = ON, environment: str = "staging", newer: list[str] | None = None
) -> Plan:
    """In line are those that `overview.to_do` names with what is in hand."""
    line = [
        status.name
        for status in migrations
        if not status.manual
        and not status.code_missing
        and status.status in (Status.PENDING, Status.RUNNING, Status.PAUSED, Status.FAILED)
        and not status.cancelled
        and not status.undoing
    ]
    report = StatusReport(environment, list(migrations), [], in_line=line, newer=newer or [])
    return decide(report, settings)


# Without looking


def test_a_start_that_was_not_asked_to_look_does_not() -> None:
    assert without_looking(Settings()) == Plan(Stage.OFF, MEANING[Stage.OFF], ready=True)


def test_auto_migrate_alone_does_nothing_and_says_so() -> None:
    alone = without_looking(Settings(auto_migrate=True, allow_production_auto_migrate=True))
    assert alone is not None
    assert (alone.stage, alone.ready) == (Stage.OFF, True)
    assert alone.sentence == ("AUTO_MIGRATE does nothing by itself. Set RUN_MIGRATIONS_ON_STARTUP=true beside it.")


@pytest.mark.parametrize("settings", [ON, CHECK])
def test_a_start_that_was_asked_to_look_looks(settings: Settings) -> None:
    assert without_looking(settings) is None


# What stands first decides


@pytest.mark.parametrize(
    ("where", "with_auto_migrate", "without"),
    [
        ({"status": Status.COMPLETED}, Stage.DONE, Stage.DONE),
        ({"status": Status.SKIPPED}, Stage.DONE, Stage.DONE),
        ({"status": Status.ROLLED_BACK}, Stage.DONE, Stage.DONE),
        (PENDING | {"manual": True}, Stage.DONE, Stage.DONE),
        (ELSEWHERE | {"manual": True}, Stage.DONE, Stage.DONE),
        (CANCELLED, Stage.DONE, Stage.DONE),
        (HALF_UNDONE, Stage.DONE, Stage.DONE),
        (PENDING, Stage.RUNNING, Stage.PENDING),
        (STALE, Stage.RUNNING, Stage.PENDING),
        (PENDING | {"waits_for_schema": "schema revision b, ..."}, Stage.PENDING, Stage.PENDING),
        (STALE | {"waits_for_schema": "schema revision b, ..."}, Stage.PENDING, Stage.PENDING),
        (ELSEWHERE, Stage.FOLLOWING, Stage.FOLLOWING),
        (FAILED, Stage.ATTENTION, Stage.ATTENTION),
        (PAUSED, Stage.ATTENTION, Stage.ATTENTION),
    ],
)
def test_the_table(where: dict[str, Any], with_auto_migrate: Stage, without: Stage) -> None:
    assert plan(one(**where)).stage is with_auto_migrate
    assert plan(one(**where), settings=CHECK).stage is without
    assert plan(one(**where)).ready  # nothing declares that it blocks the start


def test_no_migrations_at_all_is_nothing_pending() -> None:
    assert plan() == Plan(Stage.DONE, MEANING[Stage.DONE], ready=True)


@pytest.mark.parametrize("waits", [FAILED, PAUSED])
def test_nothing_is_started_after_one_that_waits_for_a_person(waits: dict[str, Any]) -> None:
    seen = plan(one("001-a", **waits), one("002-b", **PENDING))
    assert (seen.stage, seen.migration) == (Stage.ATTENTION, "001-a")


def test_what_comes_before_one_that_waits_for_a_person_is_started() -> None:
    assert plan(one("001-a", **PENDING), one("002-b", **FAILED)).stage is Stage.RUNNING


def test_one_that_runs_elsewhere_is_followed_with_its_rows() -> None:
    seen = plan(one("001-a", **ELSEWHERE), one("002-b", **PENDING))
    assert seen.sentence == "001-a is being run by ada on web-1. This process follows it."
    assert (seen.migration, seen.rows_done) == ("001-a", 70)


# The guard of production, and a database of a newer program


def test_production_refuses_auto_migrate_and_says_how_to_allow_it() -> None:
    seen = plan(one("001-a", **PENDING), one("002-b", **STALE), environment="production")
    assert (seen.stage, seen.ready) == (Stage.REFUSED, True)
    assert seen.sentence == (
        "AUTO_MIGRATE is refused in production. Pending: 001-a, 002-b. Run it as a step of the deployment with "
        "`migration run --yes`, or allow it with ALLOW_PRODUCTION_AUTO_MIGRATE=true."
    )


def test_production_allows_it_where_that_was_said() -> None:
    allowed = replace(ON, allow_production_auto_migrate=True)
    assert plan(one(**PENDING), settings=allowed, environment="production").stage is Stage.RUNNING


def test_the_permission_alone_starts_nothing() -> None:
    allowed = replace(CHECK, allow_production_auto_migrate=True)
    assert plan(one(**PENDING), settings=allowed, environment="production").stage is Stage.PENDING


@pytest.mark.parametrize("where", [PENDING, STALE])
def test_nothing_is_started_on_a_database_of_a_newer_program(where: dict[str, Any]) -> None:
    seen = plan(one(**where), newer=["007-z"])
    assert seen.stage is Stage.REFUSED
    assert "a newer program migrated this database (007-z)" in seen.sentence


def test_with_nothing_pending_a_newer_record_is_no_news() -> None:
    assert plan(one(status=Status.COMPLETED), newer=["007-z"]).stage is Stage.DONE


# What blocks the start


@pytest.mark.parametrize("where", [PENDING, STALE, ELSEWHERE, FAILED, PAUSED, CANCELLED, HALF_UNDONE])
def test_the_application_must_not_serve_before_the_end_of_one_that_blocks_the_start(where: dict[str, Any]) -> None:
    assert not plan(one(blocks_startup=True, **where)).ready
    assert not plan(one(**where), settings=replace(ON, startup_wait=True)).ready


@pytest.mark.parametrize("where", [Status.COMPLETED, Status.SKIPPED, Status.ROLLED_BACK])
def test_one_that_was_done_or_decided_about_blocks_nothing(where: Status) -> None:
    assert plan(one(status=where, blocks_startup=True), settings=replace(ON, startup_wait=True)).ready


@pytest.mark.parametrize("changes", [{"manual": True}, {"code_missing": True}])
def test_nobody_waits_for_a_manual_one_or_one_without_code(changes: dict[str, Any]) -> None:
    assert plan(one(blocks_startup=True, **PENDING, **changes), settings=replace(ON, startup_wait=True)).ready


def test_one_that_blocks_the_start_counts_wherever_it_stands() -> None:
    seen = plan(one("001-a", **FAILED), one("002-b", blocks_startup=True, **PENDING))
    assert (seen.stage, seen.migration, seen.ready) == (Stage.ATTENTION, "001-a", False)


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        (CANCELLED, "001-a was cancelled; only `migration run 001-a` continues it, and no start does."),
        (HALF_UNDONE, "The rollback of 001-a failed. `migration rollback 001-a` ends it; no start does."),
    ],
)
def test_what_a_person_ended_blocks_until_a_person_goes_on(where: dict[str, Any], sentence: str) -> None:
    seen = plan(one(blocks_startup=True, **where))
    assert (seen.stage, seen.sentence) == (Stage.ATTENTION, sentence)


def test_every_stage_has_a_sentence_for_everybody() -> None:
    assert set(MEANING) == set(Stage)

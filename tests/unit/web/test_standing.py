"""What the overview says of a migration beside its status."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from system_migration.records import MigrationStatus, Pulse, StatusReport
from system_migration.states import Status
from system_migration.web.dashboard.overview import AT_ONCE, First, first, grouped, summary
from system_migration.web.dashboard.standing import Standing, first_line

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PULSE = Pulse(AT, "migrating", 250, 1_000, None, 50, 2)


def status(name: str = "001-a", standing: Status = Status.RUNNING, **values: Any) -> MigrationStatus:
    nothing: dict[str, Any] = {
        "version": "1",
        "description": "",
        "stale": False,
        "verified": False,
        "rollbackable": True,
        "executed_at": AT,
        "executed_by": "ada",
        "finished_at": None,
        "records_processed": 0,
        "issues": 0,
        "error": None,
        "code_changed": False,
        "held_by": None,
    }
    return MigrationStatus(**{"name": name, "status": standing, **nothing, **values})


def words(**values: Any) -> list[str]:
    return [reason.text for reason in Standing(status(**values), None).reasons]


def test_one_that_goes_tells_how_far_it_is_and_how_long_it_takes() -> None:
    going = Standing(status(held_by="ada on vm", pulse=PULSE, records_processed=200), 75.0)
    assert (going.done, going.total, going.phase) == (250, 1_000, "migrating")
    assert going.pace == "75 rows/s, about 10 s left"


def test_without_a_rate_or_a_total_it_promises_nothing() -> None:
    assert Standing(status(pulse=PULSE), None).pace == ""
    unknown = Standing(status(pulse=Pulse(AT, None, None, None, None, None, None), records_processed=7), 75.0)
    assert (unknown.done, unknown.total, unknown.phase, unknown.pace) == (7, None, "", "75 rows/s")
    assert (Standing(status(), 5.0).done, Standing(status(), 5.0).pace) == (0, "5.0 rows/s")


def test_a_stale_one_tells_when_its_runner_was_last_heard_of_and_what_to_do() -> None:
    stale = Standing(status(stale=True, pulse=PULSE), 75.0)
    (reason,) = stale.reasons
    assert (reason.text, reason.at) == ("Its runner is gone. Run it again: it goes on from there.", AT)
    assert (stale.pace, stale.phase, stale.notes) == ("", "", [])
    assert "clean checkpoint" in words(stale=True, interrupted=True)[0]
    assert Standing(status(stale=True), None).reasons[0].at is None


def test_one_that_waits_tells_why_once() -> None:
    waiting = Standing(status(pulse=Pulse(AT, None, 1, 2, "the replica lags", None, None)), None)
    assert [reason.text for reason in waiting.reasons] == ["Waiting: the replica lags"]
    assert waiting.notes == []


def test_a_failed_one_tells_the_first_line_of_its_error() -> None:
    failed = Standing(status(standing=Status.FAILED, error="\n it broke \nsecond line"), None)
    assert [(reason.text, reason.bad) for reason in failed.reasons] == [("it broke", True)]
    paused = Standing(status(standing=Status.PAUSED, error="an operator asked for it"), None)
    assert [reason.bad for reason in paused.reasons] == [False]
    assert words(standing=Status.COMPLETED, error="an older one") == []
    assert first_line("x" * 400) == "x" * 300 + "…"
    assert first_line(" \n ") == ""


def test_one_that_waits_for_others_names_them() -> None:
    assert words(standing=Status.PENDING, waits_for=("007-b", "008-c")) == [
        "Waits for 007-b, 008-c, which no run would do by itself."
    ]


def test_one_that_waits_for_a_schema_revision_says_so_once() -> None:
    waiting = {"standing": Status.PENDING, "waits_for_schema": "schema revision b, the database is at a"}
    assert words(**waiting) == ["Waits for schema revision b, the database is at a."]
    assert Standing(status(**waiting), None).notes == []


def test_what_somebody_works_on_is_waited_for_until_it_is_done() -> None:
    waiting = status("009-z", Status.PENDING, waits_for=("001-a", "002-b", "007-c"))
    found = report(status("001-a"), status("002-b", Status.PAUSED), status("007-c", stale=True), waiting)
    (group,) = (each for each in grouped(found, {}, everything=False) if each.key == "pending")
    assert [reason.text for reason in group.migrations[0].reasons] == [
        "Waits for 001-a, which is running.",
        "Waits for 002-b, which is paused.",
        "Waits for 007-c, which no run would do by itself.",
    ]


@pytest.mark.parametrize(
    ("standing", "empty"),
    [
        (Status.PENDING, "Nothing was migrated here yet."),
        (Status.RUNNING, "Nothing is done yet"),
        (Status.FAILED, "Nothing is done yet"),
    ],
)
def test_where_nothing_is_done_it_says_whether_anything_was_begun(standing: Status, empty: str) -> None:
    done = grouped(report(status(standing=standing)), {}, everything=False)[-1]
    assert done.empty.startswith(empty)


def test_what_another_column_says_is_no_note() -> None:
    assert Standing(status(standing=Status.COMPLETED, issues=1_200), None).notes == ["not verified"]


def report(*migrations: MigrationStatus, pending: tuple[str, ...] = ()) -> StatusReport:
    return StatusReport("staging", list(migrations), list(pending))


def test_migrations_are_grouped_by_what_a_person_does_about_them() -> None:
    everything = report(
        status("a", Status.FAILED),
        status("b", Status.PAUSED),
        status("c", stale=True),
        status("d"),
        status("e", Status.PENDING),
        status("f", Status.COMPLETED, finished_at=AT),
        status("g", Status.SKIPPED),
        status("h", Status.ROLLED_BACK, finished_at=AT.replace(year=2027)),
    )
    found = {
        group.key: [each.m.name for each in group.migrations] for group in grouped(everything, {}, everything=True)
    }
    assert found == {"attention": ["a", "b", "c"], "running": ["d"], "pending": ["e"], "done": ["h", "f", "g"]}
    assert summary(everything) == "3 need attention, 1 running, 1 pending, 3 done"


def test_of_a_large_group_the_rest_is_one_click_away() -> None:
    many = report(*(status(str(number), Status.PENDING) for number in range(AT_ONCE + 3)))
    (group,) = (group for group in grouped(many, {}, everything=False) if group.key == "pending")
    assert (len(group.migrations), group.hidden) == (AT_ONCE, 3)
    (group,) = (group for group in grouped(many, {}, everything=True) if group.key == "pending")
    assert (len(group.migrations), group.hidden) == (AT_ONCE + 3, 0)


@pytest.mark.parametrize(
    ("migration", "label"),
    [
        (status("001-Ä", Status.PENDING), "Start 001-Ä"),
        (status("001-a", Status.FAILED), "Try 001-a again"),
        (status("001-a", stale=True), "Continue 001-a"),
        (status("001-a", stale=True, undoing=True), "Continue the rollback of 001-a"),
    ],
)
def test_the_button_says_what_it_begins(migration: MigrationStatus, label: str) -> None:
    assert first(report(migration, pending=(migration.name,))) == First(migration.name, label)


def test_the_button_passes_over_what_waits_for_others() -> None:
    waiting, ready = status("001-a", Status.PENDING, waits_for=("007-b",)), status("002-a", Status.PENDING)
    assert first(report(waiting, ready, pending=("001-a", "002-a"))) == First("002-a", "Start 002-a")
    assert first(report(waiting, pending=("001-a",))) is None
    assert first(report()) is None


def test_the_button_stops_where_a_run_would_for_want_of_a_schema_revision() -> None:
    waiting = status("001-a", Status.PENDING, waits_for_schema="schema revision b, the database is at a")
    ready = status("002-a", Status.PENDING)
    assert first(report(waiting, ready, pending=("001-a", "002-a"))) is None
    assert first(report(ready, waiting, pending=("002-a", "001-a"))) == First("002-a", "Start 002-a")


def test_a_killed_runner_had_done_what_is_committed() -> None:
    assert Standing(status(stale=True, pulse=PULSE, records_processed=400), None).done == 400
    assert Standing(status(stale=True, pulse=PULSE, records_processed=200), None).done == 250
    assert Standing(status(pulse=PULSE, records_processed=400), None).done == 250

"""Where everything stands, from hand-made rows of the tracking tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from system_migration import code, overview
from system_migration.errors import UnknownMigration
from system_migration.migration import Migration, MigrationContext, MigrationResult
from system_migration.records import MigrationStatus
from system_migration.registry import Registry
from system_migration.states import RunKind, Status
from system_migration.store.dialects import Fingerprint
from system_migration.store.migrations import MigrationRow, Snapshot
from system_migration.store.tracking import Binding

AT = datetime(2025, 11, 22, 8, 10, tzinfo=UTC)
BINDING = Binding(1, "production", Fingerprint("place", "body"))


class First(Migration):
    name = "001-first"
    version = "1.1.0"
    description = "The first"
    rollbackable = True

    def up(self, context: MigrationContext) -> MigrationResult:
        return MigrationResult()

    def down(self, context: MigrationContext) -> Any:
        raise NotImplementedError


class Second(Migration):
    name = "002-second"

    def up(self, context: MigrationContext) -> MigrationResult:
        return MigrationResult()


class ByHand(Second):
    name = "003-by-hand"
    manual = True


REGISTRY = Registry([Second, ByHand, First])
ROW = MigrationRow(
    environment="production",
    name="001-first",
    version="1.0.0",
    status=Status.PENDING,
    row_version=1,
    generation=1,
    verified=False,
    applied=False,
    run_id="run",
    upper_bound=None,
    pins={},
    max_issues=None,
    executed_at=AT,
    executed_by="ada@host",
    finished_at=AT,
    records_processed=197,
    issues=3,
    error=None,
    request=None,
    requested_by=None,
    cancelled=False,
    run_kind=RunKind.RUN,
    run_open=False,
    intent=False,
    code_algorithm=None,
    code_checksum=None,
    from_key=None,
    to_key=None,
    held_only=False,
    held_by=None,
    interrupted=False,
)


def snapshot(*rows: MigrationRow, binding: Binding | None = BINDING) -> Snapshot:
    return Snapshot(binding, "production", {row.name: row for row in rows})


def row(**changes: Any) -> MigrationRow:
    return replace(ROW, **changes)


def status(**changes: Any) -> MigrationStatus:
    return overview.status_of(REGISTRY, snapshot(row(**changes)), ROW.name)


# What a plain run takes


def test_a_database_that_knows_nothing_has_everything_to_do_in_order_but_the_manual_ones() -> None:
    assert overview.to_do(REGISTRY, snapshot()) == ["001-first", "002-second"]


@pytest.mark.parametrize(
    ("where", "plain", "in_hand"),
    [
        ({"status": Status.PENDING}, True, True),
        ({"status": Status.FAILED}, True, True),
        ({"status": Status.FAILED, "run_kind": RunKind.ROLLBACK}, False, False),
        ({"status": Status.FAILED, "cancelled": True}, False, False),
        ({"status": Status.RUNNING, "held_by": None}, True, True),  # stale
        ({"status": Status.RUNNING, "held_by": "grace@elsewhere"}, False, True),
        ({"status": Status.PAUSED}, False, True),
        ({"status": Status.COMPLETED}, False, False),
        ({"status": Status.SKIPPED}, False, False),
        ({"status": Status.ROLLED_BACK}, False, False),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_what_a_plain_run_takes_and_what_is_in_hand(where: dict[str, Any], plain: bool, in_hand: bool) -> None:
    seen = snapshot(row(**where), row(name="002-second", status=Status.COMPLETED))
    assert overview.to_do(REGISTRY, seen) == ["001-first"] * plain
    assert overview.to_do(REGISTRY, seen, in_hand=True) == ["001-first"] * in_hand


@pytest.mark.parametrize("held_by", [None, "grace@elsewhere"])
@pytest.mark.parametrize("where", Status)
def test_a_manual_one_is_never_taken(where: Status, held_by: str | None) -> None:
    seen = snapshot(row(name="003-by-hand", status=where, held_by=held_by))
    assert "003-by-hand" not in overview.to_do(REGISTRY, seen)
    assert "003-by-hand" not in overview.to_do(REGISTRY, seen, in_hand=True)


# One migration


def test_a_migration_that_never_ran_is_pending_as_its_code_says() -> None:
    assert overview.status_of(REGISTRY, snapshot(), "001-first") == MigrationStatus(
        name="001-first",
        version="1.1.0",
        description="The first",
        status=Status.PENDING,
        stale=False,
        verified=False,
        rollbackable=True,
        executed_at=None,
        executed_by=None,
        finished_at=None,
        records_processed=0,
        issues=0,
        error=None,
        code_changed=False,
        held_by=None,
    )


def test_a_completed_one_tells_what_was_recorded() -> None:
    seen = status(status=Status.COMPLETED, verified=True)
    assert (seen.status, seen.verified, seen.records_processed, seen.issues) == (Status.COMPLETED, True, 197, 3)
    assert (seen.executed_at, seen.executed_by, seen.finished_at) == (AT, "ada@host", AT)
    assert (seen.stale, seen.interrupted, seen.held_by, seen.error) == (False, False, None, None)
    assert seen.version == "1.1.0"  # what the code says now, not what was recorded then


def test_a_failed_one_tells_why() -> None:
    seen = status(status=Status.FAILED, error="It did not verify.")
    assert (seen.status, seen.error) == (Status.FAILED, "It did not verify.")


def test_one_that_runs_elsewhere_names_its_runner_and_is_not_stale() -> None:
    seen = status(status=Status.RUNNING, held_by="grace@elsewhere")
    assert (seen.status, seen.held_by, seen.stale) == (Status.RUNNING, "grace@elsewhere", False)


@pytest.mark.parametrize("stopped_cleanly", [False, True])
def test_one_that_nobody_runs_any_more_is_stale_and_knows_a_clean_stop_from_a_death(stopped_cleanly: bool) -> None:
    seen = status(status=Status.RUNNING, held_by=None, interrupted=stopped_cleanly)
    assert (seen.status, seen.stale, seen.interrupted) == (Status.RUNNING, True, stopped_cleanly)


@pytest.mark.parametrize("where", [Status.PAUSED, Status.COMPLETED, Status.FAILED])
def test_only_a_running_one_can_be_stale_or_interrupted(where: Status) -> None:
    seen = status(status=where, held_by=None, interrupted=True)
    assert (seen.status, seen.stale, seen.interrupted) == (where, False, False)


def test_what_an_operator_asked_or_ended_is_told_with_who_did() -> None:
    asked = status(status=Status.RUNNING, held_by="grace@elsewhere", request="pause", requested_by="ada")
    assert (asked.request, asked.requested_by, asked.cancelled) == ("pause", "ada", False)
    ended = status(status=Status.FAILED, cancelled=True, requested_by="ada")
    assert (ended.request, ended.requested_by, ended.cancelled) == (None, "ada", True)


def test_a_manual_one_says_so() -> None:
    assert overview.status_of(REGISTRY, snapshot(), "003-by-hand").manual
    assert not overview.status_of(REGISTRY, snapshot(), "002-second").manual


def test_a_name_with_neither_code_nor_record_is_unknown() -> None:
    with pytest.raises(UnknownMigration, match="no migration named '009-no'"):
        overview.status_of(REGISTRY, snapshot(ROW), "009-no")


def test_changed_code_shows_and_unchanged_or_unknown_code_does_not() -> None:
    algorithm, checksum = code.checksum(First)
    assert not status(code_algorithm=algorithm, code_checksum=checksum).code_changed
    assert status(code_algorithm=algorithm, code_checksum="other").code_changed
    assert not status(code_algorithm="tokens-0", code_checksum="other").code_changed
    assert not status().code_changed


# All of them


def test_a_record_whose_code_is_gone_comes_last_and_is_not_to_do() -> None:
    gone = row(name="000-gone", status=Status.FAILED, code_algorithm=code.ALGORITHM, code_checksum="other")
    report = overview.report(REGISTRY, snapshot(gone), "production")
    assert [entry.name for entry in report.migrations] == ["001-first", "002-second", "003-by-hand", "000-gone"]
    assert [entry.code_missing for entry in report.migrations] == [False, False, False, True]
    last = report.migrations[-1]
    assert (last.version, last.description, last.rollbackable, last.manual) == ("1.0.0", "", False, False)
    assert (last.status, last.code_changed) == (Status.FAILED, False)
    assert report.pending == ["001-first", "002-second"]


@pytest.mark.parametrize("binding", [None, BINDING])
def test_an_unbound_database_or_the_right_one_gives_no_warning(binding: Binding | None) -> None:
    report = overview.report(REGISTRY, snapshot(binding=binding), "production")
    assert (report.environment, report.warnings) == ("production", [])


def test_a_database_of_another_environment_gives_a_warning() -> None:
    assert overview.report(REGISTRY, snapshot(), "staging").warnings == [
        "This database belongs to environment 'production', not 'staging'."
    ]


def test_records_of_later_migrations_than_the_last_known_were_made_by_a_newer_program() -> None:
    older, newer = row(name="002-b-gone"), row(name="004-from-tomorrow")
    assert overview.report(REGISTRY, snapshot(older, newer), "production").newer == ["004-from-tomorrow"]


def test_without_a_number_nothing_tells_that_a_record_is_newer() -> None:
    """It may be of an old migration whose file was deleted; nor do those here without one come after all others."""
    assert overview.report(REGISTRY, snapshot(row(name="clean-up")), "production").newer == []
    assert overview.report(Registry([]), snapshot(row(name="001-first")), "production").newer == []

    class Unnumbered(Second):
        name = "clean-up"

    both = overview.report(Registry([First, Unnumbered]), snapshot(row(name="004-from-tomorrow")), "production")
    assert both.newer == ["004-from-tomorrow"]
    alone = overview.report(Registry([Unnumbered]), snapshot(row(name="004-gone")), "production")
    assert alone.newer == []


def test_a_report_names_in_order_what_a_run_would_come_to() -> None:
    paused = row(name="002-second", status=Status.PAUSED)
    assert overview.report(REGISTRY, snapshot(paused), "production").in_line == ["001-first", "002-second"]


def test_one_that_blocks_the_start_says_so() -> None:
    class Blocking(Second):
        name = "004-blocking"
        blocks_startup = True

    assert overview.status_of(Registry([Blocking]), snapshot(), "004-blocking").blocks_startup
    assert not overview.status_of(REGISTRY, snapshot(), "001-first").blocks_startup


@pytest.mark.parametrize(
    ("where", "waits_for"),
    [
        ({"status": Status.PENDING}, ()),  # the same run would do it first
        ({"status": Status.COMPLETED}, ()),
        ({"status": Status.SKIPPED}, ()),
        ({"status": Status.RUNNING, "held_by": "grace@elsewhere"}, ("001-first",)),
        ({"status": Status.FAILED, "cancelled": True}, ("001-first",)),
    ],
)
def test_one_tells_which_of_its_requirements_no_plain_run_would_fulfil(
    where: dict[str, Any], waits_for: tuple[str, ...]
) -> None:
    class Third(Second):
        name = "003-third"
        requires = ("001-first",)

    found = overview.status_of(Registry([First, Third]), snapshot(row(**where)), "003-third")
    assert found.waits_for == waits_for

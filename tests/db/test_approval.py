"""In production a run needs a dry run that another developer approved: of this code, with these parameters."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import OperationalError

from system_migration import (
    Migration,
    MigrationContext,
    MigrationResult,
    Migrator,
    Registry,
    Row,
    RowIssue,
    RunOptions,
    Settings,
    Status,
)
from system_migration.errors import ChangedMeanwhile, HeldElsewhere, Interrupted, MigrationFailed, NotApproved, Refused
from system_migration.records import as_json
from system_migration.store import approvals, audit, migrations
from system_migration.store.audit import Actor
from tests.db.test_seen import SERVERS, just_before, race
from tests.db.test_workbench import Fill, execute, make_numbers, quick, rows_of
from tests.support.chains import KEY, head_last

NAME = Fill.name
Doing = Callable[[Migrator], Any]


class Undoable(Fill):
    rollbackable = True


class Mended(Fill):
    """The file after somebody has edited it."""

    def transform(self, row: Row) -> dict[str, Any]:
        return {"z": row.y * 11}


class Holding(Fill):
    def transform(self, row: Row) -> dict[str, Any]:
        if row.y == 20:
            raise RowIssue("bad", "for a reason")
        return super().transform(row)


class Stopping(Fill):
    """Has its process asked to stop by a row, once."""

    stop: ClassVar[Callable[[], None]]

    def transform(self, row: Row) -> dict[str, Any]:
        if row.y == 20:
            type(self).stop()
        return super().transform(row)


def production(engine: Engine, *migrations: type[Migration], needed: bool = True, **more: Any) -> Migrator:
    settings = Settings(**{"environment": "production", "require_approval": needed} | more)
    made = Migrator(quick(engine), Registry(migrations or (Undoable,)), settings, executed_by="somebody")
    event.listen(engine, "engine_disposed", lambda _: made.close())
    return made


def by(who: str, shared: Migrator, identity: str | None = "account", **more: Any) -> Migrator:
    return shared.acting_as(who, identity=identity, **more)


def rehearsed(shared: Migrator, options: RunOptions | None = None) -> str:
    """The hash of a new dry run."""
    (report,) = shared.dry_run(NAME, options)
    assert report.hash is not None, report
    return report.hash


def approved(shared: Migrator, options: RunOptions | None = None) -> str:
    """The same, approved by bob."""
    found = rehearsed(shared, options)
    by("bob", shared).approve(NAME, found)
    return found


def refusal(act: Callable[[], Any]) -> str:
    with pytest.raises(NotApproved) as caught:
        act()
    return str(caught.value)


def test_nothing_starts_before_another_developer_has_approved_it(engine: Engine) -> None:
    make_numbers(engine, 3)
    shared = production(engine)
    assert "it has no approval. Make a dry run with the same options, `migration dry-run" in refusal(
        lambda: by("ada", shared).run(NAME)
    )
    found = rehearsed(shared)
    assert f"Another developer approves it with `migration approve {NAME} --report {found[:12]}`" in refusal(
        lambda: by("ada", shared).run()
    )
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE z IS NOT NULL") == [(0,)]
    given = by("bob", shared).approve(NAME, found[:12])
    assert (given.report, given.approved_by, given.void) == (found, "bob", None)
    assert by("ada", shared).run(NAME)[0].status is Status.COMPLETED
    ((kept,),) = rows_of(engine, "SELECT detail FROM system_migration_event WHERE action = 'approve'")
    assert json.loads(kept)["report"] == found


@pytest.mark.parametrize("starter", ["bob", "BOB", " bob "])
def test_who_approved_it_cannot_start_it(engine: Engine, starter: str) -> None:
    make_numbers(engine, 3)
    shared = production(engine)
    approved(shared)
    assert "bob approved it, and cannot start it as well" in refusal(lambda: by(starter, shared).run(NAME))


@pytest.mark.databases("sqlite")
def test_both_prove_who_they_are_and_in_the_same_way(engine: Engine) -> None:
    make_numbers(engine, 3)
    shared = production(engine)
    found = rehearsed(shared)
    with pytest.raises(Refused, match="Nothing proves who approves"):
        by("bob", shared, None).approve(NAME, found)
    by("bob", shared).approve(NAME, found)
    assert "nothing proves who starts it. Give your token" in refusal(lambda: by("ada", shared, None).run(NAME))
    assert "approved with an account and is started with a token, and nothing tells" in refusal(
        lambda: by("ada", shared, "token").run(NAME)
    )


CHANGED = [
    RunOptions(batch_size=7),
    RunOptions(max_issues=1),
    RunOptions(allow_scan=True),
    RunOptions(max_rate=5.0, workers=1),
    RunOptions(from_key="20"),
]


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("options", CHANGED, ids=str)
def test_another_parameter_than_the_approved_ones_refuses_the_start(engine: Engine, options: RunOptions) -> None:
    make_numbers(engine, 3)
    shared = production(engine)
    approved(shared)
    said = refusal(lambda: by("ada", shared).run(NAME, options))
    assert "the start differs from the approved dry run in: " in said


def test_the_parameters_of_the_approved_dry_run_are_those_of_the_start(engine: Engine) -> None:
    make_numbers(engine, 3)
    shared, slow = production(engine), RunOptions(batch_size=2)
    approved(shared, slow)
    assert "in: batch size." in refusal(lambda: by("ada", shared).run(NAME))
    (report,) = by("ada", shared).run(NAME, replace(slow, verbose=True, wait=True))
    assert report.status is Status.COMPLETED


@pytest.mark.parametrize("accept", [False, True])
def test_another_file_than_the_approved_one_refuses_the_start(engine: Engine, accept: bool) -> None:
    make_numbers(engine, 3)
    found = approved(production(engine))
    edited = production(engine, Mended)
    options = RunOptions(accept_code_change=accept)
    assert "holds no more, as its file has changed since" in refusal(lambda: by("ada", edited).run(NAME, options))
    assert edited.approval(NAME).approvable is None
    with pytest.raises(Refused, match="says nothing of a run now: its file has changed since"):
        by("eve", edited).approve(NAME, found)


def test_a_reset_voids_it_and_the_report_with_it(engine: Engine) -> None:
    make_numbers(engine, 3)
    shared = production(engine, Holding)
    found = approved(shared)
    with pytest.raises(MigrationFailed):
        by("ada", shared).run(NAME)
    shared.reset(NAME, "again")
    assert "as the migration was reset or rolled back since" in refusal(lambda: by("ada", shared).run(NAME))
    with pytest.raises(Refused, match="was reset or rolled back since"):
        by("bob", shared).approve(NAME, found)


def test_a_failed_run_is_tried_again_on_it_and_held_rows_too(engine: Engine) -> None:
    make_numbers(engine, 3)
    shared = production(engine, Holding)
    approved(shared)
    for again in (lambda m: m.run(NAME), lambda m: m.retry(NAME), lambda m: m.retry(NAME, RunOptions(keys=("20",)))):
        with pytest.raises(MigrationFailed):
            again(by("ada", shared))


def test_a_completed_run_has_used_it_up(engine: Engine) -> None:
    make_numbers(engine, 3)
    shared = production(engine)
    approved(shared)
    by("ada", shared).run(NAME)
    assert "holds no more, as a run has completed on it since" in refusal(lambda: by("ada", shared).run(NAME))
    by("ada", shared, None).rollback(NAME)  # the way out needs none
    assert "a run has completed on it since" in refusal(lambda: by("ada", shared).run(NAME))


def test_of_two_starts_on_one_approval_one_runs(engine: Engine) -> None:
    make_numbers(engine, 6)
    shared = production(engine)
    approved(shared)
    ended = race([lambda name=name: by(name, shared).run(NAME) for name in ("ada", "eve")])  # type: ignore[misc]
    kinds = sorted(type(error).__name__ for error in ended)
    assert kinds in (["HeldElsewhere", "NoneType"], ["NoneType", "NotApproved"]), ended
    assert rows_of(engine, "SELECT COUNT(*) FROM system_migration_event WHERE action = 'run_started'") == [(1,)]


def test_it_can_be_withdrawn_by_anybody(engine: Engine) -> None:
    make_numbers(engine, 3)
    shared = production(engine)
    approved(shared)
    shared.withdraw_approval(NAME)
    assert "the approval by bob holds no more, as somebody withdrew it" in refusal(lambda: by("ada", shared).run(NAME))
    with pytest.raises(Refused, match="has no approval that could be withdrawn"):
        shared.withdraw_approval(NAME)


MOMENTS = {
    "before the lease": "UPDATE system_migration_lease",
    "after the lease": "SELECT system_migration_migration.row_version",
    "before the start": "INSERT INTO system_migration_run",
}


@SERVERS
@pytest.mark.parametrize("moment", MOMENTS)
def test_what_is_withdrawn_in_the_last_moment_starts_nothing(engine: Engine, moment: str) -> None:
    make_numbers(engine, 3)
    shared, other = production(engine), production(engine)
    approved(shared)

    def withdraw() -> None:
        if moment != "before the start":
            other.withdraw_approval(NAME)
            return
        with pytest.raises(HeldElsewhere):  # it is in the hands of a runner, which relies on what it found
            other.withdraw_approval(NAME)
        with quick(engine).begin() as connection:  # as one does that had looked before the lease was taken
            row = migrations.read(connection, "production", NAME)
            assert row is not None
            approvals.move_on(connection, row)
            audit.add_event(connection, "production", NAME, approvals.WITHDRAW, Actor("bob", "host"))

    with just_before(MOMENTS[moment], withdraw), pytest.raises((NotApproved, ChangedMeanwhile), match="withdrew"):
        by("ada", shared).run(NAME)
    assert rows_of(engine, "SELECT COUNT(*) FROM number WHERE z IS NOT NULL") == [(0,)]


@SERVERS
def test_nobody_can_withdraw_while_a_start_decides_by_it(engine: Engine) -> None:
    """From the look at the approval until the lease is committed: who withdraws comes after it, and is told."""
    make_numbers(engine, 3)
    shared = production(engine)
    approved(shared)

    def reach_for_the_row() -> None:
        with pytest.raises(OperationalError):
            rows_of(engine, "SELECT row_version FROM system_migration_migration FOR UPDATE NOWAIT")

    with just_before("SELECT system_migration_event", reach_for_the_row):
        by("ada", shared).run(NAME)


def test_a_stopped_run_goes_on_as_it_was_approved_and_not_otherwise(engine: Engine) -> None:
    make_numbers(engine, 6)
    shared = production(engine, Stopping)
    options = RunOptions(batch_size=1, workers=1)
    approved(shared, options)
    Stopping.stop = lambda: shared.request_stop(signal.SIGTERM)
    with pytest.raises(Interrupted):
        by("ada", shared).run(NAME, options)
    Stopping.stop = lambda: None
    replica = production(engine, Stopping)
    assert "in: batch size, workers" in refusal(lambda: by("ada", replica).run(NAME))
    (report,) = replica.run(options=RunOptions(unattended=True))
    assert report.status is Status.COMPLETED


@SERVERS
def test_who_takes_over_by_an_approval_that_is_replaced_in_the_last_moment_looks_again(engine: Engine) -> None:
    make_numbers(engine, 6)
    shared, other = production(engine, Stopping), production(engine, Stopping)
    options = RunOptions(batch_size=1, workers=1)
    found = approved(shared, options)
    Stopping.stop = lambda: shared.request_stop(signal.SIGTERM)
    with pytest.raises(Interrupted):
        by("ada", shared).run(NAME, options)

    def replace_it() -> None:
        other.withdraw_approval(NAME)
        by("eve", other).approve(NAME, found)

    again = production(engine, Stopping)
    with just_before(MOMENTS["after the lease"], replace_it), pytest.raises(ChangedMeanwhile, match="eve approved it"):
        by("ada", again).run(NAME, options)


def test_a_paused_run_resumes_as_it_was_approved_and_not_otherwise(engine: Engine) -> None:
    make_numbers(engine, 6)
    shared = production(engine, Stopping)
    options = RunOptions(batch_size=1, workers=1)
    approved(shared, options)
    Stopping.stop = lambda: shared.request_stop(signal.SIGTERM)
    with pytest.raises(Interrupted):
        by("ada", shared).run(NAME, options)
    Stopping.stop = lambda: None
    again = production(engine, Stopping)
    again.pause(NAME)
    assert "in: batch size, workers" in refusal(lambda: by("ada", again).resume(NAME, RunOptions()))
    slower = replace(options, max_rate=1000.0)
    approved(again, slower)  # a paused run is rehearsed and approved anew, to go on otherwise
    assert by("ada", again).resume(NAME, slower) is not None


def test_an_unattended_start_runs_what_anybody_has_approved(engine: Engine) -> None:
    make_numbers(engine, 3)
    shared = production(engine)
    nobody = by("startup@host", shared, None)
    assert "it has no approval" in refusal(lambda: nobody.run(options=RunOptions(unattended=True)))
    approved(shared)
    assert nobody.run(options=RunOptions(unattended=True))[0].status is Status.COMPLETED


@pytest.mark.databases("sqlite")
def test_a_run_of_all_stops_before_the_one_that_is_not_approved(engine: Engine) -> None:
    class Second(Fill):
        name = "002-fill"

    make_numbers(engine, 3)
    shared = production(engine, Undoable, Second)
    approved(shared)
    with pytest.raises(NotApproved, match="002-fill is not approved") as caught:
        by("ada", shared).run()
    assert [report.name for report in caught.value.reports] == [NAME]  # type: ignore[attr-defined]
    assert shared.pending() == ["002-fill"]


@pytest.mark.databases("sqlite")
def test_it_is_needed_in_production_alone_and_on_its_database_under_any_name(engine: Engine) -> None:
    make_numbers(engine, 3)
    production(engine).init()
    disguised = production(engine, environment="staging")
    options = RunOptions(allow_environment=True)
    assert "it has no approval" in refusal(lambda: by("ada", disguised).run(NAME, options))
    found = rehearsed(disguised, options)
    by("bob", disguised).approve(NAME, found, allow_environment=True)
    assert by("ada", disguised).run(NAME, options)[0].status is Status.COMPLETED
    assert production(engine, needed=False).run(NAME)[0].status is Status.COMPLETED


@pytest.mark.databases("sqlite")
def test_what_has_no_source_to_be_looked_at_is_not_approved(engine: Engine) -> None:
    """Of a file that is there as bytecode only: a hash without the code would be evidence for any."""
    make_numbers(engine, 3)
    lost = type("Lost", (Fill,), {"__module__": "nowhere"})
    shared = production(engine, lost)
    found = rehearsed(shared)
    with pytest.raises(Refused, match="says nothing of a run now: its source cannot be read here"):
        by("bob", shared).approve(NAME, found)


@pytest.mark.databases("sqlite")
def test_productions_own_database_is_not_adopted_away_from_it(engine: Engine) -> None:
    """A restored copy is: see `test_environment`."""
    make_numbers(engine, 3)
    production(engine).init()
    disguised = production(engine, environment="staging")
    with pytest.raises(Refused, match="own database, not a copy of it"):
        disguised.adopt()
    assert production(engine).adopt().endswith("(before: 'production'), with its history.")
    assert "(before: 'production')" in production(engine, environment="staging", needed=False).adopt()


def test_what_works_in_one_transaction_is_approved_alike(engine: Engine) -> None:
    class Doubled(Migration):
        name = NAME

        def up(self, context: MigrationContext) -> MigrationResult:
            done = context.connection.execute(text("UPDATE number SET z = y * 2"))
            return MigrationResult(records_processed=done.rowcount)

    make_numbers(engine, 3)
    shared = production(engine, Doubled)
    assert "it has no approval" in refusal(lambda: by("ada", shared).run(NAME))
    approved(shared)
    assert by("ada", shared).run(NAME)[0].records_processed == 3
    shared.reset(NAME, "again")
    assert "a run has completed on it since" in refusal(lambda: by("ada", shared).run(NAME))


@pytest.mark.databases("sqlite")
def test_elsewhere_nothing_needs_it(engine: Engine) -> None:
    make_numbers(engine, 3)
    shared = production(engine, environment="staging")
    assert shared.run(NAME)[0].status is Status.COMPLETED


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    ("report", "said"),
    [
        ("0" * 12, "that ended well here has a report with this hash"),
        ("abc", "12 to 64 hex"),
        ("%" * 12, "12 to 64 hex"),
    ],
)
def test_what_is_no_report_is_not_approved(engine: Engine, report: str, said: str) -> None:
    make_numbers(engine, 3)
    shared = production(engine)
    rehearsed(shared)
    with pytest.raises(Refused, match=said):
        by("bob", shared).approve(NAME, report)


def test_with_the_audit_key_an_approval_has_to_be_signed_with_it(engine: Engine) -> None:
    make_numbers(engine, 3)
    shared, bare = production(engine, audit_key=KEY), production(engine)
    approved(bare)
    unsigned = (
        "the approval by bob is not signed with MIGRATION_AUDIT_KEY as it is set here. Another developer approves"
    )
    assert unsigned in refusal(lambda: by("ada", shared).run(NAME))
    with head_last():
        approved(shared)
        forge = "UPDATE system_migration_event SET actor = :who WHERE actor = :other AND action = 'approve'"
        execute(engine, forge, who="eve", other="bob")
        assert "by eve is not signed" in refusal(lambda: by("bob", shared).run(NAME))
        execute(engine, forge, who="bob", other="eve")
        assert by("ada", shared).run(NAME)[0].status is Status.COMPLETED


@pytest.mark.databases("sqlite")
def test_a_report_that_was_edited_is_not_approved(engine: Engine) -> None:
    make_numbers(engine, 3)
    shared = production(engine)
    found = rehearsed(shared)
    execute(engine, "UPDATE system_migration_run SET report = REPLACE(report, '\"wouldHold\": 0', '\"wouldHold\": 2')")
    with pytest.raises(Refused, match="is not what its hash was made of"):
        by("bob", shared).approve(NAME, found)


@pytest.mark.databases("sqlite")
def test_two_reports_that_begin_alike_are_told_apart(engine: Engine) -> None:
    make_numbers(engine, 3)
    shared = production(engine)
    found, other = rehearsed(shared), rehearsed(shared, RunOptions(workers=2))
    alike = found[:20] + "0" * 44
    execute(
        engine, "UPDATE system_migration_run SET report = REPLACE(report, :other, :alike)", other=other, alike=alike
    )
    with pytest.raises(Refused, match="More than one report of 001-fill begins with these digits"):
        by("bob", shared).approve(NAME, found[:20])
    assert by("bob", shared).approve(NAME, found).report == found


def test_the_hash_is_over_code_parameters_and_counts(engine: Engine) -> None:
    make_numbers(engine, 3)
    shared = production(engine)
    found = rehearsed(shared)
    same = {found, rehearsed(shared), rehearsed(shared, RunOptions(verbose=True, wait=True))}
    others = [rehearsed(shared, RunOptions(workers=2)), rehearsed(production(engine, Mended))]
    others.append(
        rehearsed(production(engine, environment="staging", needed=False), RunOptions(allow_environment=True))
    )
    execute(engine, "INSERT INTO number (id, y) VALUES (100, 100)")
    others.append(rehearsed(shared))
    assert len(same) == 1
    assert len({found, *others}) == 5


@pytest.mark.databases("sqlite")
def test_a_refused_dry_run_and_one_of_a_rollback_have_no_hash(engine: Engine) -> None:
    class Refusing(Undoable):
        expected_rows = range(100, 200)

    make_numbers(engine, 3)
    assert production(engine, Refusing).dry_run(NAME)[0].hash is None
    shared = production(engine, needed=False)
    shared.run(NAME)
    assert shared.dry_rollback(NAME).hash is None


@pytest.mark.databases("sqlite")
def test_rows_that_came_since_leave_it_as_it_is(engine: Engine) -> None:
    make_numbers(engine, 3)
    shared = production(engine)
    approved(shared)
    execute(engine, "INSERT INTO number (id, y) VALUES (100, 100)")
    assert by("ada", shared).run(NAME)[0].records_processed == 4


@pytest.mark.databases("sqlite")
def test_who_decided_by_what_they_saw_before_an_approval_is_told_of_it(engine: Engine) -> None:
    make_numbers(engine, 3)
    shared = production(engine)
    (before,) = shared.status().migrations
    found = approved(shared)
    with pytest.raises(ChangedMeanwhile, match="bob approved it"):
        by("eve", shared, seen=before.revision).approve(NAME, found)
    assert as_json(shared.show(NAME).approval)["approval"]["approvedBy"] == "bob"

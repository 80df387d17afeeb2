"""Imperative migrations: work and record in one transaction, run once, verified by other code, undone by `down`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine, text

from system_migration import (
    Migration,
    MigrationFailed,
    MigrationResult,
    MigrationRollbackResult,
    Refused,
    RunOptions,
    Status,
)
from system_migration.errors import VerificationFailed
from tests.db.test_workbench import (
    PREFIX,
    Increment,
    execute,
    fingerprint,
    make_numbers,
    migrator,
    rows_of,
    stored_status,
)

NAME = "002-double"


class Double(Migration):
    """`z` becomes twice `y`, and can be emptied again."""

    name = NAME
    rollbackable = True

    def up(self, context: Any) -> MigrationResult:
        changed = context.connection.execute(text("UPDATE number SET z = 2 * y")).rowcount
        context.log.info("doubled %d", changed)
        return MigrationResult(records_processed=changed, metadata={"by": context.executed_by})

    def verify(self, context: Any) -> bool:
        wrong = text("SELECT COUNT(*) FROM number WHERE z IS NULL OR z <> 2 * y")
        return bool(context.connection.execute(wrong).scalar_one() == 0)

    def down(self, context: Any) -> MigrationRollbackResult:
        changed = context.connection.execute(text("UPDATE number SET z = NULL")).rowcount
        return MigrationRollbackResult(records_processed=changed)


def z_of(engine: Engine) -> list[Any]:
    return [z for (z,) in rows_of(engine, "SELECT z FROM number ORDER BY id")]


def of_the_application(engine: Engine) -> dict[str, Any]:
    """Every table but ours."""
    return {table: found for table, found in fingerprint(engine).items() if not table.startswith(PREFIX)}


# --- there and back --------------------------------------------------------------------------------------------------


def test_it_runs_verifies_and_rolls_back(engine: Engine) -> None:
    make_numbers(engine, 3)
    doubling = migrator(engine, Double)
    (report,) = doubling.run()
    assert (report.status, report.verified, report.records_processed) == (Status.COMPLETED, True, 3)
    assert report.metadata == {"by": "tester"}
    assert z_of(engine) == [20, 40, 60]
    started, *said = [line.message for line in doubling.logs(NAME)]
    assert started.startswith("run started by tester on ")
    assert said == ["doubled 3"]
    assert doubling.run() == []

    undone = doubling.rollback(NAME)
    assert (undone.kind, undone.status, undone.records_processed) == ("rollback", Status.ROLLED_BACK, 3)
    assert z_of(engine) == [None, None, None]
    shown = doubling.show(NAME)
    assert (shown.generation, shown.status.verified) == (2, False)
    assert [event.action for event in shown.events] == [
        "rolled_back",
        "rollback_started",
        "completed",
        "run_started",
    ]
    with pytest.raises(Refused, match="is ROLLED_BACK; there is no finished work to roll back"):
        doubling.rollback(NAME)

    assert doubling.run() == []  # only when named
    assert doubling.run(NAME)[0].status is Status.COMPLETED
    assert z_of(engine) == [20, 40, 60]


def test_async_methods_are_awaited(engine: Engine) -> None:
    class Async(Double):
        async def up(self, context: Any) -> MigrationResult:  # type: ignore[override]
            return super().up(context)

        async def verify(self, context: Any) -> bool:  # type: ignore[override]
            return super().verify(context)

        async def down(self, context: Any) -> MigrationRollbackResult:  # type: ignore[override]
            return super().down(context)

    make_numbers(engine, 2)
    assert migrator(engine, Async).run()[0].verified is True
    assert z_of(engine) == [20, 40]
    migrator(engine, Async).rollback(NAME)
    assert z_of(engine) == [None, None]


def test_an_async_verify_that_says_no_is_heard(engine: Engine) -> None:
    class Doubtful(Double):
        async def verify(self, context: Any) -> bool:  # type: ignore[override]
            return False

    make_numbers(engine, 1)
    with pytest.raises(VerificationFailed):
        migrator(engine, Doubtful).run()


def test_what_declares_no_way_back_refuses_rollback(engine: Engine) -> None:
    class Final(Double):
        rollbackable = False

    make_numbers(engine, 1)
    migrator(engine, Final).run()
    with pytest.raises(Refused, match=f"{NAME} cannot be rolled back: it declares rollbackable = False"):
        migrator(engine, Final).rollback(NAME)
    assert (stored_status(engine, NAME), z_of(engine)) == ("COMPLETED", [20])


@pytest.mark.parametrize("way", ["raises", "says so"])
def test_a_rollback_that_fails_leaves_the_work_done_and_can_be_repeated(engine: Engine, way: str) -> None:
    class Stubborn(Double):
        willing: ClassVar[bool] = False

        def down(self, context: Any) -> MigrationRollbackResult:
            result = super().down(context)
            if not self.willing and way == "raises":
                raise RuntimeError("not yet")
            return result if self.willing else MigrationRollbackResult(success=False, error="not yet")

    make_numbers(engine, 1)
    migrator(engine, Stubborn).run()
    with pytest.raises(MigrationFailed, match="not yet"):
        migrator(engine, Stubborn).rollback(NAME)
    assert (stored_status(engine, NAME), z_of(engine)) == ("FAILED", [20])
    Stubborn.willing = True
    assert migrator(engine, Stubborn).rollback(NAME).status is Status.ROLLED_BACK
    assert z_of(engine) == [None]


# --- failing ---------------------------------------------------------------------------------------------------------


def changes_everything(connection: Connection, schema: Any) -> None:
    """Rows and, where a transaction holds it, schema; by the helper and by hand."""
    connection.execute(text("UPDATE number SET z = 1"))
    connection.execute(text("INSERT INTO number (id, y) VALUES (77, 77)"))
    if connection.dialect.name != "mysql":
        schema.add_column("number", sa.Column("fresh", sa.Integer()))
        schema.create_table("fresh", sa.Column("id", sa.Integer(), primary_key=True))
        connection.execute(text("CREATE TABLE fresher (id INTEGER)"))
        connection.execute(text("CREATE INDEX ix_number_z ON number (z)"))
        connection.execute(text("UPDATE number SET fresh = 1"))
    connection.execute(text("DELETE FROM number WHERE id = 10"))


class Failing(Double):
    """Changes everything and then fails, in the way it is told."""

    way: ClassVar[str]

    def up(self, context: Any) -> Any:
        changes_everything(context.connection, context.schema)
        match self.way:
            case "raises":
                raise RuntimeError("it went wrong")
            case "database error":
                context.connection.execute(text("INSERT INTO number (id) VALUES (20)"))
            case "says so":
                return MigrationResult(success=False, error="it went wrong")
        return None


REASONS = {
    "raises": "RuntimeError.*it went wrong",
    "says so": "it went wrong",
    "database error": "error",
    "no result": r"up\(\) returned NoneType, not a MigrationResult",
}


def test_a_failure_leaves_nothing_behind(engine: Engine, subtests: pytest.Subtests) -> None:
    make_numbers(engine, 3)
    before = of_the_application(engine)
    for way, reason in REASONS.items():
        with subtests.test(way=way):
            Failing.way = way
            with pytest.raises(MigrationFailed, match=f"{NAME} failed: .*{reason}"):
                migrator(engine, Failing).run()
            assert of_the_application(engine) == before
            assert sa.inspect(engine).get_indexes("number") == []
            (status,) = migrator(engine, Failing).status().migrations
            assert status.status is Status.FAILED
            assert status.error
    with pytest.raises(Refused, match="is FAILED; there is no finished work to roll back"):
        migrator(engine, Failing).rollback(NAME)


def test_the_fix_of_what_failed_runs_and_nobody_asks_about_its_code(engine: Engine) -> None:
    make_numbers(engine, 3)
    Failing.way = "raises"
    with pytest.raises(MigrationFailed):
        migrator(engine, Failing).run()
    (report,) = migrator(engine, Double).run()
    assert (report.status, z_of(engine)) == (Status.COMPLETED, [20, 40, 60])


HANDS_ON: dict[str, Callable[[Connection], Any]] = {
    "commit()": lambda c: c.commit(),
    "rollback()": lambda c: c.rollback(),
    **{
        sql: lambda c, sql=sql: c.execute(text(sql))  # type: ignore[misc]
        for sql in ("COMMIT", "  commit", "ROLLBACK", "BEGIN", "COMMIT WORK", "/* done */ COMMIT", "-- done\nCOMMIT")
    },
}


class HandsOn(Double):
    """Does its work, then what it must not do."""

    way: ClassVar[str]

    def up(self, context: Any) -> MigrationResult:
        result = super().up(context)
        HANDS_ON[self.way](context.connection)
        return result


def test_it_cannot_commit_or_roll_back(engine: Engine, subtests: pytest.Subtests) -> None:
    make_numbers(engine, 1)
    for way in HANDS_ON:
        with subtests.test(way=way):
            HandsOn.way = way
            with pytest.raises(MigrationFailed, match="its work and its record are one transaction"):
                migrator(engine, HandsOn).run()
            assert (stored_status(engine, NAME), z_of(engine)) == ("FAILED", [None])


def test_swallowing_the_refusal_does_not_complete_half_of_it(engine: Engine, subtests: pytest.Subtests) -> None:
    class Sly(HandsOn):
        def up(self, context: Any) -> MigrationResult:
            with suppress(Exception):
                super().up(context)
            context.connection.execute(text("UPDATE number SET z = 7"))
            return MigrationResult()

        def verify(self, context: Any) -> bool:
            return True

    make_numbers(engine, 1)
    for way in ("commit()", "rollback()", "COMMIT"):
        with subtests.test(way=way):
            Sly.way = way
            execute(engine, "UPDATE number SET z = NULL")
            try:
                migrator(engine, Sly).run()
            except MigrationFailed:
                assert (stored_status(engine, NAME), z_of(engine)) == ("FAILED", [None])
            else:  # all of it, as if nothing had been asked
                assert (stored_status(engine, NAME), z_of(engine)) == ("COMPLETED", [7])
                migrator(engine, Sly).reset(NAME, "the next way")


def test_savepoints_are_its_own_affair(engine: Engine) -> None:
    class Careful(Double):
        def up(self, context: Any) -> MigrationResult:
            with context.connection.begin_nested():
                super().up(context)
            with context.connection.begin_nested() as savepoint:
                context.connection.execute(text("DELETE FROM number"))
                savepoint.rollback()
            return MigrationResult()

    make_numbers(engine, 1)
    assert migrator(engine, Careful).run()[0].verified is True
    assert z_of(engine) == [20]


@pytest.mark.databases("mariadb")
@pytest.mark.parametrize("way", ["helper", "by hand"])
def test_mariadb_refuses_schema_changes_in_the_transaction(engine: Engine, way: str) -> None:
    class ChangesSchema(Double):
        def up(self, context: Any) -> MigrationResult:
            if way == "helper":
                result = super().up(context)
                context.schema.add_column("number", sa.Column("fresh", sa.Integer()))
            else:
                context.connection.execute(text("CREATE TABLE fresh (id INTEGER)"))
                result = super().up(context)
            return result

    make_numbers(engine, 1)
    sentence = r"MariaDB commit(s|ted) the open transaction at .*transactional = False and bring applied\(context\)"
    with pytest.raises(MigrationFailed, match=sentence):
        migrator(engine, ChangesSchema).run()
    assert (stored_status(engine, NAME), z_of(engine)) == ("FAILED", [None])
    assert [column["name"] for column in sa.inspect(engine).get_columns("number")] == ["id", "y", "z"]


# --- verification ----------------------------------------------------------------------------------------------------


class Counted(Double):
    """Counts its calls, verifies as it is told, and may be killed at a chosen step."""

    ups: ClassVar[int]
    verdict: ClassVar[Any]
    killed_in: ClassVar[str | None]

    def up(self, context: Any) -> MigrationResult:
        type(self).ups += 1
        result = super().up(context)
        self.die("up")
        return result

    def verify(self, context: Any) -> Any:
        self.die("verify")
        return self.verdict

    def die(self, step: str) -> None:
        if self.killed_in == step:
            type(self).killed_in = None
            raise Killed


class Killed(BaseException):
    """As abrupt as a signal: nothing of the library catches it to write a record."""


@pytest.fixture
def counted() -> type[Counted]:
    return type("Counted", (Counted,), {"ups": 0, "verdict": True, "killed_in": None})


def test_what_does_not_verify_is_failed_and_verified_again_without_being_repeated(
    engine: Engine, counted: type[Counted]
) -> None:
    make_numbers(engine, 1)
    for verdict in (False, None, 1, "yes"):
        counted.verdict = verdict
        with pytest.raises(VerificationFailed, match=r"did not verify: its verify\(\) did not return True") as failure:
            migrator(engine, counted).run()
        assert isinstance(failure.value, MigrationFailed)
        assert (stored_status(engine, NAME), counted.ups, z_of(engine)) == ("FAILED", 1, [20]), verdict
    counted.verdict = True
    (report,) = migrator(engine, counted).run()
    assert (report.status, report.verified, report.records_processed, counted.ups) == (Status.COMPLETED, True, 1, 1)


def test_what_failed_to_verify_can_be_rolled_back(engine: Engine, counted: type[Counted]) -> None:
    make_numbers(engine, 1)
    counted.verdict = False
    with pytest.raises(VerificationFailed):
        migrator(engine, counted).run()
    assert migrator(engine, counted).rollback(NAME).status is Status.ROLLED_BACK
    assert z_of(engine) == [None]


def test_killed_between_its_commit_and_verification_it_is_verified_and_not_repeated(
    engine: Engine, counted: type[Counted]
) -> None:
    make_numbers(engine, 1)
    counted.killed_in = "verify"
    with pytest.raises(Killed):
        migrator(engine, counted).run()
    (status,) = migrator(engine, counted).status().migrations
    assert (status.status, status.stale) == (Status.RUNNING, True)
    assert z_of(engine) == [20]
    (report,) = migrator(engine, counted).run()
    assert (report.status, report.verified, counted.ups) == (Status.COMPLETED, True, 1)


def test_killed_in_up_nothing_is_there_and_it_is_repeated(engine: Engine, counted: type[Counted]) -> None:
    make_numbers(engine, 1)
    counted.killed_in = "up"
    with pytest.raises(Killed):
        migrator(engine, counted).run()
    assert z_of(engine) == [None]
    (report,) = migrator(engine, counted).run()
    assert (report.status, counted.ups, z_of(engine)) == (Status.COMPLETED, 2, [20])


def test_an_error_in_verify_is_a_failed_verification(engine: Engine) -> None:
    class Broken(Double):
        def verify(self, context: Any) -> bool:
            return bool(context.connection.execute(text("SELECT nothing FROM nowhere")).scalar())

    make_numbers(engine, 1)
    with pytest.raises(VerificationFailed, match="verification ended with an error"):
        migrator(engine, Broken).run()
    assert stored_status(engine, NAME) == "FAILED"


def test_without_verify_it_completes_unverified_and_every_status_says_so(engine: Engine) -> None:
    class Unchecked(Migration):
        name = NAME

        def up(self, context: Any) -> MigrationResult:
            return MigrationResult(records_processed=5)

    (report,) = migrator(engine, Unchecked).run()
    assert (report.status, report.verified, report.records_processed) == (Status.COMPLETED, False, 5)
    (status,) = migrator(engine, Unchecked).status().migrations
    assert (status.status, status.verified) == (Status.COMPLETED, False)
    (verdict,) = migrator(engine, Unchecked).verify()
    assert (verdict.verified, verdict.error, verdict.metadata) == (
        False,
        None,
        {"note": "the migration brings no verify()"},
    )


# --- without a transaction -------------------------------------------------------------------------------------------


class Unprotected(Counted):
    """Each statement commits by itself; `applied` looks at the data."""

    transactional = False

    def applied(self, context: Any) -> bool:
        return bool(context.connection.execute(text("SELECT COUNT(*) FROM number WHERE z IS NULL")).scalar_one() == 0)


@pytest.fixture
def unprotected() -> type[Unprotected]:
    return type("Unprotected", (Unprotected,), {"ups": 0, "verdict": True, "killed_in": None})


def test_a_non_transactional_one_runs_and_rolls_back(engine: Engine, unprotected: type[Unprotected]) -> None:
    make_numbers(engine, 1)
    (report,) = migrator(engine, unprotected).run()
    assert (report.status, report.verified, z_of(engine)) == (Status.COMPLETED, True, [20])
    assert migrator(engine, unprotected).rollback(NAME).status is Status.ROLLED_BACK
    assert z_of(engine) == [None]


def test_killed_after_its_work_it_is_asked_and_not_repeated(engine: Engine, unprotected: type[Unprotected]) -> None:
    make_numbers(engine, 1)
    unprotected.killed_in = "up"
    with pytest.raises(Killed):
        migrator(engine, unprotected).run()
    assert z_of(engine) == [20]
    (report,) = migrator(engine, unprotected).run()
    assert (report.status, unprotected.ups) == (Status.COMPLETED, 1)


def test_killed_before_its_work_is_done_it_is_asked_and_repeated(
    engine: Engine, unprotected: type[Unprotected]
) -> None:
    make_numbers(engine, 1)
    unprotected.killed_in = "up"
    with pytest.raises(Killed):
        migrator(engine, unprotected).run()
    execute(engine, "UPDATE number SET z = NULL")
    (report,) = migrator(engine, unprotected).run()
    assert (report.status, unprotected.ups, z_of(engine)) == (Status.COMPLETED, 2, [20])


def test_the_first_time_nobody_asks_whether_it_is_applied(engine: Engine, unprotected: type[Unprotected]) -> None:
    """`applied` may well be true of data that needs the work: it only tells after an intent."""
    make_numbers(engine, 1)
    execute(engine, "UPDATE number SET z = 5")
    migrator(engine, unprotected).run()
    assert (unprotected.ups, z_of(engine)) == (1, [20])


# --- among others ----------------------------------------------------------------------------------------------------


class Requiring(Double):
    name = "003-after"
    requires = ("001-increment",)


def test_a_requirement_must_be_completed_first(engine: Engine) -> None:
    make_numbers(engine, 1)
    both = migrator(engine, Requiring, Increment)
    with pytest.raises(Refused, match=r"003-after requires 001-increment, which is PENDING\. Run 001-increment first"):
        both.run("003-after")
    assert [report.name for report in both.run()] == ["001-increment", "003-after"]


def test_a_run_stops_at_the_first_failure_and_hands_over_what_was_finished(engine: Engine) -> None:
    class Failing(Double):
        def up(self, context: Any) -> MigrationResult:
            raise RuntimeError("it went wrong")

    class Later(Double):
        name = "003-later"

    make_numbers(engine, 1)
    three = migrator(engine, Increment, Failing, Later)
    with pytest.raises(MigrationFailed) as failure:
        three.run()
    assert [report.name for report in failure.value.reports] == ["001-increment"]  # type: ignore[attr-defined]
    assert [each.status for each in three.status().migrations] == [Status.COMPLETED, Status.FAILED, Status.PENDING]
    assert three.pending() == [NAME, "003-later"]


def test_a_manual_one_runs_only_when_named(engine: Engine) -> None:
    class Manual(Double):
        manual = True

    make_numbers(engine, 1)
    assert migrator(engine, Manual).pending() == []
    assert migrator(engine, Manual).run() == []
    assert z_of(engine) == [None]
    assert migrator(engine, Manual).run(NAME)[0].status is Status.COMPLETED


def test_the_context_tells_what_the_operator_said(engine: Engine) -> None:
    seen: dict[str, Any] = {}

    class Curious(Double):
        def up(self, context: Any) -> MigrationResult:
            seen.update(
                environment=context.environment,
                dry_run=context.dry_run,
                verbose=context.verbose,
                batch_size=context.batch_size,
                executed_by=context.executed_by,
                answer=context.ask("Sure?"),
            )
            context.progress(1, 2)
            return MigrationResult()

    make_numbers(engine, 0)
    migrator(engine, Curious, ask=lambda prompt: f"{prompt} yes").run(options=RunOptions(verbose=True, batch_size=7))
    assert seen == {
        "environment": "test",
        "dry_run": False,
        "verbose": True,
        "batch_size": 7,
        "executed_by": "tester",
        "answer": "Sure? yes",
    }

"""What the buttons offer, against what `Migrator` does: every verb is tried in every state, on a copy of a database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from system_migration import (
    Migration,
    MigrationContext,
    MigrationResult,
    MigrationRollbackResult,
    Migrator,
    Row,
    RowIssue,
    RunOptions,
)
from system_migration.errors import (
    HeldElsewhere,
    Interrupted,
    MigrationFailed,
    MigrationSystemError,
    Refused,
    UnknownMigration,
)
from system_migration.records import MigrationStatus
from system_migration.states import Status
from system_migration.web.dashboard.verbs import Offer, offer, standing
from tests.db.test_control import held_up
from tests.db.test_workbench import Fill, Increment, execute, make_numbers, migrator

pytestmark = pytest.mark.databases("sqlite")
NAME = "001-it"
TRYING = RunOptions(accept_code_change=True)


class Sweeping(Fill):
    """Undone from its journal; it finds rows that it missed."""

    name = NAME
    rollbackable = True
    failing = False

    def transform(self, row: Row) -> dict[str, Any]:
        if self.failing and row.y == 30:
            raise ValueError("on purpose")
        return super().transform(row)


class Holding(Sweeping):
    def transform(self, row: Row) -> dict[str, Any]:
        if row.y == 20:
            raise RowIssue("bad", "for a reason")
        return super().transform(row)


class InPlace(Increment):
    name = NAME


class Imperative(Migration):
    name = NAME
    rollbackable = True
    fails: ClassVar[set[str]] = set()

    def up(self, context: MigrationContext) -> MigrationResult:
        context.connection.execute(sa.text("UPDATE number SET z = 1"))
        return MigrationResult(success="up" not in self.fails, records_processed=6)

    def down(self, context: MigrationContext) -> MigrationRollbackResult:
        context.connection.execute(sa.text("UPDATE number SET z = NULL"))
        return MigrationRollbackResult(success="down" not in self.fails)


class Undocumented(Imperative):
    rollbackable = False


class Base(InPlace):
    name = "000-base"


class Dependent(Sweeping):
    requires = (Base.name,)


class Ahead(Sweeping):
    requires_schema = "ae10"


class Follower(InPlace):
    name = "002-follower"
    requires = (NAME,)


State = Callable[[Engine], tuple[type[Migration], ...]]
ONE_BY_ONE = RunOptions(batch_size=1, workers=1)


def begun(engine: Engine, *classes: type[Migration], act: Callable[[Migrator], Any] | None = None, **more: Any) -> Any:
    """These classes, after the first of them was run, however that ended, and `act` on it."""
    shared = migrator(engine, *classes, **more)
    with suppress(MigrationFailed, Interrupted):
        shared.run(NAME, replace(ONE_BY_ONE, max_issues=1))
    if act is not None:
        with suppress(MigrationFailed):
            act(shared)
    return classes


def pending(engine: Engine) -> Any:
    migrator(engine, Sweeping).init()
    return (Sweeping,)


def nothing_recorded(engine: Engine) -> Any:
    return (Sweeping,)


def waiting_for_another(engine: Engine) -> Any:
    return (Base, Dependent)


def waiting_for_a_schema(engine: Engine) -> Any:
    return (Ahead,)


def completed(engine: Engine) -> Any:
    return begun(engine, Sweeping)


def completed_in_place(engine: Engine) -> Any:
    return begun(engine, InPlace)


def completed_and_required(engine: Engine) -> Any:
    return begun(engine, Sweeping, Follower, act=lambda m: m.run())


def completed_imperative(engine: Engine) -> Any:
    return begun(engine, Imperative)


def completed_for_good(engine: Engine) -> Any:
    return begun(engine, Undocumented)


def completed_with_held_rows(engine: Engine) -> Any:
    return begun(engine, Holding)


def failed_with_held_rows(engine: Engine) -> Any:
    shared = migrator(engine, Holding)
    with suppress(MigrationFailed):
        shared.run(NAME, ONE_BY_ONE)
    return (Holding,)


def failed_half_way(engine: Engine) -> Any:
    class Failing(Sweeping):
        failing = True

    begun(engine, Failing)
    return (Sweeping,)


def failed_imperative(engine: Engine) -> Any:
    class Failing(Imperative):
        fails: ClassVar[set[str]] = {"up"}

    begun(engine, Failing)
    return (Imperative,)


def failed_to_undo(engine: Engine) -> Any:
    class Failing(Imperative):
        fails: ClassVar[set[str]] = {"down"}

    begun(engine, Failing, act=lambda m: m.rollback(NAME))
    return (Imperative,)


def cancelled(engine: Engine) -> Any:
    stale(engine)
    migrator(engine, Sweeping).cancel(NAME)
    return (Sweeping,)


def cancelled_in_a_rollback(engine: Engine) -> Any:
    stale_rollback(engine)
    migrator(engine, Sweeping).cancel(NAME)
    return (Sweeping,)


def paused(engine: Engine) -> Any:
    stale(engine)
    migrator(engine, Sweeping).pause(NAME)
    return (Sweeping,)


def paused_in_a_rollback(engine: Engine) -> Any:
    stale_rollback(engine)
    migrator(engine, Sweeping).pause(NAME)
    return (Sweeping,)


def paused_imperative(engine: Engine) -> Any:
    completed_imperative(engine)
    as_if_left(engine)
    migrator(engine, Imperative).pause(NAME)
    return (Imperative,)


def paused_with_held_rows(engine: Engine) -> Any:
    begun(engine, Holding)
    as_if_left(engine)
    migrator(engine, Holding).pause(NAME)
    return (Holding,)


def paused_without_its_file(engine: Engine) -> Any:
    paused(engine)
    return (Base,)


def completed_without_its_file(engine: Engine) -> Any:
    completed(engine)
    return (Base,)


def stale(engine: Engine) -> Any:
    completed(engine)
    as_if_left(engine)
    return (Sweeping,)


def stale_without_its_file(engine: Engine) -> Any:
    stale(engine)
    return (Base,)


def stale_rollback(engine: Engine) -> Any:
    """Stopped after its first batch, of which the journal tells."""
    completed(engine)
    shared = migrator(engine, Sweeping)
    stopping = shared.acting_as("tester", Stopping(shared))
    with suppress(Interrupted):
        stopping.rollback(NAME)
    return (Sweeping,)


def skipped(engine: Engine) -> Any:
    migrator(engine, Sweeping).skip(NAME, "not here")
    return (Sweeping,)


def rolled_back(engine: Engine) -> Any:
    return begun(engine, Sweeping, act=lambda m: m.rollback(NAME))


def rolled_back_but_one(engine: Engine) -> Any:
    """A row was changed since: it is left as it is, and listed."""
    begun(engine, Sweeping)
    execute(engine, "UPDATE number SET z = 7 WHERE y = 20")
    with suppress(MigrationFailed):
        migrator(engine, Sweeping).rollback(NAME, RunOptions(max_issues=1))
    return (Sweeping,)


class Stopping:
    """Asks for a stop as soon as a row is done."""

    def __init__(self, shared: Migrator) -> None:
        self._shared = shared

    def rows(self, done: int, total: int | None, held: int) -> None:
        if done:
            self._shared.request_stop(15)

    def started(self, migration: str, run_id: str) -> None: ...
    def phase(self, migration: str, phase: str) -> None: ...
    def waiting(self, reason: str) -> None: ...


def as_if_left(engine: Engine) -> None:
    """As a runner leaves it that dies."""
    execute(engine, "UPDATE system_migration_migration SET status = 'RUNNING'")
    execute(engine, "UPDATE system_migration_run SET outcome = NULL, finished_at = NULL")


STATES: list[State] = [
    nothing_recorded,
    pending,
    waiting_for_another,
    waiting_for_a_schema,
    completed,
    completed_in_place,
    completed_and_required,
    completed_imperative,
    completed_for_good,
    completed_with_held_rows,
    completed_without_its_file,
    failed_with_held_rows,
    failed_half_way,
    failed_imperative,
    failed_to_undo,
    cancelled,
    cancelled_in_a_rollback,
    paused,
    paused_imperative,
    paused_in_a_rollback,
    paused_with_held_rows,
    paused_without_its_file,
    stale,
    stale_rollback,
    stale_without_its_file,
    skipped,
    rolled_back,
    rolled_back_but_one,
]

ACTS: dict[str, Callable[[Migrator], Any]] = {
    "run": lambda m: m.run(NAME, TRYING),
    "dry-run": lambda m: m.dry_run(NAME),
    "resume": lambda m: m.resume(NAME, TRYING),
    "pause": lambda m: m.pause(NAME),
    "cancel": lambda m: m.cancel(NAME),
    "retry": lambda m: m.retry(NAME, TRYING),
    "verify": lambda m: m.verify(NAME),
    "rollback": lambda m: m.rollback(NAME, TRYING),
    "skip": lambda m: m.skip(NAME, "because"),
    "reset": lambda m: m.reset(NAME, "because"),
}

SENSELESS: dict[str, Callable[[MigrationStatus], bool]] = {
    "run": lambda m: m.status is Status.PAUSED,  # that is: resume
    "rollback": lambda m: m.undoing and (m.status is Status.PAUSED or m.stale),  # that is: resume, or continue
    "dry-run": lambda m: m.undoing or m.status is Status.COMPLETED,  # it would look at work that is done
}
"""What is not refused, and not offered either: where another verb does the same, or there is nothing to see."""


def offered(shared: Migrator, name: str = NAME) -> Offer:
    return offer(standing(shared.show(name), shared.status(), shared.registry))


class Snapshot:
    """A SQLite database as it was. The library knows a copy for a copy, so the original itself is put back."""

    def __init__(self, engine: Engine) -> None:
        self._file, self._kept = str(engine.url.database), sqlite3.connect(":memory:")
        with closing(sqlite3.connect(self._file)) as source:
            source.backup(self._kept)

    def restore(self) -> None:
        with closing(sqlite3.connect(self._file)) as target:
            self._kept.backup(target)


def refusal(act: Callable[[Migrator], Any], shared: Migrator) -> MigrationSystemError | None:
    """With what the migrator refuses it; a failure of the work is none."""
    try:
        with shared:
            act(shared)
    except (Refused, UnknownMigration, HeldElsewhere) as error:
        return error
    except MigrationFailed:
        pass
    return None


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_what_is_offered_is_not_refused_and_the_rest_is_or_makes_no_sense(engine: Engine, state: State) -> None:
    make_numbers(engine, 6)
    classes = state(engine)
    with migrator(engine, *classes) as shared:
        found, m = offered(shared), shared.show(NAME).status
    as_it_is, refused = Snapshot(engine), {}
    for key, act in ACTS.items():
        refused[key] = refusal(act, migrator(engine, *classes))
        as_it_is.restore()
    wrongly = {verb.key: str(refused[verb.key]) for verb in found.verbs if refused[verb.key] is not None}
    assert wrongly == {}
    missing = {key for key, error in refused.items() if error is None and found.find(key) is None}
    assert {key for key in missing if not SENSELESS.get(key, lambda _: False)(m)} == set()
    assert len({verb.key for verb in found.verbs}) == len(found.verbs)


def test_a_run_that_goes_on_can_be_paused_and_cancelled_and_a_pause_taken_back(engine: Engine) -> None:
    name = Increment.name

    def keys() -> list[str]:
        return [verb.key for verb in offered(migrator(engine, Increment), name).verbs]

    with held_up(engine):
        assert keys() == ["pause", "cancel"]
        other = migrator(engine, Increment, executed_by="ada")
        for verb in ("run", "retry", "rollback"):
            with pytest.raises((Refused, HeldElsewhere)):
                getattr(other, verb)(name)
        with pytest.raises((Refused, HeldElsewhere)):
            other.reset(name, "no")
        other.pause(name)
        assert keys() == ["resume", "cancel"]
        assert other.resume(name) is None
        assert keys() == ["pause", "cancel"]
        other.cancel(name)
        assert keys() == []


def test_what_is_not_offered_is_explained(engine: Engine) -> None:
    make_numbers(engine, 6)
    empty = Snapshot(engine)

    def why(state: State) -> str:
        with migrator(engine, *state(engine)) as shared:
            found = " ".join(offered(shared).why)
        empty.restore()
        return found

    assert "requires 000-base, which is PENDING" in why(waiting_for_another)
    assert "It cannot start: it waits for schema revision ae10, the database has no" in why(waiting_for_a_schema)
    assert "It cannot be rolled back: it declares rollbackable = False." in why(completed_for_good)
    assert "002-follower requires 001-it and is COMPLETED" in why(completed_and_required)
    assert "nothing tells which rows it missed" in why(completed_in_place)
    assert "a rollback was begun" in why(cancelled_in_a_rollback)
    assert "file is missing" in why(completed_without_its_file)
    assert why(completed) == ""
    assert why(pending) == ""

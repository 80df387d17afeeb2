"""Whoever acts by what a page showed acts once: where the migration has moved on, nothing is done, and why is said."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine, create_engine, event

from system_migration import Migrator, Row, RowIssue, RunOptions, Status
from system_migration.errors import ChangedMeanwhile, Interrupted, MigrationFailed
from system_migration.records import Origin
from system_migration.store import control
from tests.db.test_control import held_up, looking_at_every_batch
from tests.db.test_workbench import Fill, execute, make_numbers, migrator, quick, rows_of
from tests.support.proxy import AFTER, CuttingProxy

__all__ = ["looking_at_every_batch"]

NAME = "001-fill"
Act = Callable[[Migrator], Any]


class Undoable(Fill):
    rollbackable = True


class Holding(Undoable):
    """Always holds a row, so that a retry has something to do whenever it may."""

    def transform(self, row: Row) -> dict[str, Any]:
        if row.y == 20:
            raise RowIssue("bad", "for a reason")
        return super().transform(row)


class Stopping(Undoable):
    """Has its process asked to stop by its first row."""

    stop: ClassVar[Callable[[], None]]

    def transform(self, row: Row) -> dict[str, Any]:
        type(self).stop()
        return super().transform(row)


def pending(engine: Engine) -> Migrator:
    made = migrator(engine, Undoable)
    made.init()
    return made


def completed(engine: Engine) -> Migrator:
    made = migrator(engine, Undoable)
    made.run()
    return made


def holding(engine: Engine) -> Migrator:
    made = migrator(engine, Holding)
    made.run(options=RunOptions(max_issues=1))
    return made


def failed(engine: Engine) -> Migrator:
    made = migrator(engine, Holding)
    with pytest.raises(MigrationFailed):
        made.run()
    return made


def stale(engine: Engine) -> Migrator:
    made = migrator(engine, Undoable)
    made.run()
    execute(engine, "UPDATE number SET z = NULL")
    execute(engine, "UPDATE system_migration_migration SET status = 'RUNNING'")
    execute(engine, "UPDATE system_migration_run SET outcome = NULL, finished_at = NULL")
    return made


def paused(engine: Engine) -> Migrator:
    made = stale(engine)
    made.pause(NAME)
    return made


VERBS: dict[str, tuple[Callable[[Engine], Migrator], Act]] = {
    "run": (pending, lambda m: m.run(NAME)),
    "run again": (completed, lambda m: m.run(NAME)),
    "run a stale one": (stale, lambda m: m.run(NAME)),
    "rollback": (completed, lambda m: m.rollback(NAME)),
    "retry": (holding, lambda m: m.retry(NAME)),
    "resume": (paused, lambda m: m.resume(NAME)),
    "pause": (stale, lambda m: m.pause(NAME)),
    "cancel": (stale, lambda m: m.cancel(NAME)),
    "cancel a paused one": (paused, lambda m: m.cancel(NAME)),
    "skip": (failed, lambda m: m.skip(NAME, "not here")),
    "skip what has no record": (pending, lambda m: m.skip(NAME, "not here")),
    "reset": (completed, lambda m: m.reset(NAME, "again")),
}


def revision(migrator: Migrator) -> int:
    (status,) = migrator.status().migrations
    return status.revision


def race(acts: list[Callable[[], Any]]) -> list[BaseException | None]:
    """What each act ended in, all begun at once."""
    ended: list[BaseException | None] = [None] * len(acts)
    line = threading.Barrier(len(acts))

    def run(number: int) -> None:
        line.wait(30)
        try:
            acts[number]()
        except BaseException as error:
            ended[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return ended


@pytest.mark.parametrize("verb", VERBS)
def test_of_two_who_saw_the_same_exactly_one_acts(engine: Engine, verb: str) -> None:
    prepare, act = VERBS[verb]
    make_numbers(engine, 6)
    shared = prepare(engine)
    seen = revision(shared)
    ended = race([lambda name=name: act(shared.acting_as(name, seen=seen)) for name in ("ada", "bob")])  # type: ignore[misc]
    assert [type(error) for error in sorted(ended, key=lambda error: error is not None)] == [
        type(None),
        ChangedMeanwhile,
    ], ended
    assert revision(shared) != seen


@pytest.mark.parametrize("verb", VERBS)
def test_who_comes_later_is_told_what_happened(engine: Engine, verb: str) -> None:
    prepare, act = VERBS[verb]
    make_numbers(engine, 6)
    shared = prepare(engine)
    seen = revision(shared)
    act(shared.acting_as("ada", seen=seen))
    before = rows_of(engine, "SELECT COUNT(*) FROM system_migration_event")
    with pytest.raises(
        ChangedMeanwhile, match=rf"^Migration {NAME} is [A-Z_]+ now: .*\bada\b.* UTC\. Look at it, then"
    ):
        act(shared.acting_as("bob", seen=seen))
    assert rows_of(engine, "SELECT COUNT(*) FROM system_migration_event") == before


@contextmanager
def just_before(statement: str, act: Callable[[], Any]) -> Iterator[None]:
    """Let something be done and committed when another one's statement is on its way, whose transaction is open."""
    done: list[bool] = []

    def hear(_c: Any, _cursor: Any, said: str, _p: Any, _x: Any, _many: bool) -> None:
        if said.startswith(statement) and not done:
            done.append(True)
            act()

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", hear)
    assert done


SERVERS = pytest.mark.databases("postgresql", "mariadb")  # on SQLite nobody gets in between


@SERVERS
def test_a_request_in_the_last_moment_is_seen(engine: Engine) -> None:
    with held_up(engine, Fill):
        shared, other = migrator(engine, Fill), migrator(engine, Fill)
        seen = revision(shared)
        with just_before("UPDATE system_migration_migration", lambda: other.acting_as("ada", seen=seen).cancel(NAME)):
            with pytest.raises(ChangedMeanwhile, match="RUNNING now: ada asked it to end"):
                shared.acting_as("bob", seen=seen).pause(NAME)


def asking(shared: Migrator, seen: int) -> Migrator:
    """What the same request of ada, sent again, acts through."""
    return shared.acting_as("ada", seen=seen, origin=Origin("page", "8a3a8f4e-6d3c-4c76-8f5b-0f4a4e2d9c11"))


@pytest.mark.parametrize("verb", [Migrator.pause, Migrator.cancel])
def test_a_request_sent_again_acts_no_second_time_though_the_revision_is_the_same(engine: Engine, verb: Act) -> None:
    with held_up(engine, Fill):
        shared = migrator(engine, Fill)
        seen = revision(shared)
        asking(shared, seen).pause(NAME)
        shared.acting_as("bob").resume(NAME)
        assert revision(shared) == seen
        with pytest.raises(ChangedMeanwhile, match="RUNNING now: bob took its pause back at"):
            verb(asking(shared, seen), NAME)
        assert shared.status().migrations[0].request is None


@SERVERS
def test_the_same_request_twice_at_once_acts_once(engine: Engine) -> None:
    with held_up(engine, Fill):
        shared, other = migrator(engine, Fill), migrator(engine, Fill)
        seen = revision(shared)

        def first() -> None:
            asking(other, seen).pause(NAME)
            other.acting_as("bob").resume(NAME)

        with just_before("UPDATE system_migration_migration", first), pytest.raises(ChangedMeanwhile):
            asking(shared, seen).pause(NAME)
        assert shared.status().migrations[0].request is None


@SERVERS
def test_a_pause_is_not_taken_back_where_another_request_takes_its_place_in_the_last_moment(engine: Engine) -> None:
    with held_up(engine, Fill):
        shared, other = migrator(engine, Fill), migrator(engine, Fill)
        shared.pause(NAME)
        seen = revision(shared)
        with just_before("UPDATE system_migration_migration", lambda: other.acting_as("ada", seen=seen).cancel(NAME)):
            with pytest.raises(ChangedMeanwhile, match="RUNNING now: ada asked it to end"):
                shared.acting_as("bob", seen=seen).withdraw_pause(NAME)


@SERVERS
@pytest.mark.parametrize("verb", ["skip", "run"])
def test_the_first_row_is_made_by_one_of_two(engine: Engine, verb: str) -> None:
    make_numbers(engine, 3)
    shared, other = pending(engine), migrator(engine, Undoable)
    act: Act = (lambda m: m.run(NAME)) if verb == "run" else (lambda m: m.skip(NAME, "not here"))
    with just_before("INSERT INTO system_migration_migration", lambda: other.acting_as("ada").skip(NAME, "first")):
        with pytest.raises(ChangedMeanwhile, match="SKIPPED now: ada skipped it"):
            act(shared.acting_as("bob", seen=0))


def test_a_request_to_a_run_that_goes_on_is_made_once(engine: Engine) -> None:
    with held_up(engine, Fill) as running:
        shared = migrator(engine, Fill)
        seen = revision(shared)
        ended = race([lambda name=name: shared.acting_as(name, seen=seen).pause(NAME) for name in ("ada", "bob")])  # type: ignore[misc]
        assert sorted(str(type(error).__name__) for error in ended) == ["ChangedMeanwhile", "NoneType"]
        asked = revision(shared)
        with pytest.raises(ChangedMeanwhile, match=r"is RUNNING now: \w+ asked it to pause at"):
            shared.acting_as("eve", seen=seen).cancel(NAME)
        ended = race([lambda name=name: shared.acting_as(name, seen=asked).resume(NAME) for name in ("ada", "bob")])  # type: ignore[misc]
        assert sorted(str(type(error).__name__) for error in ended) == ["ChangedMeanwhile", "NoneType"]
    assert running.error is None
    assert shared.status().migrations[0].status is Status.COMPLETED


@contextmanager
def losing_the_next_answer(engine: Engine) -> Iterator[Callable[[], Migrator]]:
    """A migrator behind a line that breaks once, right after the server has committed something."""
    armed: list[str] = []
    url = engine.url.render_as_string(hide_password=False)
    with CuttingProxy(url, lambda: armed.pop() if armed else None) as proxy:
        far = migrator(quick(create_engine(proxy.url)), Undoable)
        far.status()

        def cut() -> Migrator:
            armed.append(AFTER)
            return far

        try:
            yield cut
        finally:
            far.close()
    assert proxy.cuts


@SERVERS
@pytest.mark.parametrize("verb", ["cancel", "skip", "run a stale one"])
def test_who_never_heard_that_it_was_done_is_not_told_that_somebody_else_did_it(engine: Engine, verb: str) -> None:
    prepare, act = VERBS[verb]
    make_numbers(engine, 6)
    seen = revision(prepare(engine))
    with losing_the_next_answer(engine) as cut:
        act(cut().acting_as("ada", seen=seen))
    done = rows_of(engine, "SELECT action FROM system_migration_event WHERE actor = 'ada'")
    assert len(set(done)) == len(done) > 0


@SERVERS
def test_what_is_asked_of_a_run_that_goes_on_is_asked_once_though_the_answer_is_lost(engine: Engine) -> None:
    with held_up(engine, Fill) as running:
        shared = migrator(engine, Fill)
        for ask in (Migrator.pause, Migrator.resume):
            with losing_the_next_answer(engine) as cut:
                ask(cut().acting_as("ada", seen=revision(shared)), NAME)
    assert running.error is None
    asked = rows_of(engine, "SELECT action FROM system_migration_event WHERE actor = 'ada' ORDER BY id")
    assert asked == [("pause_asked",), ("pause_withdrawn",)]


def test_a_takeover_in_between_is_seen_though_the_run_is_as_stale_as_before(engine: Engine) -> None:
    make_numbers(engine, 6)
    seen = revision(stale(engine))
    stopped = migrator(engine, Stopping)
    Stopping.stop = lambda: stopped.request_stop(signal.SIGTERM)
    with pytest.raises(Interrupted):
        stopped.acting_as("ada", seen=seen).run(NAME, RunOptions(batch_size=1, accept_code_change=True))
    again = migrator(engine, Undoable)
    assert [status.stale for status in again.status().migrations] == [True]
    with pytest.raises(ChangedMeanwhile, match="RUNNING now: the run of ada was interrupted at"):
        again.acting_as("bob", seen=seen).run(NAME)


def test_what_a_newer_program_asks_is_a_state_of_its_own_that_hinders_nobody(engine: Engine) -> None:
    make_numbers(engine, 6)
    shared = stale(engine)
    seen = set()
    for version in (7, 8):
        for request in ("NULL", "'pause'", "'cancel'", "'drain'"):
            execute(engine, f"UPDATE system_migration_migration SET row_version = {version}, request = {request}")
            seen.add(revision(shared))
    assert len(seen) == 8
    with quick(engine).connect() as connection:
        assert control.asked(connection, shared.environment, NAME) is None
    shared.run(NAME, RunOptions(accept_code_change=True))
    assert shared.status().migrations[0].status is Status.COMPLETED


def test_a_verification_is_of_what_was_seen(engine: Engine) -> None:
    make_numbers(engine, 3)
    shared = completed(engine)
    seen = revision(shared)
    assert shared.acting_as("ada", seen=seen).verify(NAME)[0].verified
    shared.run(NAME)
    with pytest.raises(ChangedMeanwhile, match="COMPLETED now: the run of tester completed it"):
        shared.acting_as("ada", seen=seen).verify(NAME)
    assert shared.acting_as("ada", seen=seen).dry_run(NAME)[0].refusal is None  # it only looks


def test_what_was_seen_is_not_kept_with_the_start(engine: Engine) -> None:
    make_numbers(engine, 3)
    shared = pending(engine)
    shared.acting_as("ada", seen=0).run(NAME)
    ((detail,),) = rows_of(engine, "SELECT detail FROM system_migration_event WHERE action = 'run_started'")
    assert "seen" not in detail

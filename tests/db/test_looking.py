"""Runs looked at by whoever asks: how far they are, from where they were started, and their records in pages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine

from system_migration import Migrator, Registry, Row, RowIssue, RunOptions, Settings, discover
from system_migration.errors import Interrupted, Paused, UnknownMigration, UnknownRun
from system_migration.migration import SilentProgress
from system_migration.records import IssueCount, Origin, Start
from system_migration.states import RunKind
from tests.web.serving import PATIENCE, Gate, Increment, Mark, gated, make_items

ONE_BY_ONE = RunOptions(batch_size=1, workers=1)
FIRST = "11111111-1111-4111-8111-111111111111"
SECOND = "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def migrator(engine: Engine) -> Iterator[Migrator]:
    make_items(engine)
    with Migrator(engine, Registry([Mark, Increment]), Settings(environment="staging"), executed_by="ada") as migrator:
        yield migrator


class Told(SilentProgress):
    """The runs that were told of."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, str]] = []

    def started(self, migration: str, run_id: str) -> None:
        self.runs.append((migration, run_id))


def stopped_at(migrator: Migrator, gate: Gate, act: Any, origin: Origin, **work: Any) -> None:
    """A run that something is done to while it stands at the gate."""
    acting = migrator.acting_as("eve", origin=origin)
    ended: list[BaseException] = []

    def work_on() -> None:
        try:
            acting.run(**work)
        except (Paused, Interrupted) as error:
            ended.append(error)

    thread = threading.Thread(target=work_on)
    thread.start()
    assert gate.reached.wait(PATIENCE)
    act()
    gate.opened.set()
    thread.join(PATIENCE)
    assert len(ended) == 1


def test_each_attempt_tells_its_id_once_it_is_on_the_record(migrator: Migrator) -> None:
    told = Told()
    acting = migrator.acting_as("eve", told)
    acting.dry_run("001-mark")
    acting.run()
    acting.verify("002-increment")
    acting.rollback("001-mark")
    assert [run_id for _, run_id in told.runs] == [run.id for run in reversed(migrator.history())]
    kinds = [migrator.run_by_id(run_id).run.kind for _, run_id in told.runs]
    assert kinds == [RunKind.DRY_RUN, RunKind.RUN, RunKind.RUN, RunKind.VERIFY, RunKind.ROLLBACK]


def test_a_start_gives_its_first_run_an_id_and_says_where_it_came_from(migrator: Migrator) -> None:
    origin = Origin("rest", FIRST, named=False)
    migrator.acting_as("eve", origin=origin).run(options=RunOptions(max_issues=1, workers=1))
    mark, increment = migrator.history("001-mark")[0], migrator.history("002-increment")[0]
    assert mark.id == FIRST
    assert increment.id != FIRST
    for run in (mark, increment):
        start = migrator.events_after(run)[0]
        assert (start.action, start.actor) == ("run_started", "eve")
        assert start.detail == {
            "status": "PENDING",
            "options": {"maxIssues": 1, "workers": 1},
            "door": "rest",
            "request": FIRST,
            "named": False,
        }
    asked = Start("eve", "rest", FIRST, named=False, options=RunOptions(max_issues=1, workers=1))
    assert migrator.run_of_request(FIRST) == (mark, asked)
    assert migrator.run_of_request(SECOND) is None


def test_options_survive_being_written_down() -> None:
    options = RunOptions(batch_size=5, max_issues=0, max_rate=0.5, from_key="a", held_only=True, allow_scan=True)
    assert RunOptions.from_given(options.given()) == options
    assert RunOptions().given() == {}
    assert RunOptions.from_given({"batchSize": 5, "ofAnotherVersion": 1}) == RunOptions(batch_size=5)


def test_a_run_is_followed_from_its_committed_batches(migrator: Migrator) -> None:
    seen = []

    def look() -> None:
        seen.append(migrator.run_by_id(FIRST))
        migrator.pause("002-increment")
        seen.append(migrator.run_by_id(FIRST))

    with gated(row=15) as gate:
        stopped_at(migrator, gate, look, Origin("rest", FIRST), name="002-increment", options=ONE_BY_ONE)
    going, asked = seen
    assert (going.state, going.request, going.run.outcome, going.run.records_processed) == ("running", None, None, 13)
    assert (going.progress.rows_read, going.progress.changed, going.progress.held) == (14, 13, 1)
    assert (asked.request, asked.requested_by) == ("pause", "ada")
    ended = migrator.run_by_id(FIRST)
    assert (ended.state, ended.request, ended.ended) == ("paused", None, True)
    assert ended.progress.changed == ended.run.records_processed >= 14
    with pytest.raises(UnknownRun):
        migrator.run_by_id(SECOND)
    assert [each.run.id for each in migrator.follow([FIRST, SECOND])] == [FIRST]


def test_a_rollback_is_followed_from_what_it_undid(engine: Engine) -> None:
    class Undoable(Increment):
        name = "003-undoable"
        rollbackable = True

    make_items(engine)
    with Migrator(engine, Registry([Undoable]), Settings(environment="staging")) as migrator:
        migrator.run()
        migrator.acting_as("eve", origin=Origin("rest", FIRST)).rollback("003-undoable")
        done, undone = (migrator.run_by_id(run.id) for run in reversed(migrator.history()))
    assert undone.run.id == FIRST
    assert (done.progress.rows_read, done.progress.changed, done.progress.held) == (20, 19, 1)
    assert (undone.progress.rows_read, undone.progress.changed, undone.state) == (19, 19, "succeeded")


def test_an_unfinished_run_tells_how_its_last_runner_was_started(migrator: Migrator) -> None:
    with gated() as gate:
        stop = migrator.request_stop
        origin = Origin("rest", FIRST, named=False)
        migrator.run("001-mark")
        stopped_at(migrator, gate, lambda: stop(15), origin, options=ONE_BY_ONE)
    (found,) = migrator.unfinished_from("rest")
    assert (found.name, found.kind, found.stale) == ("002-increment", RunKind.RUN, True)
    assert (found.start.actor, found.start.options, found.start.named) == ("eve", ONE_BY_ONE, False)
    assert migrator.unfinished_from("elsewhere") == []
    assert migrator.run_by_id(FIRST).state == "stale"


def test_a_request_is_found_by_the_run_it_went_on_with(engine: Engine, migrator: Migrator) -> None:
    with gated() as gate:
        origin, work = Origin("rest", FIRST), {"name": "002-increment", "options": ONE_BY_ONE}
        stopped_at(migrator, gate, lambda: migrator.request_stop(15), origin, **work)
    told = Told()
    with Migrator(engine, Registry([Mark, Increment]), Settings(environment="staging")) as again:
        again.acting_as("eve", told, origin=Origin("rest", SECOND)).run("002-increment", ONE_BY_ONE)
        assert told.runs == [("002-increment", FIRST)]
        found = again.run_of_request(SECOND)
        assert found is not None
        assert found[0].id == FIRST
        assert found[1] == Start("eve", "rest", SECOND, named=True, options=ONE_BY_ONE)


def test_lines_events_and_runs_go_on_behind_a_cursor(migrator: Migrator) -> None:
    migrator.acting_as("eve", origin=Origin("rest", FIRST)).run("001-mark")
    lines = migrator.lines_after(FIRST)
    assert [line.message for line in lines][1] == "marking"
    assert migrator.lines_after(FIRST, lines[0].id) == lines[1:]
    assert migrator.lines_after(FIRST, limit=1) == lines[:1]
    assert migrator.lines_after(FIRST, level="error") == []
    run = migrator.run_by_id(FIRST).run
    events = migrator.events_after(run)
    assert [event.action for event in events] == ["run_started", "completed"]
    assert migrator.events_after(run, events[0].id) == events[1:]
    newest = migrator.run_by_id(FIRST)
    assert (newest.last_line, newest.last_event) == (lines[-1].id, events[-1].id)
    migrator.verify("001-mark")
    whole = migrator.history()
    assert migrator.history(before=whole[0].id) == whole[1:]
    assert migrator.history(limit=1, before=whole[0].id) == whole[1:2]
    assert migrator.history(before=whole[-1].id) == []
    assert migrator.history(before=SECOND) == []


def test_held_rows_are_paged_and_looked_up(migrator: Migrator) -> None:
    migrator.run("002-increment")
    (held,) = migrator.issues("002-increment")
    assert migrator.issues_after("002-increment") == [held]
    assert migrator.issues_after("002-increment", held.id) == []
    assert migrator.issue_of("002-increment", "13") == held
    assert migrator.issue_of("002-increment", "14") is None
    with pytest.raises(ValueError, match="type int"):
        migrator.issue_of("002-increment", "thirteen")
    assert migrator.issue_of("001-mark", "thirteen") is None
    with pytest.raises(UnknownMigration):
        migrator.issues_after("nope")
    with pytest.raises(ValueError, match="not the id"):
        migrator.issues_after("002-increment", "nope")


class Picky(Increment):
    """Holds the rows that are named."""

    max_issues = 100
    held: ClassVar[set[int]]

    def transform(self, row: Row) -> dict[str, Any]:
        if row.origin in self.held:
            raise RowIssue("unlucky", "it stays as it is")
        return {"y": row.y + 1}


def test_pages_go_on_where_the_row_before_is_held_no_longer(engine: Engine, migrator: Migrator) -> None:
    Picky.held = {1, 2, 3, 4, 5, 6}
    with Migrator(engine, Registry([Picky]), Settings(environment="staging")) as picky:
        picky.run()
        first = picky.issues_after(Picky.name, limit=3)
        mended = first[-1].key
        Picky.held.remove(mended)
        picky.retry(Picky.name)
        behind = {issue.key for issue in picky.issues_after(Picky.name, first[-1].id)}
    assert len(first) == 3
    assert behind >= Picky.held - {issue.key for issue in first}
    assert mended not in behind


def test_nothing_is_known_of_a_database_where_nothing_was_written(migrator: Migrator) -> None:
    assert migrator.follow([FIRST]) == []
    assert migrator.unfinished_from("rest") == []
    assert migrator.run_of_request(FIRST) is None
    assert migrator.current_run("001-mark") is None
    assert migrator.lines_after(FIRST) == []
    assert migrator.issues_after("001-mark") == []
    assert migrator.issue_counts("001-mark") == []
    assert migrator.lines_before(FIRST) == []
    assert migrator.audit() == []


class Sorting(Increment):
    """Holds a few rows for one reason, and more for another."""

    max_issues = 100

    def transform(self, row: Row) -> dict[str, Any]:
        raise RowIssue("few" if row.origin <= 5 else "many", "whatever it is")


def test_held_rows_are_counted_and_paged_by_reason(engine: Engine, migrator: Migrator) -> None:
    with Migrator(engine, Registry([Sorting]), Settings(environment="staging")) as sorting:
        assert sorting.issue_counts(Sorting.name) == []
        sorting.run()
        assert sorting.issue_counts(Sorting.name) == [IssueCount("many", 15), IssueCount("few", 5)]
        few = [issue for issue in sorting.issues(Sorting.name) if issue.code == "few"]
        first = sorting.issues_after(Sorting.name, limit=2, code="few")
        assert first + sorting.issues_after(Sorting.name, first[-1].id, code="few") == few
        assert sorting.issues_after(Sorting.name, code="none") == []
        with pytest.raises(UnknownMigration):
            sorting.issue_counts("nope")


def test_the_audit_is_paged_from_the_newest(migrator: Migrator) -> None:
    migrator.run()
    everything = migrator.audit(limit=1000)
    assert {event.migration for event in everything} == set(migrator.registry.names)
    assert [event.id for event in everything] == sorted((event.id for event in everything), reverse=True)
    assert migrator.audit(limit=2) == everything[:2]
    assert migrator.audit(before=everything[1].id, limit=2) == everything[2:4]
    name = migrator.registry.names[0]
    assert migrator.audit(name) == [event for event in everything if event.migration == name]
    with pytest.raises(UnknownMigration):
        migrator.audit("009-unknown")


def test_the_log_is_read_backwards(migrator: Migrator) -> None:
    migrator.run(options=RunOptions(batch_size=1, verbose=True))
    run = migrator.history(limit=1)[0]
    lines = migrator.lines_after(run.id)
    assert len(lines) > 5
    assert migrator.lines_before(run.id) == lines
    assert migrator.lines_before(run.id, limit=2) == lines[-2:]
    assert migrator.lines_before(run.id, lines[-2].id, limit=2) == lines[-4:-2]
    assert migrator.lines_before(run.id, lines[0].id) == []
    assert migrator.lines_before(run.id, level="error") == []
    assert migrator.lines_before("no run") == []


NOTHING = """
from system_migration import Migration, MigrationResult

class Nothing(Migration):  # for a test
    name = "003-nothing"

    def up(self, context):
        return MigrationResult()
"""


def test_the_text_of_a_migration_is_that_of_its_file_as_it_was_loaded(
    engine: Engine, migrator: Migrator, tmp_path: Path
) -> None:
    file = tmp_path / "003_nothing.py"
    file.write_text(NOTHING, encoding="utf-8")
    migrator.skip("001-mark", "so that it has a record")
    with Migrator(engine, discover(str(tmp_path)), Settings(environment="staging")) as loaded:
        assert loaded.source("003-nothing") == NOTHING
        file.write_text("another = 1\n", encoding="utf-8")
        assert loaded.source("003-nothing") == NOTHING
        assert loaded.source("001-mark") is None  # its file is not here
        with pytest.raises(UnknownMigration):
            loaded.source("../../etc/passwd")

"""A takeover counts a death for what the dead runner left, says so, and goes on with the same kind of run."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa

from system_migration import MigrationFailed, Row, RowIssue, RunOptions, Status
from system_migration.errors import Interrupted
from system_migration.store import tables
from tests.crash.harness import COMMIT, Job, Moment, after_commit_of_a_batch, at_commit_of_a_batch
from tests.crash.subjects import Flagged, InPlace, Items


def deaths(items: Items) -> dict[tuple[int, int], int]:
    """How many were counted, by pass and first number."""
    death = tables.death.c
    with items.engine.connect() as connection:
        rows = connection.execute(sa.select(death["pass"], death.range, death.deaths))
        return {(row[0], row[1]): row[2] for row in rows}


def die(items: Items, when: Callable[[Moment], bool] = at_commit_of_a_batch) -> None:
    """A runner that is killed then, and whose lease has run out."""
    ending = Job(items.url, InPlace).start_and_kill(when)
    assert ending.killed_at is not None, ending.message
    items.expire_lease()


def test_deaths_at_the_same_place_add_up(items: Items) -> None:
    die(items)
    die(items)
    assert deaths(items) == {(1, 1): 1}  # counted by who came after
    Job(items.url, InPlace).run()
    assert deaths(items) == {(1, 1): 2, (2, 1): 1}  # at the second death it might be the next pass that kills
    assert items.values() == items.migrated


def test_a_death_after_progress_is_another_one(items: Items) -> None:
    die(items)
    die(items, after_commit_of_a_batch)
    die(items, after_commit_of_a_batch)
    Job(items.url, InPlace).run()
    assert (len(deaths(items)), set(deaths(items).values())) == (3, {1})


def test_a_clean_stop_is_no_death(items: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(items.url, InPlace, batch_size=1)
    with job._migrator() as migrator:
        monkeypatch.setattr(InPlace, "before_transform", lambda *_: migrator.request_stop(signal.SIGTERM))
        with pytest.raises(Interrupted):
            job.run()
    Job(items.url, InPlace).run()
    assert (deaths(items), items.values()) == ({}, items.migrated)


def test_a_takeover_says_whether_its_runner_died(items: Items) -> None:
    die(items)
    Job(items.url, InPlace).run()
    with items.engine.connect() as connection:
        query = sa.select(tables.event.c.detail).where(tables.event.c.action == "takeover")
        assert '"died": true' in connection.execute(query).scalar_one()


def test_a_takeover_is_told_in_the_runs_log(items: Items) -> None:
    die(items)
    job = Job(items.url, InPlace, executed_by="heir")
    (report,) = job.run()
    with job._migrator() as migrator:
        told = [line.message for line in migrator.logs(InPlace.name, run_id=report.run_id)]
    assert any(line.startswith("taken over by heir on ") for line in told)


def at_commit_of_a_release(moment: Moment) -> bool:
    """Just before the COMMIT of a batch that tries held rows again."""
    return moment.kind == COMMIT and moment.has_sent("DELETE FROM system_migration_issue")


class Choosy(Flagged):
    """Holds the rows in `bad`."""

    name = "001-choosy"
    bad: ClassVar[set[int]] = set()

    def transform(self, row: Row) -> Mapping[str, Any]:
        if row.origin in self.bad:
            raise RowIssue("bad", "for a reason")
        return super().transform(row)


def test_a_retry_whose_runner_died_stays_a_retry(items: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes it over works on the held rows alone, although nothing of that stands in the call."""
    monkeypatch.setattr(Choosy, "bad", {20})
    job = Job(items.url, Choosy, batch_size=2)
    with job._migrator() as migrator:
        with pytest.raises(MigrationFailed, match="the run was to stop at 1"):
            migrator.run(options=RunOptions(batch_size=2, workers=1, stop_after_issues=1))
    Choosy.bad.clear()
    ending = Job(items.url, Choosy, retry=True).start_and_kill(at_commit_of_a_release)
    assert ending.killed_at is not None, ending.message
    items.expire_lease()
    (report,) = job.run()
    assert (report.status, report.issues) == (Status.PAUSED, 0)
    assert items.values() == items.initial | {key: items.migrated[key] for key in (1, 2)}

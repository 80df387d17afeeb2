"""A takeover counts a death for what the dead runner left; a clean stop leaves none."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from system_migration.errors import Interrupted
from system_migration.store import tables
from tests.crash.harness import Job, Moment, after_commit_of_a_batch, at_commit_of_a_batch
from tests.crash.subjects import InPlace, Items


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

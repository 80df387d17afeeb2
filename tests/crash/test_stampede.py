"""Twelve processes start at the same instant: exactly one executes, and none of them crashes."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest
from sqlalchemy import Engine, event

from system_migration import overview
from system_migration.errors import HeldElsewhere, LeaseLost
from tests.crash import controls
from tests.crash.harness import PATIENCE, Child, Ending, Job
from tests.crash.subjects import InPlace, Items
from tests.support.databases import MakeDatabaseUrl

STARTERS = 12
DOORS = ("sqlite", "postgresql", "mariadb", "pgbouncer")


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest, make_database_url: MakeDatabaseUrl) -> tuple[str, str]:
    """The address of a database for the starters, and the same one's for us."""
    if request.param == "pgbouncer":
        return request.getfixturevalue("pgbouncer_url"), request.getfixturevalue("postgres_url")
    url = make_database_url(request.param)
    return url, url


@pytest.fixture
def crowd(door: tuple[str, str]) -> Iterator[tuple[Job, Items]]:
    """What the starters start, and the items that they work on."""
    items = Items(door[1])
    yield Job(door[0], InPlace, batch_size=2), items
    items.close()


def start_together(work: Callable[[], Any]) -> list[Ending]:
    """The endings of twelve processes that do the same, none before all are there."""
    line: Barrier = multiprocessing.get_context("fork").Barrier(STARTERS)

    def begin(_: Child) -> Any:
        line.wait(PATIENCE)
        return work()

    with ExitStack() as stack:
        children = [stack.enter_context(Child(begin)) for _ in range(STARTERS)]
        return [child.wait() for child in children]


def start(job: Job) -> str:
    """Start, and say in a word what became of it."""
    try:
        return "executed" if job.run() else "nothing to do"
    except LeaseLost:
        return "lost its lease"
    except HeldElsewhere:
        return "told who runs"


def words(endings: list[Ending]) -> Counter[str]:
    """What the starters said; a crash is its error."""
    return Counter(ending.value if ending.error is None else f"{ending.error}: {ending.message}" for ending in endings)


def test_of_twelve_that_start_at_once_on_a_fresh_database_one_executes(
    crowd: tuple[Job, Items],
    request: pytest.FixtureRequest,
    publish: Callable[[str], None],
    scale: Callable[[int, int], int],
) -> None:
    job, items = crowd
    job.run()  # so that the children inherit what is compiled
    rounds, said = scale(3, 20), Counter[str]()
    for _ in range(rounds):
        items.begin_anew(fresh=True)
        told = words(start_together(lambda: start(job)))
        said += told
        assert told["executed"] == 1, told
        assert items.values() == items.migrated
        assert (items.runs(), items.status()) == (1, "COMPLETED")
    publish(f"stampede {request.node.callspec.id}: {rounds} rounds of {STARTERS}, {dict(said)}")
    assert set(said) <= {"executed", "told who runs", "nothing to do"}


@pytest.mark.parametrize("door", ["sqlite", "postgresql"], indirect=True)
def test_without_the_lease_several_execute_until_the_fence_stops_them(crowd: tuple[Job, Items]) -> None:
    """Whether two meet at work is chance, and on SQLite, where one writes at a time, not always so in one round."""
    job, items = crowd

    def start_anyway() -> str:
        controls.without_lease()
        return start(job)

    for _ in range(10):
        items.begin_anew(fresh=True)
        if words(start_together(start_anyway))["lost its lease"] > 0:
            return
    pytest.fail("in no round did anybody lose its lease to another starter")


# With nothing pending


def count_statements(job: Job) -> tuple[int, float]:
    """How many statements a start sends, and how many seconds it takes."""
    sent: list[str] = []
    event.listen(Engine, "before_cursor_execute", lambda _c, _cursor, sql, *_: sent.append(sql))
    began = time.perf_counter()
    assert job.run() == []
    return len(sent), time.perf_counter() - began


def test_of_twelve_that_start_at_once_with_nothing_pending_each_asks_once(
    crowd: tuple[Job, Items],
    request: pytest.FixtureRequest,
    publish: Callable[[str], None],
    scale: Callable[[int, int], int],
) -> None:
    job, items = crowd
    job.run()
    rounds, counts, seconds = scale(1, 20), Counter[int](), []
    for _ in range(rounds):
        for ending in start_together(lambda: count_statements(job)):
            assert ending.error is None, ending.message
            counts[ending.value[0]] += 1
            seconds.append(ending.value[1])
    middle = sorted(seconds)[len(seconds) // 2]
    publish(
        f"up to date {request.node.callspec.id}: {rounds} rounds of {STARTERS}, statements {dict(counts)}"
        f", {middle * 1000:.0f} ms in the middle"
    )
    assert set(counts) == {1}
    assert items.fence() == 1


@pytest.mark.parametrize("door", ["sqlite"], indirect=True)
def test_without_the_look_at_what_is_pending_a_start_asks_more(crowd: tuple[Job, Items]) -> None:
    job, _ = crowd
    job.run()

    def look_away() -> tuple[int, float]:
        overview.to_do = lambda registry, *_, **__: registry.names
        return count_statements(job)

    assert all(ending.error is not None or ending.value[0] > 1 for ending in start_together(look_away))

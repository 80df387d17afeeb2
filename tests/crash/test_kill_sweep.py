"""A runner is killed at every moment of its work, and a successor takes over: every row exactly once, never stuck."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from system_migration.store import tables
from tests.crash.harness import COMMIT, COMMITTED, PATIENCE, STATEMENT, Child, Job
from tests.crash.subjects import Flagged, Imperative, InPlace, Items, Unprotected
from tests.crash.sweep import STRIDE, Figures, ImperativeSweep, Sweep
from tests.support.databases import KINDS, MakeDatabaseUrl

LONG = 10 * PATIENCE
"""A sweep takes about 20 seconds on two idle cores; this only bounds one that hangs."""
pytestmark = pytest.mark.timeout(LONG)
Lane = Callable[[], Figures]


def side_by_side(*lanes: Lane) -> Figures:
    """Sweeps on databases of their own, each in a process: there are two cores."""
    with ExitStack() as stack:
        children = [stack.enter_context(Child(lambda _, lane=lane: lane())) for lane in lanes]
        endings = [child.wait(LONG) for child in children]
    for ending in endings:
        assert ending.error is None, ending.message
    return sum((ending.value for ending in endings), Figures())


def expect_no_damage(figures: Figures) -> None:
    assert figures.problems == []
    assert (figures.lost, figures.doubled, figures.stuck) == (0, 0, 0)


def expect_every_kind(figures: Figures) -> None:
    assert {moment.kind for moment in figures.kills} == {STATEMENT, COMMIT, COMMITTED}


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_every_moment_every_row_is_changed_exactly_once(
    kind: str, make_database_url: MakeDatabaseUrl, publish: Callable[[str], None], scale: Callable[[int, int], int]
) -> None:
    """In place without `pending`, where only the ledger knows; and with it, where the schema is prepared first."""
    in_place = Sweep(make_database_url(kind), InPlace)
    flagged = Sweep(make_database_url(kind), Flagged)
    figures = side_by_side(in_place.from_nothing, flagged.whole_run)
    publish(f"kill sweep {kind}: {figures}")
    expect_no_damage(figures)
    expect_every_kind(figures)
    assert len(figures.kills) >= scale(33, 100)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_while_two_workers_write_every_row_is_changed_exactly_once(
    kind: str, make_database_url: MakeDatabaseUrl, publish: Callable[[str], None], scale: Callable[[int, int], int]
) -> None:
    """The moments of all their threads are counted together, so each run has an order of its own."""
    stride = scale(9, STRIDE)
    forms = (InPlace, Flagged)
    lanes = [Sweep(make_database_url(kind), form, workers=2, stride=stride).whole_run for form in forms]
    figures = side_by_side(*lanes)
    publish(f"kill sweep {kind}, two workers: {figures}")
    expect_no_damage(figures)
    assert len(figures.kills) >= 100 // stride


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_every_moment_of_an_imperative_migration_it_is_applied_exactly_once(
    kind: str, make_database_url: MakeDatabaseUrl, tmp_path: Path, publish: Callable[[str], None]
) -> None:
    """In one transaction, and outside of any with `applied` to ask. What is applied is verified and not repeated."""
    protected = ImperativeSweep(make_database_url(kind), Imperative, tmp_path / "protected")
    unprotected = ImperativeSweep(make_database_url(kind), Unprotected, tmp_path / "unprotected")
    figures = side_by_side(protected.whole_run, unprotected.whole_run)
    publish(f"kill sweep {kind}, imperative: {figures}")
    expect_no_damage(figures)
    expect_every_kind(figures)
    assert figures.only_verified > 0


@pytest.mark.parametrize("kind", KINDS)
def test_killed_before_an_index_of_the_tracking_tables_is_made_the_successor_makes_it(
    kind: str, make_database_url: MakeDatabaseUrl
) -> None:
    for table in tables.metadata.sorted_tables:
        for index in table.indexes:
            items = Items(make_database_url(kind))
            job = Job(items.url, InPlace)
            making = f"CREATE INDEX {index.name} "
            assert job.start_and_kill(lambda moment, making=making: moment.has_sent(making)).killed_at is not None
            job.run()
            assert index.name in items.indexes(table.name)
            items.close()
